"""The contract of a profiler.

A profiler is a frozen keyword-only dataclass; its fields are its configuration. `prepare` makes one item ready to run
and returns a `Prepared` that owns all it needs (weights, inputs, streaming state) until it is dropped. The campaign
keeps every `Prepared` alive, so that items can be timed in any order, and uses them only inside one `session`, from one
thread. What a profiler changes about the process (threads, pinning, compiler caches), it changes in `session` and
restores at its end. A profiler measures one runtime on one device in one precision: one backend per process.

Times are in milliseconds and memory in bytes. `time_ms` is the time of one call: the whole sample over its repetitions,
from the moment when inputs are ready on the device to the moment when the output is. Bytes are what the module, the
state and one call really hold, not what formulas say they should.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal

from s2search.block import Part, Scenario, Shape
from s2search.exporters.resident import Resident
from s2search.registry import Plugin
from s2search.tables.card import ProvenanceKind
from s2search.tables.row import Role

Measure = Literal["latency", "peak_memory", "placement", "resident"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One row to be measured: a part at a shape, and the role that a plan gives it.

    In a `stream`, what is timed is a block's read of one chunk with a full window behind it, or, with the role
    `commit`, its `commit` of one chunk to that same state; in a `clip`, its bidirectional forward pass. Parts that are
    no blocks have no state.
    """

    role: Role
    part: Part
    scenario: Scenario
    shape: Shape

    @property
    def label(self) -> str:
        """What is timed, as people write it: that of its row."""
        return f"{self.part.label} commit" if self.role == "commit" else self.part.label

    @property
    def key(self) -> str:
        """What tells an item from the others of its campaign."""
        return f"{self.scenario} {self.label} {self.shape.grid}"


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the numbers were measured on, for the table's card and its `precision` and `compute_unit` columns.

    `threads` is None where the runtime decides. A fact that cannot be known is "not stated", never guessed.
    """

    device: str
    chip: str
    os: str
    runtime: str
    runtime_version: str
    threads: int | None
    power_mode: str
    precision: str
    compute_unit: str

    @property
    def slug(self) -> str:
        """A name for the table's folder: device, runtime, precision.

        >>> facts = dict(chip="AMD EPYC", os="", runtime_version="", threads=1, power_mode="", compute_unit="cpu")
        >>> Device(device="Linux x86_64", runtime="torch CPU", precision="float32", **facts).slug
        'amd-epyc.torch-cpu.float32'
        """
        words = (self.chip, self.runtime, self.precision)
        return ".".join(re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of an item: stored weights, streaming state with a full window, activations at the worst moment.

    The peak includes inputs and outputs, of a commit the new state too, and excludes weights and the state before. A
    profiler that cannot measure it gives the formula of the part's forward pass, or counts its own program, and leaves
    `peak_memory` out of what it measures.
    """

    weight_bytes: int
    state_bytes: int
    peak_bytes: int


class Prepared(ABC):
    """An item that is ready to run."""

    @abstractmethod
    def time_ms(self, repetitions: int) -> float:
        """Call the item `repetitions` times back to back and return the milliseconds of one call."""

    @abstractmethod
    def memory(self) -> Memory:
        """Measure the item's bytes; may run it."""

    def placement(self) -> Mapping[str, int]:
        """Return how many operations run on which unit; empty where the runtime does not tell."""
        return {}

    def unit_work(self) -> Mapping[str, float]:
        """Return how much of the work ran on which unit of the device, counted in anything; empty where unknown.

        Units are named as `Device.compute_unit` names them: `cpu`, `gpu`, `neural_engine`.
        """
        return {}

    def resident(self) -> Resident | None:
        """Measure what a process takes that loads the item alone and runs it; None where nobody can tell here.

        Not in this process: what it exported and freed before would be reused, and nothing be seen.
        """
        return None


class Profiler(Plugin, ABC):
    """Times items on one device.

    Attributes:
        method: One line for the table's card: how time and bytes are taken, and what they leave out.
        measures: What it measures itself; the rest is computed from formulas or left out.
        provenance: What its rows are: `measured`, unless it plays somebody else's.
        sample: What one sample is: calls in this session, or a job of a device lab, which times no pairs.
    """

    method: ClassVar[str]
    measures: ClassVar[tuple[Measure, ...]] = ("latency",)
    provenance: ClassVar[ProvenanceKind] = "measured"
    sample: ClassVar[Literal["calls", "job"]] = "calls"

    @abstractmethod
    def why_not(self) -> str | None:
        """Return None if this machine can run it, else one line: the reason, and the machine or extra it needs."""

    def roles(self) -> tuple[Role, ...]:
        """Return the roles that it can time; one that leaves `commit` out is never given any."""
        return ("block", "switch", "fixed")

    @abstractmethod
    def device(self) -> Device:
        """Return the facts of the device; the same at every call on one machine."""

    @abstractmethod
    def session(self) -> AbstractContextManager[None]:
        """Change what measuring needs about this process; restore it at the end, also after an error."""

    @abstractmethod
    def prepare(self, item: Item) -> Prepared:
        """Make an item ready to run, with random weights and inputs that are the same every time.

        Raises:
            InputError: The item does not fit the device.
        """

    def time_pair_ms(self, first: Prepared, second: Prepared, repetitions: int) -> float:
        """Call two items in turn, `repetitions` times, and return the milliseconds of one call of both.

        A runtime that queues its calls should override this, so that it waits at the end only.
        """
        return sum(one.time_ms(1) for _ in range(repetitions) for one in (first, second)) / repetitions

    def conditions(self) -> Mapping[str, float]:
        """Return the device's heat and power now, by names with units; empty where it does not tell.

        It is called after every sample of the sentinel, so it must be short against one.
        """
        return {}

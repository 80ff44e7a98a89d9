"""Plan: the answer. A layout, what it costs against the budgets, and what it was made from.

A plan is a value with a file form (JSON, schema `s2search.plan/1`) and carries the digests of the table and the score
that made it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import msgspec

from s2search.cost import CommitPolicy
from s2search.document import Document, read_json
from s2search.errors import InputError
from s2search.planner.constraints import Constraints
from s2search.planner.explain import Explanation
from s2search.registry import label_of
from s2search.tables.card import ProvenanceKind

SCHEMA: Literal["s2search.plan/1"] = "s2search.plan/1"
#: Which of the layouts that tie is shown.
TieBreak = Literal["most even", "fewest changes", "first by name"]


@dataclass(frozen=True, kw_only=True)
class LatencyAnswer:
    """Milliseconds of one forward pass: predicted, its 95 % interval if all rows err together, and the budget.

    `predicted` is the sum of the blocks' own latencies, `switches` and `fixed`. `commit` is beside it: the sum of what
    the layers take to commit one chunk to their states; null where the table does not say so of each of them. No
    budget and no rate counts it.
    """

    predicted: float
    low: float | None
    high: float | None
    budget: float | None
    slack: float | None
    switches: float
    fixed: float
    commit: float | None = None


@dataclass(frozen=True, kw_only=True)
class ConfidenceAnswer:
    """The probability asked for, and the milliseconds that the layout keeps with it if rows vary independently.

    The two deviations (ms) are those of the independent parts and of the table's common factor; the latter is null
    where the table states none. `score_without` is the best score without the condition, and `price` how much of it
    the condition costs; both null for a hand-written layout.
    """

    asked: float
    latency_ms: float
    independent_std_ms: float
    common_std_ms: float | None
    score_without: float | None
    price: float | None


@dataclass(frozen=True, kw_only=True)
class MemoryAnswer:
    """Bytes: all of it, its three terms (blocks, what every layout has, the activation peak), and the budget.

    `decoder_counted` is false where the table has no bytes for the decoder: it then comes on top.
    """

    predicted: int
    blocks: int
    fixed: int
    peak: int
    decoder_counted: bool
    budget: int | None
    slack: int | None


@dataclass(frozen=True, kw_only=True)
class BlockAnswer:
    """One candidate, per layer: its stream, milliseconds, bytes, and the kinds of evidence behind both."""

    stream: Literal["high", "low"]
    latency_ms: float
    memory_bytes: int
    peak_bytes: int
    provenance: ProvenanceKind
    bytes_provenance: ProvenanceKind


@dataclass(frozen=True, kw_only=True)
class RateAnswer:
    """One chunk through the whole pipeline: its milliseconds and the pixel frames per second, per commit policy.

    A pass that rewrites the state counts as a whole forward pass, and committing to the state as nothing; what the
    latter takes, where that was measured, is `LatencyAnswer.commit`.
    """

    chunk_ms: dict[str, float]
    frames_per_second: dict[str, float]
    budget: float | None
    arithmetic: str | None


@dataclass(frozen=True, kw_only=True)
class DeviceAnswer:
    """One of several devices: what the layout costs there, and whether that device's budgets hold the score down.

    `score_without` is the best score if this device had no budgets and all others kept theirs; the device binds where
    that is higher. Both are null where they were not computed.
    """

    table: str
    table_digest: str
    table_kind: ProvenanceKind
    precision: str
    compute_unit: str
    blocks: dict[str, BlockAnswer]
    latency_ms: LatencyAnswer
    memory_bytes: MemoryAnswer
    rate: RateAnswer | None
    binds: bool | None
    score_without: float | None


@dataclass(frozen=True, kw_only=True)
class NearLayout:
    """A layout in its written form, and its score."""

    written: str
    score: float


@dataclass(frozen=True, kw_only=True)
class NearTies:
    """Layouts within the budgets that score less than the best, by at most `gap`, and the first few of them by name.

    `count` is a lower bound where it is not `exact`.
    """

    gap: float
    count: int
    exact: bool
    layouts: tuple[NearLayout, ...]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a plan was made from.

    `solver` says how the layout was found, where need be by another one than was asked. `*_options` are those that
    differ from their defaults, as people write them; empty too in plans from before they were recorded.
    """

    table: str
    table_digest: str
    table_kind: ProvenanceKind
    table_statement: str
    table_source: str
    latency_model: str
    latency_model_options: str = ""
    score: str
    score_options: str = ""
    score_digest: str
    score_statement: str
    solver: str
    solver_options: str = ""
    s2search: str

    @property
    def latency_model_label(self) -> str:
        """The latency model with its options."""
        return label_of(self.latency_model, self.latency_model_options)

    @property
    def score_label(self) -> str:
        """The score with its options."""
        return label_of(self.score, self.score_options)

    @property
    def solver_label(self) -> str:
        """How the layout was found, with the options of the solver that was asked."""
        return label_of(self.solver, self.solver_options)


@dataclass(frozen=True, kw_only=True)
class Plan(Document):
    """A layout and its promise. See the fields' own types for units.

    `layout` names the block of every layer, first to last, and `written` the same in short. `ties` counts the layouts
    with the same score within the budgets, that of the plan included; null where they were not counted, and a lower
    bound where not `ties_exact`. `tied_layouts` are the first few others by name; `tie_break` says which is shown, null
    where it is the one that the solver found. `near_ties` is null where none were asked for. `upper_bound` is a proven
    limit on the score of any layout within the budgets; null where no layout is. `fits` is false only for a
    hand-written layout. `devices` is empty where there is one table; else it lists all of them, and the first is the
    one that `blocks`, `latency_ms`, `memory_bytes` and `rate` speak of.
    """

    schema: Literal["s2search.plan/1"] = SCHEMA
    layout: tuple[str, ...]
    written: str
    counts: dict[str, int]
    blocks: dict[str, BlockAnswer]
    group_size: int
    scenario: str
    video: str
    frames: int
    precision: str
    compute_unit: str
    commit: CommitPolicy
    fits: bool
    latency_ms: LatencyAnswer
    confidence: ConfidenceAnswer | None = None
    memory_bytes: MemoryAnswer
    rate: RateAnswer | None
    score: float
    upper_bound: float | None
    optimal: bool
    ties: int | None
    ties_exact: bool = True
    tied_layouts: tuple[str, ...] = ()
    tie_break: TieBreak | None = None
    near_ties: NearTies | None = None
    provenance: Origin
    constraints: Constraints = dataclasses.field(default_factory=Constraints)
    devices: tuple[DeviceAnswer, ...] = ()
    explanation: Explanation | None = None

    def __post_init__(self) -> None:
        counted = {label: self.layout.count(label) for label in self.blocks}
        if counted != self.counts or sum(counted.values()) != len(self.layout):
            raise InputError(
                f"the plan's counts {self.counts} are not those of its layout {self.written!r}", remedy="plan again"
            )

    @property
    def depth(self) -> int:
        """How many layers."""
        return len(self.layout)

    @property
    def switches(self) -> int:
        """How many stream changes, those after the stem and before the head included."""
        streams = ["high", *(self.blocks[label].stream for label in self.layout), "high"]
        return sum(before != after for before, after in pairwise(streams))

    @cached_property
    def digest(self) -> str:
        """A hash of everything in the plan."""
        content = msgspec.to_builtins(self)
        # A plan without what was added later keeps the digest from before: models in the field refer to it.
        for answer in (content, *content.get("devices", ())):
            if answer["latency_ms"].get("commit") is None:
                answer["latency_ms"].pop("commit", None)
        for name in ("latency_model_options", "score_options", "solver_options"):
            if not content["provenance"].get(name):
                content["provenance"].pop(name, None)
        return f"sha256:{hashlib.sha256(msgspec.json.encode(content, order='sorted')).hexdigest()}"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan.

        Raises:
            InputError: The file is missing, or is not a plan of this schema.
        """
        return read_json(path, cls, what=f"plan of schema {SCHEMA}")

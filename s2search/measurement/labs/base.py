"""The contract of a lab of phones, and what the profilers of all of them share.

A member is a profiler, a frozen dataclass whose fields are its configuration, and the `Lab` that it opens: the small
transport that the vendor's client is behind. A lab is used from one thread. It keeps jobs and answers, and knows no
files of ours: what was submitted is in the campaign's journal (`measurement/jobs.py`).

Models are .tflite files that were converted elsewhere, named by `model_name`. A job times its model many times, on a
phone that the lab chooses among those of a kind; a row has one sample per job, so its error has the differences between
phones in it. Every operation must have run on the unit that was asked for: an answer that cannot prove it, or says
otherwise, is refused with one line and makes no sample.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from typing_extensions import override

from s2search.errors import InputError
from s2search.measurement.base import Device, Item, Measure, Memory, Prepared, Profiler
from s2search.measurement.delegation import Unit, check_whole
from s2search.measurement.jobs import JobAnswer, JobItem
from s2search.measurement.litert import tflite

#: Ends the line of an error that leaves everything as it was.
GOES_ON = "the same command goes on where this one stopped"


@dataclass(frozen=True, kw_only=True)
class LabPhone:
    """What a lab tells of a device. Attributes: its name there, chip and operating system, "not stated" if untold."""

    name: str
    chip: str = "not stated"
    os: str = "not stated"


class Lab(ABC):
    """The way to a lab: one call per request, so that tests can answer as the vendor's own client classes do.

    All methods raise InputError with one line: no token, no network, a quota, an unknown device; nothing is lost by it.
    """

    @abstractmethod
    def phone(self) -> LabPhone:
        """Return what is known of the device."""

    @abstractmethod
    def submit(self, name: str, model: Path) -> str:
        """Submit a job under a name of its own, and return the lab's id for it."""

    def find(self, name: str) -> str | None:
        """Return the id of the job of this name; None where there is none, or the lab keeps no names."""
        return None

    @abstractmethod
    def look(self, job: str) -> JobAnswer | None:
        """Return what a job says; None while it waits or runs.

        Raises:
            JobFailedError: It failed.
        """


@dataclass(frozen=True, kw_only=True)
class LabProfiler(Profiler, ABC):
    """Times .tflite files on the devices of a lab.

    Attributes:
        phone: The device, as the lab names it.
        models: The folder of .tflite files.
        unit: Where every operation must run.
        precision: What the files hold, told and not looked up.
        poll_s: Seconds between two looks at a job.
        patience_s: Seconds after which a job that is not finished is left to the next command.
    """

    measures: ClassVar[tuple[Measure, ...]] = ("latency", "placement")
    sample: ClassVar[Literal["calls", "job"]] = "job"
    units: ClassVar[tuple[Unit, ...]] = ("cpu", "gpu", "npu")
    runtime: ClassVar[str]

    phone: str = ""
    models: str = ""
    unit: Unit = "gpu"
    precision: str = "float16"
    poll_s: float = 15.0
    patience_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.unit not in self.units:
            raise InputError(
                f"{self.name} cannot ask for the {self.unit.upper()}",
                allowed=f"units: {', '.join(self.units)}",
                remedy="ask for one of these, or measure with another profiler",
            )

    @abstractmethod
    def lab(self) -> Lab:
        """Return the way to the lab."""

    @abstractmethod
    def missing(self) -> str | None:
        """Return None if the vendor's client is here and knows who asks, else one line."""

    @abstractmethod
    def runtime_version(self) -> str:
        """Return what is known of the runtime's version."""

    @override
    def why_not(self) -> str | None:
        if missing := self.missing():
            return missing
        if not self.phone:
            return f"no device is named; give {self.name}[phone=NAME]"
        if not (self.models and Path(self.models).is_dir()):
            return f"there is no folder of .tflite files at {self.models!r}; give {self.name}[models=FOLDER]"
        try:
            self.lab().phone()
        except InputError as error:
            return str(error)
        return None

    @override
    def device(self) -> Device:
        phone = self.lab().phone()
        return Device(
            device=phone.name,
            chip=phone.chip,
            os=phone.os,
            runtime=self.runtime,
            runtime_version=self.runtime_version(),
            threads=None,
            power_mode="not stated",
            precision=self.precision,
            compute_unit=self.unit,
        )

    @contextmanager
    @override
    def session(self) -> Iterator[None]:
        yield

    @override
    def prepare(self, item: Item) -> Prepared:
        return _InLab(self, item)


class _InLab(JobItem):
    def __init__(self, profiler: LabProfiler, item: Item) -> None:
        self._profiler, self._item, self._lab = profiler, item, profiler.lab()
        self._file = tflite(Path(profiler.models), item)
        self._first: JobAnswer | None = None

    @override
    def find(self, name: str) -> str | None:
        return self._lab.find(name)

    @override
    def submit(self, name: str) -> str:
        return self._lab.submit(name, self._file)

    @override
    def answer(self, job: str) -> JobAnswer:
        until_s = time.monotonic() + self._profiler.patience_s
        while (answer := self._lab.look(job)) is None:
            if time.monotonic() >= until_s:
                problem = f"the job {job} is not finished after {self._profiler.patience_s:g} s"
                raise InputError(problem, remedy=f"it stays in the lab; {GOES_ON}")
            time.sleep(self._profiler.poll_s)
        check_whole(answer.placement, self._profiler.unit, f"the job {job} of {self._item.key} on {answer.device}")
        self._first = self._first or answer
        return answer

    @override
    def memory(self) -> Memory:
        from s2search.block import Block, Precision

        part, shape, precision = self._item.part, self._item.shape, Precision.named(self._profiler.precision)
        streams = isinstance(part, Block) and self._item.scenario == "stream"
        return Memory(
            weight_bytes=self._file.stat().st_size,
            state_bytes=part.state_bytes(shape, precision) if streams and isinstance(part, Block) else 0,
            peak_bytes=part.peak_bytes(shape, precision),
        )

    @override
    def unit_work(self) -> Mapping[str, float]:
        return {self._profiler.unit: 1.0} if self._first else {}  # what ran elsewhere in part was refused

    def placement(self) -> dict[str, int]:
        """Return the operations of the first job that was answered, by unit."""
        return dict(self._first.placement) if self._first else {}

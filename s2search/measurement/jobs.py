"""Samples that are jobs: submitted now, answered later, each submitted once whatever happens to the process.

A device lab keeps a job and its answer, so the process that asks for the answer need not be the one that submitted.
What ties them is the campaign's own journal, in three lines: `asked` (the job's name, before it is submitted),
`submitted` (the lab's id, as soon as the lab says it) and `dropped` (the lab ran it and it failed). The n-th sample of
an item is its n-th job. A process that is killed between `asked` and `submitted` may have submitted: the next one asks
the lab for a job of that name, where the lab can tell.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from typing_extensions import override

from s2search.errors import InputError
from s2search.measurement.base import Prepared
from s2search.measurement.samples import Dropped, Samples, Submitted, Wanted
from s2search.measurement.schedule import Slot

AHEAD = 3  # jobs that wait in the lab while one is waited for: a lab has more than one phone of a kind


class JobFailedError(InputError):
    """A job that the lab ran and that failed: the next attempt has to be a job of its own."""


@dataclass(frozen=True, kw_only=True)
class JobAnswer:
    """What a finished job says.

    Attributes:
        ms: Milliseconds of one call.
        device: The device that ran it, as the lab names it.
        placement: How many operations ran on which unit: `cpu`, `gpu`, `npu`.
    """

    ms: float
    device: str
    placement: Mapping[str, int]


class JobItem(Prepared):
    """An item that a lab times. Its methods may be called by different processes, in this order."""

    @abstractmethod
    def find(self, name: str) -> str | None:
        """Return the id of the job of this name; None where there is none, or the lab cannot tell."""

    @abstractmethod
    def submit(self, name: str) -> str:
        """Submit a job under a name that no other has, and return its id, without waiting for it.

        Raises:
            InputError: The lab does not take it.
        """

    @abstractmethod
    def answer(self, job: str) -> JobAnswer:
        """Wait for a job and return what it says; again at every call.

        Raises:
            JobFailedError: The lab ran it, and it failed.
            InputError: There is no answer yet, or it is none of the unit that was asked for.
        """

    @override
    def time_ms(self, repetitions: int) -> float:
        """Return what one job says: how often it repeats its call is the lab's."""
        return self.answer(self.submit(_name("call"))).ms


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a campaign: the lab's id, and what it said."""

    id: str
    answer: JobAnswer


class Jobs:
    """The jobs of a campaign, by the item and the number of its sample."""

    def __init__(self, journal: Samples) -> None:
        self._journal = journal
        self._taken = Counter(sample.item for sample in journal.samples)
        self._asked: dict[tuple[str, int], str] = {}
        self._ids: dict[str, str] = {}
        for line in journal.jobs:
            self._note(line)

    def submit(self, item: JobItem, key: str, number: int) -> str:
        """Return the id of an item's job, which is submitted if none was: also by a process that died over it."""
        name = self._asked.get((key, number))
        if name is not None and name in self._ids:
            return self._ids[name]
        if name is None:
            name = _name(key)
            self._write(Wanted(item=key, number=number, name=name))
            job = item.submit(name)
        else:
            job = item.find(name) or item.submit(name)
        self._write(Submitted(name=name, job=job))
        return job

    def first(self, item: JobItem, key: str) -> Job:
        """Return an item's first job, and leave it to be the first sample."""
        return self._job(item, key, 0)

    def take(self, item: JobItem, key: str) -> Job:
        """Return the job that is an item's next sample, once it is finished."""
        job = self._job(item, key, self._taken[key])
        self._taken[key] += 1
        return job

    def ahead(self, items: Mapping[str, Prepared], slots: Iterator[Slot]) -> Iterator[Slot]:
        """Yield the slots as they come, the jobs of the next few submitted before each."""
        waiting: deque[Slot] = deque()
        numbers = self._taken.copy()
        for slot in slots:
            item = items[slot.item]
            if isinstance(item, JobItem):
                self.submit(item, slot.item, numbers[slot.item])
                numbers[slot.item] += 1
            waiting.append(slot)
            if len(waiting) > (AHEAD if isinstance(item, JobItem) else 0):
                yield waiting.popleft()
        yield from waiting

    def _job(self, item: JobItem, key: str, number: int) -> Job:
        job = self.submit(item, key, number)
        try:
            return Job(id=job, answer=item.answer(job))
        except JobFailedError:
            self._write(Dropped(name=self._asked[key, number]))
            raise

    def _write(self, line: Wanted | Submitted | Dropped) -> None:
        self._journal.append(line)
        self._note(line)

    def _note(self, line: Wanted | Submitted | Dropped) -> None:
        if isinstance(line, Wanted):
            self._asked[line.item, line.number] = line.name
        elif isinstance(line, Submitted):
            self._ids[line.name] = line.job
        else:
            self._asked = {place: name for place, name in self._asked.items() if name != line.name}


def _name(key: str) -> str:
    """Return a name that no other job has, of letters, digits and hyphens, at most 63, as labs want it."""
    said = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in key)
    return f"s2search-{uuid.uuid4().hex[:12]}-{said}"[:63]

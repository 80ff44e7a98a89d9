"""The loop of a measurement: whatever can be prepared and timed, by the protocol of latency tables.

All is prepared once, called until it is warm, and stays ready; then it is timed in the order of a schedule, and every
sample is on disk before the next one begins. What is on disk already is not timed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain

from s2search.errors import InputError
from s2search.measurement.base import Prepared, Profiler
from s2search.measurement.elapsed import clock_s
from s2search.measurement.jobs import JobItem, Jobs
from s2search.measurement.samples import Protocol, Ready, Sample, Samples
from s2search.measurement.schedule import Slot
from s2search.measurement.warm_up import warm_up

#: Is told how many samples are done, of how many, and what comes next.
Progress = Callable[[int, int, str], None]
Clock = Callable[[], datetime]

_LEAST_CALL_MS = 0.001  # a call that seems shorter is below the resolution of the timer


def utc_now() -> datetime:
    """Return the time, for `Sample.at`."""
    return datetime.now(UTC)


def take_samples(
    profiler: Profiler,
    prepare: Mapping[str, Callable[[], Prepared]],
    slots: Iterator[Slot],
    journal: Samples,
    protocol: Protocol,
    *,
    expected: Callable[[], int],
    progress: Progress,
    clock: Clock,
) -> None:
    """Take the samples of a schedule that are not on disk yet.

    Args:
        profiler: Its session surrounds all calls.
        prepare: What makes each thing ready, by the key that the schedule names it by.
        slots: The schedule from its beginning. It may depend on what was found while things were made ready: nothing
            is asked of it before, unless there are samples.
        journal: What is on disk.
        protocol: Warm-up, and how long a sample lasts.
        expected: How many samples there will be, as far as is known.
        progress: Called before every preparation and every sample, and at the end.
        clock: The time of day.

    Raises:
        InputError: The samples on disk are not the beginning of the schedule.
    """
    _check_samples(journal, slots)
    first = next(slots, None) if journal.samples else None
    if first or not journal.samples:
        with profiler.session():
            ready, jobs = {}, Jobs(journal)
            for key, make in prepare.items():
                progress(len(journal.samples), expected(), f"preparing {key}")
                ready[key] = _warmed_up(make(), key, journal, protocol, jobs)
            _note_first_jobs(ready, journal, jobs)
            for slot in jobs.ahead(ready, slots if first is None else chain([first], slots)):
                progress(len(journal.samples), expected(), slot.item)
                journal.append(_sample(profiler, ready, slot, journal, clock, jobs))
    progress(len(journal.samples), len(journal.samples), "done")


def _check_samples(journal: Samples, slots: Iterator[Slot]) -> None:
    """Make sure that the samples on disk are the beginning of the schedule."""
    for number, sample in enumerate(journal.samples):
        slot = next(slots, None)
        if slot is None or not slot.holds(sample):
            raise InputError(
                f"sample {number + 1} of {str(journal.path)!r} ({sample.name}, round {sample.round}) is out of order",
                remedy="restore the file, or choose another folder",
            )


def _sample(
    profiler: Profiler, ready: Mapping[str, Prepared], slot: Slot, journal: Samples, clock: Clock, jobs: Jobs
) -> Sample:
    item, repetitions = ready[slot.item], journal.ready[slot.item].repetitions
    job = jobs.take(item, slot.item) if isinstance(item, JobItem) else None
    if job:
        ms = job.answer.ms
    elif slot.then:
        ms = profiler.time_pair_ms(ready[slot.item], ready[slot.then], repetitions)
    else:
        ms = item.time_ms((1 + slot.double) * repetitions)
    return Sample(
        round=slot.round,
        item=slot.item,
        sentinel=slot.sentinel,
        ms=ms,
        at=clock().isoformat(timespec="milliseconds"),
        clock_s=round(clock_s(), 3) if clock is utc_now else None,  # another clock, another time
        double=slot.double,
        then=slot.then,
        conditions=dict(profiler.conditions()) if slot.sentinel else {},
        job=job.id if job else "",
        device=job.answer.device if job else "",
    )


def _warmed_up(prepared: Prepared, key: str, journal: Samples, protocol: Protocol, jobs: Jobs) -> Prepared:
    """Warm up what was prepared; the first time, note its bytes and how often a sample repeats its call."""
    if isinstance(prepared, JobItem):  # a job warms up by itself, and says what it found when it is finished
        jobs.submit(prepared, key, 0)
        return prepared
    warm = warm_up(lambda: prepared.time_ms(1), protocol.most_warm_ups)
    if key not in journal.ready:
        repetitions = math.ceil(protocol.least_sample_ms / max(warm.least_ms, _LEAST_CALL_MS))
        journal.append(
            Ready(
                item=key,
                memory=prepared.memory(),
                repetitions=max(1, repetitions),
                warm_ups=warm.calls,
                settled=warm.settled,
                placement=dict(prepared.placement()),
                unit_work=dict(prepared.unit_work()),
                resident=prepared.resident(),
            )
        )
    return prepared


def _note_first_jobs(ready: Mapping[str, Prepared], journal: Samples, jobs: Jobs) -> None:
    """Note what was found in the first job of every item that a lab times, as `_warmed_up` does for others."""
    for key, item in ready.items():
        if isinstance(item, JobItem) and key not in journal.ready:
            placement = dict(jobs.first(item, key).answer.placement)
            work = dict(item.unit_work())
            journal.append(Ready(item=key, memory=item.memory(), repetitions=1, placement=placement, unit_work=work))

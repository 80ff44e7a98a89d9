"""Whole packages and single parts timed in one process, by the protocol of latency tables.

All subjects are prepared once, called until they are warm, and stay ready. Every round times each of them in a fresh
order, and the sentinel before every few of them; see `measurement/campaign.py`. Every sample is on disk before the
next one begins (samples.jsonl), so the same command goes on where the last one stopped.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2search.dates import instant
from s2search.errors import InputError
from s2search.exporters.resident import Resident
from s2search.measurement.base import Prepared, Profiler
from s2search.measurement.correction import ItemTimes, Timing, correct
from s2search.measurement.elapsed import elapsed_s
from s2search.measurement.interleaved import Clock, Progress, take_samples, utc_now
from s2search.measurement.samples import Campaign, Protocol, Samples, open_samples
from s2search.measurement.schedule import Slot, round_slots
from s2search.registry import own_version


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is timed: its key, what the journal's first line says of it, and how it is made ready."""

    key: str
    facts: Mapping[str, Any]
    prepare: Callable[[], Prepared]


@dataclass(frozen=True, kw_only=True)
class Timings:
    """A finished run.

    Attributes:
        items: Times by key, drift taken out where it was found.
        resident: What a process takes that runs a subject alone, by key, where it was measured.
        drift_percent: By how much the machine's slowest state exceeded its fastest.
        spread_percent: Of a typical subject's samples around their median.
        date: Of the last sample.
        marked: What is wrong with the run, one sentence each; empty for a good one.
        samples_digest: A hash of samples.jsonl.
    """

    items: Mapping[str, ItemTimes]
    resident: Mapping[str, Resident]
    drift_percent: float
    spread_percent: float
    date: str
    marked: tuple[str, ...]
    samples_digest: str


def time_interleaved(
    profiler: Profiler,
    subjects: Sequence[Subject],
    samples: Path,
    *,
    preset: str,
    protocol: Protocol,
    progress: Progress = lambda done, total, label: None,
    clock: Clock = utc_now,
) -> Timings:
    """Time subjects round by round; the first is the sentinel.

    Args:
        profiler: Its session surrounds all calls; the subjects bring their own.
        subjects: What to time, each ready to be called from one thread.
        samples: Where samples go; if it holds an unfinished run of the same configuration, that one is finished.
        preset: The model's name.
        protocol: Rounds, warm-up and seed; no sustained run, no pairs.
        progress: Called before every preparation and every sample, and at the end.
        clock: The time of day.

    Raises:
        InputError: The profiler cannot run here, or the file belongs to another run.
    """
    if reason := profiler.why_not():
        raise InputError(f"the runtime {profiler.name!r} cannot run here: {reason}", profiler=profiler.name)
    campaign = Campaign(
        code_version=f"s2search {own_version()}",
        preset=preset,
        profiler={"name": profiler.name, **dataclasses.asdict(profiler)},  # type: ignore[call-overload]
        device=profiler.device(),
        protocol=protocol,
        items=[{"key": one.key, **one.facts} for one in subjects],
    )
    keys = [one.key for one in subjects]
    with open_samples(samples, campaign) as journal:
        take_samples(
            profiler,
            {one.key: one.prepare for one in subjects},
            _slots(keys, protocol),
            journal,
            protocol,
            expected=lambda: sum(1 for _ in _slots(keys, protocol)),
            progress=progress,
            clock=clock,
        )
        return _timings(journal)


def _slots(keys: Sequence[str], protocol: Protocol) -> Iterator[Slot]:
    """Yield all places; the first thing is the sentinel."""
    rng = random.Random(protocol.seed)
    for number in range(protocol.rounds):
        yield from round_slots(keys, number, protocol, rng, sentinel=keys[0])


def _timings(journal: Samples) -> Timings:
    timings = [
        Timing(item=sample.item, ms=sample.ms, at_s=at_s, sentinel=sample.sentinel, round=sample.round)
        for sample, at_s in zip(journal.samples, elapsed_s(journal.samples), strict=True)
    ]
    correction = correct(timings)
    unsettled = [key for key, one in journal.ready.items() if not one.settled]
    return Timings(
        items=correction.items,
        resident={key: one.resident for key, one in journal.ready.items() if one.resident},
        drift_percent=round(correction.drift_percent, 3),
        spread_percent=round(correction.spread_percent, 3),
        date=max(instant(sample.at) for sample in journal.samples).date().isoformat(),
        marked=(*correction.marks, *(f"{key} was still getting faster when its warm-up ended" for key in unsettled)),
        samples_digest=journal.digest,
    )

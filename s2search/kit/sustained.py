"""What a kit's sustained load gave: the last third of every group's stretch, when the phone is as hot as it gets.

The third is that of `s2search measure --sustained`; see `s2search.measurement.schedule.steady_round`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from s2search.errors import InputError
from s2search.kit.manifest import KitManifest
from s2search.kit.results import HotLine, Results, SampleLine
from s2search.measurement.schedule import steady_round


def sustained_samples(manifest: KitManifest, results: Results, failed: Collection[int]) -> list[SampleLine]:
    """Return the samples that count, group after group; none where the kit asks for no sustained load.

    Raises:
        InputError: A group's sustained load has not lasted long enough yet.
    """
    if manifest.protocol.sustained_s is None:
        return []
    needed = [number for number, rows in enumerate(manifest.groups) if not set(rows) <= set(failed)]
    if left := sum(number not in results.stretches for number in needed):
        raise InputError(
            f"{str(results.path)!r} holds the sustained load of {len(needed) - left} of {len(needed)} groups",
            remedy="repeat `python3 -m runner run` on the Mac: it goes on where it stopped",
        )
    return [sample for number in needed for sample in _last_third(manifest, results.stretches[number], failed)]


def seconds_of(at: str) -> float:
    """Return a line's time in seconds.

    Raises:
        InputError: It is none.
    """
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        raise InputError(f"{at!r} is no time", remedy="restore the file as the runner left it") from None


def _last_third(manifest: KitManifest, stretch: Sequence[HotLine], failed: Collection[int]) -> list[SampleLine]:
    samples = [_sample(manifest, hot) for hot in _forward(stretch)]
    first = steady_round(samples)
    return [sample for sample in samples if sample.round >= first and sample.row not in failed]


def _forward(stretch: Sequence[HotLine]) -> list[HotLine]:
    """Return samples whose clock never runs back: where it was set back, it stands still instead."""
    forward, last_s = list[HotLine](), -math.inf
    for hot in stretch:
        at_s = seconds_of(hot.at)
        forward.append(hot if at_s >= last_s else msgspec.structs.replace(hot, at=forward[-1].at))
        last_s = max(last_s, at_s)
    return forward


def _sample(manifest: KitManifest, hot: HotLine) -> SampleLine:
    """Return a sample whose round counts through all laps."""
    return SampleLine(
        at=hot.at,
        n=hot.n,
        slot=hot.slot,
        round=hot.lap * manifest.protocol.rounds + manifest.order[hot.slot].round,
        row=hot.row,
        sentinel=hot.sentinel,
        ms=hot.ms,
        thermal=hot.thermal,
        thermal_after=hot.thermal_after,
    )

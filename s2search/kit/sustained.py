"""What a kit's sustained load gave: the last third of every group's stretch, when the phone is as hot as it gets.

The third is that of `s2search measure --sustained`; see `s2search.measurement.schedule.steady_round`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

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


def _last_third(manifest: KitManifest, stretch: Sequence[HotLine], failed: Collection[int]) -> list[SampleLine]:
    samples = [_sample(manifest, hot) for hot in stretch]
    first = steady_round(samples)
    return [sample for sample in samples if sample.round >= first and sample.row not in failed]


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
        clock_s=hot.clock_s,
    )

"""From the samples of a finished campaign to the rows and the card of its table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s2search.dates import instant
from s2search.measurement.base import Device, Item, Profiler
from s2search.measurement.bootstrap import median_error
from s2search.measurement.correction import Bounds, Correction, ItemTimes, Timing, correct
from s2search.measurement.elapsed import elapsed_s
from s2search.measurement.items import long_skip_row
from s2search.measurement.samples import Campaign, Ready, Sample, Samples
from s2search.measurement.schedule import steady_round
from s2search.tables.card import Card, Provenance
from s2search.tables.placement import shares_text, unit_asked_by
from s2search.tables.row import Row
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable

_DIGITS = 6  # of milliseconds: a nanosecond
_CERTAIN = 2.0  # standard errors from which a launch cost is told from noise


def tabulate(
    name: str, profiler: Profiler, campaign: Campaign, items: Sequence[Item], journal: Samples
) -> LatencyTable:
    """Return the table that a finished campaign has measured, the long skip's buffer added to other fixed parts.

    A sentinel's extra samples count for the drift only, so that every row has the same number of samples. Of a
    sustained campaign the last third counts.
    """
    run = _Run.of(campaign, journal)
    order = {key: position for position, key in enumerate(dict.fromkeys(sample.item for sample in run.samples))}
    rows = [_row(item, profiler, campaign.device, journal.ready[item.key], order[item.key], run) for item in items]
    scopes = dict.fromkeys((item.scenario, item.shape) for item in items if item.role == "fixed")
    rows += [long_skip_row(scenario, shape, campaign.device) for scenario, shape in scopes]
    return LatencyTable(name=name, card=_card(profiler, campaign, journal, run), rows=Rows.of(rows))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
    """The samples that count, and what remains of each once drift is taken out (milliseconds, in their order)."""

    samples: Sequence[Sample]
    correction: Correction

    @classmethod
    def of(cls, campaign: Campaign, journal: Samples) -> _Run:
        first = 0 if campaign.protocol.sustained_s is None else steady_round(journal.samples)
        samples = [sample for sample in journal.samples if sample.round >= first]
        timings = [
            Timing(item=sample.name, ms=sample.ms, at_s=at_s, sentinel=sample.sentinel, round=sample.round)
            for sample, at_s in zip(samples, elapsed_s(samples), strict=True)
        ]
        return cls(samples=samples, correction=correct(timings, BOUNDS))

    def by_round(self, name: str) -> dict[int, float]:
        """Return what is timed under a name: round -> corrected milliseconds, without a sentinel's extra samples."""
        return {
            sample.round: float(ms)
            for sample, ms in zip(self.samples, self.correction.corrected_ms_N, strict=True)
            if sample.name == name and not sample.sentinel
        }


BOUNDS = Bounds()


def _row(item: Item, profiler: Profiler, device: Device, ready: Ready, order: int, run: _Run) -> Row:
    times = run.correction.items[item.key]
    first = next(sample for sample in run.samples if sample.item == item.key)
    return Row(
        role=item.role,
        part=item.part.name,
        options=item.part.options_text,
        scenario=item.scenario,
        **dataclasses.asdict(item.shape),
        precision=device.precision,
        compute_unit=device.compute_unit,
        unit_asked=unit_asked_by(device.compute_unit) if ready.unit_work else None,
        unit_ran=shares_text(ready.unit_work),
        **latency_columns(times),
        launch_us=_launch_us(item.key, ready, run),
        **_origin(times.samples, order, first.at, profiler),
        **dataclasses.asdict(ready.memory),
        **(ready.resident.columns if ready.resident else {}),
        latency_provenance=profiler.provenance,
        bytes_provenance=profiler.provenance if "peak_memory" in profiler.measures else "derived",
        note=_jobs_note(item.key, run),
    )


def _jobs_note(key: str, run: _Run) -> str:
    """Name the lab's jobs that a row's samples are, and the devices that ran them; empty where there are none."""
    jobs = [sample for sample in run.samples if sample.item == key and sample.job]
    devices = dict.fromkeys(sample.device for sample in jobs)
    return f"jobs {', '.join(sample.job for sample in jobs)} on {', '.join(devices)}" if jobs else ""


def _origin(samples: int, order: int, at: str, profiler: Profiler) -> dict[str, Any]:
    """Return when and how often a row was measured; nothing of it where it was not."""
    if profiler.provenance != "measured":
        return {}
    moment = instant(at).isoformat(timespec="seconds")
    return {"samples": samples, "order": order, "measured_at": moment}


def latency_columns(times: ItemTimes) -> dict[str, Any]:
    """Return a row's columns of latency, in milliseconds."""
    numbers = {
        "latency_ms": times.corrected.median_ms,
        "latency_p10_ms": times.corrected.p10_ms,
        "latency_p90_ms": times.corrected.p90_ms,
        "latency_mean_ms": times.corrected.mean_ms,
        "latency_std_ms": times.corrected.std_ms,
        "latency_raw_ms": times.raw.median_ms,
        "latency_error_ms": times.error_ms,
    }
    return {column: None if np.isnan(ms) else round(ms, _DIGITS) for column, ms in numbers.items()}


def _launch_us(key: str, ready: Ready, run: _Run) -> float | None:
    """Return what starting a sample costs: with N and 2 N repetitions t = launch + N work, so launch = 2 t(N) - t(2N).

    Samples of N and 2 N follow each other, and drift is out of both. None where it cannot be told from noise.
    """
    single, double = run.by_round(key), run.by_round(f"{key} twice")
    launch_ms = [2 * ready.repetitions * (single[number] - double[number]) for number in single.keys() & double.keys()]
    if len(launch_ms) < 2:
        return None
    median_ms = float(np.median(launch_ms))
    return round(1000 * median_ms, 3) if median_ms > _CERTAIN * median_error(sorted(launch_ms)) else None


def _card(profiler: Profiler, campaign: Campaign, journal: Samples, run: _Run) -> Card:
    device, kind = dataclasses.asdict(campaign.device), profiler.provenance
    del device["precision"], device["compute_unit"]  # columns of the rows
    return Card(
        **device,
        date=max(instant(sample.at) for sample in journal.samples).date().isoformat(),
        code_version=campaign.code_version,
        preset=campaign.preset,
        provenance=Provenance(
            kind=kind,
            source=f"s2search measure --profiler {profiler.name}",
            statement=f"{kind} on {device['chip']} with {device['runtime']}; says nothing of other devices",
        ),
        protocol=_protocol(profiler, campaign, journal, run),
    )


def _protocol(profiler: Profiler, campaign: Campaign, journal: Samples, run: _Run) -> dict[str, Any]:
    correction, ready = run.correction, journal.ready.values()
    unsettled = [one.item for one in ready if not one.settled]
    sentinels = [sample for sample in run.samples if sample.sentinel]
    marks = [*correction.marks, *(f"{item} was still getting faster when its warm-up ended" for item in unsettled)]
    return {
        "method": profiler.method,
        "measures": list(profiler.measures),
        "order": f"all rows in a fresh order every round, one {'job a sample' if journal.jobs else 'process'}",
        **journal.protocol,
        **_stream(campaign),
        "profiler": campaign.profiler,
        "mode": _mode(campaign, journal, run),
        "sentinel": sentinels[0].item,
        "sentinel_samples": len(sentinels),
        "sentinel_drift_percent": correction.raw_drift_percent,
        "sentinel_drift_corrected_percent": correction.residual_percent,
        "drift_corrected": correction.corrected,
        "drift_range_percent": round(correction.drift_percent, 3),
        "spread_percent": round(correction.spread_percent, 3),
        "bounds": dataclasses.asdict(BOUNDS),
        "marked": marks,
        **_findings(journal, run),
        "samples_digest": journal.digest,
    }


def _stream(campaign: Campaign) -> dict[str, Any]:
    """Return the latent frames of a stream's chunk, and those of its past that softmax attention sees."""
    for item in campaign.items:
        if str(item["key"]).startswith("stream "):
            return {"stream": {"chunk_frames": item["frames"], "context_frames": item["context_frames"]}}
    return {}


def _mode(campaign: Campaign, journal: Samples, run: _Run) -> str:
    """Say cold, or sustained with how much slower the device got."""
    if campaign.protocol.sustained_s is None:
        return "cold: measured as the device came"
    first, last = run.samples[0].round, run.samples[-1].round
    said = f"sustained for {campaign.protocol.sustained_s:g} s: rounds {first} to {last}, its last third"
    before = [sample.ms for sample in journal.samples if sample.sentinel and sample.round < first]
    if not before:
        return said
    cold_ms = float(np.median(before[: math.ceil(len(before) / 2)]))
    change = float(np.median([sample.ms for sample in run.samples if sample.sentinel])) / cold_ms - 1
    return f"{said}; the sentinel takes {100 * change:+.1f} % against the first third"


def _findings(journal: Samples, run: _Run) -> dict[str, Any]:
    """Return what is not always there: calls until warm, placement, pairs, heat and power."""
    found: dict[str, Any] = {}
    if warm_ups := [one.warm_ups for one in journal.ready.values() if one.warm_ups]:
        found["warm_ups_found"] = {"least": min(warm_ups), "most": max(warm_ups)}
    if placement := {key: one.placement for key, one in journal.ready.items() if one.placement}:
        found["placement"] = placement
    if pairs := _pairs(run):
        found["pair_ratios"] = pairs
    if conditions := _conditions([sample.conditions for sample in run.samples if sample.conditions]):
        found["conditions"] = conditions
    return found


def _pairs(run: _Run) -> list[dict[str, Any]]:
    """Return for every ordered pair the time of both back to back over the sum of their times alone, round by round."""
    found = []
    for item, then in dict.fromkeys((sample.item, sample.then) for sample in run.samples if sample.then):
        pair, one, other = (run.by_round(name) for name in (f"{item} > {then}", item, then))
        ratios = [ms / (one[number] + other[number]) for number, ms in pair.items()]
        error = median_error(ratios)
        found.append(
            {
                "first": item,
                "then": then,
                "ratio": round(float(np.median(ratios)), 5),
                "error": None if np.isnan(error) else round(error, 5),
                "samples": len(ratios),
            }
        )
    return found


def _conditions(seen: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return first, last, least and most of everything that the device told."""
    names = dict.fromkeys(name for one in seen for name in one)
    values = {name: [one[name] for one in seen if name in one] for name in names}
    return {
        name: {"first": told[0], "last": told[-1], "least": min(told), "most": max(told)}
        for name, told in values.items()
    }

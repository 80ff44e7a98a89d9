"""From the samples of a finished campaign to the rows and the card of its table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from s2search.measure.base import Device, Item, Profiler
from s2search.measure.items import long_skip_row
from s2search.measure.samples import Campaign, Journal, Ready, Sample
from s2search.table import Card, LatencyTable, Provenance, Row

_DIGITS = 6  # of milliseconds: a nanosecond


def tabulate(
    name: str, profiler: Profiler, campaign: Campaign, items: Sequence[Item], journal: Journal
) -> LatencyTable:
    """Return the table that a finished campaign has measured, the long skip's buffer added.

    A sentinel's extra samples count for the drift only, so that every row has the same number of samples.
    """
    order = {key: position for position, key in enumerate(dict.fromkeys(sample.item for sample in journal.samples))}
    samples = {
        item.key: [sample for sample in journal.samples if sample.item == item.key and not sample.sentinel]
        for item in items
    }
    rows = [_row(item, campaign.device, journal.ready[item.key], order[item.key], samples[item.key]) for item in items]
    scopes = dict.fromkeys((item.scenario, item.shape) for item in items)
    rows += [long_skip_row(scenario, shape, campaign.device) for scenario, shape in scopes]
    return LatencyTable(name=name, card=_card(profiler, campaign, journal), rows=tuple(rows))


def statistics(sample_ms: Sequence[float]) -> dict[str, Any]:
    """Return median, 10th and 90th percentile, mean and sample standard deviation, named as columns, in milliseconds.

    >>> statistics([1.0, 2.0, 3.0, 10.0])["latency_ms"]
    2.5
    """
    return {
        "latency_ms": round(float(np.median(sample_ms)), _DIGITS),
        "latency_p10_ms": round(float(np.percentile(sample_ms, 10)), _DIGITS),
        "latency_p90_ms": round(float(np.percentile(sample_ms, 90)), _DIGITS),
        "latency_mean_ms": round(float(np.mean(sample_ms)), _DIGITS),
        "latency_std_ms": round(float(np.std(sample_ms, ddof=min(1, len(sample_ms) - 1))), _DIGITS),
    }


def drift_percent(sentinel_ms: Sequence[float]) -> float:
    """Return by how much the median of the last third lies above that of the first third, per cent.

    >>> drift_percent([1.0, 1.0, 1.0, 1.1, 1.1, 1.1])
    10.0
    """
    third = max(1, len(sentinel_ms) // 3)
    return round(float(100 * (np.median(sentinel_ms[-third:]) / np.median(sentinel_ms[:third]) - 1)), 3)


def _row(item: Item, device: Device, ready: Ready, order: int, samples: Sequence[Sample]) -> Row:
    return Row(
        role=item.role,
        part=item.part.name,
        options=item.part.options_text,
        scenario=item.scenario,
        **dataclasses.asdict(item.shape),
        precision=device.precision,
        compute_unit=device.compute_unit,
        **statistics([sample.ms for sample in samples]),
        samples=len(samples),
        order=order,
        measured_at=samples[0].at,
        **dataclasses.asdict(ready.memory),
        latency_provenance="measured",
        bytes_provenance="measured",
    )


def _card(profiler: Profiler, campaign: Campaign, journal: Journal) -> Card:
    device = dataclasses.asdict(campaign.device)
    del device["precision"], device["compute_unit"]  # columns of the rows
    return Card(
        **device,
        date=journal.samples[-1].at[:10],
        code_version=campaign.code_version,
        preset=campaign.preset,
        provenance=Provenance(
            kind="measured",
            source=f"s2search measure --profiler {profiler.name}",
            statement=f"measured on {device['chip']} with {device['runtime']}; says nothing of other devices",
        ),
        protocol=_protocol(profiler, campaign, journal),
    )


def _protocol(profiler: Profiler, campaign: Campaign, journal: Journal) -> dict[str, Any]:
    sentinels = [sample for sample in journal.samples if sample.sentinel]
    return {
        "method": profiler.method,
        "order": "all rows in a fresh order every round, one process",
        **dataclasses.asdict(campaign.protocol),
        "profiler": campaign.profiler,
        "sentinel": sentinels[0].item,
        "sentinel_samples": len(sentinels),
        "sentinel_drift_percent": drift_percent([sample.ms for sample in sentinels]),
        "samples_digest": journal.digest,
    }

"""Conformance suite of profilers: `check_profiler(MyProfiler())` raises AssertionError at the first broken promise."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from s2search.block import PRECISIONS
from s2search.latency.lookup import Lookup
from s2search.measurement.base import Item, Measure, Prepared, Profiler
from s2search.measurement.campaign import measure
from s2search.measurement.items import campaign_items
from s2search.measurement.samples import Protocol
from s2search.preset import Preset
from s2search.tables.table import LatencyTable

#: The smallest model that has everything: an odd token grid, several heads, a window of two chunks.
MINIATURE = Preset(
    name="miniature", depth=2, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=3, chunk_frames=1
)


def miniature_items() -> tuple[Item, ...]:
    """Return the items of a whole campaign, as small as they can be."""
    return campaign_items(MINIATURE, "48x48", clip_frames=2)


def check_profiler(profiler: Profiler, items: Sequence[Item] = ()) -> None:
    """Hold a profiler against its contract; on a machine where it cannot run, only that it says why.

    Args:
        profiler: The profiler to check.
        items: What it must be able to measure; by default those of `miniature_items()` whose role it can time.
    """
    if (reason := profiler.why_not()) is not None:
        assert reason.splitlines() == [reason], f"{profiler.name} does not say why in one line: {reason!r}"
        return
    items = items or [item for item in miniature_items() if item.role in profiler.roles()]
    assert "latency" in profiler.measures, f"{profiler.name} does not say that it measures latency"
    assert set(profiler.measures) <= set(get_args(Measure)), f"{profiler.name} measures what has no name"
    assert profiler.method.splitlines() == [profiler.method], f"{profiler.name} does not state its method in one line"
    device = profiler.device()
    assert device == profiler.device(), "the device's facts change from call to call"
    assert device.precision in PRECISIONS, f"the precision {device.precision!r} is unknown"
    with profiler.session():
        prepared = [profiler.prepare(item) for item in items]
        for item, ready in zip(items, prepared, strict=True):
            _check_memory(item, ready)
        for ready in reversed(prepared):  # any order, all alive
            _check_time(ready)
            _check_placement(profiler, ready)
        _check_pair(profiler, prepared[0], prepared[-1])
        _check_conditions(profiler)
    with profiler.session():
        _check_time(profiler.prepare(items[0]))
    _check_campaign(profiler, items)


def _check_memory(item: Item, prepared: Prepared) -> None:
    memory = prepared.memory()
    assert memory == prepared.memory(), f"{item.key} has other bytes the second time"
    assert memory.weight_bytes > 0, f"{item.key} has no weights"
    assert memory.peak_bytes > 0, f"{item.key} has no activations"
    streams = item.role in ("block", "commit") and item.scenario == "stream"
    assert (memory.state_bytes > 0) == streams, f"{item.key} has {memory.state_bytes} bytes of state"


def _check_time(prepared: Prepared) -> None:
    for repetitions in (1, 3):
        ms = prepared.time_ms(repetitions)
        assert math.isfinite(ms), f"a call takes {ms} ms"
        assert ms > 0, f"a call takes {ms} ms"


def _check_placement(profiler: Profiler, prepared: Prepared) -> None:
    placement = prepared.placement()
    assert bool(placement) == ("placement" in profiler.measures), f"{profiler.name} places operations: {placement}"
    assert all(count > 0 for count in placement.values()), f"no operation runs on one of {placement}"


def _check_pair(profiler: Profiler, first: Prepared, second: Prepared) -> None:
    ms = profiler.time_pair_ms(first, second, 2)
    assert math.isfinite(ms), f"a pair takes {ms} ms"
    assert ms > 0, f"a pair takes {ms} ms"


def _check_conditions(profiler: Profiler) -> None:
    for name, value in profiler.conditions().items():
        assert math.isfinite(value), f"{name} is {value}"


def _check_campaign(profiler: Profiler, items: Sequence[Item]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, profiler.device().slug)
        table = measure(profiler, items, out, preset="conformance", protocol=Protocol(rounds=2))
        assert LatencyTable.load(out).digest == table.digest, "the table does not read back as it was written"
        rows = {(row.label, row.scenario, row.shape) for row in table.rows}
        for item in items:
            assert (item.label, item.scenario, item.shape) in rows, f"the table has no row of {item.key}"
            if item.role != "commit":
                Lookup().predict(table, table.scope(item.scenario), item.part.name, item.part.options_text)

"""Rules for any CSV file with a column `latency_ms`.

Columns are known by name: sizes such as `width` or `batch`, other latencies (`latency_mean_ms`, `latency_us`),
`device`, and `layer_00, layer_01, ...` where a row is a whole layout, in the order of measurement.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator

from s2search.dates import span
from s2search.lint.base import Complaint, Rule
from s2search.lint.layout_file import NO_KEY, FeatureLayouts, LayoutFile, timed
from s2search.lint.sheet import Sheet, SheetLine

SIZES = (
    *("width", "height", "resolution", "frames", "tokens", "batch", "batch_size", "channels", "seq_len"),
    *("context_frames", "feed_forward"),
)
_PER_MS = {"latency_s": 1e-3, "latency_us": 1e3, "latency_ns": 1e6}
_NOISE = 0.05  # of a latency, where no deviation is stated
_UNITS_APART = 100.0  # no spread makes a mean this many times its median; a wrong unit makes it 1000 times
_LEAST_COPIED = 3
_DRIFT = 0.3  # lag-1 autocorrelation; phones of HELP's data reach 0.6 to 0.7, a machine without drift stays below 0
_QUANTITIES = r"latency_\w*(ms|us|ns|s)|launch_us|samples|order|\w+_bytes"


def _unreadable(sheet: Sheet) -> Iterator[Complaint]:
    for line in sheet.lines:
        if line.ragged:
            yield line.number, f"has too many or too few cells for {len(sheet.columns)} columns"
        elif line.latency_ms is None:
            yield line.number, f"latency_ms is {line.cells['latency_ms'][:40]!r}, which is not a finite number"
        else:
            yield from ((line.number, f"{column} is {cell[:40]!r}, {why}") for column, cell, why in _odd_cells(line))


def _odd_cells(line: SheetLine) -> Iterator[tuple[str, str, str]]:
    """Yield the cells beside the latency that cannot be what their column's name says, and why."""
    for column, cell in line.cells.items():
        if not cell or column == "latency_ms":
            continue
        value = line.value(column)
        if column in SIZES:
            if (value is None and _is_float(cell)) or (value is not None and value < 0):
                yield column, cell, "which is no size"
        elif column == "measured_at":
            if span(cell) is None:
                yield column, cell, "which is no time"
        elif re.fullmatch(_QUANTITIES, column) and (value is None or value < 0):
            yield column, cell, "which is not a finite number from 0"


def _is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _negative(sheet: Sheet) -> Iterator[Complaint]:
    for line in timed(sheet):
        if (latency := line.latency_ms) is not None and latency <= 0:
            yield line.number, f"latency_ms is {latency:g}; no operation takes zero time or less"


def _non_monotone(sheet: Sheet) -> Iterator[Complaint]:
    ignored = {column for column in sheet.columns if column.startswith("latency") or column in NO_KEY}
    for size in [column for column in sheet.columns if column in SIZES]:
        kin: dict[tuple[str, ...], list[tuple[float, SheetLine]]] = defaultdict(list)
        others = [column for column in sheet.columns if column != size and column not in ignored]
        for line in timed(sheet):
            value = line.value(size)
            if value is not None and (line.latency_ms or 0) > 0:
                kin[tuple(line.cells[column] for column in others)].append((value, line))
        for group in kin.values():
            yield from _falls(size, group)


def _falls(size: str, group: list[tuple[float, SheetLine]]) -> Iterator[Complaint]:
    """Yield the lines of one group that take less time than a smaller size does."""
    slowest: tuple[float, SheetLine] | None = None
    for value, line in sorted(group, key=lambda pair: (pair[0], pair[1].latency_ms)):
        latency = line.latency_ms or 0.0
        if slowest is not None and slowest[0] < value:
            smaller = slowest[1].latency_ms or 0.0
            if smaller - latency > max(_NOISE * smaller, 3 * math.hypot(_deviation(line), _deviation(slowest[1]))):
                yield (
                    line.number,
                    f"{size} {value:g} takes {latency:g} ms, and line {slowest[1].number} with only {slowest[0]:g} "
                    f"takes {smaller:g} ms",
                )
        if slowest is None or latency > (slowest[1].latency_ms or 0.0):
            slowest = value, line


def _units(sheet: Sheet) -> Iterator[Complaint]:
    for line in timed(sheet):
        latency = line.latency_ms or 0.0
        if latency <= 0:
            continue
        mean = line.value("latency_mean_ms")
        if mean is not None and mean > 0 and not 1 / _UNITS_APART < mean / latency < _UNITS_APART:
            yield line.number, f"latency_ms is {latency:g} and latency_mean_ms is {mean:g}: one of them is not in ms"
        for column, per_ms in _PER_MS.items():
            same = line.value(column)
            if same is not None and not 0.5 < same / per_ms / latency < 2:
                yield line.number, f"latency_ms is {latency:g} and {column} is {same:g}, which is a different time"


def _duplicated_devices(sheet: Sheet) -> Iterator[Complaint]:
    if "device" not in sheet.columns:
        return
    others = [c for c in sheet.columns if c != "device" and not c.startswith("latency") and c not in NO_KEY]
    devices: dict[str, dict[tuple[str, ...], SheetLine]] = defaultdict(dict)
    for line in timed(sheet):
        devices[line.cells["device"]][tuple(line.cells[column] for column in others)] = line
    first: dict[frozenset[tuple[tuple[str, ...], float | None]], str] = {}
    for device, lines in devices.items():
        if len(lines) < _LEAST_COPIED or len({line.latency_ms for line in lines.values()}) < _LEAST_COPIED:
            continue
        original = first.setdefault(frozenset((key, line.latency_ms) for key, line in lines.items()), device)
        if original != device:
            row = min(line.number for line in lines.values())
            yield row, f"all {len(lines)} latencies of the device {device[:40]!r} are those of {original[:40]!r}"


def _unit_outlier(sheet: Sheet) -> Iterator[Complaint]:
    for found in (LayoutFile.of(sheet), *FeatureLayouts.of(sheet)):
        if found is not None:
            for line, latency_ms, ratio in found.outliers():
                yield (
                    line,
                    f"latency_ms is {latency_ms:g}, {ratio:.3g} times what the other rows say of this layout: "
                    "a factor between units",
                )


def _synthetic(sheet: Sheet) -> Iterator[Complaint]:
    layouts = LayoutFile.of(sheet)
    if layouts is not None and layouts.computed:
        several = int(layouts.exact_N.sum())
        which = (
            f"all {several:,} latencies"
            if layouts.exact_N.all()
            else f"{several:,} of {len(layouts.exact_N):,} latencies"
        )
        yield None, f"{which} are exact sums of one number per layer and block; timings of whole networks are not"


def _drift(sheet: Sheet) -> Iterator[Complaint]:
    for features in FeatureLayouts.of(sheet):
        if features.autocorrelation > _DRIFT:
            yield (
                None,
                f"what the features leave over of the {features.part} has a lag-1 autocorrelation of "
                f"{features.autocorrelation:.2f} in the order of measurement (noise has 0, the bound is {_DRIFT}): "
                "the device drifted",
            )
    layouts = LayoutFile.of(sheet)
    if layouts is not None and not layouts.computed and layouts.autocorrelation > _DRIFT:
        yield (
            None,
            f"what an additive model leaves over has a lag-1 autocorrelation of {layouts.autocorrelation:.2f} "
            f"in the order of measurement (noise has 0, the bound is {_DRIFT}): the device drifted",
        )


def _deviation(line: SheetLine) -> float:
    """Return the stated standard deviation of a line in milliseconds, or 0."""
    return max(0.0, line.value("latency_std_ms") or 0.0)


CSV_RULES: tuple[Rule[Sheet], ...] = (
    Rule(name="unreadable_row", check=_unreadable, remedy="correct the line or remove it"),
    Rule(
        name="negative_latency",
        check=_negative,
        remedy="measure the row again, or remove it; a difference of two timings needs more samples than its size",
    ),
    Rule(
        name="non_monotone",
        check=_non_monotone,
        remedy="measure both rows again, interleaved; if they stay apart, state the deviation in latency_std_ms",
    ),
    Rule(name="unit_mismatch", check=_units, remedy="convert the columns to the units in their names"),
    Rule(
        name="unit_outlier",
        check=_unit_outlier,
        remedy="convert that row to milliseconds, measure it again, or remove it",
    ),
    Rule(
        name="duplicated_device",
        check=_duplicated_devices,
        remedy="measure that device, or remove its rows",
    ),
    Rule(name="synthetic_as_measured", check=_synthetic, remedy="call the file computed, not measured; or measure"),
    Rule(
        name="spread_hides_drift",
        check=_drift,
        remedy="fit and correct the drift, or measure again with sentinels and a warm device",
        misleads=False,  # whoever reads layouts estimates their drift
    ),
)

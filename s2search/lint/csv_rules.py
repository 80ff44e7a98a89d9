"""Rules for any CSV file with a column `latency_ms`.

Columns are known by name: sizes such as `width` or `batch`, other latencies (`latency_mean_ms`, `latency_us`),
`device`, and `layer_00, layer_01, ...` where a row is a whole layout, in the order of measurement.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2search.dates import span
from s2search.lint.base import Complaint, Rule
from s2search.lint.sheet import Sheet, SheetLine

if TYPE_CHECKING:
    import numpy as np

SIZES = (
    *("width", "height", "resolution", "frames", "tokens", "batch", "batch_size", "channels", "seq_len"),
    *("context_frames", "feed_forward"),
)
_PER_MS = {"latency_s": 1e-3, "latency_us": 1e3, "latency_ns": 1e6}
_NOISE = 0.05  # of a latency, where no deviation is stated
_UNITS_APART = 100.0  # no spread makes a mean this many times its median; a wrong unit makes it 1000 times
_LEAST_COPIED = 3
_DRIFT = 0.3  # lag-1 autocorrelation; phones of HELP's data reach 0.6 to 0.7, a machine without drift stays below 0
_SPARE = 50  # layouts beyond the unknowns of an additive model, before its residual says anything
_EXACT = 1e-6
_MOST_UNKNOWNS = 1000
_QUANTITIES = r"latency_\w*(ms|us|ns|s)|launch_us|samples|order|\w+_bytes"


@dataclass(frozen=True, kw_only=True)
class LayoutFile:
    """Layouts with end-to-end latencies, in order of measurement, and what an additive model leaves over.

    Both as fractions of the largest latency, so that no sum of squares overflows.
    """

    latency_N: np.ndarray
    residual_N: np.ndarray

    @classmethod
    def of(cls, sheet: Sheet) -> LayoutFile | None:
        """Fit one term per layer and block by least squares; null where the file holds no or too few layouts."""
        layers = [column for column in sheet.columns if re.fullmatch(r"layer_\d+", column)]
        lines = [line for line in sheet.lines if not line.ragged and line.latency_ms is not None]
        unknowns = len({(layer, line.cells[layer]) for line in lines for layer in layers})
        # More unknowns than this come from cells that are no blocks, and would need gigabytes.
        if not layers or unknowns > _MOST_UNKNOWNS or len(lines) < unknowns - len(layers) + 1 + _SPARE:
            return None
        import numpy as np

        from s2search.transfer.additive import indicators_TF

        # Numbers in place of cells: an array of text is as wide everywhere as its longest cell.
        block: dict[str, int] = {}
        layout_NL = [[block.setdefault(line.cells[layer], len(block)) for layer in layers] for line in lines]
        features_NF = indicators_TF(np.array(layout_NL))
        latency_N = np.array([line.latency_ms for line in lines])
        latency_N /= np.abs(latency_N).max() or 1.0
        terms_F, *_ = np.linalg.lstsq(features_NF, latency_N, rcond=None)
        return cls(latency_N=latency_N, residual_N=latency_N - features_NF @ terms_F)

    @property
    def exact(self) -> bool:
        """Whether every latency is the sum of its layers' terms, and they are not all the same latency."""
        import numpy as np

        spread = np.ptp(self.latency_N)
        return bool(spread > 0 and np.abs(self.residual_N).max() <= _EXACT * spread)

    @property
    def autocorrelation(self) -> float:
        """The lag-1 autocorrelation of the residual: 0 for noise, near 1 for slow drift."""
        from s2search.transfer.additive import autocorrelation

        return autocorrelation(self.residual_N)


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
    for line in _timed(sheet):
        if (latency := line.latency_ms) is not None and latency <= 0:
            yield line.number, f"latency_ms is {latency:g}; no operation takes zero time or less"


def _non_monotone(sheet: Sheet) -> Iterator[Complaint]:
    ignored = {column for column in sheet.columns if column.startswith("latency") or column in _NO_KEY}
    for size in [column for column in sheet.columns if column in SIZES]:
        kin: dict[tuple[str, ...], list[tuple[float, SheetLine]]] = defaultdict(list)
        others = [column for column in sheet.columns if column != size and column not in ignored]
        for line in _timed(sheet):
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
    for line in _timed(sheet):
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
    others = [c for c in sheet.columns if c != "device" and not c.startswith("latency") and c not in _NO_KEY]
    devices: dict[str, dict[tuple[str, ...], SheetLine]] = defaultdict(dict)
    for line in _timed(sheet):
        devices[line.cells["device"]][tuple(line.cells[column] for column in others)] = line
    first: dict[frozenset[tuple[tuple[str, ...], float | None]], str] = {}
    for device, lines in devices.items():
        if len(lines) < _LEAST_COPIED or len({line.latency_ms for line in lines.values()}) < _LEAST_COPIED:
            continue
        original = first.setdefault(frozenset((key, line.latency_ms) for key, line in lines.items()), device)
        if original != device:
            row = min(line.number for line in lines.values())
            yield row, f"all {len(lines)} latencies of the device {device[:40]!r} are those of {original[:40]!r}"


def _synthetic(sheet: Sheet) -> Iterator[Complaint]:
    layouts = LayoutFile.of(sheet)
    if layouts is not None and layouts.exact:
        yield (
            None,
            f"all {len(layouts.latency_N)} latencies are exact sums of one number per layer and block; "
            "timings of whole networks are not",
        )


def _drift(sheet: Sheet) -> Iterator[Complaint]:
    yield from _drift_of_features(sheet)
    layouts = LayoutFile.of(sheet)
    if layouts is not None and not layouts.exact and layouts.autocorrelation > _DRIFT:
        yield (
            None,
            f"what an additive model leaves over has a lag-1 autocorrelation of {layouts.autocorrelation:.2f} "
            f"in the order of measurement (noise has 0, the bound is {_DRIFT}): the device drifted",
        )


def _drift_of_features(sheet: Sheet) -> Iterator[Complaint]:
    """Judge layouts that are described by numbers and counted by `layout` in the order of measuring, part by part."""
    parts: dict[str, list[SheetLine]] = defaultdict(list)
    for line in _timed(sheet):
        if line.value("layout") is not None and (line.latency_ms or 0) > 0:
            parts[line.cells.get("part", "")].append(line)
    ignored = {column for column in sheet.columns if column.startswith("latency") or column in _NO_KEY}
    for part, lines in parts.items():
        features = [column for column in sheet.columns if column not in ignored and column not in ("part", "layout")]
        features = [column for column in features if all(line.value(column) is not None for line in lines)]
        if not features or len(features) > _MOST_UNKNOWNS or len(lines) < len(features) + 1 + _SPARE:
            continue
        correlation = _autocorrelation(sorted(lines, key=lambda line: line.value("layout") or 0.0), features)
        if correlation > _DRIFT:
            yield (
                None,
                f"what the features leave over of the {part} has a lag-1 autocorrelation of {correlation:.2f} in the "
                f"order of measurement (noise has 0, the bound is {_DRIFT}): the device drifted",
            )


def _autocorrelation(lines: list[SheetLine], features: list[str]) -> float:
    """Return that of the residual of log latency over the features, a constant with them, by least squares."""
    import numpy as np

    from s2search.transfer.additive import autocorrelation

    feature_TF = np.array([[*(line.value(column) or 0.0 for column in features), 1.0] for line in lines])
    feature_TF /= np.abs(feature_TF).max(axis=0).clip(1e-300)
    log_T = np.log([line.latency_ms or 1.0 for line in lines])
    terms_F, *_ = np.linalg.lstsq(feature_TF, log_T, rcond=None)
    residual_T = log_T - feature_TF @ terms_F
    return autocorrelation(residual_T) if np.ptp(residual_T) > _EXACT else 0.0


def _timed(sheet: Sheet) -> Iterator[SheetLine]:
    return (line for line in sheet.lines if not line.ragged and line.latency_ms is not None)


def _deviation(line: SheetLine) -> float:
    """Return the stated standard deviation of a line in milliseconds, or 0."""
    return max(0.0, line.value("latency_std_ms") or 0.0)


_NO_KEY = frozenset(
    (
        *("samples", "order", "measured_at", "note", "source", "weight_bytes", "state_bytes", "peak_bytes"),
        *("memory_bytes", "memory_least_bytes"),
    )
)

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
        name="duplicated_device",
        check=_duplicated_devices,
        remedy="measure that device, or remove its rows",
    ),
    Rule(name="synthetic_as_measured", check=_synthetic, remedy="call the file computed, not measured; or measure"),
    Rule(
        name="spread_hides_drift",
        check=_drift,
        remedy="fit and correct the drift, or measure again with sentinels and a warm device",
    ),
)

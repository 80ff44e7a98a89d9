"""Layouts in a CSV file, and what a model of the others leaves over of each.

A layout is a row of `layer_00, layer_01, ...`, or of numbers that describe it, counted by `layout`.

Axes: N lines.
"""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2search.lint.sheet import Sheet, SheetLine

if TYPE_CHECKING:
    import numpy as np

_SPARE = 50  # layouts beyond the unknowns of a model, before what it leaves over says anything
_LEAST = 10  # layouts, before one of them is far from the others
_EXACT = 1e-6  # of the spread
_ROUNDED = 1e-3  # of the spread: sums that were rounded to coarser digits cannot be told from timings
_COMPUTED = 0.98  # of the lines; among timings of whole networks there are no such sums
_MOST_UNKNOWNS = 1000
_MOST_LOG = math.log(1e12)  # of a latency over the median: what is further off is as far
NO_KEY = frozenset(
    (
        *("samples", "order", "measured_at", "note", "source", "weight_bytes", "state_bytes", "peak_bytes"),
        *("memory_bytes", "memory_least_bytes"),
    )
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layouts:
    """Lines in the order of measurement, and what is foretold of them by the lines in the usual unit.

    Attributes:
        line_N: Their numbers.
        latency_ms_N: What stands there.
        foretold_ms_N: What a model fitted to the others says.
        near_N: Whether the two are near enough to be in one unit.
        telling: Whether there are enough lines beyond the model's unknowns for its residuals to mean anything.
    """

    line_N: list[int]
    latency_ms_N: np.ndarray
    foretold_ms_N: np.ndarray
    near_N: np.ndarray
    telling: bool

    def outliers(self) -> list[tuple[int, float, float]]:
        """Return line, latency in ms, and that over what the others say, of each line in another unit.

        Of nothing there is no multiple: a line of which the others say 0 is not among them.
        """
        return [
            (self.line_N[n], float(self.latency_ms_N[n]), float(self.latency_ms_N[n] / self.foretold_ms_N[n]))
            for n, near in enumerate(self.near_N)
            if not near and self.foretold_ms_N[n]
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayoutFile(Layouts):
    """Layouts of one block per layer, by an additive model; `quantum_ms` is one unit of the last digit written."""

    quantum_ms: float

    @classmethod
    def of(cls, sheet: Sheet) -> LayoutFile | None:
        """Fit one term per layer and block; null where the file holds no layouts, or too few."""
        return sheet.remember(cls, lambda: cls._of(sheet))

    @classmethod
    def _of(cls, sheet: Sheet) -> LayoutFile | None:
        layers = [column for column in sheet.columns if re.fullmatch(r"layer_\d+", column)]
        lines = [line for line in timed(sheet) if (line.latency_ms or 0) > 0]
        # More unknowns than this come from cells that are no blocks, and would need gigabytes.
        unknowns = len({(layer, line.cells[layer]) for line in lines for layer in layers})
        if not layers or unknowns > _MOST_UNKNOWNS or len(lines) < _LEAST:
            return None
        import numpy as np

        from s2search.transfer.additive import additive_latency_ms, in_unit_ms, indicators_TF

        block: dict[str, int] = {}
        layout_NL = [[block.setdefault(line.cells[layer], len(block)) for layer in layers] for line in lines]
        feature_NF = indicators_TF(np.array(layout_NL))
        latency_ms_N, unit_ms = _in_range(lines)
        usual_ms_N = in_unit_ms(feature_NF, latency_ms_N)
        return cls(
            line_N=[line.number for line in lines],
            latency_ms_N=latency_ms_N * unit_ms,
            foretold_ms_N=additive_latency_ms(feature_NF, usual_ms_N) * unit_ms,
            near_N=np.isfinite(usual_ms_N),
            telling=len(lines) >= unknowns - len(layers) + 1 + _SPARE,
            quantum_ms=min(10.0 ** -_decimals(line.cells["latency_ms"]) for line in lines),
        )

    @functools.cached_property
    def exact_N(self) -> np.ndarray:
        """Whether each latency is the sum of its layers' terms, save rounding."""
        import numpy as np

        spread_ms = np.ptp(self.latency_ms_N[self.near_N])
        tolerance_ms = max(_EXACT * spread_ms, min(self.quantum_ms, _ROUNDED * spread_ms))
        return np.asarray(np.abs(self.latency_ms_N - self.foretold_ms_N) <= tolerance_ms)

    @property
    def computed(self) -> bool:
        """Whether the latencies, but for a few, are sums of their layers' terms, and they are not all the same."""
        spread = bool(self.latency_ms_N.min() < self.latency_ms_N.max())
        return self.telling and spread and bool(self.exact_N.mean() >= _COMPUTED)

    @property
    def autocorrelation(self) -> float:
        """The lag-1 autocorrelation of the residual in ms: 0 for noise, near 1 for slow drift."""
        return _autocorrelation((self.latency_ms_N - self.foretold_ms_N)[self.near_N]) if self.telling else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureLayouts(Layouts):
    """Layouts of one part that are described by numbers, by a model of their log latency."""

    part: str

    @classmethod
    def of(cls, sheet: Sheet) -> list[FeatureLayouts]:
        """Fit one factor per number that describes a layout, part by part; none where the file holds no layouts."""
        return sheet.remember(cls, lambda: list(cls._of(sheet)))

    @classmethod
    def _of(cls, sheet: Sheet) -> Iterator[FeatureLayouts]:
        parts: dict[str, list[SheetLine]] = defaultdict(list)
        for line in timed(sheet):
            if line.value("layout") is not None and (line.latency_ms or 0) > 0:
                parts[line.cells.get("part", "")].append(line)
        ignored = {column for column in sheet.columns if column.startswith("latency") or column in NO_KEY}
        for part, lines in parts.items():
            features = [
                column for column in sheet.columns if column not in ignored and column not in ("part", "layout")
            ]
            features = [column for column in features if all(line.value(column) is not None for line in lines)]
            if features and len(features) <= _MOST_UNKNOWNS and len(lines) >= len(features) + 1 + _SPARE:
                yield cls._fit(part, sorted(lines, key=lambda line: line.value("layout") or 0.0), features)

    @classmethod
    def _fit(cls, part: str, lines: list[SheetLine], features: list[str]) -> FeatureLayouts:
        import numpy as np

        from s2search.transfer.additive import near

        feature_NF = np.array([[*(line.value(column) or 0.0 for column in features), 1.0] for line in lines])
        feature_NF /= np.abs(feature_NF).max(axis=0).clip(1e-300)
        latency_ms_N, unit_ms = _in_range(lines)
        log_N = np.log(latency_ms_N)
        foretold_N, near_N = np.full(len(lines), np.median(log_N)), near(np.exp(log_N - np.median(log_N)))
        for _ in range(_LEAST):
            terms_F, *_ = np.linalg.lstsq(feature_NF[near_N], log_N[near_N], rcond=None)
            foretold_N, before_N = feature_NF @ terms_F, near_N
            near_N = near(np.exp(np.clip(log_N - foretold_N, -99, 99)))
            if (near_N == before_N).all():
                break
        return cls(
            line_N=[line.number for line in lines],
            latency_ms_N=latency_ms_N * unit_ms,
            foretold_ms_N=np.exp(np.clip(foretold_N, -_MOST_LOG, _MOST_LOG)) * unit_ms,  # one far off is told far off
            near_N=near_N,
            telling=True,
            part=part,
        )

    @property
    def autocorrelation(self) -> float:
        """The lag-1 autocorrelation of the residual of log latency; 0 where nothing is left over."""
        import numpy as np

        residual_N = np.log(self.latency_ms_N / self.foretold_ms_N)[self.near_N]
        return _autocorrelation(residual_N) if np.ptp(residual_N) > _EXACT else 0.0


def timed(sheet: Sheet) -> Iterator[SheetLine]:
    """Yield the lines with a latency."""
    return (line for line in sheet.lines if not line.ragged and line.latency_ms is not None)


def _in_range(lines: list[SheetLine]) -> tuple[np.ndarray, float]:
    """Return latencies over their median, and that: no square of them overflows."""
    import numpy as np

    latency_ms_N = np.array([line.latency_ms for line in lines])
    unit_ms = float(np.median(latency_ms_N))
    return np.clip(latency_ms_N / unit_ms, math.exp(-_MOST_LOG), math.exp(_MOST_LOG)), unit_ms


def _decimals(text: str) -> int:
    """Count the decimals of a number as it is written.

    >>> _decimals("12.50"), _decimals("7"), _decimals("1.5e-3")
    (2, 0, 4)
    """
    mantissa, _, exponent = text.strip().lower().partition("e")
    return len(mantissa.partition(".")[2]) - int(exponent or 0)


def _autocorrelation(residual_N: np.ndarray) -> float:
    from s2search.transfer.additive import autocorrelation

    return autocorrelation(residual_N / (float(abs(residual_N).max()) or 1.0))

"""linear: so much per operation, per byte and per launch, learned from the table's own rows.

Axes: R rows, P parts, F features (operations, bytes, one launch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search import registry
from s2search.errors import MissingRowError
from s2search.latency.base import Estimate, LatencyModel
from s2search.latency.physical import Work, measured, timed_work, work
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, Scope

_Array = NDArray[np.float64]
_Places = NDArray[np.int64]
_LEAST_ROWS = 5
_MOST_FITS = 64  # of the others to foretell rows: of more rows than that, several are left out together
_PRIOR_ROWS = 0.5  # rows that the general rate is worth against the rows of the part itself


@dataclass(frozen=True, kw_only=True)
class Linear(LatencyModel):
    """Foretells parts and shapes that were not measured from the work they do.

    Latency is a non-negative combination of operations, bytes moved and one launch, with the least squared relative
    error on the table's rows of the same precision and compute unit. Parts use a device unequally well, so each part
    that has rows elsewhere multiplies this by its own ratio, shrunken towards one. The uncertainty is the error on
    rows, each foretold from others; of more than 64 rows from 63 of 64. A measured row answers for itself.
    """

    @override
    def predict(self, table: LatencyTable, scope: Scope, part: str, options: str = "") -> Estimate:
        if (answer := measured(table, scope, part, options)) is not None:
            return answer
        asked = work(scope.shape, scope.precision, part, options)
        rows = timed_work(table, scope)
        if len(rows) < _LEAST_ROWS:
            raise MissingRowError(
                f"the table {table.name!r} has {len(rows)} timed rows of installed parts in {scope.precision} on "
                f"{scope.compute_unit}",
                allowed=f"{_LEAST_ROWS} rows or more for the latency model linear",
                remedy="measure more rows",
            )
        timed = table.remember(("timed", scope.precision, scope.compute_unit), lambda: _Timed.of(rows))
        place = timed.labels.get(registry.label_of(part, options))
        latency_us = float(timed.fitted.foretell(_features([asked]), np.array([-1 if place is None else place]))[0])
        return asked.estimate(latency_us, timed.error(place) * latency_us)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """Microseconds per unit of each feature, and by how much each part differs from that, as a logarithm.

    A part without rows is no part's place, -1: the last ratio is 0.
    """

    rate_F: _Array
    log_ratio_P: _Array

    @classmethod
    def to(cls, feature_RF: _Array, latency_us_R: _Array, part_R: _Places, parts: int) -> _Fit:
        from scipy.optimize import nnls

        scale_F = feature_RF.max(axis=0)
        relative_RF, one_R = feature_RF / scale_F / latency_us_R[:, None], np.ones(len(latency_us_R))
        if len(one_R) > _MOST_FITS:  # few equations with the same solution, which nnls is slow to make of many
            triangle = np.asarray(np.linalg.qr(np.column_stack([relative_RF, one_R]), mode="r"))
            relative_RF, one_R = triangle[:, :-1], triangle[:, -1]
        rate_F = nnls(relative_RF, one_R)[0] / scale_F
        log_ratio_R = np.log(latency_us_R / np.maximum(feature_RF @ rate_F, 1e-9))
        rows_P = np.bincount(part_R, minlength=parts + 1)
        return cls(
            rate_F=rate_F, log_ratio_P=np.bincount(part_R, log_ratio_R, minlength=parts + 1) / (rows_P + _PRIOR_ROWS)
        )

    def foretell(self, feature_RF: _Array, part_R: _Places) -> _Array:
        """Return microseconds."""
        return np.asarray(feature_RF @ self.rate_F * np.exp(self.log_ratio_P[part_R]))


@dataclass(frozen=True, kw_only=True)
class _Timed:
    """The timed rows of a table, what they say together, and the relative error of each, foretold without it."""

    labels: dict[str, int]
    part_R: _Places
    fitted: _Fit
    error_R: _Array

    @classmethod
    def of(cls, rows: Sequence[tuple[Row, Work]]) -> _Timed:
        labels = {label: place for place, label in enumerate(dict.fromkeys(row.label for row, _ in rows))}
        part_R = np.array([labels[row.label] for row, _ in rows])
        latency_us_R = np.array([1000 * row.latency_ms for row, _ in rows])
        feature_RF = _features([done for _, done in rows])
        error_R = np.zeros(len(rows))
        share_R = np.arange(len(rows)) % _MOST_FITS
        for share in range(min(len(rows), _MOST_FITS)):
            out_R = share_R == share
            fit = _Fit.to(feature_RF[~out_R], latency_us_R[~out_R], part_R[~out_R], len(labels))
            error_R[out_R] = fit.foretell(feature_RF[out_R], part_R[out_R]) / latency_us_R[out_R] - 1
        fitted = _Fit.to(feature_RF, latency_us_R, part_R, len(labels))
        return cls(labels=labels, part_R=part_R, fitted=fitted, error_R=error_R)

    def error(self, place: int | None) -> float:
        """Return the root mean square relative error: of all rows, or of the part's own if that is larger."""
        own_R = self.error_R[self.part_R == place]
        return max(float(np.sqrt((error_R**2).mean())) for error_R in (own_R, self.error_R) if len(error_R))


def _features(works: Sequence[Work]) -> _Array:
    return np.array([(done.flops, done.moved_bytes, 1.0) for done in works], np.float64)

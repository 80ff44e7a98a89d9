"""linear: so much per operation, per byte and per launch, learned from the table's own rows.

Axes: R rows, F features (operations, bytes, one launch).
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
from s2search.tables.table import LatencyTable, Scope

_Array = NDArray[np.float64]
_LEAST_ROWS = 5
_PRIOR_ROWS = 0.5  # rows that the general rate is worth against the rows of the part itself


@dataclass(frozen=True, kw_only=True)
class Linear(LatencyModel):
    """Foretells parts and shapes that were not measured from the work they do.

    Latency is a non-negative combination of operations, bytes moved and one launch, with the least squared relative
    error on the table's rows of the same precision and compute unit. Parts use a device unequally well, so each part
    that has rows elsewhere multiplies this by its own ratio, shrunken towards one. The uncertainty is the error on
    rows, each foretold from the others. A measured row answers for itself.
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
        label = registry.label_of(part, options)
        labels = [row.label for row, _ in rows]
        works = [done for _, done in rows]
        latency_us_R = np.array([1000 * row.latency_ms for row, _ in rows])
        error = _error_left_out(labels, works, latency_us_R, label)
        latency_us = _foretell(labels, works, latency_us_R, label, asked)
        return asked.estimate(latency_us, error * latency_us)


def _foretell(labels: Sequence[str], works: Sequence[Work], latency_us_R: _Array, label: str, asked: Work) -> float:
    from scipy.optimize import nnls

    feature_RF = np.array([_features(done) for done in works])
    scale_F = feature_RF.max(axis=0)
    rate_F = nnls(feature_RF / scale_F / latency_us_R[:, None], np.ones(len(works)))[0] / scale_F
    here_R = np.array([other == label for other in labels])
    log_ratio_R = np.log(latency_us_R / np.maximum(feature_RF @ rate_F, 1e-9))
    log_ratio = log_ratio_R[here_R].sum() / (here_R.sum() + _PRIOR_ROWS)
    return float(_features(asked) @ rate_F * np.exp(log_ratio))


def _features(done: Work) -> _Array:
    return np.array([done.flops, done.moved_bytes, 1.0])


def _error_left_out(labels: list[str], works: list[Work], latency_us_R: _Array, label: str) -> float:
    """Return the root mean square relative error of rows that were each left out: all, or the part's own if larger."""
    error_R = np.zeros(len(works))
    for row, (other, done) in enumerate(zip(labels, works, strict=True)):
        rest = [n for n in range(len(works)) if n != row]
        found_us = _foretell([labels[n] for n in rest], [works[n] for n in rest], latency_us_R[rest], other, done)
        error_R[row] = found_us / latency_us_R[row] - 1
    own_R = np.array([other == label for other in labels])
    return max(float(np.sqrt((error_R[chosen] ** 2).mean())) for chosen in (own_R, np.ones_like(own_R)) if chosen.any())

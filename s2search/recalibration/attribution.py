"""What a layout was said to take, what it takes, and where the difference comes from.

A prediction is the sum of the table's rows, as plans sum them. Its miss is taken apart by what the parts take now:

    measured - predicted = drift + blocks + switches + fixed + changes + hand-over

drift is what all parts have become slower since the table was measured (the median ratio of parts timed in the same way
then and now, on the whole prediction); blocks, switches and fixed are what remains of each kind beyond that; changes
are those of the processor inside a program; hand-over is what the whole takes beyond all of it: tensors handed from
layer to layer or from package to package, calls saved, fusion across parts. The six add up.

What parts take now is known in two ways: each timed alone again among the whole packages (`Now.alone`), or in context,
from programs of several layers (`in_context.py`). All have standard errors, to first order.

Axes: K terms, of one or more rows that share a coefficient
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from s2search.block import Block
from s2search.latency.lookup import estimate_of
from s2search.measurement.layouts import blocks_and_switches
from s2search.tables.row import Role, Row
from s2search.tables.table import LatencyTable, Scope

KINDS: tuple[Role, ...] = ("block", "switch", "fixed")
CHANGE = "change of processor"  # is counted like a row
_MEDIAN = math.sqrt(math.pi / 2)  # its standard error over that of a mean, of many normal values

_Array = NDArray[np.float64]
#: Rows that share a coefficient.
Term = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The rows of one scope that a forward pass is made of, by label: role and milliseconds as plans count them.

    `error_ms` is the standard error of those that have one.
    """

    role: Mapping[str, Role]
    latency_ms: Mapping[str, float]
    error_ms: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, table: LatencyTable, scope: Scope) -> Parts:
        """Take them from a table."""
        rows: Sequence[Row] = table.in_scope(scope)
        return cls(
            role={row.label: row.role for row in rows},
            latency_ms={row.label: estimate_of(row).cost.latency_us / 1000 for row in rows},
            error_ms={row.label: row.latency_error_ms for row in rows if row.latency_error_ms is not None},
        )

    def counts(self, layout: Sequence[Block]) -> Counter[str]:
        """Return how often a layout pays every row: its blocks, its switches, and all fixed parts once."""
        found = blocks_and_switches(layout)
        found.update(label for label, role in self.role.items() if role == "fixed")
        return +found

    def sum_ms(self, counts: Mapping[str, int]) -> float:
        """Return what a layout takes by the table, milliseconds."""
        return sum(count * self.latency_ms[label] for label, count in counts.items() if label != CHANGE)

    def relative_error(self, label: str) -> float:
        """Return the standard error of a part over what it takes; 0 where it is not known."""
        return self.error_ms.get(label, 0.0) / self.latency_ms[label]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """By which factor parts take longer than the table says, and its standard error."""

    factor: float = 1.0
    error: float = 0.0

    @classmethod
    def between(cls, before: Parts, now: Parts) -> Drift:
        """Return the median ratio of parts now to the table's; parts that take no time do not count.

        Its error is that of the ratios, or what their scatter tells where that is more.
        """
        labels = [label for label, ms in before.latency_ms.items() if ms > 0 and label in now.latency_ms]
        ratios = [now.latency_ms[label] / before.latency_ms[label] for label in labels]
        factor, count = statistics.median(ratios), len(ratios)
        own = statistics.fmean(now.relative_error(label) ** 2 + before.relative_error(label) ** 2 for label in labels)
        scatter = 1.4826 * statistics.median(abs(ratio / factor - 1) for ratio in ratios)  # as of normal values
        widened = _MEDIAN if count > 2 else 1.0
        return cls(factor=factor, error=factor * widened * max(math.sqrt(own), scatter) / math.sqrt(count))


@dataclass(frozen=True, kw_only=True, eq=False)
class Now:
    """What parts take now: `drift.factor` times what the table says, and so much beyond.

    Attributes:
        drift: The factor.
        terms: Of K.
        beyond_ms_K: What every row of a term takes more, milliseconds.
        covariance_KK: Of that at this drift.
        slope_K: By how much it would differ were the drift 1 more.
    """

    drift: Drift
    terms: tuple[Term, ...]
    beyond_ms_K: _Array
    covariance_KK: _Array
    slope_K: _Array

    @classmethod
    def alone(cls, before: Parts, now: Parts) -> Now:
        """Take them from parts that were timed again, each alone."""
        drift, labels = Drift.between(before, now), tuple(before.latency_ms)
        table_K = np.array([before.latency_ms[label] for label in labels])
        now_K = np.array([now.latency_ms[label] for label in labels])
        error_K = np.array([now.error_ms.get(label, 0.0) for label in labels])
        return cls(
            drift=drift,
            terms=tuple((label,) for label in labels),
            beyond_ms_K=now_K - drift.factor * table_K,
            covariance_KK=np.diag(error_K**2),
            slope_K=-table_K,
        )

    def sum_error_ms(self, weight_K: _Array, drifting_ms: float = 0.0) -> float:
        """Return the standard error of a weighted sum of what is beyond, and of the drift times so much."""
        own = float(weight_K @ self.covariance_KK @ weight_K)
        shared = (drifting_ms + float(weight_K @ self.slope_K)) * self.drift.error
        return math.hypot(math.sqrt(max(0.0, own)), shared)


def amounts(terms: Sequence[Term], counts: Sequence[Mapping[str, int]]) -> _Array:
    """Return how often every layout pays the rows of every term (N, K)."""
    return np.array([[sum(one.get(label, 0) for label in term) for term in terms] for one in counts], np.float64)


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """One layout's miss taken apart, milliseconds; see the module.

    `errors_ms` are standard errors by name, such as `blocks`; `of_block_ms` and its errors are those of every block.
    """

    drift_ms: float
    blocks_ms: float
    switches_ms: float
    fixed_ms: float
    changes_ms: float
    hand_over_ms: float
    errors_ms: Mapping[str, float]
    of_block_ms: Mapping[str, float]
    of_block_errors_ms: Mapping[str, float]

    @property
    def miss_ms(self) -> float:
        """Measured minus predicted."""
        parts_ms = self.blocks_ms + self.switches_ms + self.fixed_ms + self.changes_ms
        return self.drift_ms + parts_ms + self.hand_over_ms


def attribute(
    counts: Mapping[str, int], before: Parts, now: Now, measured_ms: float, error_ms: float = 0.0
) -> Attribution:
    """Take the miss of one layout apart.

    Args:
        counts: How often it pays every row, and changes the processor.
        before: The table's parts.
        now: What they take now.
        measured_ms: The layout itself.
        error_ms: The standard error of that.
    """
    amount_K = amounts(now.terms, [counts])[0]
    beyond_ms_K, predicted_ms = amount_K * now.beyond_ms_K, before.sum_ms(counts)
    kind_K = np.array([before.role.get(term[0], CHANGE) for term in now.terms])
    of = {"blocks": "block", "switches": "switch", "fixed": "fixed", "changes": CHANGE}
    share_ms = {name: float(beyond_ms_K[kind_K == kind].sum()) for name, kind in of.items()}
    errors_ms = {name: now.sum_error_ms(np.where(kind_K == kind, amount_K, 0.0)) for name, kind in of.items()}
    drift_ms = (now.drift.factor - 1) * predicted_ms
    whole_error_ms = math.hypot(now.sum_error_ms(amount_K, predicted_ms), error_ms)
    blocks = [k for k in np.flatnonzero(kind_K == "block") if amount_K[k]]
    single_KK = np.diag(amount_K)
    return Attribution(
        drift_ms=drift_ms,
        **{f"{name}_ms": ms for name, ms in share_ms.items()},
        hand_over_ms=measured_ms - predicted_ms - drift_ms - float(beyond_ms_K.sum()),
        errors_ms={"drift": predicted_ms * now.drift.error, **errors_ms, "hand_over": whole_error_ms},
        of_block_ms={now.terms[k][0]: float(beyond_ms_K[k]) for k in blocks},
        of_block_errors_ms={now.terms[k][0]: now.sum_error_ms(single_KK[k]) for k in blocks},
    )

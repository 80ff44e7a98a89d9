"""The correction of a table: which one a run of whole layouts supports, and how large it is.

Every correction is linear, so that a table that carries it stays a sum of rows:

    latency = predicted + sum over terms of coefficient * amount of the layout

    none                nothing
    factor              amount: the prediction itself; all rows take so much more
    hand_over           amount: the layers; every block takes a constant more
    hand_over_switches  layers, and changes of stream
    blocks              layers of every candidate; each block takes a constant of its own more

The whole programs of a phone's kit give another one, `context`: what parts take where they stand (`in_context.py`).

Coefficients may be negative (one call of a whole graph saves the calls of its parts), but no row falls below a tenth of
itself. They are least squares of relative errors. Which kind is chosen: choice.py; whether it may be written, held-out
layouts decide (judgement.py).

A block that no layout has is not corrected, and a kind whose coefficients these layouts cannot tell apart is not tried.

Axes: N layouts, K terms.

Why rows: docs/decisions/verification.md, "Recalibration corrects rows".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError
from s2search.recalibration.attribution import Parts, Term, amounts
from s2search.recalibration.choice import Counts, choose, cross_validated

KINDS = ("none", "factor", "hand_over", "hand_over_switches", "blocks")
LEAST_LAYOUTS = 5
LEAST_SHARE = 0.1  # of a row, that a correction leaves

_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TableCorrection:
    """What becomes of a table's rows: latency * factor + offset, milliseconds by the row's label."""

    kind: str = "none"
    factor: float = 1.0
    offset_ms: Mapping[str, float] = field(default_factory=dict)

    def row_ms(self, label: str, latency_ms: float) -> float:
        """Return a row's corrected latency."""
        return self.factor * latency_ms + self.offset_ms.get(label, 0.0)

    def predict_ms(self, counts: Mapping[str, int], parts: Parts) -> float:
        """Return what a layout takes by the corrected rows."""
        rows = {label: count for label, count in counts.items() if label in parts.latency_ms}
        return sum(count * self.row_ms(label, parts.latency_ms[label]) for label, count in rows.items())


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The chosen correction, and the mean cross-validated relative error of all that were tried."""

    correction: TableCorrection
    error_of: Mapping[str, float]


def fit(counts: Sequence[Mapping[str, int]], parts: Parts, measured_ms_N: Sequence[float]) -> Fit:
    """Choose a correction and fit it.

    Args:
        counts: Of every layout, how often it pays every row.
        parts: The rows.
        measured_ms_N: What the layouts take.

    Raises:
        InputError: There are too few layouts.
    """
    if len(counts) < LEAST_LAYOUTS:
        raise InputError(
            f"{len(counts)} layouts are too few for a correction", allowed=f"at least {LEAST_LAYOUTS} to fit"
        )
    y_N = np.asarray(measured_ms_N, np.float64)
    errors = {}
    for kind in KINDS:
        if _told_apart(kind, counts, parts):
            errors[kind] = cross_validated(partial(_predicting, kind, parts), counts, y_N)
    chosen = choose(errors, lambda kind: len(_terms(kind, counts, parts)))
    return Fit(
        correction=_solve(chosen, counts, parts, y_N),
        error_of={kind: float(error_N.mean()) for kind, error_N in errors.items()},
    )


def _told_apart(kind: str, counts: Sequence[Mapping[str, int]], parts: Parts) -> bool:
    """Whether layouts are enough for a kind's coefficients, and different enough to tell them apart."""
    terms = _terms(kind, counts, parts)
    if len(terms) >= len(counts) - 1:
        return False
    return not terms or int(np.linalg.matrix_rank(amounts(terms, counts))) == len(terms)


def _predicting(kind: str, parts: Parts, counts: Sequence[Counts], y_N: _Array) -> Callable[[Counts], float]:
    correction = _solve(kind, counts, parts, y_N)
    return lambda one: correction.predict_ms(one, parts)


def _solve(kind: str, counts: Sequence[Mapping[str, int]], parts: Parts, y_N: _Array) -> TableCorrection:
    """Fit one kind of correction: least squares of relative errors, within bounds."""
    if kind == "none":
        return TableCorrection()
    from scipy.optimize import lsq_linear

    terms = _terms(kind, counts, parts)
    predicted_N = np.array([parts.sum_ms(one) for one in counts])
    if kind == "factor":
        amount_NK, least_K = predicted_N[:, None], np.array([LEAST_SHARE - 1])
    else:
        amount_NK = amounts(terms, counts)
        least_K = np.array([(LEAST_SHARE - 1) * min(parts.latency_ms[label] for label in term) for term in terms])
    coefficient_K = lsq_linear(amount_NK / y_N[:, None], (y_N - predicted_N) / y_N, (least_K, np.inf)).x
    if kind == "factor":
        return TableCorrection(kind=kind, factor=1 + float(coefficient_K[0]))
    offset_ms = {label: float(x) for term, x in zip(terms, coefficient_K, strict=True) for label in term}
    return TableCorrection(kind=kind, offset_ms=offset_ms)


def _terms(kind: str, counts: Sequence[Mapping[str, int]], parts: Parts) -> list[Term]:
    """Return the rows that share a coefficient, term by term; of what no layout has, nothing can be said."""
    seen = [label for label in parts.role if any(one.get(label) for one in counts)]
    blocks = tuple(label for label in seen if parts.role[label] == "block")
    switches = tuple(label for label in seen if parts.role[label] == "switch")
    fixed = tuple(label for label in seen if parts.role[label] == "fixed")
    if kind in ("blocks"):
        shared = [term for term in (switches, fixed) if term and kind == "parts"]
        return [*((label,) for label in blocks), *shared]
    if kind == "hand_over_switches":
        return [blocks, switches] if switches else [blocks]
    return {"none": [], "factor": [tuple(seen)], "hand_over": [blocks]}[kind]

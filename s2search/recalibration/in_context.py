"""What parts take inside programs of several layers, by a regression over such programs.

A part alone is a program of its own: it pays a call, and a phone may run it elsewhere because it is small. In a program
of several layers it is one term of a sum,

    measured_i = drift * predicted_i + sum over terms of amount_ik * beyond_k + noise_i

of terms: every block, a switch, the parts that every program has, a change of the processor. The errors of measured
times weigh the programs; where these miss the sum by more than their errors, all errors grow by that much (Birge).
Every `beyond` has a normal prior of 0 +- what the table says of the part: what the programs do not tell apart is left
where it was, with an error that says so.

Source of the scaled errors: Birge (1932), "The calculation of errors by the method of least squares".

Axes: N programs, K terms
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.recalibration.attribution import CHANGE, Drift, Now, Parts, Term, amounts

_LEAST_ERROR = 1e-4  # of a time: no clock tells more
_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A program that was timed whole: how often it pays every row, and milliseconds with their standard error."""

    counts: Mapping[str, int]
    ms: float
    error_ms: float


def in_context(programs: Sequence[Measured], before: Parts, drift: Drift) -> Now:
    """Return what parts take in programs of several layers.

    Args:
        programs: Each in one piece.
        before: The table's parts.
        drift: Of these, timed alone then and now.
    """
    terms = _terms(programs, before)
    amount_NK = amounts(terms, [one.counts for one in programs])
    predicted_N = np.array([before.sum_ms(one.counts) for one in programs])
    measured_N = np.array([one.ms for one in programs])
    error_N = np.maximum([one.error_ms for one in programs], _LEAST_ERROR * measured_N)
    prior_K = np.array([_prior_ms(term, before) for term in terms])

    def solve(scale: float) -> tuple[_Array, _Array]:
        weighted_NK = amount_NK / (scale * error_N[:, None]) ** 2
        covariance_KK = np.asarray(np.linalg.inv(amount_NK.T @ weighted_NK + np.diag(prior_K**-2.0)), np.float64)
        return covariance_KK, covariance_KK @ weighted_NK.T

    beyond_N = measured_N - drift.factor * predicted_N
    _, gain_KN = solve(1.0)
    residual_N = beyond_N - amount_NK @ (gain_KN @ beyond_N)
    free = max(1.0, len(programs) - float(np.trace(amount_NK @ gain_KN)))
    covariance_KK, gain_KN = solve(max(1.0, float(np.sqrt(((residual_N / error_N) ** 2).sum() / free))))
    return Now(
        drift=drift,
        terms=terms,
        beyond_ms_K=gain_KN @ beyond_N,
        covariance_KK=covariance_KK,
        slope_K=-gain_KN @ predicted_N,
    )


def _terms(programs: Sequence[Measured], before: Parts) -> tuple[Term, ...]:
    """Return what shares a coefficient: every block has its own; a switch down has one up, so they are not told apart.

    Nor are the parts that every program has.
    """
    seen = [label for label in before.role if any(one.counts.get(label) for one in programs)]
    of = {kind: tuple(label for label in seen if before.role[label] == kind) for kind in ("block", "switch", "fixed")}
    change = (CHANGE,) if any(one.counts.get(CHANGE) for one in programs) else ()
    shared = [term for term in (of["switch"], of["fixed"], change) if term]
    return (*((label,) for label in of["block"]), *shared)


def _prior_ms(term: Term, before: Parts) -> float:
    """Return by how much a row of a term may plausibly be off: what it takes; a change, what a block takes."""
    labels = [label for label, role in before.role.items() if role == "block"] if term == (CHANGE,) else term
    return max(1e-6, statistics.fmean(before.latency_ms[label] for label in labels))

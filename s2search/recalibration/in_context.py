"""What parts take inside programs of several layers, by a regression over such programs.

A part alone is a program of its own: it pays a call, and a phone may run it elsewhere because it is small. In a program
of several layers it is one term of a sum,

    measured_i = drift * predicted_i + sum over terms of amount_ik * beyond_k + handed_i(reach) * most + noise_i

of terms: every block, a switch, the parts that every program has, a change of the processor. handed_i is what a call
pays for the state that it is given, which need not add up: bytes / (bytes + reach), from a sum (a reach far beyond all
programs) to a constant. The errors of measured times weigh the programs; where these miss the sum by more than their
errors, all errors grow by that much (Birge). Every `beyond` has a normal prior of 0 +- what the table says of the part:
what the programs do not tell apart is left where it was, with an error that says so. Reaches are averaged over, each
with the weight that its programs give it.

Sources: scaled errors, Birge (1932), "The calculation of errors by the method of least squares"; averages over models,
Hoeting et al. (1999), "Bayesian model averaging".

Axes: N programs, K terms, M reaches
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.recalibration.attribution import CHANGE, Drift, Now, Parts, Term, amounts
from s2search.recalibration.correction import LEAST_SHARE, TableCorrection

_LEAST_ERROR = 1e-4  # of a time: no clock tells more
_REACHES = 12
_FARTHEST = 8.0  # times the most bytes: there a hand-over is as good as a sum

_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A program that was timed whole.

    Attributes:
        counts: How often it pays every row.
        ms: What it takes.
        error_ms: Standard error of that.
        state_bytes: What it is given of a state; 0 where it is not known.
    """

    counts: Mapping[str, int]
    ms: float
    error_ms: float
    state_bytes: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fit:
    """One reach: `gain_KN` times what is measured beyond the table is what every term takes beyond it."""

    covariance_KK: _Array
    gain_KN: _Array
    misfit: float
    log_evidence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ContextFit:
    """What programs of several layers tell.

    Attributes:
        now: What their parts take.
        reach_bytes_M: Of every reach; infinite for programs that are a sum.
        most_ms_M: What a hand-over takes at most, by that reach.
        weight_M: What programs give each.
    """

    now: Now
    reach_bytes_M: _Array
    most_ms_M: _Array
    weight_M: _Array

    def hand_over_ms(self, state_bytes: float) -> float:
        """Return what a call pays for so much state, beyond what its parts take."""
        return float(self.weight_M @ (self.most_ms_M * state_bytes / (state_bytes + self.reach_bytes_M)))

    def correction(self, before: Parts, hand_over_ms: float) -> TableCorrection:
        """Return what becomes of a table's rows for models that pay so much beyond their parts.

        It lies on the parts that every model has. Rows of a term are told from programs together, so they keep their
        proportion. None falls below a tenth.
        """
        offset_ms, drift = dict[str, float](), self.now.drift.factor
        for term, beyond_ms in zip(self.now.terms, self.now.beyond_ms_K, strict=True):
            if term == (CHANGE,):
                continue
            more_ms = len(term) * float(beyond_ms) + (hand_over_ms if before.role[term[0]] == "fixed" else 0.0)
            share = max(LEAST_SHARE - 1, more_ms / (drift * sum(before.latency_ms[label] for label in term)))
            offset_ms |= {label: share * drift * before.latency_ms[label] for label in term}
        return TableCorrection(kind="context", factor=self.now.drift.factor, offset_ms=offset_ms)


def in_context(programs: Sequence[Measured], before: Parts, drift: Drift) -> ContextFit:
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
    beyond_N = measured_N - drift.factor * predicted_N
    prior_K = np.array([_prior_ms(term, before) for term in terms])
    block_ms = _prior_ms((CHANGE,), before)

    reach_M, bytes_N = _reaches(programs), np.array([one.state_bytes for one in programs], np.float64)

    def fits(scale: float) -> list[_Fit]:
        designs = [np.column_stack((amount_NK, bytes_N / (bytes_N + reach))) for reach in reach_M]
        return [_fitted(one, np.append(prior_K, block_ms), beyond_N, scale * error_N) for one in designs]

    scale = max(1.0, min(one.misfit for one in fits(1.0)))
    found, kept = fits(scale), len(terms)
    weight_M = np.exp([one.log_evidence - max(other.log_evidence for other in found) for one in found])
    weight_M /= weight_M.sum()
    gain_MKN = np.stack([one.gain_KN[:kept] for one in found])
    beyond_MK = gain_MKN @ beyond_N
    beyond_K = weight_M @ beyond_MK
    apart_MK = beyond_MK - beyond_K
    inside_MKK = np.stack([one.covariance_KK[:kept, :kept] for one in found])
    now = Now(
        drift=drift,
        terms=terms,
        beyond_ms_K=beyond_K,
        covariance_KK=np.einsum("m,mkj->kj", weight_M, inside_MKK + apart_MK[:, :, None] * apart_MK[:, None, :]),
        slope_K=-np.einsum("m,mkn,n->k", weight_M, gain_MKN, predicted_N),
    )
    most_ms_M = np.array([float(one.gain_KN[kept] @ beyond_N) for one in found])
    return ContextFit(now=now, reach_bytes_M=reach_M, most_ms_M=most_ms_M, weight_M=weight_M)


def _reaches(programs: Sequence[Measured]) -> _Array:
    """Return the reaches to average over: infinite, and where bytes differ from a constant to a sum."""
    least, most = (float(pick(one.state_bytes for one in programs)) for pick in (min, max))
    if least <= 0 or least == most:
        return np.array([np.inf])
    return np.append(np.inf, np.geomspace(least, _FARTHEST * most, _REACHES))


def _fitted(design_NK: _Array, prior_K: _Array, beyond_N: _Array, error_N: _Array) -> _Fit:
    """Fit one linear model with normal priors and known errors."""
    weighted_KN = (design_NK / error_N[:, None] ** 2).T
    covariance_KK = np.asarray(np.linalg.inv(weighted_KN @ design_NK + np.diag(prior_K**-2.0)), np.float64)
    gain_KN = covariance_KK @ weighted_KN
    residual_N = beyond_N - design_NK @ (gain_KN @ beyond_N)
    free = max(1.0, len(beyond_N) - float(np.trace(design_NK @ gain_KN)))
    all_NN = np.diag(error_N**2) + (design_NK * prior_K**2) @ design_NK.T
    return _Fit(
        covariance_KK=covariance_KK,
        gain_KN=gain_KN,
        misfit=float(np.sqrt(((residual_N / error_N) ** 2).sum() / free)),
        log_evidence=-0.5 * float(beyond_N @ np.linalg.solve(all_NN, beyond_N) + np.linalg.slogdet(all_NN)[1]),
    )


def _terms(programs: Sequence[Measured], before: Parts) -> tuple[Term, ...]:
    """Return what shares a coefficient: every block has its own; a switch down has one up, so they are not told apart.

    Nor are the parts that every program has.
    """
    paid = [
        label for label, ms in before.latency_ms.items() if ms > 0
    ]  # a buffer takes no time, and goes on taking none
    seen = [label for label in paid if any(one.counts.get(label) for one in programs)]
    of = {kind: tuple(label for label in seen if before.role[label] == kind) for kind in ("block", "switch", "fixed")}
    change = (CHANGE,) if len({one.counts.get(CHANGE, 0) for one in programs}) > 1 else ()  # else an end like others
    shared = [term for term in (of["switch"], of["fixed"], change) if term]
    return (*((label,) for label in of["block"]), *shared)


def _prior_ms(term: Term, before: Parts) -> float:
    """Return by how much a row of a term may plausibly be off: what it takes; a change, what a block takes."""
    labels = [label for label, role in before.role.items() if role == "block"] if term == (CHANGE,) else term
    return max(1e-6, statistics.fmean(before.latency_ms[label] for label in labels))

"""How well measured layouts foretell the ones that were held out, with and without an eye on drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from s2search.document import Document
from s2search.transfer.additive import additive_latency_ms, autocorrelation, indicators_TF
from s2search.transfer.drift import fit_drift
from s2search.transfer.runs import MeasuredLayouts

_HELD_OUT = 0.2


@dataclass(frozen=True, kw_only=True)
class Evaluation(Document):
    """Errors on held-out layouts, as fractions of the measured latency: 0.044 is 4.4 %.

    Attributes:
        rows: Layouts in the file.
        held_out: How many of them no model saw the latency of, those in another unit left out.
        seed: What drew them.
        drift: Whether cross-validation on the other rows found drift.
        mape_additive: Mean absolute error of the additive model.
        mape_drift_aware: The same, with drift estimated from the other rows around a held-out one in time.
        within_5: Share of held-out layouts that the drift-aware model gets within 5 %.
        within_10: Within 10 %.
        within_15: Within 15 %.
        spearman: Rank correlation of the drift-aware predictions with the held-out latencies.
        residual_autocorrelation: Of the additive model's errors in ms at lag 1, all rows.
        findings: What the linter says of the file that may make these figures wrong.
        schema: Name and version of this document.
    """

    rows: int
    held_out: int
    seed: int
    drift: bool
    mape_additive: float
    mape_drift_aware: float
    within_5: float
    within_10: float
    within_15: float
    spearman: float
    residual_autocorrelation: float
    findings: tuple[str, ...] = ()
    schema: Literal["s2search.table_evaluation/1"] = "s2search.table_evaluation/1"


def evaluate(layouts: MeasuredLayouts, *, seed: int = 0) -> Evaluation:
    """Hold out a fifth of the rows at random, fit models on the others, and compare.

    A row in another unit is neither learned from nor judged.

    Args:
        layouts: A run, in the order of measuring.
        seed: Draws the held-out rows and the folds of cross-validation.
    """
    rng = np.random.default_rng(seed)
    rows = len(layouts.latency_ms_T)
    layouts = layouts.in_unit()
    usual = len(layouts.latency_ms_T)
    held_out = rng.permutation(usual)[: round(_HELD_OUT * usual)]
    additive_ms_T, drifting_ms_T, drift = predictions(layouts, held_out, rng)
    truth_ms_T = layouts.latency_ms_T
    relative_T = additive_ms_T / truth_ms_T - 1
    error = np.abs(drifting_ms_T / truth_ms_T - 1)[held_out]
    return Evaluation(
        rows=rows,
        held_out=len(held_out),
        seed=seed,
        drift=drift,
        mape_additive=float(np.abs(relative_T[held_out]).mean()),
        mape_drift_aware=float(error.mean()),
        within_5=float((error <= 0.05).mean()),
        within_10=float((error <= 0.10).mean()),
        within_15=float((error <= 0.15).mean()),
        spearman=rank_correlation(drifting_ms_T[held_out], truth_ms_T[held_out]),
        residual_autocorrelation=autocorrelation(additive_ms_T - truth_ms_T),
    )


def predictions(
    layouts: MeasuredLayouts, held_out: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return additive and drift-aware latencies in ms of all rows, from those not held out; and if there is drift."""
    seen_ms_T = layouts.latency_ms_T.copy()
    seen_ms_T[held_out] = np.nan
    feature_TF = indicators_TF(layouts.layout_TL)
    model = fit_drift(feature_TF, seen_ms_T, rng)
    return additive_latency_ms(feature_TF, seen_ms_T), model.latency_ms_T, model.smoothness is not None


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's correlation; 0 where one of the two does not vary."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: NDArray[np.float64] = (np.cumsum(counts) - (counts + 1) / 2)[inverse]
    return shared

"""How well a few timings of a device foretell the rest of its layouts, given other devices' models.

Axes: T measurements of the target, D known devices, P probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from s2search.document import Document
from s2search.errors import TableError
from s2search.transfer.blend import Items, choose_probes, fit_blend
from s2search.transfer.evaluate import rank_correlation
from s2search.transfer.known_device import KnownDevice, layout_items
from s2search.transfer.runs import MeasuredLayouts, read_layouts
from s2search.transfer.trust import Calibration, Progress, Verdict, calibrate, judge, quiet

_OFFERED = 1500  # candidates to choose from, but no more than
_MOST = 0.5  # of the draws
_OFFERED_SHARE = 0.3  # of the target's layouts, so that draws differ


@dataclass(frozen=True, kw_only=True)
class TransferEvaluation(Document):
    """Errors on all layouts that were not timed, as fractions of the measured latency: 0.08 is 8 %.

    Attributes:
        rows: Layouts of the target.
        known: Names of the known devices.
        shots: Layouts timed in each draw.
        draws: How often candidates were drawn anew.
        offered: Candidates of a draw to choose from.
        seed: What drew them.
        mape_mean: Mean over the draws of the mean absolute error.
        mape_worst: The worst draw's.
        mape_random_nnls: Mean over the draws, with the first candidates in place of chosen ones and plain
            non-negative least squares in place of the blend.
        spearman: Rank correlation of predicted and measured latencies, mean over the draws.
        within_10: Share of layouts within 10 %, mean over the draws.
        predicted_error: What the transfer itself takes `mape_mean` to be, median over the draws.
        error_bound: What the transfer itself takes a draw's error not to exceed in nine cases of ten, median over the
            draws.
        bound_held: Share of draws whose error did not exceed their bound.
        unexplained: The probes' error over that of one constant, median over the draws.
        flagged_draws: Share of draws in which the transfer distrusts itself.
        flagged: Whether it does so in most draws.
        findings: What the linter says of the files that may make these figures wrong.
        schema: Name and version of this document.
    """

    rows: int
    known: tuple[str, ...]
    shots: int
    draws: int
    offered: int
    seed: int
    mape_mean: float
    mape_worst: float
    mape_random_nnls: float
    spearman: float
    within_10: float
    predicted_error: float
    error_bound: float
    bound_held: float
    unexplained: float
    flagged_draws: float
    flagged: bool
    findings: tuple[str, ...] = ()
    schema: Literal["s2search.transfer_evaluation/1"] = "s2search.transfer_evaluation/1"


@dataclass(frozen=True, kw_only=True)
class _Draw:
    mape: float
    mape_random_nnls: float
    spearman: float
    within_10: float
    verdict: Verdict


def fit_known(paths: Sequence[Path], target: Path, progress: Progress = quiet) -> list[KnownDevice]:
    """Fit a model to each known device's run, named like its file.

    Raises:
        TableError: A file is bad, is given twice, or is the target's own.
    """
    found: list[KnownDevice] = []
    for done, path in enumerate(paths):
        if path.resolve() == target.resolve():
            raise TableError(
                f"{str(path)!r} is given as the target and as a known device", remedy="leave it out of the known ones"
            )
        if path.resolve() in [other.resolve() for other in paths[:done]]:
            raise TableError(f"the known device {str(path)!r} is given twice", remedy="give it once")
        progress(done, len(paths), path.stem)
        name = str(path) if path.stem in [device.name for device in found] else path.stem
        found.append(KnownDevice.fit(read_layouts(path), name=name))
    progress(len(paths), len(paths), "")
    return found


def evaluate_transfer(
    known: Sequence[KnownDevice],
    target: MeasuredLayouts,
    *,
    shots: int = 10,
    draws: int = 30,
    seed: int = 0,
    progress: Progress = quiet,
) -> TransferEvaluation:
    """Time a few layouts of the target again and again, each time chosen among others, and foretell its other ones.

    Known devices enter only as models. Of the target only the chosen rows' latencies are seen, as single timings; rows
    in another unit are neither timed nor foretold.

    Args:
        known: Models of known devices.
        target: A run of the device to foretell.
        shots: Layouts to time.
        draws: How often.
        seed: Draws the candidates, and the calibration's timings.
        progress: Is told what is being done.

    Raises:
        InputError: So few, or so many, layouts cannot be timed.
        TableError: The target has layouts that a known device's model cannot tell.
    """
    rng = np.random.default_rng(seed)
    rows, target = len(target.latency_ms_T), target.in_unit()
    items = layout_items(known, target.layout_TL)
    steps = len(known) + draws
    calibration = calibrate(
        items,
        np.array([device.noise_Q for device in known]),
        shots,
        rng,
        lambda done, _, label: progress(done, steps, label),
    )
    found = []
    for draw in range(draws):
        progress(len(known) + draw, steps, "timing and predicting")
        found.append(_replay(items, target.latency_ms_T, shots, calibration, rng))
    progress(steps, steps, "")
    mape = np.array([draw.mape for draw in found])
    flagged_draws = float(np.mean([draw.verdict.flagged for draw in found]))
    return TransferEvaluation(
        rows=rows,
        known=tuple(device.name for device in known),
        shots=shots,
        draws=draws,
        offered=_offered(len(target.latency_ms_T), shots),
        seed=seed,
        mape_mean=float(mape.mean()),
        mape_worst=float(mape.max()),
        mape_random_nnls=float(np.mean([draw.mape_random_nnls for draw in found])),
        spearman=float(np.mean([draw.spearman for draw in found])),
        within_10=float(np.mean([draw.within_10 for draw in found])),
        predicted_error=float(np.median([draw.verdict.predicted_error for draw in found])),
        error_bound=float(np.median([draw.verdict.error_bound for draw in found])),
        bound_held=float(np.mean([draw.mape <= draw.verdict.error_bound for draw in found])),
        unexplained=float(np.median([draw.verdict.unexplained for draw in found])),
        flagged_draws=flagged_draws,
        flagged=flagged_draws > _MOST,
    )


def _replay(
    items: Items, latency_ms_T: NDArray[np.float64], shots: int, calibration: Calibration, rng: np.random.Generator
) -> _Draw:
    """Offer random candidates, time the chosen ones, and foretell all rows that were not timed."""
    offered = rng.permutation(len(latency_ms_T))[: _offered(len(latency_ms_T), shots)]
    probes = offered[choose_probes(items.take(offered), shots, calibration.belief)]
    blend = fit_blend(items.take(probes), latency_ms_T[probes], calibration.belief)
    foretold_ms_T = blend.predict(items).latency_ms_N
    rest_T = np.ones(len(latency_ms_T), np.bool_)
    rest_T[probes] = False
    error = np.abs(foretold_ms_T / latency_ms_T - 1)[rest_T]
    return _Draw(
        mape=float(error.mean()),
        mape_random_nnls=_random_nnls(items, latency_ms_T, offered[:shots]),
        spearman=rank_correlation(foretold_ms_T[rest_T], latency_ms_T[rest_T]),
        within_10=float((error <= 0.10).mean()),
        verdict=judge(blend, calibration),
    )


def _offered(rows: int, shots: int) -> int:
    return min(max(round(_OFFERED_SHARE * rows), shots + 1), _OFFERED, rows)


def _random_nnls(items: Items, latency_ms_T: NDArray[np.float64], probes: NDArray[np.int64]) -> float:
    """Return the error of plain non-negative least squares on random layouts: the rival."""
    from scipy.optimize import nnls

    weight_D = nnls(items.known_ms_ND[probes], latency_ms_T[probes])[0]
    error_T = np.abs(items.known_ms_ND @ weight_D / latency_ms_T - 1)
    return float(np.delete(error_T, probes).mean())

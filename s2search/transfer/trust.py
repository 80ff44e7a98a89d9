"""Calibration: how far a blend of known devices is to be trusted.

Each timing is foretold from the others (leave one out): that tells the error on this very device, also on one that is
like no known one. What known devices expect of each other does not: two of a kind make every third seem foreseeable.
Leaving out each known device in turn tells how the error on other items compares with the error on left-out timings.

Axes: N items, P probes (the items that are timed), D known devices, Q quantiles of noise.

Source: Stone (1974), "Cross-validatory choice and assessment of statistical predictions".

What was tried: docs/decisions/transfer.md, "A transfer's error is foreseen by leaving out its timings".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.transfer.blend import (
    MOST_UNEXPLAINED,
    Belief,
    Blend,
    Items,
    choose_probes,
    fit_blend,
    fit_combination,
    fit_weights,
)

_Array = NDArray[np.float64]

MOST_ERROR = 0.10  # the largest predicted error that is trusted
_DRAWS = 8  # of candidates and timings, for every known device left out
_CANDIDATES = 1000
_LEAST_ERROR = 1e-4  # fractions: below it errors are alike
_SURE = 0.975  # of normal errors; timings have heavier tails
_NEW_DEVICE = 1.17  # by how much a device that nobody has seen may exceed that, in nine draws of ten


Progress = Callable[[int, int, str], None]


def quiet(done: int, total: int, label: str) -> None:
    """Show no progress."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What known devices taught about transfers between themselves.

    Attributes:
        belief: Misfit and noise to expect of a device before it is timed.
        correction: Error on other items over that on left-out timings, when each known device was foretold from the
            others; never below 1, since a new device is at least as strange to the known ones as they are to one
            another.
    """

    belief: Belief
    correction: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a blend is to be trusted.

    Attributes:
        predicted_error: The mean error expected of single timings of other items, as a fraction.
        error_bound: What that error will not exceed in nine draws of ten, also on a device that nobody has seen.
        unexplained: See `Blend`.
        flagged: True where the predicted error or the unexplained share is too large.
    """

    predicted_error: float
    error_bound: float
    unexplained: float

    @property
    def flagged(self) -> bool:
        """Tell whether the predictions are not to be trusted."""
        return self.predicted_error > MOST_ERROR or self.unexplained > MOST_UNEXPLAINED


def calibrate(
    items: Items,
    noise_DQ: _Array,
    shots: int,
    rng: np.random.Generator,
    progress: Progress = quiet,
) -> Calibration:
    """Foretell each known device from the others, with timings that its own model makes up, and compare.

    Args:
        items: A sample of what will be foretold.
        noise_DQ: For every known device, single timings over what its model says, as a sample.
        shots: Timings per device.
        rng: Draws candidates and timings.
        progress: Is told of every device.
    """
    devices = items.known_ms_ND.shape[1]
    if devices == 1:
        return Calibration(belief=expected(items, noise_DQ), correction=1.0)
    made_D, left_out_D = np.full(devices, _LEAST_ERROR), np.full(devices, _LEAST_ERROR)
    for device in range(devices):
        progress(device, devices, "leaving out each known device")
        others, noise = items.without(device), np.delete(noise_DQ, device, axis=0)
        belief = expected(others, noise)
        for _ in range(_DRAWS):
            drawn = rng.permutation(len(items.known_ms_ND))[: max(_CANDIDATES, 2 * shots)]
            offered, truth_ms_N = others.take(drawn), items.known_ms_ND[drawn, device]
            timed_ms_N = truth_ms_N * rng.choice(noise_DQ[device], len(drawn))
            probes = choose_probes(offered, shots, belief)
            blend = fit_blend(offered.take(probes), timed_ms_N[probes], belief)
            error_N = np.delete(np.abs(blend.predict(offered).latency_ms_N / timed_ms_N - 1), probes)
            made_D[device] += error_N.mean()
            left_out_D[device] += left_out_errors(blend).mean()
    correction = float(np.exp(np.log(made_D / left_out_D).mean()))
    return Calibration(belief=expected(items, noise_DQ), correction=max(correction, 1.0))


def expected(items: Items, noise_DQ: _Array) -> Belief:
    """Return the misfit and the noise to expect: what a known device showed, in the geometric mean."""
    low, high = np.quantile(np.log(noise_DQ), [0.1587, 0.8413], axis=1)  # one deviation to either side
    noise = float(np.exp(np.log(np.maximum((high - low) / 2, 1e-3)).mean()))
    return Belief(misfit=expected_misfit(items), noise=noise)


def expected_misfit(items: Items) -> float:
    """Return what the best blend of the others leaves of a known device, in the geometric mean."""
    devices = items.known_ms_ND.shape[1]
    if devices == 1:
        return Belief().misfit
    misfit_D = np.array([_misfit(items, device) for device in range(devices)])
    return float(np.exp(np.log(np.maximum(misfit_D, 1e-3)).mean()))


def judge(blend: Blend, calibration: Calibration) -> Verdict:
    """Say how far the blend's predictions of items like the timed ones are to be trusted.

    The bound is the upper limit of Student's t for the mean of the left-out errors, widened by what ten devices, each
    left out in turn, say of the next one: docs/decisions/transfer.md, "A bound is calibrated on devices".
    """
    from scipy.special import stdtrit

    error_P = left_out_errors(blend)
    shots = len(error_P)
    doubt = stdtrit(shots - 1, _SURE) * np.std(error_P, ddof=1) / np.sqrt(shots)
    return Verdict(
        predicted_error=float(calibration.correction * error_P.mean()),
        error_bound=float(calibration.correction * _NEW_DEVICE * (error_P.mean() + doubt)),
        unexplained=blend.unexplained,
    )


def left_out_errors(blend: Blend) -> _Array:
    """Return the relative error of each timing when it is foretold from the others, corrections left out."""
    combined_PK, latency_ms_P = blend.probes.combined_NK, blend.latency_ms_P
    foretold_ms_P = np.empty(len(latency_ms_P))
    for probe in range(len(latency_ms_P)):
        others_PK, timed_ms_P = np.delete(combined_PK, probe, axis=0), np.delete(latency_ms_P, probe)
        foretold_ms_P[probe] = combined_PK[probe] @ fit_combination(others_PK, timed_ms_P)[0]
    return np.abs(foretold_ms_P / latency_ms_P - 1)


def _misfit(items: Items, device: int) -> float:
    """Return the relative standard deviation that the best blend of the others leaves of one known device."""
    truth_ms_N, others_ms_ND = items.known_ms_ND[:, device], items.without(device).known_ms_ND
    return float(np.std(truth_ms_N / (others_ms_ND @ fit_weights(others_ms_ND, truth_ms_N))))

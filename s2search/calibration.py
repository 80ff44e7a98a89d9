"""Calibration: how far a blend of known devices is to be trusted, learned by leaving out each known device in turn.

Axes: N items, D known devices, Q quantiles of noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.blend import MOST_UNEXPLAINED, Belief, Blend, Items, choose_probes, fit_blend, fit_weights

_Array = NDArray[np.float64]

MOST_ERROR = 0.10  # the largest predicted error that is trusted
_DRAWS = 8  # of candidates and timings, for every known device left out
_CANDIDATES = 1000
_MEAN_TO_STD = np.sqrt(2 / np.pi)  # of a Gaussian: its mean size over its standard deviation


Progress = Callable[[int, int, str], None]


def quiet(done: int, total: int, label: str) -> None:
    """Show no progress."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What known devices taught about transfers between themselves.

    Attributes:
        belief: Misfit and noise to expect of a device before it is timed.
        correction: Actual error over stated error, when each known device was foretold from the others; never below 1,
            since a new device is at least as strange to the known ones as they are to one another.
    """

    belief: Belief
    correction: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a blend is to be trusted.

    Attributes:
        predicted_error: The mean error expected of single timings of other items, as a fraction.
        unexplained: See `Blend`.
        flagged: True where either is too large.
    """

    predicted_error: float
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
    log_ratio_D = np.zeros(devices)
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
            error = np.abs(blend.predict(offered).latency_ms_N / timed_ms_N - 1)
            log_ratio_D[device] += (
                np.log(max(np.delete(error, probes).mean(), 1e-9) / stated_error(blend, offered)) / _DRAWS
            )
    return Calibration(belief=expected(items, noise_DQ), correction=float(np.exp(max(log_ratio_D.mean(), 0.0))))


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


def judge(blend: Blend, items: Items, calibration: Calibration) -> Verdict:
    """Say how far the blend's predictions of these items are to be trusted."""
    return Verdict(predicted_error=calibration.correction * stated_error(blend, items), unexplained=blend.unexplained)


def stated_error(blend: Blend, items: Items) -> float:
    """Return the mean relative error of single timings that the blend itself expects."""
    found = blend.predict(items)
    variance_N = (found.std_ms_N / found.latency_ms_N) ** 2 + blend.noise**2
    return float(_MEAN_TO_STD * np.sqrt(variance_N).mean())


def _misfit(items: Items, device: int) -> float:
    """Return the relative standard deviation that the best blend of the others leaves of one known device."""
    truth_ms_N, others_ms_ND = items.known_ms_ND[:, device], items.without(device).known_ms_ND
    return float(np.std(truth_ms_N / (others_ms_ND @ fit_weights(others_ms_ND, truth_ms_N))))

"""Drift correction: what each item would have taken had the device stayed in one state.

A sentinel is an item that is timed again and again. The ratio of its samples to its median is the drift at their times;
`drift.py` smooths it (it may creep and jump), and between two sentinels log drift is linear in time. Every sample
is divided by the drift at its time. The state that remains is the typical one of the run: the sentinel's median.

The sentinel alone tells the drift, so items may come in any order, also each on its own from first to last. A drift
that moves the sentinel more or less than the items is corrected by as much as it moves the sentinel: choose one that
loads the device as the items do. Drift is order in time: unless sentinels are nearer to their neighbours in time than
shuffled ones are (a permutation test, at 1 %), nothing is corrected.

Axes: N samples in time order, S those of sentinels.

What was tried: docs/decisions/measurement.md, "Measuring without fooling ourselves".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError
from s2search.measurement.bootstrap import median_error
from s2search.transfer.drift import SMOOTHNESSES, fit_smooth

_Array = NDArray[np.float64]

_LEAST_SENTINELS = 8  # with fewer a drift is not told from noise
_NEIGHBOURS = 2  # before and after
_SHUFFLES = 999
_CHANCE = 0.01  # how often noise may be taken for drift
_SEED = 0  # the same samples give the same table
_STEADY = 1e-9  # sentinels that differ by less do not drift


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One sample: milliseconds of a call of `item`, taken at `at_s` (seconds from any origin).

    `round` is the pass over all items that it belongs to; None where there are no rounds.
    """

    item: str
    ms: float
    at_s: float
    sentinel: bool = False
    round: int | None = None


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a run may show before it is marked, per cent.

    Attributes:
        drift_percent: The sentinel's largest slowdown within the run, against its fastest state. A device that changes
            more does not slow all items alike, and no factor mends that.
        residual_percent: The sentinel's drift from the first to the last third after correction.
        spread_percent: Half the distance of the 10th and 90th percentile of corrected samples, relative to the median;
            the median over items.
    """

    drift_percent: float = 25.0
    residual_percent: float = 2.0
    spread_percent: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of some samples, in milliseconds: the standard deviation is that of the samples, 0 where there is but one."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    mean_ms: float
    std_ms: float

    @classmethod
    def of(cls, sample_ms: Sequence[float] | _Array) -> Statistics:
        """Summarise samples.

        >>> Statistics.of([1.0, 2.0, 3.0, 10.0]).median_ms
        2.5
        """
        p10, median, p90 = (float(value) for value in np.percentile(sample_ms, [10, 50, 90]))
        std_ms = float(np.std(sample_ms, ddof=min(1, len(sample_ms) - 1)))
        return cls(median_ms=median, p10_ms=p10, p90_ms=p90, mean_ms=float(np.mean(sample_ms)), std_ms=std_ms)


@dataclass(frozen=True, kw_only=True)
class ItemTimes:
    """One item's samples, raw and corrected.

    A sentinel's extra samples are not among them, unless it has no others.

    `error_ms` is the bootstrap standard error of the corrected median: of the ratio to the sentinel's samples of the
    same round, times the sentinel's median; of the samples themselves where there are no rounds. NaN for one sample.
    """

    raw: Statistics
    corrected: Statistics
    error_ms: float
    samples: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """A run after correction.

    Attributes:
        corrected_ms_N: Every sample divided by the drift at its time; in the order given.
        drift_N: That factor; 1 throughout where nothing was corrected.
        items: Item -> its statistics.
        corrected: Whether a drift was found.
        drift_percent: By how much the slowest state exceeds the fastest, as the smoothed sentinel shows it.
        raw_drift_percent: By how much the sentinel's last third exceeds its first.
        residual_percent: The same after correction.
        spread_percent: See `Bounds`.
        marks: One sentence per bound that the run breaks; empty for a good run.
    """

    corrected_ms_N: _Array
    drift_N: _Array
    items: Mapping[str, ItemTimes]
    corrected: bool
    drift_percent: float
    raw_drift_percent: float
    residual_percent: float
    spread_percent: float
    marks: tuple[str, ...]


def correct(timings: Sequence[Timing], bounds: Bounds | None = None) -> Correction:
    """Fit the drift of a run and take it out.

    Args:
        timings: All samples, in the order in which they were taken; several items may be sentinels.
        bounds: When to mark the run; by default those of `Bounds`.

    Raises:
        InputError: A sample is not positive, times run backwards, or there is no sentinel.

    >>> def sample(n):
    ...     return Timing(item="ab"[n % 2], ms=(2.0 + n % 2) * (1 + 0.005 * n), at_s=n, sentinel=n % 2 == 0)
    >>> b = correct([sample(n) for n in range(60)]).items["b"]
    >>> (round(b.raw.std_ms, 2), round(b.corrected.std_ms, 2))
    (0.26, 0.01)
    """
    ms_N, at_N, sentinel_N = _checked(timings)
    log_drift_N = _log_drift(_relative(timings, ms_N)[sentinel_N], at_N[sentinel_N], at_N)
    drift_N = np.ones(len(ms_N)) if log_drift_N is None else np.exp(log_drift_N)
    corrected_ms_N = ms_N / drift_N
    items = _items(timings, ms_N, corrected_ms_N)
    spreads = [(one.corrected.p90_ms - one.corrected.p10_ms) / (2 * one.corrected.median_ms) for one in items.values()]
    found = {
        "drift_percent": 100 * float(drift_N.max() / drift_N.min() - 1),
        "raw_drift_percent": drift_percent(_relative(timings, ms_N)[sentinel_N]),
        "residual_percent": drift_percent(_relative(timings, corrected_ms_N)[sentinel_N]),
        "spread_percent": 100 * float(np.median(spreads)),
    }
    return Correction(
        corrected_ms_N=corrected_ms_N,
        drift_N=drift_N,
        items=items,
        corrected=log_drift_N is not None,
        marks=_marks(found, bounds or Bounds()),
        **found,
    )


def drift_percent(sentinel_ms: Sequence[float] | _Array) -> float:
    """Return by how much the median of the last third lies above that of the first third, per cent.

    >>> drift_percent([1.0, 1.0, 1.0, 1.1, 1.1, 1.1])
    10.0
    """
    third = max(1, len(sentinel_ms) // 3)
    return round(float(100 * (np.median(sentinel_ms[-third:]) / np.median(sentinel_ms[:third]) - 1)), 3)


def _checked(timings: Sequence[Timing]) -> tuple[_Array, _Array, NDArray[np.bool_]]:
    """Return milliseconds, strictly increasing seconds, and which samples are sentinels'."""
    for timing in timings:
        if not (math.isfinite(timing.ms) and timing.ms > 0):
            raise InputError(
                f"a sample of {timing.item} took {timing.ms} ms",
                allowed="milliseconds above 0",
                remedy="measure it again or leave it out",
            )
    at_N = np.array([timing.at_s for timing in timings], np.float64)
    if not np.isfinite(at_N).all() or (np.diff(at_N) < 0).any():
        raise InputError("the samples are not in the order of their times", remedy="sort them by time")
    sentinel_N = np.array([timing.sentinel for timing in timings], np.bool_)
    if not sentinel_N.any():
        raise InputError(
            "no sample is a sentinel's, so drift cannot be measured", remedy="time one item again and again"
        )
    return np.array([timing.ms for timing in timings], np.float64), _distinct(at_N), sentinel_N


def _distinct(at_N: _Array) -> _Array:
    """Spread samples of one clock tick evenly up to the next tick."""
    tick, first_N, count = np.unique(at_N, return_inverse=True, return_counts=True)
    width = np.append(np.diff(tick), 1.0)
    rank_N = np.arange(len(at_N)) - (np.cumsum(count) - count)[first_N]
    spread_N: _Array = at_N + rank_N / count[first_N] * width[first_N]
    return spread_N


def _log_drift(relative_S: _Array, at_S: _Array, at_N: _Array) -> _Array | None:
    """Return the logarithm of the drift at every sample; None where there is none beyond doubt."""
    log_S = np.log(relative_S)
    if len(log_S) < _LEAST_SENTINELS or float(np.abs(log_S).max()) < _STEADY:
        return None
    if not _ordered(log_S):
        return None
    _, log_drift_S = min((_foretell(relative_S, smoothness) for smoothness in SMOOTHNESSES), key=lambda one: one[0])
    return np.interp(at_N, at_S, log_drift_S)


def _ordered(log_S: _Array) -> bool:
    """Whether sentinels are nearer to their neighbours in time than to any others: a permutation test."""
    reach = range(-_NEIGHBOURS, _NEIGHBOURS + 1)
    place_S = np.arange(_NEIGHBOURS, len(log_S) - _NEIGHBOURS)
    near_SK = np.stack([place_S + step for step in reach if step], axis=1)

    def error(order_S: _Array) -> float:
        return float(np.abs(order_S[place_S] - np.median(order_S[near_SK], axis=1)).mean())

    rng, observed = np.random.default_rng(_SEED), error(log_S)
    return sum(error(rng.permutation(log_S)) <= observed for _ in range(_SHUFFLES)) < _CHANCE * _SHUFFLES


def _foretell(relative_S: _Array, smoothness: float) -> tuple[float, _Array]:
    """Foretell each sentinel from all others: the mean error of logarithms, and log drift around its median."""
    log_drift_S = np.log(fit_smooth(np.ones((len(relative_S), 1)), relative_S, smoothness).drift_T)
    residual_S = np.log(relative_S) - log_drift_S
    error = float(np.abs(residual_S - np.median(residual_S)).mean())
    return error, log_drift_S - float(np.median(log_drift_S))


def _relative(timings: Sequence[Timing], ms_N: _Array) -> _Array:
    """Return sentinels' samples relative to their item's median; 1 for all other samples."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, timing in enumerate(timings):
        if timing.sentinel:
            places[timing.item].append(place)
    relative_N = np.ones(len(ms_N))
    for own in places.values():
        relative_N[own] = ms_N[own] / np.median(ms_N[own])
    return relative_N


def _items(timings: Sequence[Timing], ms_N: _Array, corrected_ms_N: _Array) -> dict[str, ItemTimes]:
    own: dict[str, list[int]] = defaultdict(list)
    extra: dict[str, list[int]] = defaultdict(list)
    of_round: dict[int | None, list[int]] = defaultdict(list)
    for place, timing in enumerate(timings):
        (extra if timing.sentinel else own)[timing.item].append(place)
        if timing.sentinel:
            of_round[timing.round].append(place)
    relative_N = _relative(timings, corrected_ms_N)
    state = {number: float(np.median(relative_N[places])) for number, places in of_round.items() if number is not None}
    items = {}
    for item, places in {**extra, **own}.items():
        paired = [corrected_ms_N[place] / _state(timings[place].round, state) for place in places]
        items[item] = ItemTimes(
            raw=Statistics.of(ms_N[places]),
            corrected=Statistics.of(corrected_ms_N[places]),
            error_ms=median_error(paired),
            samples=len(places),
        )
    return items


def _state(number: int | None, state: Mapping[int, float]) -> float:
    """Return the sentinel's ratio to its median in a round; 1 where there is none to pair with."""
    return 1.0 if number is None else state.get(number, 1.0)


def _marks(found: Mapping[str, float], bounds: Bounds) -> tuple[str, ...]:
    said = (
        (
            found["drift_percent"],
            bounds.drift_percent,
            "the device's slowest state takes {:.1f} % more than its fastest, beyond {:g} %",
        ),
        (
            abs(found["residual_percent"]),
            bounds.residual_percent,
            "after correction the sentinel still drifts by {:.1f} %, beyond {:g} %",
        ),
        (
            found["spread_percent"],
            bounds.spread_percent,
            "a typical row's samples spread by {:.1f} % around their median, beyond {:g} %",
        ),
    )
    return tuple(text.format(value, bound) for value, bound, text in said if value > bound)

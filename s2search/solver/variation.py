"""What evolution needs of a problem: pricing many layouts at once, good first ones, crossover, mutation and repair.

Axes:  N layouts  L layers  C candidates  S streams  R resources  K objectives (score, latency, memory)  W weights
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from s2search.solver.problem import FIXED_POINT, Int, Problem, Resource
from s2search.space import interleave

Float = NDArray[np.float64]
Layout = tuple[int, ...]

_MULTIPLIERS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_MOST_REPAIRS = 4  # per layer
_PEAK_LEVELS = 3


class Pricing:
    """Prices many layouts of a problem whose `group_size` is 1, in one pass over arrays."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.layers, self.candidates = problem.score_LC.shape
        self.layer_L = np.arange(self.layers)
        self.choices_L = [np.flatnonzero(allowed_C) for allowed_C in problem.allowed_LC]
        self.limit_R = np.array([resource.limit for resource in problem.resources])
        # Violations of unlike resources are added up, each in units of the most that one layer can use of it.
        self.unit_R = np.array([_largest_step(resource) for resource in problem.resources], np.float64)

    def spent_NR(self, choice_NL: Int) -> Int:
        """Return what layouts use of every resource."""
        problem = self.problem
        stream_N = np.full((len(choice_NL), 1), problem.first_stream)
        streams_N = np.concatenate(
            [stream_N, problem.stream_C[choice_NL], np.full_like(stream_N, problem.last_stream)], axis=1
        )
        spent = []
        for resource in problem.resources:
            use_N = resource.use_LC[self.layer_L, choice_NL].sum(axis=1)
            if resource.switch_SS.any():
                use_N = use_N + resource.switch_SS[streams_N[:, :-1], streams_N[:, 1:]].sum(axis=1)
            if resource.pair_LCC is not None:
                use_N = use_N + self._of_pairs(resource.pair_LCC, choice_NL)
            if resource.peak_LC.any():
                use_N = use_N + resource.peak_LC[self.layer_L, choice_NL].max(axis=1)
            spent.append(use_N)
        return np.stack(spent, axis=1)

    def violation_N(self, choice_NL: Int) -> Float:
        """Return by how much layouts break their limits, in layers' worth; 0 where they keep all of them."""
        over_NR = np.maximum(self.spent_NR(choice_NL) - self.limit_R, 0)
        result: Float = (over_NR / self.unit_R).sum(axis=1)
        return result

    def score_N(self, choice_NL: Int) -> Int:
        """Return the scores, fixed-point."""
        result: Int = self.problem.fixed_point_score_LC[self.layer_L, choice_NL].sum(axis=1)
        pair_LCC = self.problem.fixed_point_pair_LCC
        return result if pair_LCC is None else result + self._of_pairs(pair_LCC, choice_NL)

    def _of_pairs(self, pair_LCC: Int, choice_NL: Int) -> Int:
        return np.asarray(pair_LCC[self.layer_L[1:], choice_NL[:, :-1], choice_NL[:, 1:]].sum(axis=1))

    def random(self, rng: np.random.Generator) -> Layout:
        """Return a layout of allowed candidates."""
        return tuple(int(rng.choice(choices)) for choices in self.choices_L)


def seeds(pricing: Pricing, rng: np.random.Generator, *, most: int) -> list[Layout]:
    """Return good layouts to begin with, those within all limits first, the best of them at the head.

    They are the fastest, the smallest and the best layouts; those of the largest score less latency and memory at fixed
    prices (Everett, 1963), which would be the front were it convex; uniform layouts; and interleaved ones of the same
    counts. What breaks a limit is there as it is, and repaired.
    """
    problem = pricing.problem
    priced = [layout for level in _peak_levels(problem) for layout in _by_prices(problem, level)]
    uniform = [(c,) * pricing.layers for c in range(pricing.candidates)]
    counts = dict.fromkeys(tuple(layout.count(c) for c in range(pricing.candidates)) for layout in priced)
    even = [interleave(count_C, problem.stream_C.tolist()) for count_C in counts]
    found = [layout for layout in dict.fromkeys([*priced, *uniform, *even]) if _allowed(problem, layout)]
    found = list(dict.fromkeys([*(repair(pricing, layout, rng) for layout in found), *found]))
    choice_NL = np.array(found)
    order = np.lexsort((-pricing.score_N(choice_NL), pricing.violation_N(choice_NL)))
    spread = [order[0], *rng.permutation(order[1:])] if len(order) > most else order
    kept = sorted(spread[:most], key=order.tolist().index)
    return [found[n] for n in kept]


def repair(pricing: Pricing, layout: Layout, rng: np.random.Generator) -> Layout:
    """Return a layout near to the given one that breaks fewer limits, or none.

    Each step changes a layer, or exchanges two, where that costs the least score for what it mends.
    """
    violation = float(pricing.violation_N(np.array([layout]))[0])
    for _ in range(_MOST_REPAIRS * pricing.layers):
        if violation == 0:
            break
        best = _mend(pricing, layout, violation, _changes_NL(pricing, layout), rng)
        best = best or _mend(pricing, layout, violation, _exchanges_NL(pricing, layout), rng)
        if best is None:
            break
        layout, violation = best
    return layout


def child(pricing: Pricing, parents: Sequence[Layout], rng: np.random.Generator) -> Layout:
    """Cross two parents (uniformly, or by a run of layers, which keeps switches few), and mutate the outcome."""
    first_L, second_L = (np.array(parent) for parent in parents)
    if rng.random() < 0.5:
        from_second_L = rng.random(pricing.layers) < 0.5
    else:
        low, high = np.sort(rng.integers(0, pricing.layers + 1, 2))
        from_second_L = (pricing.layer_L >= low) & (pricing.layer_L < high)
    return mutate(pricing, tuple(np.where(from_second_L, second_L, first_L).tolist()), rng)


def mutate(pricing: Pricing, layout: Layout, rng: np.random.Generator, *, changes: float = 1.0) -> Layout:
    """Change so many layers on average, or exchange two, or let one layer take its neighbour's candidate."""
    new = list(layout)
    kind, layers = rng.integers(3), pricing.layers
    if kind == 0 or layers == 1:
        for layer in np.flatnonzero(rng.random(layers) < changes / layers):
            new[layer] = int(rng.choice(pricing.choices_L[layer]))
    elif kind == 1:
        i, j = rng.choice(layers, 2, replace=False)
        new[i], new[j] = new[j], new[i]
    else:
        i = int(rng.integers(1, layers))
        i, j = (i, i - 1) if rng.random() < 0.5 else (i - 1, i)
        new[i] = new[j]
    return tuple(new) if _allowed(pricing.problem, new) else layout


def nondominated(value_NK: Float) -> list[int]:
    """Return which points no other dominates, by rising score; of equal points the first.

    Args:
        value_NK: Score (more is better), latency and memory (less is better).
    """
    cost_NK = value_NK * np.array([-1.0, 1.0, 1.0])
    kept: list[int] = []
    for n in np.lexsort(cost_NK.T[::-1]):
        if not (cost_NK[kept] <= cost_NK[n]).all(axis=1).any():
            kept.append(int(n))
    return kept[::-1]


def _largest_step(resource: Resource) -> int:
    pair = 0 if resource.pair_LCC is None else int(resource.pair_LCC.max())
    return max(1, int(resource.use_LC.max()) + int(resource.switch_SS.max()) + pair + int(resource.peak_LC.max()))


def _allowed(problem: Problem, layout: Sequence[int]) -> bool:
    return bool(problem.allowed_LC[np.arange(len(layout)), layout].all())


def _peak_levels(problem: Problem) -> list[int]:
    """Return a few limits on the peak, from the least that every layer can keep to the largest."""
    least_L = np.where(problem.allowed_LC, problem.peak_bytes_LC, 2**62).min(axis=1)
    levels = np.unique(problem.peak_bytes_LC[problem.peak_bytes_LC >= least_L.max()])
    return [int(levels[i]) for i in np.unique(np.linspace(0, len(levels) - 1, _PEAK_LEVELS).astype(int))]


def _by_prices(problem: Problem, peak_bytes: int) -> list[Layout]:
    """Return the layouts of the largest score less latency and memory at many prices, among those below a peak.

    The best way to every candidate of a layer is found from those of the layer before (Viterbi, 1967).
    """
    pairs = [(1.0, a, b) for a, b in itertools.product(_MULTIPLIERS, repeat=2)]
    weight_WK = np.array([*pairs, (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0)])
    score_LC, latency_LC, memory_LC = problem.score_LC, problem.latency_us_LC, problem.memory_bytes_LC
    scale_K = [max(float(np.ptp(values, axis=1).mean()), 1e-12) for values in (score_LC, latency_LC, memory_LC)]
    if problem.pair_score_LCC is not None:
        scale_K[0] += float(np.ptp(problem.pair_score_LCC, axis=(1, 2)).mean())
    value_KLC = np.stack([score_LC / scale_K[0], -latency_LC / scale_K[1], -memory_LC / scale_K[2]])
    value_WLC = np.tensordot(weight_WK, value_KLC, axes=1)
    value_WLC[:, ~problem.allowed_LC | (problem.peak_bytes_LC > peak_bytes)] = -np.inf
    price_W = weight_WK[:, 1, None, None] / scale_K[1]
    switch_CC = problem.switch_us_SS[np.ix_(problem.stream_C, problem.stream_C)]
    best_WC = value_WLC[:, 0] - price_W[:, :, 0] * problem.switch_us_SS[problem.first_stream, problem.stream_C]
    before = []
    for layer in range(1, value_WLC.shape[1]):
        way_WCC = best_WC[:, :, None] - price_W * switch_CC
        if problem.pair_score_LCC is not None:
            way_WCC = way_WCC + weight_WK[:, 0, None, None] * problem.pair_score_LCC[layer] / scale_K[0]
        before.append(way_WCC.argmax(axis=1))
        best_WC = way_WCC.max(axis=1) + value_WLC[:, layer]
    best_WC = best_WC - price_W[:, :, 0] * problem.switch_us_SS[problem.stream_C, problem.last_stream]
    choice_W = best_WC.argmax(axis=1)
    path = [choice_W]
    for before_WC in reversed(before):
        path.append(before_WC[np.arange(len(choice_W)), path[-1]])
    return list(dict.fromkeys(map(tuple, np.stack(path[::-1], axis=1).tolist())))


def _mend(
    pricing: Pricing, layout: Layout, violation: float, choice_NL: Int, rng: np.random.Generator
) -> tuple[Layout, float] | None:
    """Return the neighbour that loses the least score for what it mends, give or take a factor of two."""
    if not len(choice_NL):
        return None
    violation_N = pricing.violation_N(choice_NL)
    mended_N = violation - violation_N
    useful = np.flatnonzero(mended_N > 1e-9)
    if not len(useful):
        return None
    lost_N = (pricing.score_N(np.array([layout])) - pricing.score_N(choice_NL[useful])) / FIXED_POINT
    lost_N = lost_N - lost_N.min() + 1e-9
    best = useful[np.argmin(lost_N / mended_N[useful] * rng.uniform(0.5, 1.0, len(useful)))]
    return tuple(choice_NL[best].tolist()), float(violation_N[best])


def _changes_NL(pricing: Pricing, layout: Layout) -> Int:
    """Return all layouts that differ in one layer."""
    places = [(layer, int(c)) for layer, choices in enumerate(pricing.choices_L) for c in choices if c != layout[layer]]
    choice_NL = np.tile(np.array(layout), (len(places), 1))
    for n, (layer, c) in enumerate(places):
        choice_NL[n, layer] = c
    return choice_NL


def _exchanges_NL(pricing: Pricing, layout: Layout) -> Int:
    """Return all layouts in which two layers have changed places."""
    allowed_LC = pricing.problem.allowed_LC
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(pricing.layers), 2)
        if layout[i] != layout[j] and allowed_LC[i, layout[j]] and allowed_LC[j, layout[i]]
    ]
    choice_NL = np.tile(np.array(layout), (len(pairs), 1))
    for n, (i, j) in enumerate(pairs):
        choice_NL[n, i], choice_NL[n, j] = layout[j], layout[i]
    return choice_NL

"""The search as a layered graph: what every choice scores and uses, and what every step between streams does.

Choosing a layout is a longest path with resource constraints: one node per (layer, stream), one arc per candidate.
Where neighbours matter, every candidate is a stream of its own, and so are the stem and the head: what a pair scores or
uses is then part of the step between its streams. A `Case` set asks the same graph under several limits at once; a
sweep answers them side by side.

Axes:  L layers  C candidates  S streams  R resources  K cases  M masks of allowed candidates
F steps: the first into layer 0, the last into the head, or only one where all are alike
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from s2search.solver.problem import UNLIMITED, Int, Problem, Resource

#: The limit of a resource that there is enough of, and what it takes to go where no way leads.
BOUNDLESS, NEVER = 2**58, 2**60


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Scores (fixed-point) and resource use of layers and of the steps between streams.

    The first resource is latency: of equal scores the faster layout wins. `follows_SS` says which stream may come after
    which. `peak_RLC` is not summed: the largest of a layout counts against the limit, see `Spans`.
    """

    score_LC: Int
    use_RLC: Int
    peak_RLC: Int
    allowed_LC: NDArray[np.bool_]
    stream_C: Int
    step_score_FSS: Int
    step_RFSS: Int
    follows_SS: NDArray[np.bool_]
    first_stream: int
    last_stream: int

    @classmethod
    def of(cls, problem: Problem) -> tuple[Graph, Int]:
        """Return the graph of a problem, and the limit of each of its `limited_resources`."""
        resources = limited_resources(problem)
        limit_R = np.array([min(r.limit, BOUNDLESS) for r in resources], np.int64)
        return cls.of_resources(problem, resources), limit_R

    @classmethod
    def of_resources(cls, problem: Problem, resources: Sequence[Resource]) -> Graph:
        """Return the graph of a problem in which only some resources count."""
        pairs = [problem.fixed_point_pair_LCC, *(r.pair_LCC for r in resources)]
        graph = cls(
            score_LC=problem.fixed_point_score_LC,
            use_RLC=np.stack([r.use_LC for r in resources]).astype(np.int64),
            peak_RLC=np.stack([r.peak_LC for r in resources]).astype(np.int64),
            allowed_LC=problem.allowed_LC,
            stream_C=problem.stream_C,
            step_score_FSS=np.zeros_like(problem.switch_us_SS)[None],
            step_RFSS=np.stack([r.switch_SS for r in resources]).astype(np.int64)[:, None],
            follows_SS=np.ones(problem.switch_us_SS.shape, np.bool_),
            first_stream=problem.first_stream,
            last_stream=problem.last_stream,
        )
        return graph if all(pair is None for pair in pairs) else graph._by_candidate()._with_pairs(pairs)

    def _by_candidate(self) -> Graph:
        """Return the same graph in which every candidate is a stream, and stem and head are the two after them."""
        candidates = len(self.stream_C)
        stream_S = np.append(self.stream_C, [self.first_stream, self.last_stream])
        return dataclasses.replace(
            self,
            stream_C=np.arange(candidates),
            step_score_FSS=self.step_score_FSS[:, stream_S[:, None], stream_S],
            step_RFSS=self.step_RFSS[:, :, stream_S[:, None], stream_S],
            follows_SS=self.follows_SS[stream_S[:, None], stream_S],
            first_stream=candidates,
            last_stream=candidates + 1,
        )

    def _with_pairs(self, pairs: Sequence[Int | None]) -> Graph:
        """Return the graph with what pairs score, and what they use of each resource; None where neighbours do not."""
        (steps, candidates), streams = (self.layers + 1, len(self.stream_C)), len(self.follows_SS)
        score_FSS, *use_FSS = (np.zeros((steps, streams, streams), np.int64) for _ in pairs)
        for step_FSS, pair_LCC in zip((score_FSS, *use_FSS), pairs, strict=True):
            if pair_LCC is not None:
                step_FSS[: self.layers, :candidates, :candidates] = pair_LCC
        return dataclasses.replace(
            self, step_score_FSS=self.step_score_FSS + score_FSS, step_RFSS=self.step_RFSS + np.stack(use_FSS)
        )

    def step_score_SS(self, step: int) -> Int:
        """Return what going from one stream (row) to another (column) scores, at one step."""
        return np.asarray(self.step_score_FSS[step % len(self.step_score_FSS)])

    def step_RSS(self, step: int) -> Int:
        """Return what going from one stream to another uses of each resource, at one step."""
        return np.asarray(self.step_RFSS[:, step % self.step_RFSS.shape[1]])

    @property
    def steps_alike(self) -> int:
        """How many steps an entry of the steps stands for: all of them, or one."""
        return self.layers + 1 if len(self.step_score_FSS) == 1 else 1

    @property
    def layers(self) -> int:
        """How many layers."""
        return len(self.score_LC)

    @cached_property
    def backwards(self) -> Graph:
        """The same graph walked from the head to the stem."""
        return dataclasses.replace(
            self,
            score_LC=self.score_LC[::-1],
            use_RLC=self.use_RLC[:, ::-1],
            peak_RLC=self.peak_RLC[:, ::-1],
            allowed_LC=self.allowed_LC[::-1],
            step_score_FSS=self.step_score_FSS[::-1].transpose(0, 2, 1),
            step_RFSS=self.step_RFSS[:, ::-1].transpose(0, 1, 3, 2),
            follows_SS=self.follows_SS.T,
            first_stream=self.last_stream,
            last_stream=self.first_stream,
        )

    def minimizing(self, r: int, allowed_LC: NDArray[np.bool_]) -> Graph:
        """Return the graph of some candidates whose best layout uses least of a resource; its peaks no longer count."""
        peak_RLC = self.peak_RLC.copy()
        peak_RLC[r] = 0
        return dataclasses.replace(
            self,
            score_LC=-self.use_RLC[r],
            step_score_FSS=-self.step_RFSS[r],
            peak_RLC=peak_RLC,
            allowed_LC=allowed_LC,
        )

    def reduced(self, limit_KR: Int) -> tuple[Graph, Int, Int]:
        """Return the same search with the least use of every layer taken off, from the limits too, and their sums.

        Priced, a large part that all layouts share would cost the bounds their precision; so would a limit that no
        layout reaches, which becomes `BOUNDLESS`.
        """
        least_RL = self.use_RLC.min(axis=2, where=self.allowed_LC, initial=NEVER)
        least_RL[:, ~self.allowed_LC.any(axis=1)] = 0
        reduced = dataclasses.replace(self, use_RLC=np.maximum(self.use_RLC - least_RL[:, :, None], 0))
        most_R = reduced.use_RLC.max(axis=2, where=self.allowed_LC, initial=0).sum(axis=1)
        most_R += self.step_RFSS.max(axis=(2, 3)).sum(axis=1) * self.steps_alike
        most_R += self.peak_RLC.max(axis=(1, 2), where=self.allowed_LC, initial=0)
        least_R = least_RL.sum(axis=1)
        left_KR = limit_KR - least_R
        return reduced, np.where((limit_KR >= BOUNDLESS) | (left_KR >= most_R), BOUNDLESS, left_KR), least_R

    @cached_property
    def score_steps(self) -> tuple[int, int]:
        """The score of some layout, and what all scores of layouts are whole numbers of steps away from it."""
        step_FN = self.step_score_FSS[:, self.follows_SS]
        first_L = np.take_along_axis(self.score_LC, self.allowed_LC.argmax(axis=1)[:, None], axis=1)
        apart_N = np.concatenate([(self.score_LC - first_L)[self.allowed_LC], (step_FN - step_FN[:, :1]).ravel()])
        return int(first_L.sum() + self.steps_alike * step_FN[:, 0].sum()), max(int(np.gcd.reduce(apart_N)), 1)

    @cached_property
    def least_score(self) -> int:
        """What no layout scores below: a bound under it says that nothing fits."""
        least_L = self.score_LC.min(axis=1, where=self.allowed_LC, initial=NEVER)
        return int(least_L.sum() + self.steps_alike * self.step_score_FSS[:, self.follows_SS].min(axis=1).sum())

    def floor_N(self, bound_N: Int) -> Int:
        """Return the highest score that a layout may have, given bounds on it."""
        base, step = self.score_steps
        return bound_N if step == 1 else bound_N - (bound_N - base) % step

    def without_limits(self) -> tuple[int, ...]:
        """Return the layout that scores highest if nothing is limited, of equal ones the fastest."""
        score_S = self.step_score_SS(self.layers)[:, self.last_stream]
        use_S = self.step_RSS(self.layers)[0][:, self.last_stream]
        score_S, use_S = (
            np.where(self.follows_SS[:, self.last_stream], v, n) for v, n in ((score_S, -NEVER), (use_S, 0))
        )
        taken_LS = np.empty((self.layers, len(self.follows_SS)), np.int64)
        for layer in reversed(range(self.layers)):
            follows_SC = self.follows_SS[:, self.stream_C] & self.allowed_LC[layer]
            score_SC = self.step_score_SS(layer)[:, self.stream_C] + (self.score_LC[layer] + score_S[self.stream_C])
            use_SC = self.step_RSS(layer)[0][:, self.stream_C] + (self.use_RLC[0, layer] + use_S[self.stream_C])
            score_SC = np.where(follows_SC, score_SC, -NEVER)
            best_S1 = score_SC.max(axis=1, keepdims=True)
            taken_LS[layer] = np.where(score_SC == best_S1, use_SC, NEVER).argmin(axis=1)
            score_S = np.maximum(best_S1[:, 0], -NEVER)
            use_S = np.take_along_axis(use_SC, taken_LS[layer][:, None], axis=1)[:, 0]
        layout, stream = [], self.first_stream
        for taken_S in taken_LS:
            layout.append(int(taken_S[stream]))
            stream = int(self.stream_C[layout[-1]])
        return tuple(layout)

    def scored(self, choice_L: Sequence[int]) -> int:
        """Return what a layout scores."""
        steps = self._steps(self.step_score_FSS, choice_L).sum()
        return int(self.score_LC[np.arange(self.layers), list(choice_L)].sum() + steps)

    def _steps(self, values_FSS: Int, choice_L: Sequence[int]) -> Int:
        """Return what the steps of a layout have, from the stem to the head, as the last axis."""
        streams = np.array([self.first_stream, *self.stream_C[list(choice_L)], self.last_stream])
        step_F = np.arange(self.layers + 1) % values_FSS.shape[-3]
        return np.asarray(values_FSS[..., step_F, streams[:-1], streams[1:]])

    def ordered(self) -> Graph:
        """Return an equivalent graph in which equal blocks stand together; the graph itself where layers differ.

        If all layers cost and score the same and staying in a stream is free, some best layout has all blocks of the
        first stream first and every candidate in one run: of all orders it changes streams least. Each candidate
        becomes a stream of its own, from which only later candidates can be reached.
        """
        if not self._symmetric:
            return self
        candidates = len(self.stream_C)
        order = np.lexsort((np.arange(candidates), self.stream_C != self.first_stream))
        rank_C = np.argsort(order)
        follows_SS = np.ones((candidates + 2, candidates + 2), np.bool_)
        follows_SS[:candidates, :candidates] = rank_C[:, None] <= rank_C[None, :]
        return dataclasses.replace(self._by_candidate(), follows_SS=follows_SS)

    @cached_property
    def _symmetric(self) -> bool:
        per_layer = (self.score_LC, self.allowed_LC, *self.use_RLC, *self.peak_RLC)
        identical = all((values_LC == values_LC[0]).all() for values_LC in per_layer)
        staying = any(np.diagonal(v, axis1=-2, axis2=-1).any() for v in (self.step_RFSS, self.step_score_FSS))
        return identical and not staying and len(self.follows_SS) <= 2 and bool(self.follows_SS.all())

    def spent_R(self, choice_L: Sequence[int]) -> Int:
        """Return what a layout uses of every resource, peaks apart."""
        layers_R = self.use_RLC[:, np.arange(self.layers), list(choice_L)].sum(axis=1)
        spent_R: Int = layers_R + self._steps(self.step_RFSS, choice_L).sum(axis=1)
        return spent_R


@dataclass(frozen=True, kw_only=True, eq=False)
class Cases:
    """Limits under which one graph is searched, side by side; case k may use the candidates of mask `mask_K[k]`."""

    limit_KR: Int
    mask_K: Int
    allowed_MLC: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.mask_K)

    @cached_property
    def limited(self) -> NDArray[np.intp]:
        """The resources that some case limits."""
        return np.flatnonzero((self.limit_KR < BOUNDLESS).any(axis=0))

    @cached_property
    def backwards(self) -> Cases:
        """The same cases of the graph walked from its head."""
        return dataclasses.replace(self, allowed_MLC=self.allowed_MLC[:, ::-1])

    def take(self, index_K: NDArray[np.intp] | Sequence[int]) -> Cases:
        """Return some of the cases."""
        return dataclasses.replace(self, limit_KR=self.limit_KR[index_K], mask_K=self.mask_K[index_K])


def limited_resources(problem: Problem) -> list[Resource]:
    """Return latency, by which ties are broken, and every other resource that has a limit."""
    latency, *others = problem.resources
    return [latency, *(r for r in others if r.limit < UNLIMITED // 2)]


def least_to_go(graph: Graph, allowed_LC: NDArray[np.bool_]) -> Int:
    """Return the least use of each resource, each for itself, from every layer and stream to the head: (L + 1, R, S).

    `NEVER` or more where the head cannot be reached.
    """
    resources, streams = len(graph.use_RLC), len(graph.follows_SS)
    step_RFSS = np.where(graph.follows_SS, graph.step_RFSS, NEVER)
    to_go_LRS = np.empty((graph.layers + 1, resources, streams), np.int64)
    to_go_LRS[graph.layers] = step_RFSS[:, -1, :, graph.last_stream]
    for layer in reversed(range(graph.layers)):
        choices = np.flatnonzero(allowed_LC[layer])
        here_RC = graph.use_RLC[:, layer, choices] + to_go_LRS[layer + 1][:, graph.stream_C[choices]]
        into_RSC = step_RFSS[:, layer % step_RFSS.shape[1]][:, :, graph.stream_C[choices]] + here_RC[:, None]
        to_go_LRS[layer] = into_RSC.min(axis=2, initial=NEVER)
    return to_go_LRS

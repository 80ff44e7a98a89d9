"""A third party's plugins: a block, a score and a solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from s2search.block import Block, Parameters, Precision, Shape, Stream
from s2search.score.base import Score
from s2search.solver.base import Choice, Solver, unconstrained_bound
from s2search.solver.problem import Problem
from s2search.space import Space

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Pointwise(Block):
    """A feed-forward and nothing else."""

    name: ClassVar[str] = "pointwise"
    symbol: ClassVar[str] = "P"
    stream: ClassVar[Stream] = Stream.LOW

    expansion: int = 4

    def parameters(self, shape: Shape) -> Parameters:
        return Parameters(matrix=2 * self.expansion * shape.channels**2)

    def state_bytes(self, shape: Shape, precision: Precision) -> int:
        return 0

    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        return (2 + self.expansion) * shape.low_tokens * shape.channels * precision.activation_bits // 8

    def flops(self, shape: Shape) -> int:
        return 4 * self.expansion * shape.low_tokens * shape.channels**2

    def build(self, shape: Shape) -> nn.Module:
        from torch import nn

        wide = self.expansion * shape.channels
        return nn.Sequential(
            nn.Linear(shape.channels, wide, bias=False), nn.GELU(), nn.Linear(wide, shape.channels, bias=False)
        )


@dataclass(frozen=True, kw_only=True)
class PreferEarly(Score):
    """Likes the first candidate early."""

    name = "prefer_early"
    statement = "made up: the first candidate, the earlier the better"
    digest = "sha256:none"

    def score_LC(self, space: Space) -> NDArray[np.float64]:
        score_LC = np.zeros((space.depth, len(space.candidates)))
        score_LC[:, 0] = np.linspace(1.0, 0.1, space.depth)
        return score_LC


@dataclass(frozen=True, kw_only=True)
class Greedy(Solver):
    """Improves the fastest layout one layer at a time."""

    def _choose(self, problem: Problem) -> Choice | None:
        choice = [int(c) for c in problem.latency_us_LC.argmin(axis=1)]
        if not problem.admits(choice):
            return None
        for layer in range(len(choice)):
            for c in np.argsort(-problem.score_LC[layer]):
                changed = [*choice[:layer], int(c), *choice[layer + 1 :]]
                if problem.admits(changed):
                    choice = changed
                    break
        return Choice(choice_L=tuple(choice), upper_bound=unconstrained_bound(problem))

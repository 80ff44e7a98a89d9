"""Of all layouts that tie, the one shown is best by every rule in turn: brute force looks for a better one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

import numpy as np
import pytest

from s2search.errors import InfeasibleError
from s2search.solver.dynamic import Dynamic
from s2search.solver.exhaustive import layouts_NL
from s2search.solver.problem import Problem
from s2search.solver.questions.confidence import solve_with_confidence
from s2search.solver.questions.tie_break import TIE_RULES, TieRule, preferred
from s2search.solver.spread import Spread
from s2search.space import Space
from s2search.testing.problems import random_pairs, random_problem, with_random_constraints

Layout = tuple[int, ...]


def plain_key(problem: Problem, rule: TieRule, by: Problem | None = None) -> Callable[[Layout], tuple[float, ...]]:
    """What the rules say, word for word; the least is shown."""

    def key(layout: Layout) -> tuple[float, ...]:
        streams = [int(problem.stream_C[c]) for c in layout]
        changed = sum(a != b for a, b in pairwise([problem.first_stream, *streams, problem.last_stream]))
        differ = sum(a != b for a, b in zip(layout, problem.reference_L or layout, strict=True))
        return (
            differ if problem.max_changes is not None else 0,
            0 if by is None else -by.price(layout).fixed_point_score,
            changed if rule == "fewest-switches" else 0,
            problem.price(layout).latency_us,
            streams[-1] != problem.last_stream,
            streams[0] != problem.first_stream,
            sum(len(list(run)) ** 2 for _, run in groupby(streams)),
        )

    return key


def every_tie(problem: Problem, score: float, admits: Callable[[Layout], bool]) -> list[Layout]:
    size = problem.group_size
    layouts = (
        tuple(int(c) for c in np.repeat(choice, size))
        for chunk in layouts_NL(problem.by_group(), limit=10**6)
        for choice in chunk
    )
    return [layout for layout in layouts if problem.price(layout).score == score and admits(layout)]


def tying_problem(seed: int, *, constrained: bool = True) -> tuple[Problem, Space]:
    """A small problem with few different scores and costs, so that much ties; half of them with prices of switches."""
    rng = np.random.default_rng(seed)
    layers, candidates = int(rng.integers(2, 9)), int(rng.integers(2, 4))
    costs = "identical" if rng.random() < 0.5 else "random"
    problem = random_problem(
        rng, layers=layers, candidates=candidates, costs=costs, tightness=rng.uniform(0.3, 1), switches=seed % 2 == 0
    )
    coarse = dataclasses.replace(
        problem,
        score_LC=np.rint(problem.score_LC * 2) / 2,
        latency_us_LC=problem.latency_us_LC // 300 * 300,
        memory_bytes_LC=problem.memory_bytes_LC // 400_000 * 400_000,
    )
    if constrained and rng.random() < 0.7:
        coarse = with_random_constraints(rng, coarse)
    named = ["lcha", "ssa", "full"][:candidates]
    return coarse, Space.parse(",".join(named), depth=layers, group_size=coarse.group_size)


@pytest.mark.parametrize("rule", TIE_RULES)
@pytest.mark.parametrize("seed", range(24))
def test_no_layout_that_ties_is_better_by_the_rules(seed: int, rule: TieRule) -> None:
    problem, space = tying_problem(seed)
    try:
        found = Dynamic().solve(problem)
    except InfeasibleError:
        return
    shown = preferred(found, problem, space, rule=rule).choice_L
    ties, key = every_tie(problem, found.score, problem.admits), plain_key(problem, rule)
    assert shown in ties
    assert key(shown) == min(map(key, ties))


@pytest.mark.parametrize("rule", TIE_RULES)
@pytest.mark.parametrize("seed", range(24))
def test_no_layout_that_ties_is_better_by_another_score_and_then_by_the_rules(seed: int, rule: TieRule) -> None:
    problem, space = tying_problem(seed)
    rng = np.random.default_rng(seed)
    by = dataclasses.replace(problem, score_LC=rng.choice([0, 1, 2, 4, 5, 8, 10], problem.score_LC.shape) / 10)
    if seed % 3:
        by = dataclasses.replace(by, pair_score_LCC=random_pairs(rng, *problem.score_LC.shape).round(1))
    try:
        found = Dynamic().solve(problem)
    except InfeasibleError:
        return
    shown = preferred(found, problem, space, rule=rule, by=by).choice_L
    ties, key = every_tie(problem, found.score, problem.admits), plain_key(problem, rule, by)
    assert shown in ties
    assert key(shown) == pytest.approx(min(map(key, ties)))


@pytest.mark.parametrize("rule", TIE_RULES)
@pytest.mark.parametrize("seed", range(6))
def test_no_layout_that_ties_with_a_confidence_is_better_by_the_rules(seed: int, rule: TieRule) -> None:
    problem, space = tying_problem(seed, constrained=False)
    rng = np.random.default_rng(seed)
    spread = Spread(std_us_LC=rng.choice([0.0, 30.0, 300.0], problem.score_LC.shape), switch_std_us_SS=np.zeros((2, 2)))

    def keeps(layout: Sequence[int]) -> bool:
        return spread.keeps(problem, layout, 0.9)

    try:
        found = solve_with_confidence(problem, spread, 0.9, Dynamic()).solution
    except InfeasibleError:
        return
    shown = preferred(
        found,
        problem,
        space,
        rule=rule,
        keeps=keeps,
        search=lambda narrower: solve_with_confidence(narrower, spread, 0.9, Dynamic()).solution,
    ).choice_L
    ties, key = every_tie(problem, found.score, keeps), plain_key(problem, rule)
    assert shown in ties
    assert key(shown) == min(map(key, ties))


def test_the_order_of_the_candidates_changes_nothing() -> None:
    problem, _ = tying_problem(6, constrained=False)
    layers, candidates = problem.score_LC.shape
    names = ["lcha", "ssa", "full"][:candidates]
    turned = {
        name: getattr(problem, name)[..., ::-1]
        for name in ("score_LC", "latency_us_LC", "memory_bytes_LC", "peak_bytes_LC", "allowed_LC", "stream_C")
    }
    written = set()
    for posed, labels in ((problem, names), (dataclasses.replace(problem, **turned), names[::-1])):
        space = Space.parse(",".join(labels), depth=layers)
        written.add(space.write_layout(preferred(Dynamic().solve(posed), posed, space).choice_L))
    assert len(written) == 1

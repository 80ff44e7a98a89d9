"""Conformance suite of solvers: `check_solver(MySolver())` raises AssertionError at the first broken promise."""

from __future__ import annotations

import dataclasses

import numpy as np

from s2search.errors import InfeasibleError
from s2search.solver.base import Solution, Solver
from s2search.solver.exhaustive import Exhaustive
from s2search.solver.problem import Problem
from s2search.testing.problems import random_problem, with_random_constraints


def check_solver(solver: Solver, *, exact: bool = True, problems: int = 20, seed: int = 0) -> None:
    """Hold a solver against its contract on small random problems.

    Args:
        solver: The solver to check.
        exact: Whether it promises the optimum; if not, it must never claim a score above it.
        problems: How many problems to try.
        seed: Seed of the problems.
    """
    rng = np.random.default_rng(seed)
    for _ in range(problems):
        problem = random_problem(
            rng,
            layers=int(rng.integers(1, 7)),
            candidates=int(rng.integers(1, 4)),
            costs="random" if exact else "identical",
        )
        _check_one(solver, problem, exact=exact)
        _check_one(solver, dataclasses.replace(problem, latency_budget_us=0), exact=exact)
        _check_one(solver, dataclasses.replace(problem, memory_budget_bytes=0), exact=exact)
    _check_raises(solver, dataclasses.replace(problem, latency_budget_us=0))


def check_constraints(solver: Solver, *, problems: int = 40, seed: int = 0) -> None:
    """Hold an exact solver against constraints beyond the two budgets: counts, switches, changes, devices, limits.

    Args:
        solver: The solver to check.
        problems: How many problems to try; about half of them have a layout.
        seed: Seed of the problems.
    """
    rng = np.random.default_rng(seed)
    for _ in range(problems):
        layers, candidates = int(rng.integers(1, 7)), int(rng.integers(1, 4))
        problem = random_problem(rng, layers=layers, candidates=candidates, tightness=rng.uniform(0.3, 1))
        _check_one(solver, with_random_constraints(rng, problem), exact=True)


def _check_one(solver: Solver, problem: Problem, *, exact: bool) -> None:
    best, solution = Exhaustive().best(problem), solver.best(problem)
    if best is None:
        assert solution is None, f"{solver} answered an infeasible problem with {solution.choice_L}"
        return
    if solution is None:
        assert not exact, f"{solver} found no layout where one of score {best.score} fits"
        return
    _check_solution(solution, problem)
    assert solution.score <= best.score + 1e-12, f"{solver} claims {solution.score}, the optimum is {best.score}"
    assert solution.upper_bound >= best.score - 1e-12, f"{solver} bounds the score by less than the optimum"
    if exact:
        assert solution.score == best.score, f"{solver} found {solution.score}, the optimum is {best.score}"
        assert solution.optimal, f"{solver} found the optimum without a proof"


def _check_solution(solution: Solution, problem: Problem) -> None:
    assert problem.admits(solution.choice_L), "the layout is not admitted"
    price = problem.price(solution.choice_L)
    assert (solution.latency_us, solution.memory_bytes, solution.peak_bytes) == (
        price.latency_us,
        price.memory_bytes,
        price.peak_bytes,
    ), "the reported costs are not those of the layout"


def _check_raises(solver: Solver, problem: Problem) -> None:
    try:
        solution = solver.solve(problem)
    except InfeasibleError:
        return
    raise AssertionError(f"{solver} answered an infeasible problem with {solution.choice_L}")

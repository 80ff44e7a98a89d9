"""Why no layout fits: which budget binds, and the least that would do."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from s2search.cost import format_bytes
from s2search.errors import InfeasibleError
from s2search.problem import UNLIMITED, Problem
from s2search.solver.dual import lagrangian_dual
from s2search.solver.labels import NOTHING, least_to_go, peak_levels, sweep, within_peaks
from s2search.solver.symmetry import break_symmetry

_ALL = 2**60


def explain_infeasible(problem: Problem) -> InfeasibleError:
    """Return the error for a problem without an answer; its fields hold the least latency and memory of any layout."""
    least_us, least_bytes = least_latency_us(problem), least_memory_bytes(problem)
    within_us = fastest_within_memory_us(problem)
    many, memory = f"{problem.layouts:,}", format_bytes(problem.memory_budget_bytes)
    fields: dict[str, Any] = {
        "least_latency_us": least_us,
        "least_memory_bytes": least_bytes,
        "fastest_within_memory_us": within_us,
    }
    if within_us is None:
        return InfeasibleError(
            f"no layout fits {memory}: the smallest of {many} needs {format_bytes(least_bytes)}",
            remedy=f"raise the memory budget to {least_bytes}B or offer a smaller block",
            **fields,
        )
    needed, remedy = exact_ms(within_us), "or offer a faster block"
    if least_us < within_us:
        remedy = f"or the memory budget (with more memory the fastest needs {exact_ms(least_us)})"
    within = f" within {memory}" if least_us < within_us else ""
    return InfeasibleError(
        f"no layout fits {exact_ms(problem.latency_budget_us)}{within}: the fastest of {many} needs {needed}",
        remedy=f"raise the latency budget to {needed} {remedy}",
        **fields,
    )


def least_latency_us(problem: Problem) -> int:
    """Return the latency of the fastest layout, whatever memory it takes."""
    to_go_us_LS, _ = least_to_go(problem)
    return problem.fixed_us + int(to_go_us_LS[0, problem.first_stream])


def least_memory_bytes(problem: Problem) -> int:
    """Return the memory of the smallest layout, largest peak included, whatever time it takes."""
    unlimited = dataclasses.replace(problem, memory_budget_bytes=UNLIMITED)
    return min(
        limited.fixed_bytes + int(least_to_go(limited)[1][0]) + peak_bytes
        for peak_bytes in peak_levels(unlimited)
        if (limited := within_peaks(unlimited, peak_bytes, peak_bytes)) is not None
    )


def fastest_within_memory_us(problem: Problem) -> int | None:
    """Return the latency of the fastest layout that fits the memory budget, or None where none does."""
    anything = dataclasses.replace(problem, score_LC=np.zeros_like(problem.score_LC), latency_budget_us=UNLIMITED)
    best = NOTHING
    for peak_bytes in reversed(peak_levels(anything)):
        limited = within_peaks(anything, peak_bytes, peak_bytes)
        if limited is not None:
            limited = break_symmetry(limited)
            best = max(best, sweep(limited, lagrangian_dual(limited), width=_ALL, best=best).rank)
    return None if best == NOTHING else -best[1]


def exact_ms(microseconds: int) -> str:
    """Write a time to the microsecond, so that a budget of just this much does.

    >>> exact_ms(14_300)
    '14.3 ms'
    """
    return f"{microseconds / 1000:.3f}".rstrip("0").rstrip(".") + " ms"

"""Why no layout with precisions fits, in the words that a joint search is asked in: noise in decibels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from s2search.errors import InfeasibleError
from s2search.solver.problem import UNLIMITED, Problem, Resource
from s2search.solver.questions.infeasible import exact_bytes, exact_ms, explain_infeasible

_NOISE = "noise"


def nearest_error(tried: Sequence[Problem], least_db: float | None, most_db: float | None) -> InfeasibleError:
    """Return the error of the search that comes nearest to an answer, of those that found none.

    Args:
        tried: These searches.
        least_db: Signal-to-noise ratio that was asked for.
        most_db: The one that all other limits allow; None where they allow nothing.

    Its fields are those of `explain_infeasible`, and `most_db`. No layout stands as the nearest: it would lack its
    precisions.
    """
    errors = [_of_sums(problem) for problem in tried]
    n = min(range(len(errors)), key=lambda n: _effort(tried[n], errors[n]))
    error, limits = errors[n], [r for r in tried[n].resources if r.limit < UNLIMITED // 2]
    would_do: dict[str, int] = error.fields["relaxations"]
    floor_db = None if most_db is None else math.floor(1000 * most_db) / 1000  # so that a limit of it does
    fields = {**error.fields, "nearest_L": None, "most_db": floor_db}
    ways = [_way(r, would_do[r.name]) for r in limits if r.name in would_do]
    ways += [] if floor_db is None else [f"lower --least-db to {floor_db:.3f}".rstrip("0").rstrip(".")]
    kept = ", ".join(_write(r, r.limit + r.fixed, least_db) for r in limits)
    if ways:
        return InfeasibleError(f"no layout with precisions keeps {kept}", remedy=", or ".join(ways), **fields)
    least = f"the fastest takes {exact_ms(fields['least_latency_us'])}"
    least += f", the smallest {exact_bytes(fields['least_memory_bytes'])}"
    return InfeasibleError(
        f"no layout with precisions keeps {kept}: {least}",
        remedy="relax more than one limit, or offer other blocks or precisions",
        **fields,
    )


def _of_sums(problem: Problem) -> InfeasibleError:
    """Return the error of one search; of noise it says nothing: a part counts as at most twice what is allowed."""
    error = explain_infeasible(problem)
    error.fields["relaxations"].pop(_NOISE, None)
    return error


def _effort(problem: Problem, error: InfeasibleError) -> float:
    """Return by how much of itself the nearest limit would have to be raised."""
    limits = {r.name: r.limit + r.fixed for r in problem.resources}
    would_do: dict[str, int] = error.fields["relaxations"]
    return min(((needed - limits[name]) / max(limits[name], 1) for name, needed in would_do.items()), default=math.inf)


def _write(resource: Resource, amount: int, least_db: float | None) -> str:
    if resource.name == _NOISE and least_db is not None:
        return f"{least_db:g} dB"
    if resource.unit == "us":
        return exact_ms(amount)
    return exact_bytes(amount) if resource.unit == "bytes" else f"at most {amount} {resource.name}"


def _way(resource: Resource, needed: int) -> str:
    if resource.unit:
        return f"raise the {resource.name} budget to {_write(resource, needed, None)}"
    return f"raise the limit on {resource.name} to {needed}"

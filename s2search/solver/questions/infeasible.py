"""Why no layout fits: which limit binds, the least of each that would do, and the layout that comes nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from s2search.cost import format_bytes
from s2search.errors import CheckError, InfeasibleError
from s2search.solver.exact.graph import BOUNDLESS, NEVER, Graph, least_to_go, limited_resources
from s2search.solver.exact.search import least_use
from s2search.solver.problem import UNLIMITED, Problem, Resource


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """The least limit of one resource, its fixed part included, with which some layout fits: that layout."""

    needed: int
    choice_L: tuple[int, ...]


def explain_infeasible(problem: Problem) -> InfeasibleError:
    """Return the error for a problem without an answer.

    Its fields: `least_latency_us` and `least_memory_bytes` of any layout at all; `relaxations`, by resource, the limit
    that would do if all others stayed; and `nearest_L`, the layout of the relaxation that is smallest in proportion
    (None where no single one is enough).
    """
    relaxations = smallest_relaxations(problem)
    limits = {r.name: r for r in problem.resources if r.limit < UNLIMITED // 2}
    fields: dict[str, Any] = {
        "least_latency_us": least_of(problem, 0),
        "least_memory_bytes": least_of(problem, 1),
        "relaxations": {name: relaxation.needed for name, relaxation in relaxations.items()},
        "nearest_L": None,
    }
    asked = ", ".join(_write(r, r.limit + r.fixed) for r in limits.values())
    many = f"{problem.layouts:,}"
    if not relaxations:
        least = f"the fastest of {many} needs {exact_ms(fields['least_latency_us'])}"
        least += f", the smallest {format_bytes(fields['least_memory_bytes'])}"
        return InfeasibleError(
            f"no layout fits {asked}: {least}", remedy="relax more than one limit, or offer other blocks", **fields
        )

    def effort(name: str) -> float:
        limit = limits[name].limit + limits[name].fixed
        return (relaxations[name].needed - limit) / max(limit, 1)

    names = sorted(relaxations, key=effort)
    fields["nearest_L"] = relaxations[names[0]].choice_L
    ways = [f"{_name(limits[name])} to {_amount(limits[name], relaxations[name].needed)}" for name in names]
    needed = _write(limits[names[0]], relaxations[names[0]].needed).removeprefix("at most ")
    nearest = {"us": "the fastest", "bytes": "the smallest"}.get(limits[names[0]].unit, "the nearest")
    rest = " that keeps the rest" if len(limits) > 1 else ""
    return InfeasibleError(
        f"no layout fits {asked}: {nearest} of {many}{rest} needs {needed}",
        remedy=f"raise {', or '.join(ways)}",
        **fields,
    )


def smallest_relaxations(problem: Problem) -> dict[str, Relaxation]:
    """Return, by resource, the least limit that lets some layout fit while all others stay.

    Only those that exist and are proven.
    """
    folded = problem.by_group()
    graph, limit_R = Graph.of(folded)
    found = {}
    for r, resource in enumerate(limited_resources(folded)):
        try:
            least = least_use(graph, limit_R, r) if limit_R[r] < BOUNDLESS else None
        except CheckError:
            continue
        if least is not None:
            choice_L = tuple(c for c in least[1] for _ in range(problem.group_size))
            found[resource.name] = Relaxation(needed=least[0] + resource.fixed, choice_L=choice_L)
    return found


def anything_fits(problem: Problem) -> bool:
    """Tell whether some layout keeps every limit."""
    graph, limit_R = Graph.of(problem.by_group())
    least = least_use(graph, limit_R, 0)
    return least is not None and least[0] <= limit_R[0]


def least_of(problem: Problem, r: int) -> int:
    """Return the least that any layout uses of one of `problem.resources`, fixed part included, whatever else it uses.

    0 is latency (us), 1 is memory with the largest peak (bytes).
    """
    folded = problem.by_group()
    resource = folded.resources[r]
    graph = Graph.of_resources(folded, [resource])
    at_least, least = 0, NEVER
    for level in np.unique(graph.peak_RLC[0][graph.allowed_LC])[::-1]:
        allowed_LC = graph.allowed_LC & (graph.peak_RLC[0] <= level)
        if at_least + graph.peak_RLC[0].min() >= least or not allowed_LC.any(axis=1).all():
            break
        at_least = int(least_to_go(graph, allowed_LC)[0, 0, graph.first_stream])
        least = min(least, at_least + int(level))
    return least + resource.fixed


def _name(resource: Resource) -> str:
    return f"the {resource.name} budget" if resource.unit else f"the limit on {resource.name}"


def _write(resource: Resource, amount: int) -> str:
    if not resource.unit:
        return f"at most {amount} {resource.name}"
    _, _, device = resource.name.partition(" of ")
    return _amount(resource, amount) + (f" on {device}" if device else "")


def _amount(resource: Resource, amount: int) -> str:
    if resource.unit == "us":
        return exact_ms(amount)
    return exact_bytes(amount) if resource.unit == "bytes" else f"{amount}"


def exact_ms(microseconds: int) -> str:
    """Write a time to the microsecond, so that a budget of just this much does.

    >>> exact_ms(14_300)
    '14.3 ms'
    """
    return f"{microseconds / 1000:.3f}".rstrip("0").rstrip(".") + " ms"


def exact_bytes(count: int) -> str:
    """Write bytes so that a budget of just this many does.

    >>> exact_bytes(1_100_000_000), exact_bytes(1_100_000_001)
    ('1.1 GB', '1100000001 B')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size and count % (size // 1000) == 0:
            return f"{count / size:.3f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{count} B"

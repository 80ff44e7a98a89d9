"""Why no layout fits: which limit binds, the least of each that would do, and the layout that comes nearest."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2search.cost import format_bytes
from s2search.errors import CheckError, InfeasibleError
from s2search.solver.exact.graph import BOUNDLESS, NEVER, Graph, least_to_go, limited_resources
from s2search.solver.exact.search import MOST_TO_FIT, least_use
from s2search.solver.problem import NO_CONSTRAINTS, UNLIMITED, Int, Problem, Resource

#: Seconds that all relaxations of one explanation may take together; the first of them have a share each.
_EXPLAINING_S = 4.0
_DECIDING_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """The least limit of one resource, its fixed part included, with which some layout fits: that layout."""

    needed: int
    choice_L: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Relaxations:
    """By resource, the least limit that would do; and the resources for which the time did not suffice to say."""

    found: dict[str, Relaxation]
    not_computed: tuple[str, ...] = ()


def explain_infeasible(problem: Problem) -> InfeasibleError:
    """Return the error for a problem without an answer.

    Its fields: `least_latency_us` and `least_memory_bytes` of any layout at all; `relaxations`, by resource, the limit
    that would do if all others stayed; and `nearest_L`, the layout of the relaxation that is smallest in proportion
    (None where no single one is enough); `not_computed`, the resources whose relaxation would have taken too long.
    """
    asked_of = smallest_relaxations(problem)
    relaxations = asked_of.found
    limits = {r.name: r for r in problem.resources if r.limit < UNLIMITED // 2}
    fields: dict[str, Any] = {
        "least_latency_us": least_of(problem, 0),
        "least_memory_bytes": least_of(problem, 1),
        "relaxations": {name: relaxation.needed for name, relaxation in relaxations.items()},
        "nearest_L": None,
        "not_computed": asked_of.not_computed,
    }
    left_out = f"; not computed: {', '.join(asked_of.not_computed)}" if asked_of.not_computed else ""
    asked = ", ".join(_write(r, r.limit + r.fixed) for r in limits.values())
    many = f"{problem.layouts:,}"
    if not relaxations:
        least = f"the fastest of {many} needs {exact_ms(fields['least_latency_us'])}"
        least += f", the smallest {format_bytes(fields['least_memory_bytes'])}"
        return InfeasibleError(
            f"no layout fits {asked}: {least}",
            remedy=f"relax {'a limit' if left_out else 'more than one limit'}, or offer other blocks{left_out}",
            **fields,
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
        remedy=f"raise {', or '.join(ways)}{left_out}",
        **fields,
    )


def smallest_relaxations(problem: Problem, *, within_s: float = _EXPLAINING_S) -> Relaxations:
    """Return, by resource, the least limit that lets some layout fit while all others stay, of those that exist.

    Where few labels do not prove it, HiGHS is asked, for a fair share of the seconds that are left.
    """
    folded = problem.by_group()
    graph, limit_R = Graph.of(folded)
    limited = [(r, resource) for r, resource in enumerate(limited_resources(folded)) if limit_R[r] < BOUNDLESS]
    deadline = time.monotonic() + within_s
    found, not_computed = {}, []
    for n, (r, resource) in enumerate(limited):
        share_s = (deadline - time.monotonic()) / (len(limited) - n)
        try:
            least = _least_in_time(folded, graph, limit_R, r, share_s)
        except CheckError:
            not_computed.append(resource.name)
            continue
        if least is not None:
            choice_L = tuple(c for c in least[1] for _ in range(problem.group_size))
            found[resource.name] = Relaxation(needed=least[0] + resource.fixed, choice_L=choice_L)
    return Relaxations(found=found, not_computed=tuple(not_computed))


def _least_in_time(
    folded: Problem, graph: Graph, limit_R: Int, r: int, seconds: float
) -> tuple[int, tuple[int, ...]] | None:
    """Return the least use of a resource within all other limits, by labels or by HiGHS; None where nothing fits.

    Raises:
        CheckError: Neither could say in time.
    """
    from s2search.solver.exact.program import least

    end = time.monotonic() + seconds
    try:
        return least_use(graph, limit_R, r, most_in_all=MOST_TO_FIT)
    except CheckError:
        if time.monotonic() >= end:
            raise
    goal = dataclasses.replace(limited_resources(folded)[r], limit=UNLIMITED)
    answer = least(_without_limit(folded, goal.name), goal, deadline=end)
    if not answer.proven:
        raise CheckError(f"the least {goal.name} could not be proven in time", remedy="relax the other limits")
    return None if answer.layout is None else (goal.spent(folded, answer.layout), answer.layout)


def anything_fits(problem: Problem) -> bool:
    """Tell whether some layout keeps every limit: by labels where few say it, by HiGHS where not.

    Raises:
        CheckError: HiGHS has no answer in a minute.
    """
    folded = problem.by_group()
    graph, limit_R = Graph.of(folded)
    try:
        least = least_use(graph, limit_R, 0, most_in_all=MOST_TO_FIT)
    except CheckError:
        from s2search.solver.exact.program import fits

        answer = fits(folded, deadline=time.monotonic() + _DECIDING_S)
        if answer is None:
            raise CheckError(
                f"whether any layout fits is not settled in {_DECIDING_S:g} s", remedy="relax the limits"
            ) from None
        return answer
    return least is not None and least[0] <= limit_R[0]


def _without_limit(folded: Problem, name: str) -> Problem:
    """Return the same search in which one resource has no limit; its constraints become `limits`."""
    latency, memory, *others = folded.resources
    changes: dict[str, Any] = NO_CONSTRAINTS | {"limits": tuple(r for r in others if r.name != name)}
    if name == latency.name:
        changes["latency_budget_us"] = UNLIMITED
    if name == memory.name:
        changes["memory_budget_bytes"] = UNLIMITED
    return dataclasses.replace(folded, **changes)


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

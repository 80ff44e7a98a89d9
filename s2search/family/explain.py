"""Why a plan of a family is as it is: what another alternative would change, and what more of a budget buys."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from s2search.family.plan import FamilyExplanation, FamilyPrice, FamilySwap
from s2search.family.pose import Posed
from s2search.solver.base import Solution, Solver
from s2search.solver.questions.shadow_price import next_point
from s2search.solver.questions.swap import Swap, best_swaps


def explain(posed: Posed, best: Solution, solver: Solver) -> FamilyExplanation:
    """Return the best swap of every slot or group, and what more of each budget buys.

    Raises:
        ProblemError: The solver does not prove its answers.
    """
    swaps = tuple(_swap(posed, best, swap) for swap in best_swaps(posed.problem, best.choice_L) if swap)
    return FamilyExplanation(swaps=swaps, prices=tuple(_prices(posed, best, solver)))


def _swap(posed: Posed, best: Solution, swap: Swap) -> FamilySwap:
    size = posed.problem.group_size
    after_L = (*best.choice_L[: swap.first], *[swap.candidate] * size, *best.choice_L[swap.last + 1 :])
    steps = {use.name: use.step for use in posed.uses}
    return FamilySwap(
        first=posed.slots[swap.first].name,
        last=posed.slots[swap.last].name,
        alternative=posed.alternatives[best.choice_L[swap.first]].label,
        instead=posed.alternatives[swap.candidate].label,
        gain=float(posed.in_score(swap.gain)),
        uses={use.name: float(posed.used(use, after_L) - posed.used(use, best.choice_L)) for use in posed.uses},
        over={name: float(over * steps.get(name, Fraction(1))) for name, over in swap.over.items()},
    )


def _prices(posed: Posed, best: Solution, solver: Solver) -> Iterator[FamilyPrice]:
    limits = {limit.name: limit for limit in posed.problem.limits}
    for use in posed.uses:
        if use.budget is not None:
            found = next_point(posed.problem, best, limits[use.name], solver)
            yield FamilyPrice(
                budget=use.name,
                unit=use.unit,
                extra=None if found is None else _beyond(posed, use.name, found.choice_L),
                gain=None if found is None else float(posed.in_score(found.gain)),
            )


def _beyond(posed: Posed, name: str, choice_L: tuple[int, ...]) -> float:
    """Return by how much a layout exceeds a budget, rounded up as the search does: what must be added to it."""
    use = next(one for one in posed.uses if one.name == name)
    resource = use.resource(posed.allowed_LC)
    needed = (resource.spent(posed.problem, choice_L) + resource.fixed) * use.step
    return float(needed - (use.budget or 0))

"""Plan a family: read what is asked, search, and say what was found or what would fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from s2search.errors import InfeasibleError, InputError, QuantityError, UnknownNameError
from s2search.family.dominated import FEW_CELLS, without_dominated
from s2search.family.explain import explain
from s2search.family.family import WITHOUT, Family
from s2search.family.plan import (
    FamilyInfeasible,
    FamilyLimit,
    FamilyPlan,
    FamilyProvenance,
    FamilyScore,
    FamilyTies,
    SlotAnswer,
    UseAnswer,
)
from s2search.family.pose import Posed, pose
from s2search.family.quantities import AskedBudget, in_unit, written
from s2search.family.rows import FamilyRows
from s2search.family.use import Use
from s2search.registry import own_version
from s2search.solver.base import Solution, Solver
from s2search.solver.problem import FIXED_POINT, UNLIMITED, Resource
from s2search.solver.questions.infeasible import smallest_relaxations
from s2search.solver.questions.ties import find_ties


def asking(
    family: Family, *, counts: Sequence[str] = (), depth: int | None = None, max_switches: int | None = None
) -> Family:
    """Return a family of which more is asked than its file does: the file's own counts, depth and switches give way.

    Raises:
        InputError: A text cannot be read, or a family without streams is to have few switches.
    """
    stated = dict(family.counts)
    for text in counts:
        label, equals, asked = text.rpartition("=")
        if not equals:
            raise InputError(f"the count {text!r} is none", allowed="LABEL=NUMBER or LABEL=FROM..TO")
        stated[label.strip()] = asked.strip()
    streams = family.streams
    if max_switches is not None:
        if streams is None:
            raise InputError(f"the family {family.name!r} has no streams to switch between", remedy="add [streams]")
        streams = dataclasses.replace(streams, max_switches=max_switches)
    found_depth = family.depth if depth is None else depth
    return dataclasses.replace(family, counts=stated, streams=streams, depth=found_depth)


def budgets_of(family: Family, texts: Sequence[str]) -> dict[str, Fraction]:
    """Return limits by resource, in its unit.

    Raises:
        QuantityError: A text is no limit of one resource, or two limit the same.
    """
    found: dict[str, Fraction] = {}
    for text in texts:
        asked = AskedBudget.parse(text)
        name = asked.name or _only_one(family, asked)
        if name not in family.resources:
            raise UnknownNameError("resource", name, family.resources, listed_as="resources")
        amount = in_unit(asked.amount, asked.unit, unit := family.resources[name].unit)
        if amount is None:
            raise QuantityError(
                f"the budget {text!r} is in {asked.unit or 'no unit'}",
                allowed=f"{name} is in {unit}" if unit else f"{name} is a number without a unit",
                remedy=f"write for example {name}:12{unit}",
            )
        if name in found:
            raise QuantityError(f"{name} has two budgets", remedy="keep the smaller one")
        found[name] = amount
    return found


def _only_one(family: Family, asked: AskedBudget) -> str:
    names = [name for name, r in family.resources.items() if in_unit(asked.amount, asked.unit, r.unit) is not None]
    if len(names) != 1:
        units = ", ".join(f"{name} in {r.unit or 'plain numbers'}" for name, r in family.resources.items())
        example = (names or list(family.resources))[0]
        number = asked.text if names else f"12{family.resources[example].unit}"
        may_be = f"may be {' or '.join(names)}" if names else f"is in {asked.unit or 'no unit'}, which no resource is"
        raise QuantityError(
            f"the budget {asked.text!r} {may_be}",
            allowed=f"resources: {units}",
            remedy=f"write for example {example}:{number}",
        )
    return names[0]


def plan(
    family: Family, rows: FamilyRows, solver: Solver, *, budgets: Sequence[str] = (), explained: bool = False
) -> FamilyPlan:
    """Return the best model of a family.

    Raises:
        InfeasibleError: None fits. Its `answer` says which limit would do, and which model comes nearest.
        InputError: The files or what is asked contradict themselves or each other.
    """
    whole = pose(family, rows, budgets_of(family, budgets))
    posed = without_dominated(whole)
    best = solver.best(posed.problem)
    if best is None:
        raise _infeasible(posed)
    return FamilyPlan(
        name=family.name,
        slots=_slots(posed, best.choice_L),
        score=_score(posed, best),
        uses=tuple(_use(posed, use, best, solver) for use in posed.uses),
        optimal=best.optimal,
        ties=_ties(posed, best) if posed is whole else None,
        layouts_log10=math.log10(whole.layouts),
        switches=posed.switches(best.choice_L),
        constraints=_constraints(family),
        provenance=FamilyProvenance(
            family=Path(family.path).name,
            family_digest=family.digest,
            table=Path(rows.path).name,
            table_digest=rows.digest,
            statement=family.statement,
            rows=posed.rows.in_file,
            rows_used=posed.rows_used,
            rows_left_out=posed.rows.left_out,
            solver=solver.name,
            method=best.method,
            version=own_version(),
        ),
        explanation=explain(posed, best, solver) if explained else None,
    )


def _slots(posed: Posed, choice_L: Sequence[int]) -> tuple[SlotAnswer, ...]:
    names = posed.family.stream_names
    return tuple(
        SlotAnswer(
            slot=slot.name,
            kind=slot.kind,
            alternative=posed.alternatives[c].label,
            stream=names[posed.alternatives[c].stream],
        )
        for slot, c in zip(posed.slots, choice_L, strict=True)
    )


def _score(posed: Posed, best: Solution) -> FamilyScore:
    asked, value = posed.family.score, posed.score(best.choice_L)
    ahead = posed.sign * posed.in_score(best.upper_bound - best.score)
    unit = asked.unit if asked.use is None else posed.family.resources[asked.use].unit
    return FamilyScore(
        value=float(value),
        bound=float(value + ahead),
        unit=unit,
        goal=asked.goal,
        statement=asked.statement,
        stand_in=asked.stand_in,
        resolution=float(posed.score_step),
    )


def _use(posed: Posed, use: Use, best: Solution, solver: Solver) -> UseAnswer:
    total = posed.used(use, best.choice_L)
    switches = sum((use.switch_SS[a, b] for a, b in pairwise(posed.streams_of(best.choice_L))), Fraction(0))
    return UseAnswer(
        name=use.name,
        unit=use.unit,
        total=float(total),
        fixed=float(use.fixed),
        switches=float(switches),
        peak=float(max(use.peak_LC[layer, c] for layer, c in enumerate(best.choice_L))),
        budget=None if use.budget is None else float(use.budget),
        slack=None if use.budget is None else float(use.budget - total),
        binds=_binds(posed, use, best, solver),
        resolution=float(use.step),
        exact=use.exact,
    )


def _binds(posed: Posed, use: Use, best: Solution, solver: Solver) -> bool | None:
    """Tell whether a better score fits without this budget; None where there is none, or nothing is proven."""
    if use.budget is None or not best.optimal:
        return None
    limits = tuple(limit for limit in posed.problem.limits if limit.name != use.name)
    without = solver.best(dataclasses.replace(posed.problem, limits=limits))
    return without.score > best.score if without is not None and without.optimal else None


def _ties(posed: Posed, best: Solution) -> FamilyTies | None:
    if not best.optimal or posed.allowed_LC.size > FEW_CELLS:
        return None
    found = find_ties(posed.problem, round(best.score * FIXED_POINT), examples=0).in_a_file
    return FamilyTies(count=max(found.count, 1), exact=found.exact)


def _constraints(family: Family) -> tuple[str, ...]:
    streams = family.streams
    return (
        *(f"{asked} {label}" for label, asked in family.counts.items()),
        *([f"first {', '.join(family.first)}"] if family.first else []),
        *([f"last {', '.join(family.last)}"] if family.last else []),
        *([f"groups of {family.group_size}"] if family.group_size > 1 else []),
        *(
            []
            if streams is None or streams.max_switches is None
            else [f"at most {streams.max_switches} stream changes"]
        ),
    )


def _infeasible(posed: Posed) -> InfeasibleError:
    """Return the error for a family of which no model fits, with a `FamilyInfeasible` as its `answer`."""
    family, found = posed.family, smallest_relaxations(posed.problem)
    limits = {r.name: _Limit.of(r, posed) for r in posed.problem.resources if r.limit < UNLIMITED // 2}
    ways = [limits[name].told(one.needed * limits[name].step) for name, one in found.found.items()]
    left_out = f"; not computed: {', '.join(found.not_computed)}" if found.not_computed else ""
    asked = ", ".join(limit.told(limit.asked) for limit in limits.values())
    error = InfeasibleError(
        f"no model of the family {family.name!r} fits {asked}",
        remedy=(f"ask for {', or '.join(ways)}" if ways else "relax more than one limit") + left_out,
    )
    nearest = min(found.found, key=lambda name: limits[name].effort(found.found[name].needed), default=None)
    answer = FamilyInfeasible(
        name=family.name,
        message=str(error),
        limits=tuple(
            limit.answer(found.found[name].needed if name in found.found else None) for name, limit in limits.items()
        ),
        nearest=None if nearest is None else tuple(posed.alternatives[c].label for c in found.found[nearest].choice_L),
        not_computed=found.not_computed,
    )
    error.fields["answer"] = error.__dict__["answer"] = answer
    return error


@dataclass(frozen=True, kw_only=True)
class _Limit:
    """A limit of a search that has no answer: a budget in its unit, or a number of slots or switches."""

    name: str
    unit: str
    asked: Fraction
    step: Fraction
    slots: int | None = None

    @classmethod
    def of(cls, resource: Resource, posed: Posed) -> _Limit:
        """Return the limit of a resource of the search."""
        use = next((use for use in posed.uses if use.name == resource.name), None)
        if use is None or use.budget is None:
            slots, limit = len(posed.slots), Fraction(resource.limit)
            return cls(name=resource.name, unit="", asked=limit, step=Fraction(1), slots=slots)
        return cls(name=use.name, unit=use.unit, asked=use.budget, step=use.step)

    def told(self, amount: Fraction) -> str:
        """Write so much of it, as it is asked for."""
        if self.slots is None:
            return f"{self.name} {written(amount, self.unit)}"
        label = self.name.removeprefix(WITHOUT)
        if label != self.name:
            return f"at least {self.slots - amount} of {label}"
        return f"at most {amount} {self.name.replace('slots of', 'of')}"

    def effort(self, needed: int) -> Fraction:
        """Return by which part of itself it is to be raised."""
        return (needed * self.step - self.asked) / (self.asked or 1)

    def answer(self, needed: int | None) -> FamilyLimit:
        """Return it for programs."""
        would_do = None if needed is None else float(needed * self.step)
        return FamilyLimit(name=self.name, unit=self.unit, asked=float(self.asked), would_do=would_do)

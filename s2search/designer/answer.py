"""What an answer is to its axes and budgets: what holds it, what each budget costs, and what could change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from s2search.cost import Budget, BudgetKind, format_bytes, format_fps, format_us
from s2search.designer.axes import AXES, AxisName, DesignAxis, amount
from s2search.designer.combination import Combination
from s2search.designer.document import AxisAnswer, BudgetAnswer, Firmness
from s2search.designer.firmness import Decision, decision_of, firmness
from s2search.designer.found import FoundDesign, setting_of
from s2search.designer.preference import best_of
from s2search.designer.request import DesignRequest
from s2search.designer.search import ASKED, Search, without
from s2search.errors import MissingRowError
from s2search.quality.base import PublishedPair

#: What a budget is measured in, and how much of that one of the budget's own is.
_UNITS: Mapping[BudgetKind, tuple[str, float]] = {
    "latency": ("ms", 1000.0),
    "first": ("ms", 1000.0),
    "memory": ("bytes", 1.0),
    "rate": ("fps", 1.0),
}
_UNLIKELY = 0.05
_NOT_SEEN: tuple[AxisName, ...] = ("video", "residency", "text_encoder")


def axis_answer(axis: DesignAxis, answer: FoundDesign | None, search: Search) -> AxisAnswer:
    """Return one axis, the answer's value, and what keeps it from more."""
    if answer is None:
        return AxisAnswer(name=axis.name, values=axis.values, chosen=None, held_by=None)
    value = answer.combination.of(axis.name)
    if not axis.chosen:
        held = "fixed"
    elif not axis.ordered:
        held = "quality" if axis.name not in _NOT_SEEN and _ranks(axis, answer, search) else "cost"
    else:
        most = amount(axis.name, axis.values[-1])
        held = "offer" if amount(axis.name, value) == most else _held_back(axis.name, answer, search)
    return AxisAnswer(name=axis.name, values=axis.values, chosen=value, held_by=held)  # type: ignore[arg-type]  # one of its words


def _held_back(axis: AxisName, answer: FoundDesign, search: Search) -> str:
    """Tell why an answer has less of an ordered axis than is on offer."""
    now = amount(axis, answer.combination.of(axis))
    if any(amount(axis, found.combination.of(axis)) > now for found in search.searched.within(ASKED)):
        return "wishes"
    more = [one for one in search.combinations if amount(axis, one.of(axis)) > now]
    return "unpriced" if all(isinstance(search.searched.programs.get(one.network), str) for one in more) else "budgets"


def budget_answer(
    search: Search, request: DesignRequest, answer: FoundDesign | None, n: int, place: Callable[[FoundDesign], int]
) -> BudgetAnswer:
    """Return one budget: what is used of it, and the answer that there would be without it."""
    budget = request.budgets[n]
    unit, scale = _UNITS[budget.kind]
    used = {} if answer is None else _used(answer)
    best = best_of(search.searched.within(without(n)), request.prefer)
    other = best is not None and (answer is None or best.key != answer.key)
    return BudgetAnswer(
        text=budget.text,
        kind=budget.kind,
        limit=float(budget.amount) / scale,
        used=used[budget.kind] / scale if used else None,
        unit=unit,
        binds=other,
        without=place(best) if other and best is not None else None,
    )


def _used(answer: FoundDesign) -> dict[BudgetKind, float]:
    return {
        "latency": answer.point.latency_us,
        "first": answer.first_us,
        "memory": answer.memory_bytes,
        "rate": round(answer.rate_fps, 3),
    }


def unranked(axes: Sequence[DesignAxis], answer: FoundDesign | None, search: Search) -> tuple[AxisName, ...]:
    """Return the axes with a choice whose values the quality does not rank, video aside, which is its own wish."""
    base = answer or next(iter(search.searched.designs), None)
    if base is None:
        return ()
    return tuple(
        axis.name for axis in axes if axis.chosen and axis.name not in _NOT_SEEN and not _ranks(axis, base, search)
    )


def evidence(search: Search, answer: FoundDesign, axes: Sequence[DesignAxis]) -> tuple[PublishedPair, ...]:
    """Return what others found where an axis changed that there is a choice of."""
    preset = search.question.offer.table.card.preset
    mine = setting_of(answer.combination, preset, answer.labels)
    others = [
        setting_of(answer.combination.with_value(axis.name, value), preset, answer.labels)
        for axis in axes
        for value in axis.values
        if value != answer.combination.of(axis.name)
    ]
    return tuple(dict.fromkeys(one for other in others for one in search.question.quality.evidence(mine, other)))


def _ranks(axis: DesignAxis, base: FoundDesign, search: Search) -> bool:
    preset = search.question.offer.table.card.preset
    layout = None if axis.name == "depth" else base.labels
    settings = [setting_of(base.combination.with_value(axis.name, value), preset, layout) for value in axis.values]
    judged = [search.question.quality.judge(setting) for setting in settings]
    return None not in judged and len({one.scale for one in judged if one is not None}) == 1


def most_fps(search: Search, several: Sequence[Combination]) -> float | None:
    """Return the highest rate of any layout of some combinations, whatever the rate asked for; None for none."""
    budgets = tuple(b for b in search.question.budgets[ASKED] if b.kind == "memory")
    bounds = [(_rate_bound(search, one), one) for one in several]
    most: float | None = None
    for bound, combination in sorted(bounds, key=lambda pair: -pair[0]):
        if most is not None and bound <= most:
            break
        found = search.fastest(combination, budgets)
        if found is not None and (most is None or found.rate_fps > most):
            most = found.rate_fps
    return most


def _rate_bound(search: Search, combination: Combination) -> float:
    try:
        return search.setting.around(combination).rate_fps(search.program(combination).least[0])
    except MissingRowError:
        return 0.0


def lacking(search: Search, several: Sequence[Combination]) -> str:
    """Say what would have to give way where nothing keeps the budgets."""
    budgets = search.question.budgets[ASKED]
    said = [f"no design keeps {' and '.join(budget.text for budget in budgets)}"]
    kinds = [budget.kind for budget in budgets]
    if "rate" in kinds and (most := most_fps(search, several)) is not None:
        within = " within the memory" if "memory" in kinds else ""
        said.append(f"the fastest{within} reaches {format_fps(most)}")
    if "memory" in kinds:
        least = _least_bytes(search, several, budgets)
        said.append(
            "no design of any size is in time" if least is None else f"the smallest in time takes {format_bytes(least)}"
        )
    fastest = _fastest_of_all(search, several, budgets) if {"first", "latency"} & {*kinds} else []
    if "first" in kinds and fastest:
        said.append(f"first frames come after {format_us(min(one.first_us for one in fastest))} at the earliest")
    if "latency" in kinds and fastest:
        said.append(f"the fastest pass takes {format_us(min(one.point.latency_us for one in fastest))}")
    return "; ".join(said)


def _least_bytes(search: Search, several: Sequence[Combination], budgets: Sequence[Budget]) -> int | None:
    """Return the least memory of any design within all budgets but those of memory."""
    found = [search.smallest(combination, budgets) for combination in several]
    return min((one.memory_bytes for one in found if one is not None), default=None)


def _fastest_of_all(search: Search, several: Sequence[Combination], budgets: Sequence[Budget]) -> list[FoundDesign]:
    memory = tuple(budget for budget in budgets if budget.kind == "memory")
    return [one for combination in several if (one := search.fastest(combination, memory)) is not None]


def doubts(search: Search, request: DesignRequest, answer: FoundDesign, several: Sequence[Combination]) -> Firmness:
    """Return whether rows that are foretold could change an answer."""
    left_us = answer.around.forward_us(request.budgets)
    rows: dict[str, tuple[str, str]] = {}

    def key_of(found: FoundDesign) -> Callable[[str], str]:
        def key(part: str) -> str:
            shape = found.program.scope.shape
            rows[f"stream {part} {shape.grid}"] = (part, found.combination.video)
            return f"stream {part} {shape.grid}"

        return key

    fastest = search.fastest(answer.combination, request.budgets) or answer
    settings = decision_of(fastest, float(left_us or 0), "no layout of these settings is in time", key_of(fastest))
    layout = decision_of(answer, float(left_us or 0), "this very layout is not in time", key_of(answer))
    better: list[Decision] = []
    for combination in several:
        if search.searched.has(combination, ASKED) or not _wished_for(combination, answer, request.prefer):
            continue
        found = search.fastest(combination, request.budgets)
        if found is None:
            continue
        says = f"{_told(combination, answer.combination)} is in time as well"
        decision = decision_of(found, float(found.around.forward_us(request.budgets) or 0), says, key_of(found))
        if decision is not None and decision.probability > _UNLIKELY:
            better.append(decision)
    unmeasured = tuple(kind for kind in answer.provenance if kind != "measured")
    return dataclasses.replace(firmness(settings, layout, better, rows), unmeasured=unmeasured)


def _wished_for(combination: Combination, answer: FoundDesign, prefer: Sequence[str]) -> bool:
    """Tell whether its axes alone make a combination better than an answer."""
    for wish in prefer:
        if wish in ("quality", "score"):
            continue
        axis: AxisName = wish  # type: ignore[assignment]  # the other wishes are axes
        mine, its = (amount(axis, one.of(axis)) for one in (combination, answer.combination))
        if mine != its:
            return mine > its
    return False


def _told(combination: Combination, answer: Combination) -> str:
    """Name a combination by what sets it apart from an answer."""
    apart = [f"{axis} {combination.of(axis)}" for axis in AXES if combination.of(axis) != answer.of(axis)]
    return ", ".join(apart)

"""The plan of a family in the terminal, made for 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.family.plan import FamilyExplanation, FamilyPlan, FamilyScore, FamilySwap, SlotAnswer, UseAnswer
from s2search.family.quantities import shown

_MOST_COLUMNS = 3  # of resources, beside which numbers are whole in 80 columns


def family_text(plan: FamilyPlan) -> RenderableType:
    """Return what stands where, what it scores and uses against the budgets, and the origin of all of it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, line in _facts(plan):
        grid.add_row(name, line)
    parts: list[RenderableType] = [Text(), _slots(plan), Text(), _uses(plan), Text(), grid, Text()]
    if plan.explanation is not None:
        parts += [*_explained(plan.explanation, plan), Text()]
    return Group(*parts)


def _slots(plan: FamilyPlan) -> RenderableType:
    streams = any(slot.stream for slot in plan.slots)
    table = _table("slots", "alternative", *(["stream"] if streams else []))
    for first, last in plan.runs():
        table.add_row(_span(first, last), first.alternative, *([first.stream] if streams else []))
    return table


def _span(first: SlotAnswer, last: SlotAnswer) -> str:
    """Write neighbouring slots.

    >>> one, two = (SlotAnswer(slot=f"block {n}", kind="block", alternative="a", stream="") for n in (0, 3))
    >>> _span(one, two), _span(one, one)
    ('block 0 to 3', 'block 0')
    """
    return first.slot if first == last else f"{first.slot} to {last.slot.removeprefix(last.kind).strip()}"


def _uses(plan: FamilyPlan) -> RenderableType:
    table = _table("uses")
    for heading in ("total", "budget", "left"):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("", overflow="fold")
    for use in plan.uses:
        budget = ("-", "-") if use.budget is None or use.slack is None else (_in(use, use.budget), _in(use, use.slack))
        table.add_row(use.name, _in(use, use.total), *budget, "; ".join(_said(use)))
    return table


def _said(use: UseAnswer) -> Iterator[str]:
    if use.binds is not None:
        yield "binds" if use.binds else "does not bind"
    parts = {"fixed": use.fixed, "switches": use.switches, "largest peak": use.peak}
    told = [f"{name} {_in(use, part)}" for name, part in parts.items() if part]
    if told:
        yield f"with {', '.join(told)}"
    if not use.exact:
        yield f"rounded up to {_number(use.resolution)}"


def _facts(plan: FamilyPlan) -> Iterator[tuple[str, str]]:
    origin = plan.provenance
    yield "score", "\n".join(_score(plan.score, plan))
    yield "counts", ", ".join(f"{many} {label}" for label, many in plan.counts.items())
    if plan.constraints:
        yield "asked", ", ".join(plan.constraints)
    if any(slot.stream for slot in plan.slots):
        yield "streams", f"{plan.switches} changes"
    yield "family", f"{plan.name}, {origin.family} ({origin.family_digest[7:19]}), {_many(plan.layouts_log10)} models"
    left_out = f", {origin.rows_left_out} left out (negative)" if origin.rows_left_out else ""
    yield (
        "table",
        f"{origin.table} ({origin.table_digest[7:19]}), {origin.rows_used} of {origin.rows} rows used{left_out}",
    )
    yield "", origin.statement
    yield "found by", origin.method


def _many(log10: float) -> str:
    """Write how many models there are.

    >>> _many(3.0), _many(20.3), _many(602.06)
    ('1,000', '2 x 10^20', '1 x 10^602')
    """
    if log10 < 12:
        return f"{round(10**log10):,}"
    return f"{10 ** (log10 % 1):.0f} x 10^{int(log10)}"


def _score(score: FamilyScore, plan: FamilyPlan) -> Iterator[str]:
    value = shown(Fraction(score.value), score.unit)
    aim = "largest" if score.goal == "maximize" else "smallest"
    if plan.optimal:
        tied = "" if plan.ties is None else _tied(plan.ties.count, plan.ties.exact)
        yield f"{value}, proven to be the {aim}{tied}"
    else:
        yield f"{value}; none is proven to be better than {shown(Fraction(score.bound), score.unit)}"
    yield f"{'a stand-in, not measured: ' if score.stand_in else ''}{score.statement}"


def _tied(count: int, exact: bool) -> str:
    if count == 1:
        return ", by this model alone" if exact else ""
    return f"; {'' if exact else 'at least '}{count:,} models tie"


def _explained(explanation: FamilyExplanation, plan: FamilyPlan) -> Iterator[RenderableType]:
    if explanation.swaps:
        alike: dict[tuple[str, ...], list[FamilySwap]] = {}
        for swap in explanation.swaps:
            changes = (_signed(swap.uses[use.name]) for use in plan.uses)
            line = (swap.alternative, swap.instead, _signed(swap.gain), *changes, _over(swap))
            alike.setdefault(line, []).append(swap)
        yield _swaps([(_several(swaps), line) for line, swaps in alike.items()], plan.uses)
        yield Text()
    for price in explanation.prices:
        if price.extra is None or price.gain is None:
            yield Text(f"no more {price.budget} buys anything")
        else:
            extra, gain = shown(Fraction(price.extra), price.unit), _number(price.gain)
            yield Text(f"{extra} more {price.budget} buys {gain} of score")


def _swaps(lines: Sequence[tuple[str, tuple[str, ...]]], uses: Sequence[UseAnswer]) -> Table:
    """Return swaps as a table, or where it would be too wide to read, in words."""
    if len(uses) <= _MOST_COLUMNS:
        table = _table("slots", "here", "instead", "gain", *(use.name for use in uses), "limits")
        for where, line in lines:
            table.add_row(where, *line)
        return table
    table = _table("slots", "what would change")
    for where, (here, instead, gain, *changes, over) in lines:
        each = ", ".join(f"{use.name} {change} {use.unit}".rstrip() for use, change in zip(uses, changes, strict=True))
        limits = "; ".join(over.split("\n"))
        table.add_row(where, f"{instead} instead of {here}: gain {gain}, {each}; {limits}")
    return table


def _several(swaps: list[FamilySwap]) -> str:
    """Write where swaps are alike: the first place, and how many more."""
    first = swaps[0]
    where = first.first if first.first == first.last else f"{first.first} to {first.last}"
    return where if len(swaps) == 1 else f"{where}, {len(swaps) - 1} more"


def _over(swap: FamilySwap) -> str:
    return "\n".join(f"{name} {_number(over)} over" for name, over in swap.over.items()) or "fits"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _in(use: UseAnswer, amount: float) -> str:
    return shown(Fraction(amount), use.unit)


def _number(amount: float) -> str:
    return shown(Fraction(amount))


def _signed(amount: float) -> str:
    text = _number(amount)
    return text if text.startswith("-") else f"+{text}"

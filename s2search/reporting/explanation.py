"""The explanation of a plan in the terminal, made for 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes, format_us
from s2search.planner.explain import (
    KERNEL_SPEEDUP,
    Explanation,
    KernelAnswer,
    OverAnswer,
    PriceAnswer,
    RowAnswer,
    SwapAnswer,
)
from s2search.planner.plan import Plan
from s2search.solver.questions.sensitivity import FURTHEST


def explanation_text(explanation: Explanation, plan: Plan) -> RenderableType:
    """Return the best swap of every layer, what the budgets are worth, and which latencies decide the plan."""
    several = len(plan.devices) > 1
    parts: list[RenderableType] = [_swaps(explanation.swaps)] if explanation.swaps else []
    if explanation.best is None:
        return Group(*parts, Text("no layout fits, so there are no prices and no decisive rows\n"))
    if explanation.best != plan.written:
        parts.append(Text(f"what follows is about the best layout, {explanation.best}\n"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for price in explanation.prices:
        kind, _, device = price.budget.partition(" of ")
        grid.add_row(kind, price_text(price, on=(device or plan.devices[0].table) if several else ""))
    if explanation.kernels:
        grid.add_row("kernels", "\n".join(_kernel(kernel, several) for kernel in explanation.kernels))
    if explanation.prices:
        parts += [grid, Text()]
    for name in dict.fromkeys(row.table for row in explanation.rows):
        parts += [Text(f"on {name}")] if several else []
        parts.append(_rows([row for row in explanation.rows if row.table == name]))
    return Group(*parts)


def _swaps(swaps: Sequence[SwapAnswer]) -> RenderableType:
    """Return one line per kind of swap, with all layers at which it is the best one."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layers", overflow="fold", max_width=18)
    table.add_column("here", overflow="fold")
    table.add_column("instead", overflow="fold")
    for heading in ("score", "latency", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("limits", overflow="fold")
    for row in swap_rows(swaps):
        table.add_row(*row)
    return Group(table, Text())


def swap_rows(swaps: Sequence[SwapAnswer]) -> list[tuple[str, ...]]:
    """Return a line per kind of swap: the layers, here, instead, score, latency, memory, and limits."""
    kinds: dict[tuple[str, ...], list[SwapAnswer]] = {}
    for swap in swaps:
        score, latency = f"{swap.score_gain:+.6f}", _signed(format_us(1000 * swap.latency_ms))
        memory, limits = _signed(format_bytes(swap.memory_bytes)), "\n".join(map(_over, swap.over)) or "fits"
        line: tuple[str, ...] = (swap.block, swap.instead, score, latency, memory, limits)
        kinds.setdefault(line, []).append(swap)
    return [(_layers(group), *line) for line, group in kinds.items()]


def _layers(swaps: Sequence[SwapAnswer]) -> str:
    """Write the layers, counted from 0, neighbours joined."""
    spans = [[swaps[0].first, swaps[0].last]]
    for before, after in pairwise(swaps):
        if after.first == before.last + 1:
            spans[-1][1] = after.last
        else:
            spans.append([after.first, after.last])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def _signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"


def _over(over: OverAnswer) -> str:
    device = over.limit.partition(" of ")[2] if over.unit else ""
    where = f" on {device}" if device else ""
    if over.unit == "ms":
        return f"{format_us(1000 * over.amount)} over{where}"
    if over.unit == "bytes":
        return f"{format_bytes(over.amount)} over{where}"
    return f"{over.limit}: {over.amount:g} over"


def price_text(price: PriceAnswer, *, on: str = "") -> str:
    """Return what one unit more of a budget buys, and what one less costs."""
    unit, lines = price.unit, [f"on {on}"] if on else []
    less = f"1 {unit} less and no layout fits"
    if price.score_loss is not None:
        less = f"1 {unit} less costs {f'{price.score_loss:.6f}' if price.score_loss else 'nothing'}"
    if price.next is None:
        return "\n".join([*lines, f"no further amount buys anything; {less}"])
    extra = f"{price.next.extra:.6f}".rstrip("0").rstrip(".")
    lines.append(f"{extra} {unit} more buys {price.next.score_gain:.6f}: {price.next.written}")
    return "\n".join([*lines, f"1 {unit} more {_buys(price.score_gain)}; {less}"])


def _kernel(kernel: KernelAnswer, several: bool) -> str:
    where = f" on {kernel.table}" if several else ""
    layout = f": {kernel.written}" if kernel.score_gain else ""
    return f"{kernel.block} {100 * KERNEL_SPEEDUP:g} % faster{where} {_buys(kernel.score_gain)}{layout}"


def _buys(gain: float) -> str:
    return f"buys {gain:.6f}" if gain else "buys nothing"


def _rows(rows: Sequence[RowAnswer]) -> RenderableType:
    """Return the rows of one table that could decide the plan, and the names of those that cannot."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("row", overflow="fold")
    for heading in ("latency", "stated +-", "better plan if", "over budget if", "away"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in (decisive := [row for row in rows if row.nearest_percent is not None]):
        table.add_row(
            row.part,
            format_us(1000 * row.latency_ms),
            "not stated" if row.std_percent is None else _percent(row.std_percent),
            "-" if row.faster_percent is None else f"{_percent(row.faster_percent)} faster",
            "-" if row.slower_percent is None else f"{_percent(row.slower_percent)} slower",
            "-" if row.deviations is None else f"{_two_digits(row.deviations)} deviations",
        )
    others = ", ".join(row.part for row in rows if row not in decisive)
    note = [Text(f"no other plan within {100 * FURTHEST:g} % of: {others}")] if others else []
    return Group(*([table] if decisive else []), *note, Text())


def _percent(percent: float) -> str:
    return f"{_two_digits(percent)} %"


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"

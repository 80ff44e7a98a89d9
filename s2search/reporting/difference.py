"""The difference between two plans in the terminal, made for 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes, format_us
from s2search.planner.diff import ChangedLayers, DeviceDifference, Difference, Moved, Unit
from s2search.planner.plan import Plan
from s2search.reporting.terminal import strip


def difference_text(before: Plan, after: Plan, found: Difference) -> RenderableType:
    """Return both layouts as strips, the layers that changed, the numbers that moved, and what explains them."""
    grid = facts_text(found, depth=after.depth)
    if found.empty:
        return grid
    if not found.layers:
        return Group(Text(), strip(after), Text(), grid, Text())
    return Group(Text("\nbefore"), strip(before), Text("\nafter"), strip(after), Text(), grid, Text())


def facts_text(found: Difference, *, depth: int | None = None) -> RenderableType:
    """Return the layers that changed, of how many where the depth is known, the numbers that moved, and why."""
    if found.empty:
        return Text("nothing changed" if found.before == found.after else "nothing changed but notes and counted ties")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, line in _facts(found, depth):
        grid.add_row(name, line)
    return grid


def _facts(found: Difference, depth: int | None) -> list[tuple[str, RenderableType]]:
    facts: list[tuple[str, RenderableType]] = [("layers", _layers(found, depth))]
    if numbers := _scores(found):
        facts.append(("score", _numbers(numbers)))
    for device in found.devices:
        several = len(found.devices) > 1 and (device.costs or device.budgets or device.rows)
        facts += [("on", device.table)] if several else []
        parts = {"costs": device.costs, "budgets": device.budgets, "rows": device.rows}
        facts += [(name, _numbers(moved)) for name, moved in parts.items() if moved]
    if found.inputs:
        facts.append(("inputs", "\n".join(f"{one.name}: {one.before} -> {one.after}" for one in found.inputs)))
    return [*facts, ("why", "\n".join(_reasons(found)))]


def _layers(found: Difference, depth: int | None) -> str:
    of = "" if depth is None else f" of {depth}"
    lines = [f"{found.changed_layers}{of} changed{', counted from 0' if found.layers else ''}"]
    width = max((len(_span(run)) for run in found.layers), default=0)
    lines += [f"{_span(run):{width}}  {run.before or 'none'} -> {run.after or 'none'}" for run in found.layers]
    return "\n".join(lines)


def _scores(found: Difference) -> list[Moved]:
    """Return the score, and the bound where it says something else."""
    score, bound = found.score, found.bound
    if score and bound and (score.before, score.after) == (bound.before, bound.after):
        bound = None
    return [moved for moved in (score, bound) if moved]


def _span(run: ChangedLayers) -> str:
    return f"{run.first}" if run.first == run.last else f"{run.first} to {run.last}"


def _numbers(moved: list[Moved] | tuple[Moved, ...]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    for _ in range(4):
        table.add_column(justify="right", no_wrap=True)
    for one in moved:
        table.add_row(one.name, _write(one.before, one.unit), "->", _write(one.after, one.unit), _percent(one))
    return table


def _write(value: float | None, unit: Unit) -> str:
    if value is None:
        return "none"
    if unit == "ms":
        return format_us(1000 * value)
    if unit == "bytes":
        return format_bytes(value)
    return f"{value:g}fps" if unit == "fps" else f"{value:.6f}"


def _percent(moved: Moved) -> str:
    if not moved.before or moved.after is None or moved.unit == "score":
        return ""
    return f"{moved.after / moved.before - 1:+.1%}"


def _reasons(found: Difference) -> list[str]:
    """Return what explains the difference, in the order in which a reader would ask."""
    reasons = []
    for device in found.devices:
        reasons += _on_device(device, relaid=bool(found.layers), several=len(found.devices) > 1)
    names = {one.name for one in found.inputs}
    if not any(device.rows for device in found.devices) and "table" in names:
        reasons.append("the table is another one, but no row moved that these plans use")
    if others := sorted(names - {"table", "version"}):
        reasons.append(f"asked differently: {', '.join(others)}")
    if not reasons and found.layers and found.score is None:
        reasons.append("the same inputs and the same score: layouts that tie")
    return reasons or ["the same rows, budgets and score: one of the layouts was written by hand, or is not the best"]


def _on_device(device: DeviceDifference, *, relaid: bool, several: bool) -> list[str]:
    where = f" on {device.table}" if several else ""
    reasons = []
    if device.rows:
        most = max(device.rows, key=lambda row: abs((row.after or 0) / row.before - 1) if row.before else 0)
        rows = "a row" if len(device.rows) == 1 else f"{len(device.rows)} rows"
        above_all = "" if len(device.rows) == 1 else "most of all "
        reasons.append(f"{rows} moved{where}: {above_all}{most.name} ({_percent(most) or 'new'})")
    if device.budgets:
        reasons.append(f"the budgets{where} changed")
    if relaid and (device.rows or device.budgets) and device.old_layout_ms is not None:
        over = "" if device.over_ms is None else f", {_beside_budget(device.over_ms)}"
        reasons.append(f"the old layout would now take {format_us(1000 * device.old_layout_ms)}{where}{over}")
    return reasons


def _beside_budget(over_ms: float) -> str:
    return f"{format_us(1000 * abs(over_ms))} {'over' if over_ms > 0 else 'within'} the latency budget"

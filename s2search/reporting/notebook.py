"""Plans, fronts and tables in a notebook: HTML with pictures in SVG, no script, and nothing loaded from anywhere.

Text, axes and lines take the colour of the page (`currentColor`), so that light and dark pages both read well; styles
stand inside the elements, since notebooks strip style sheets. Every text is escaped: tables and plugins bring names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby

from s2search.cost import format_bytes, format_us
from s2search.planner.frontier import Frontier
from s2search.planner.plan import DeviceAnswer, Plan
from s2search.reporting.colours import block_colours, ink_on
from s2search.reporting.front_svg import front_svg
from s2search.reporting.origin import mark_lines, origin_text, score_with_error
from s2search.reporting.terminal import MOST_ROWS, facts, spread_text
from s2search.tables.table import LatencyTable

_FIXED, _OTHER = "#6E7781", "#9AA4AE"
_OVER = "#D1242F"
_NAME_PX, _BAR_PX, _CELL_PX = 64, 430, 20
_MOST_CELLS_PX = 28 * _CELL_PX
_MOST_LINES = 60
_BOX = "line-height:1.45;max-width:60em;color:inherit"
_GRID = "display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.2em 1em;margin-top:.6em"


def plan_html(plan: Plan) -> str:
    """Return the layers as a coloured strip, what they spend of every budget, and where the numbers come from."""
    pairs = facts(plan)
    told = "".join(
        f'<b>{escape(name)}</b><span style="white-space:pre-line;overflow-wrap:anywhere">{escape(text)}</span>'
        for name, text in pairs
        if name != "layout"
    )
    parts = [_heading(plan), strip_svg(plan), *(bars_svg(plan, device) for device in plan.every_device)]
    return f'<div style="{_BOX}">{"".join(parts)}<div style="{_GRID}">{told}</div>{_explanation(plan)}</div>'


def front_html(front: Frontier) -> str:
    """Return the front as a picture, its plans one per line with their strips, and where the numbers come from."""
    shown = front.plans[:_MOST_LINES]
    lines = [_row(["latency", "memory", "score", "layers", *front.plans[0].counts], head=True)]
    lines += [
        _row(
            [
                format_us(1000 * plan.latency_ms.predicted),
                format_bytes(plan.memory_bytes.predicted),
                score_with_error(plan.score, plan.score_error),
                small_strip_svg(plan),
                *map(str, plan.counts.values()),
            ],
            title=plan.written,
        )
        for plan in shown
    ]
    more = f"<div>and {len(front) - len(shown)} more</div>" if len(front) > len(shown) else ""
    origin = origin_text(front.plans)
    return (
        f'<div style="{_BOX}"><div><b>{len(front)} plans</b> on {escape(front.plans[0].provenance.table)}</div>'
        f'{front_svg(front)}<div style="max-height:22em;overflow:auto"><table style="margin:0">{"".join(lines)}</table>'
        f'{more}</div><div style="white-space:pre-line;margin-top:.6em">{escape(origin)}</div></div>'
    )


def table_html(table: LatencyTable) -> str:
    """Return a table's rows, one line each, and where they come from."""
    card = table.card
    lines = [_row(["part", "scenario", "tokens", "latency", "p10-p90", "weights", "state", "peak"], head=True, words=3)]
    lines += [
        _row(
            [
                *map(escape, (row.label, row.scenario, row.shape.grid)),
                format_us(1000 * row.latency_ms),
                spread_text(row),
                *(format_bytes(count) for count in (row.weight_bytes, row.state_bytes, row.peak_bytes)),
            ],
            words=3,
        )
        for row in table.rows[:MOST_ROWS]
    ]
    if len(table.rows) > MOST_ROWS:
        lines.append(_row([f"{len(table.rows) - MOST_ROWS:,} more in table.csv"], words=1))
    told = f"{card.device}, {card.runtime} {card.runtime_version}; {card.provenance.statement}"
    marks = "".join(f"<div>{escape(mark)}</div>" for mark in mark_lines(card.marks))
    return (
        f'<div style="{_BOX}"><div><b>{escape(table.name)}</b> {escape(table.digest[7:19])}</div>'
        f'<div>{escape(told)}</div>{marks}<div style="max-height:26em;overflow:auto">'
        f"<table>{''.join(lines)}</table></div></div>"
    )


def strip_svg(plan: Plan) -> str:
    """Return the layers as coloured cells in their two streams, first to last."""
    cell = min(_CELL_PX, _MOST_CELLS_PX / plan.depth)
    width, colours = _NAME_PX + cell * plan.depth + 2, block_colours(plan.counts)
    rows = {"high": 2, "low": 30}
    middles = [
        (_NAME_PX + cell * (i + 0.5), rows[plan.blocks[label].stream] + 11) for i, label in enumerate(plan.layout)
    ]
    way = " ".join(f"{x:.1f},{y}" for x, y in middles)
    cells = "".join(
        f"<g><title>layer {layer}: {escape(label)}</title>{_cell(x, y, cell, label, colours[label])}</g>"
        for layer, (label, (x, y)) in enumerate(zip(plan.layout, middles, strict=True))
    )
    names = "".join(_text(0, y + 15, f"{stream} res") for stream, y in rows.items())
    return _svg(
        width,
        54,
        f'{names}<polyline points="{way}" fill="none" stroke="currentColor" stroke-opacity=".35"/>{cells}',
        name=f"layout {plan.written}",
    )


def _heading(plan: Plan) -> str:
    colours = block_colours(plan.counts)
    counts = " + ".join(
        f'<span style="color:{colours[label]}">&#9632;</span> {count} {escape(label)}'
        for label, count in plan.counts.items()
    )
    misfit = "" if plan.fits else f' <b style="color:{_OVER}">does not fit</b>'
    groups = f", in groups of {plan.group_size}" if plan.group_size > 1 else ""
    return (
        f"<div><b>{counts}</b> = {plan.depth} layers{groups} on {escape(plan.provenance.table)}{misfit}</div>"
        f'<div style="margin:.1em 0 .5em;overflow-wrap:anywhere"><code>{escape(plan.written)}</code></div>'
    )


def bars_svg(plan: Plan, device: DeviceAnswer) -> str:
    """Return what a layout spends on one device: a bar of latency and one of memory, each against its budget."""
    colours, latency, memory = block_colours(plan.counts), device.latency_ms, device.memory_bytes
    ms = [(label, n * device.blocks[label].latency_ms, colours[label]) for label, n in plan.counts.items()]
    ms += [("switches", latency.switches, _OTHER), ("stem and head", latency.fixed, _FIXED)]
    megabytes = [
        (label, n * device.blocks[label].memory_bytes / 1e6, colours[label]) for label, n in plan.counts.items()
    ]
    megabytes += [("fixed", memory.fixed / 1e6, _FIXED), ("peak", memory.peak / 1e6, _OTHER)]
    budget_mb = None if memory.budget is None else memory.budget / 1e6
    bars = _bar(0, "latency", ms, latency.budget, "ms") + _bar(26, "memory", megabytes, budget_mb, "MB")
    where = f'<div style="margin-top:.4em">{escape(device.table)}</div>' if plan.devices else ""
    return where + _svg(_NAME_PX + _BAR_PX + 190, 52, bars, name=f"costs on {device.table}")


def _bar(top: int, name: str, parts: Sequence[tuple[str, float, str]], budget: float | None, unit: str) -> str:
    total = sum(size for _, size, _ in parts)
    scale, left, drawn = _BAR_PX / max(total, budget or 0.0, 1e-9), float(_NAME_PX), ""
    for part, size, colour in parts:
        drawn += (
            f'<rect x="{left:.1f}" y="{top + 5}" width="{size * scale:.1f}" height="14" fill="{colour}">'
            f"<title>{escape(part)} {_number(size)} {unit}</title></rect>"
        )
        left += size * scale
    told, over = f"{_number(total)} {unit}", budget is not None and total > budget + 1e-6
    if budget is not None:
        x = _NAME_PX + budget * scale
        drawn += f'<path d="M{x:.1f} {top + 1}v22" stroke="currentColor" stroke-width="2"/>'
        told += f" of {_number(budget)}" + (" OVER" if over else "")
    return _text(0, top + 17, name) + drawn + _text(_NAME_PX + _BAR_PX + 10, top + 17, told, fill=_OVER if over else "")


def _explanation(plan: Plan) -> str:
    if plan.explanation is None:
        return ""
    from s2search.reporting import shown
    from s2search.reporting.explanation import explanation_text

    text = shown.plain(explanation_text(plan.explanation, plan))
    return f'<pre style="margin-top:.8em;overflow:auto;background:none;color:inherit">{escape(text)}</pre>'


def small_strip_svg(plan: Plan) -> str:
    """Return the layers as bars in two lines, runs of equal neighbours joined, for a line of a table."""
    cell, colours, bars = min(6.0, 168 / plan.depth), block_colours(plan.counts), ""
    for label, start, count in _runs(plan.layout):
        y = 0 if plan.blocks[label].stream == "high" else 8
        bars += f'<rect x="{start * cell:.1f}" y="{y}" width="{count * cell:.1f}" height="7" fill="{colours[label]}"/>'
    return _svg(cell * plan.depth, 15, bars, name=plan.written)


def _runs(layout: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    start = 0
    for label, run in groupby(layout):
        count = len(list(run))
        yield label, start, count
        start += count


def _row(cells: Iterable[str], *, head: bool = False, title: str = "", words: int = 0) -> str:
    """Return a line of a table; its first cells, so many, are words and stand to the left."""
    tag = "th" if head else "td"
    inner = "".join(
        f'<{tag} style="text-align:{"left" if place < words else "right"};padding:.15em .6em;white-space:nowrap">'
        f"{escape(cell) if head else cell}</{tag}>"
        for place, cell in enumerate(cells)
    )
    return f"<tr{f' title={chr(34)}{escape(title)}{chr(34)}' if title else ''}>{inner}</tr>"


def _svg(width: float, height: float, inner: str, *, name: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(name)}" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="display:block;margin:.35em 0;max-width:100%;height:auto" font-family="sans-serif">{inner}</svg>'
    )


def _text(x: float, y: float, text: str, *, fill: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="12" fill="{fill or "currentColor"}">{escape(text)}</text>'


def _cell(x: float, y: float, width: float, label: str, colour: str) -> str:
    """Return one layer around its middle: a rounded rectangle, with its letter where there is room."""
    drawn = (
        f'<rect x="{x - 0.44 * width:.1f}" y="{y - 11}" width="{0.88 * width:.1f}" height="22" rx="{0.2 * width:.1f}" '
        f'fill="{colour}"/>'
    )
    if width < 11:
        return drawn
    letter = escape(label[0].upper())
    style = f'font-size="11" font-weight="bold" text-anchor="middle" fill="{ink_on(colour)}"'
    return f'{drawn}<text x="{x:.1f}" y="{y + 4}" {style}>{letter}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"

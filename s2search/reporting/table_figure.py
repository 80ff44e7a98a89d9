"""A table as a figure: the latency of every part by its shape, with the spread that the table states."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from textwrap import fill, shorten
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from s2search.preset import video_size
from s2search.reporting.colours import block_colours
from s2search.reporting.figures import pyplot_figure
from s2search.reporting.origin import mark_lines
from s2search.tables.card import Card
from s2search.tables.foreign import BY_ROW, NOT_STATED, ImportedRow, ImportedTable
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT = "#333333", "#DDDDDD"
_MOST_LINES = 40
_MOST_SERIES = 8
_MOST_NUMBERS = 120  # of latencies that have their number beside them
_OTHERS = "others"


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """One latency: the line it stands on, its series, and how far down and up it spreads, milliseconds."""

    line: str
    series: str
    latency_ms: float
    down_ms: float = 0.0
    up_ms: float = 0.0


def table_figure(table: LatencyTable | ImportedTable) -> Figure:
    """Draw one line per part, its latencies along it (logarithmic), and one colour per shape or group."""
    figure = Figure(figsize=_inches(table), layout="constrained")
    _draw_table(figure.subplots(), table)
    return figure


def plot_table(table: LatencyTable | ImportedTable, ax: Axes | None = None) -> Axes:
    """Draw the same on axes, or as pyplot's current picture."""
    axes = pyplot_figure(_inches(table)).subplots() if ax is None else ax
    _draw_table(axes, table)
    return axes


def _inches(table: LatencyTable | ImportedTable) -> tuple[float, float]:
    lines = {mark.line for mark in _marks(table) if mark.latency_ms > 0}
    series = len({mark.series for mark in _marks(table)}) if isinstance(table, LatencyTable) else 1
    return 10, 1.7 + max(0.32, 0.15 * min(series, _MOST_SERIES)) * max(4, min(len(lines), _MOST_LINES))


def _marks(table: LatencyTable | ImportedTable) -> list[_Mark]:
    return _ours(table) if isinstance(table, LatencyTable) else _theirs(table)


def _draw_table(axes: Axes, table: LatencyTable | ImportedTable) -> None:
    marks = _marks(table)
    drawn = [mark for mark in marks if mark.latency_ms > 0]
    lines = list(dict.fromkeys(mark.line for mark in drawn))[:_MOST_LINES]
    series = sorted(dict.fromkeys(mark.series for mark in drawn), key=lambda name: name == _OTHERS)
    _draw_marks(axes, drawn, lines, series)
    _dress(axes, drawn, lines, series)
    axes.set_title(fill(_origin(table), 100), fontsize=9, color=_INK)
    if left_out := _left_out(marks, drawn, lines):
        axes.annotate(left_out, (0, 0), (0, -34), xycoords="axes fraction", textcoords="offset points", fontsize=8)


def _draw_marks(axes: Axes, drawn: list[_Mark], lines: list[str], series: list[str]) -> None:
    place = {line: -position for position, line in enumerate(lines)}
    colours = block_colours(series)
    faint = len(drawn) > 400
    for position, name in enumerate(series):
        shift = 0.64 * ((len(series) - 1) / 2 - position) / len(series) if len(series) <= _MOST_SERIES else 0.0
        mine = [mark for mark in drawn if mark.series == name and mark.line in place]
        axes.errorbar(
            [mark.latency_ms for mark in mine],
            [place[mark.line] + shift for mark in mine],
            xerr=None if faint else [[mark.down_ms for mark in mine], [mark.up_ms for mark in mine]],
            fmt="|" if faint else "o",
            markersize=max(3, 12 / len(series)) if faint else 4,
            alpha=0.25 if faint else 1.0,
            elinewidth=1.2,
            capsize=2,
            color=colours[name],
            label=name,
        )
        for mark in mine if len(drawn) <= _MOST_NUMBERS else ():
            axes.annotate(f"{mark.latency_ms:.3g}", (mark.latency_ms + mark.up_ms, place[mark.line] + shift), (5, 0),
                          textcoords="offset points", va="center", fontsize=6.5, color=_INK)  # fmt: skip


def _dress(axes: Axes, drawn: list[_Mark], lines: list[str], series: list[str]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if _decades(drawn) > 3.5 else (1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("latency (ms)", fontsize=9, color=_INK)
    axes.set_yticks(
        [-position for position in range(len(lines))], [shorten(line, 44, placeholder=" ...") for line in lines]
    )
    axes.set_ylim(-len(lines) + 0.4, 0.6)
    axes.grid(axis="x", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", length=0, colors=_INK, labelsize=8)
    if len(series) > 1:
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)


def _decades(drawn: list[_Mark]) -> float:
    """Return how many powers of ten the latencies span."""
    latencies = [mark.latency_ms for mark in drawn]
    return math.log10(max(latencies) / min(latencies)) if latencies else 0.0


def _left_out(marks: list[_Mark], drawn: list[_Mark], lines: list[str]) -> str:
    """Return what the figure does not show."""
    said = []
    if without := len(marks) - len(drawn):
        said.append(f"{without:,} latencies of zero or less")
    if further := len({mark.line for mark in drawn}) - len(lines):
        said.append(f"{further:,} further parts")
    return f"not shown: {', '.join(said)}" if said else ""


def _ours(table: LatencyTable) -> list[_Mark]:
    return [
        _Mark(
            line=row.label,
            series=f"{row.scenario}, {video_size(row.height, row.width)}, {_frames(row.frames)}, {row.precision}",
            latency_ms=row.latency_ms,
            **dict(zip(("down_ms", "up_ms"), _spread(row), strict=True)),
        )
        for row in table.rows
    ]


def _frames(count: int) -> str:
    return f"{count} latent frame{'s' if count > 1 else ''}"


def _spread(row: Row) -> tuple[float, float]:
    """Return the way from the median to the deciles, or else the deviation to both sides."""
    if row.latency_p10_ms is not None and row.latency_p90_ms is not None:
        return row.latency_ms - row.latency_p10_ms, row.latency_p90_ms - row.latency_ms
    return row.latency_std_ms or 0.0, row.latency_std_ms or 0.0


def _theirs(table: ImportedTable) -> list[_Mark]:
    """Return one line per part and device; the series is the first column with two to eight values, runtimes first."""
    cells: dict[str, dict[str, None]] = defaultdict(dict)
    for row in table.rows:
        for column, cell in table.about(row).items():
            cells[column][cell] = None
    tried = [column for column in ("runtime", "precision", *cells) if column not in ("device", *table.card.facts)]
    series = next((column for column in tried if 1 < len(cells.get(column, ())) <= _MOST_SERIES), None)
    return [_their_mark(table, row, series) for row in table.rows if row.latency_ms is not None]


def _their_mark(table: ImportedTable, row: ImportedRow, series: str | None) -> _Mark:
    told, latency_ms, std_ms = table.about(row), row.latency_ms or 0.0, row.latency_std_ms or 0.0
    value = told.get(series or "", "")
    name = value if series in ("runtime", "precision") else f"{series} {value}" if value else _OTHERS
    return _Mark(
        line=f"{row.part}, {told['device']}" if "device" in told else row.part,
        series=name,
        latency_ms=latency_ms,
        down_ms=min(std_ms, max(0.0, 0.99 * latency_ms)),  # a logarithmic axis has no zero
        up_ms=std_ms,
    )


def _origin(table: LatencyTable | ImportedTable) -> str:
    card = table.card
    facts = {"device": card.device, "date": card.date} if isinstance(table, ImportedTable) else {"date": card.date}
    told = ", ".join(f"{name} {value}" if value in (NOT_STATED, BY_ROW) else value for name, value in facts.items())
    marks = mark_lines(card.marks) if isinstance(card, Card) else []
    return "; ".join([f"{table.name}: {card.provenance.statement} ({told})", *marks])

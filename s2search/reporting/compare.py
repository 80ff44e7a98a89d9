"""What `s2search train compare` prints, writes and draws."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from s2search.training.compare.result import ContenderResult, RunComparison

_COLUMNS = (
    *("rank", "contender", "trained_as", "layout", "loss", "ratio", "behind", "behind_error", "worse"),
    *("latency_ms", "memory_bytes", "fits"),
)
_EQUAL, _WORSE, _INK, _SEED = "#0072B2", "#D55E00", "#333333", "#777777"
_BELOW = 0.24  # rows, where seeds stand


def comparison_text(found: RunComparison) -> RenderableType:
    """Return contenders by what they lose, and which of them are worse than the best."""
    priced = any(one.fits is not None for one in found.contenders)
    table = Table("rank", box=None, pad_edge=False, header_style="")
    table.add_column("contender", overflow="fold")
    table.add_column("layout", overflow="fold")
    for name in ("loss", "ratio", "behind", *(["ms", "fits"] if priced else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.contenders:
        rank = f"{one.rank}{'' if one.worse else ' ='}"
        cost = ["" if one.latency_ms is None else f"{one.latency_ms:.1f}", _fits(one)] if priced else []
        table.add_row(rank, one.name, one.written, f"{one.loss:.4f}", f"{one.ratio:.3f}", _behind(found, one), *cost)
    return Group(Text(_head(found) + "\n"), table, Text("\n" + "\n".join(_lines(found))))


def comparison_csv(found: RunComparison) -> str:
    """Return a row per contender, with the loss under every seed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"loss_seed_{seed}" for seed in found.seeds)])
    for one in found.contenders:
        known = {"contender": one.name, "layout": one.written}
        row = [known.get(column, getattr(one, column, None)) for column in _COLUMNS]
        writer.writerow(["" if value is None else value for value in [*row, *one.loss_by_seed]])
    return text.getvalue()


def comparison_figure(found: RunComparison) -> Figure:
    """Draw how far every contender is behind the best one, with its error, and under every seed by itself."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    contenders = [one for one in found.contenders if one.trained_as == one.name][::-1]
    also = {one.name: [other.name for other in found.contenders if other.trained_as == one.name] for one in contenders}
    figure = Figure(figsize=(9.0, 1.6 + 0.42 * len(contenders)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="#BBBBBB", linewidth=1, zorder=1)
    for place, one in enumerate(contenders):
        colour = _WORSE if one.worse else _EQUAL
        seeds = [1000 * (own - best) for own, best in zip(one.loss_by_seed, found.best.loss_by_seed, strict=True)]
        axes.scatter(seeds, [place - _BELOW] * len(seeds), s=14, color=_SEED, marker="^", linewidths=0, zorder=2)
        behind, error = 1000 * one.behind, 1000 * one.behind_error
        for errors, width in ((found.errors_to_differ, 1.2), (1.0, 3.5)):
            axes.hlines(place, behind - errors * error, behind + errors * error, color=colour, linewidth=width)
        inside = "white" if one.fits is False else colour
        axes.plot([behind], [place], color=colour, marker="o", markersize=7, markerfacecolor=inside, zorder=3)
    names = [f"{' = '.join(also[one.name])}\n{one.written}" for one in contenders]
    axes.set_yticks(range(len(contenders)), names, fontsize=8)
    axes.set_ylim(-0.6, len(contenders) - 0.4)
    axes.set_xlabel("held-out loss above the best one's (thousandths)", fontsize=9)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_head(found), fontsize=9, color=_INK)
    point: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 6}
    handles = [Line2D([], [], color=_EQUAL, label="as good as the best, as far as can be told", **point)]
    handles.append(Line2D([], [], color=_WORSE, label="worse", **point))
    if any(one.fits is False for one in contenders):
        handles.append(Line2D([], [], color=_INK, markerfacecolor="white", label="over the budget", **point))
    handles.append(Line2D([], [], color=_SEED, linestyle="none", marker="^", markersize=5, label="one seed"))
    handles.append(Line2D([], [], color=_INK, linewidth=3.5, label="1 standard error"))
    handles.append(Line2D([], [], color=_INK, linewidth=1.2, label=f"{found.errors_to_differ:.1f}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def _head(found: RunComparison) -> str:
    trained = sum(one.trained_as == one.name for one in found.contenders)
    seeds = f"{len(found.seeds)} seeds" if len(found.seeds) > 1 else "1 seed"
    return (
        f"{trained} models under {seeds}, {found.steps:,} steps of {found.batch}; {found.samples} held-out samples of "
        f"{found.recordings} recordings"
    )


def _behind(found: RunComparison, one: ContenderResult) -> str:
    return (
        "" if one.trained_as == found.best.trained_as else f"{1000 * one.behind:.1f} +- {1000 * one.behind_error:.1f}"
    )


def _fits(one: ContenderResult) -> str:
    return "" if one.fits is None else "yes" if one.fits else "OVER"


def _lines(found: RunComparison) -> list[str]:
    lines = [
        "behind: loss above the best one's, in thousandths, +- its standard error, seed by seed and sample by sample; "
        f"ratio: of the loss to the blind baseline's, {found.blind:.4f}",
        f"=: as good as the best, as far as can be told: behind by at most {found.errors_to_differ:.1f} errors (of "
        "equal contenders one is behind by more in 5 of 100 comparisons, or fewer)",
    ]
    if len(found.seeds) == 1:
        lines.append("of one seed: the errors are those of samples, and what training varies by is not in them")
    shared = [one for one in found.contenders if one.trained_as != one.name]
    lines += [f"{one.name} is {one.trained_as}: they are equal, and were trained once" for one in shared]
    if all(one.ratio >= 1 for one in found.contenders):
        lines.append("UNTRAINED: none of them is better than the blind baseline")
    return lines

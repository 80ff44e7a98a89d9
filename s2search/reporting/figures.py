"""Figures of plans and fronts (matplotlib, no display needed)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import fill, shorten
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.text import Text
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from s2search.border.printable import printable
from s2search.cost import format_bytes
from s2search.errors import InputError
from s2search.planner.plan import DeviceAnswer, Plan
from s2search.reporting.colours import block_colours
from s2search.reporting.html import check_one_score
from s2search.reporting.origin import evidence_text, statement
from s2search.reporting.rates import rate_line
from s2search.reporting.report.picture import wants_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from s2search.planner.frontier import Frontier

_INK, _FAINT, _REFERENCE = "#333333", "#BBBBBB", "#D55E00"
_FIXED, _OTHER, _OVER = "#555555", "#999999", "#D1242F"
_FRONT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6D31", "#56B4E9")
_FRONT = "s2search.front"  # marks the lines of fronts, so that the next front on the same axes takes another colour
_FRONT_FORMS = ("o", "s", "^", "D", "v", "P")  # so that no colour alone tells fronts apart
_FRONT_INCHES = (8.5, 5.6)
_MOST_LAYERS = 4


def plan_figure(plan: Plan) -> Figure:
    """Return a picture of the sandwich in its two streams, and of what it spends on every device of each budget."""
    figure = Figure(figsize=_plan_inches(plan), layout="constrained")
    _fill_plan(figure, plan)
    return figure


def plot_plan(plan: Plan, ax: Axes | None = None) -> Axes:
    """Draw the sandwich on axes; without any, the whole picture as pyplot's current one. Return the sandwich's axes."""
    if ax is None:
        return _fill_plan(pyplot_figure(_plan_inches(plan)), plan)
    _draw_sandwich(ax, plan)
    names = [Patch(color=colour, label=label) for label, colour in block_colours(plan.counts).items()]
    ax.legend(handles=names, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    ax.set_title(_plan_title(plan), fontsize=10)
    return ax


def front_figure(
    plans: Sequence[Plan],
    references: Mapping[str, Plan] = MappingProxyType({}),
    beside: Mapping[str, Sequence[Plan]] = MappingProxyType({}),
) -> Figure:
    """Return a picture of the front: score over latency, and below it how many layers take which block.

    Every point has its interval; where the table knows the pipeline, a second axis has the frames per second.
    `references` are further plans by name, drawn as diamonds for comparison, and `beside` further fronts by name: they
    have points of another form, and layers of their own below; where they are far apart, the axis is logarithmic.

    Raises:
        InputError: A front beside it is by another score.
    """
    check_one_score(plans, beside)
    figure = Figure(figsize=_front_inches(beside), layout="constrained")
    if beside:
        _fill_fronts(figure, plans, references, beside)
    else:
        _fill_front(figure, plans, references)
    return figure


def _front_inches(beside: Mapping[str, Sequence[Plan]]) -> tuple[float, float]:
    width, height = _FRONT_INCHES
    return width, height + 0.9 * min(len(beside), _MOST_LAYERS - 1)


def _fill_fronts(
    figure: Figure, plans: Sequence[Plan], references: Mapping[str, Plan], beside: Mapping[str, Sequence[Plan]]
) -> Axes:
    """Draw several fronts on one pair of axes, and below them the layers of each of the first few."""
    table = plans[0].provenance.table
    fronts = {f"{table} (this front)" if table in beside else table: plans, **beside}
    shown = list(fronts.items())[:_MOST_LAYERS]
    axes, *layers = figure.subplots(1 + len(shown), 1, sharex=True, height_ratios=[3, *([0.85] * len(shown))])
    for n, (name, several) in enumerate(fronts.items()):
        marked = " (marked run)" if several[0].provenance.table_marks else ""
        _draw_front(axes, several, n, f"{name}{marked}")
    for name, reference in references.items():
        _draw_reference(axes, name, reference, plans)
    for one, (name, several) in zip(layers, shown, strict=True):
        _draw_layers(one, several)
        one.set_title(name, loc="left", fontsize=8, color=_INK, pad=2)
    _between(axes, layers, fronts)
    first: Axes = axes
    return first


def _between(axes: Axes, layers: Sequence[Axes], fronts: Mapping[str, Sequence[Plan]]) -> None:
    """Name and scale the axes that several fronts share."""
    first = next(iter(fronts.values()))[0]
    latencies = [plan.kept_ms for several in fronts.values() for plan in several]
    axes.set_ylabel(f"score: {first.provenance.score}", fontsize=9)
    axes.margins(x=0.06, y=0.1)
    if wants_log(latencies):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    layers[-1].set_xlabel(_latency_name(first), fontsize=9)
    for one in (axes, *layers):
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(colors=_INK, labelsize=8)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 1.0 + 0.075 * len(fronts)))


def plot_front(front: Frontier, ax: Axes | None = None, *, label: str = "") -> Axes:
    """Draw a front on axes, in a colour and with a name of its own where others are there already.

    Without axes, draw it with its references as pyplot's current picture.
    """
    beside = {name: one.plans for name, one in front.beside.items()}
    if ax is None and beside:
        return _fill_fronts(pyplot_figure(_front_inches(beside)), front.plans, front.references, beside)
    if ax is None:
        return _fill_front(pyplot_figure(_FRONT_INCHES), front.plans, front.references, label=label)
    drawn = sum(line.get_gid() == _FRONT for line in ax.get_lines())
    _draw_front(ax, front.plans, drawn, label or _front_label(front.plans[0]))
    _name_axes(ax, front.plans[0])
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return ax


def pyplot_figure(inches: tuple[float, float]) -> Figure:
    """Return a figure of pyplot's, which a notebook shows by itself."""
    from matplotlib import pyplot

    return pyplot.figure(figsize=inches, layout="constrained")


def _plan_inches(plan: Plan) -> tuple[float, float]:
    return 10, 2.4 + 1.9 * len(plan.every_device)


def _fill_plan(figure: Figure, plan: Plan) -> Axes:
    """Draw the sandwich, and what it spends on every device."""
    devices = plan.every_device
    sandwich, *bars = figure.subplots(1 + 2 * len(devices), 1, height_ratios=[2, *([0.45] * 2 * len(devices))])
    figure.suptitle(_plan_title(plan), fontsize=12, color=_INK)
    sandwich.set_title(fill(f"{plan.scenario}, {plan.video}; {statement(plan)}", 130), fontsize=9, color=_INK)
    _draw_sandwich(sandwich, plan)
    for device, latency, memory in zip(devices, bars[::2], bars[1::2], strict=True):
        if plan.devices:
            marked = f"; MARKED: {device.table_marks[0]}" if device.table_marks else ""
            told = f"{device.table}, {evidence_text([device], [plan])}{marked}"
            latency.set_title(shorten(told, 150, placeholder=" ..."), loc="left", fontsize=9, color=_INK)
        _draw_latency(latency, plan, device)
        _draw_memory(memory, plan, device)
    first: Axes = sandwich
    return first


def _plan_title(plan: Plan) -> str:
    """Return the counts and the tables."""
    tables = " and ".join(device.table for device in plan.every_device)
    return fill(f"{_counts(plan)}  on  {tables}", 110)


def _fill_front(figure: Figure, plans: Sequence[Plan], references: Mapping[str, Plan], *, label: str = "") -> Axes:
    axes, layers = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.3])
    _draw_front(axes, plans, 0, label)
    for name, reference in references.items():
        _draw_reference(axes, name, reference, plans)
    _draw_layers(layers, plans)
    axes.set_ylabel(f"score: {plans[0].provenance.score}", fontsize=9)
    axes.margins(x=0.1, y=0.14)
    layers.set_xlabel(_latency_name(plans[0]), fontsize=9)
    _add_rates(axes, plans)
    for one in (axes, layers):
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(colors=_INK, labelsize=8)
    figure.suptitle(fill(f"{plans[0].provenance.table}: {statement(plans[0])}", 110), fontsize=9, color=_INK)
    if label:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    first: Axes = axes
    return first


def _draw_front(axes: Axes, plans: Sequence[Plan], number: int, label: str) -> None:
    """Draw the front of so high a number, from 0, in a colour and with a form of its own."""
    colour, form = _FRONT_COLOURS[number % len(_FRONT_COLOURS)], _FRONT_FORMS[number % len(_FRONT_FORMS)]
    x, y = [plan.kept_ms for plan in plans], [plan.score for plan in plans]
    axes.step(x, y, where="post", color=_FAINT, zorder=1, gid=_FRONT)
    ranges = [_range(plan, plan.every_device[0]) for plan in plans]
    ends = [
        (0.0, 0.0) if one is None else (max(at - one.low, 0), max(one.high - at, 0))
        for at, one in zip(x, ranges, strict=True)
    ]
    bar: dict[str, Any] = {"fmt": "none", "ecolor": colour, "alpha": 0.45, "elinewidth": 1, "capsize": 2, "zorder": 1}
    if any(ranges):
        axes.errorbar(x, y, xerr=[list(side) for side in zip(*ends, strict=True)], **bar)
    if plans[0].score_error is not None:
        axes.errorbar(x, y, yerr=[plan.score - plan.score_range[0] for plan in plans], **bar)
    axes.scatter(x, y, s=22, color=colour, marker=form, zorder=2, label=label or None)


def _draw_layers(axes: Axes, plans: Sequence[Plan]) -> None:
    """Draw how many layers take which block, from each plan's latency on to the next one's, with names inside."""
    x = [plan.kept_ms for plan in plans]
    ends = [*x, x[-1] + ((x[-1] - x[0]) / max(len(x) - 1, 1) or 0.05 * x[-1])]
    colours, foot = block_colours(plans[0].counts), [0] * len(plans)
    for block, colour in colours.items():
        top = [below + plan.counts[block] for below, plan in zip(foot, plans, strict=True)]
        axes.fill_between(ends, [*foot, foot[-1]], [*top, top[-1]], step="post", color=colour, linewidth=0, label=block)
        foot = top
    axes.set_ylim(0, plans[0].depth)
    axes.set_ylabel("layers", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _add_rates(axes: Axes, plans: Sequence[Plan]) -> None:
    """Put frames per second along the top: a chunk takes what its passes take, and as much again as every chunk."""
    line = rate_line(plans)
    if line is None:
        return

    def turned(value: Any) -> Any:
        return 1000 * line.frames / np.maximum(line.once_ms + line.passes * np.asarray(value, float), 1e-9)

    def turned_back(rate: Any) -> Any:
        return (1000 * line.frames / np.maximum(np.asarray(rate, float), 1e-9) - line.once_ms) / line.passes

    above = axes.secondary_xaxis("top", functions=(turned, turned_back))
    above.set_xlabel(f"frames per second with {line.commit}", fontsize=8, color=_INK)
    low, high = (line.fps(plans[at].kept_ms) for at in (-1, 0))
    above.set_xticks(
        [tick for tick in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]
    )
    above.tick_params(colors=_INK, labelsize=8)


def _latency_name(plan: Plan) -> str:
    sure = f", kept with {100 * plan.confidence.asked:g} %" if plan.confidence else ""
    return f"latency of one forward pass (ms){sure}"


def _name_axes(axes: Axes, plan: Plan) -> None:
    axes.set_xlabel(_latency_name(plan))
    axes.set_ylabel(f"score: {plan.provenance.score}")
    axes.spines[["top", "right"]].set_visible(False)


def _front_label(plan: Plan) -> str:
    budget = plan.memory_bytes.budget
    return ", ".join([*plan.counts, *([] if budget is None else [format_bytes(budget)])])


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; the ending of the path names the format."""
    _write_plainly(figure)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # drawn as an empty box
            figure.savefig(Path(path), dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the figure {str(path)!r} cannot be written: {error}", remedy="use a .png, .svg or .pdf path"
        ) from error


def _draw_reference(axes: Axes, name: str, plan: Plan, front: Sequence[Plan]) -> None:
    """Draw a diamond around a point, with its name above the front where the point is on it, else below."""
    place = (plan.kept_ms, plan.score)
    beaten = any(p.kept_ms <= place[0] and p.score > place[1] for p in front)
    low, high = (front[at].kept_ms for at in (0, -1))
    offset, side = ((8, -12), "left") if beaten or place[0] < low + 0.15 * (high - low) else ((-7, 5), "right")
    axes.scatter(*place, marker="D", s=55, facecolor="none", edgecolor=_REFERENCE, linewidth=1.5, zorder=3)
    axes.annotate(name, place, offset, textcoords="offset points", ha=side, fontsize=8, color=_REFERENCE)


def _draw_sandwich(axes: Axes, plan: Plan) -> None:
    colours = block_colours(plan.counts)
    height = {"high": 1.0, "low": 0.0}
    path = [1.0, *(height[plan.blocks[label].stream] for label in plan.layout), 1.0]
    for layer, (before, after) in enumerate(pairwise(path)):
        axes.plot([layer - 1, layer], [before, after], color=_FAINT, linewidth=1.2, zorder=1)
    for layer, label in enumerate(plan.layout):
        corner = (layer - 0.36, height[plan.blocks[label].stream] - 0.3)
        box = FancyBboxPatch(
            corner, 0.72, 0.6, boxstyle="round,pad=0,rounding_size=0.12", color=colours[label], zorder=2
        )
        axes.add_patch(box)
    axes.set(xlim=(-1.2, plan.depth + 0.2), ylim=(-0.5, 1.5), yticks=[0, 1], yticklabels=["low res", "high res"])
    axes.set_xticks(range(0, plan.depth, max(1, plan.depth // 14)))
    axes.set_xlabel("layer", fontsize=8, color=_INK)
    axes.tick_params(length=0, colors=_INK, labelsize=8)
    axes.spines[:].set_visible(False)


def _draw_latency(axes: Axes, plan: Plan, device: DeviceAnswer) -> None:
    colours, latency = block_colours(plan.counts), device.latency_ms
    parts = [
        _Part(f"{n} {label} at {_number(device.blocks[label].latency_ms)}", n * device.blocks[label].latency_ms, colour)
        for (label, n), colour in zip(plan.counts.items(), colours.values(), strict=True)
        if n
    ]
    parts += [_Part("switches", latency.switches, _OTHER), _Part("stem and head", latency.fixed, _FIXED)]
    _draw_bar(axes, parts, latency.budget, "latency", "ms", _range(plan, device))


def _draw_memory(axes: Axes, plan: Plan, device: DeviceAnswer) -> None:
    colours, memory = block_colours(plan.counts), device.memory_bytes
    parts = [
        _Part(f"{n} {label}", n * device.blocks[label].memory_bytes / 1e6, colour)
        for (label, n), colour in zip(plan.counts.items(), colours.values(), strict=True)
        if n
    ]
    parts += [_Part("fixed", memory.fixed / 1e6, _FIXED), _Part("peak", memory.peak / 1e6, _OTHER)]
    _draw_bar(axes, parts, None if memory.budget is None else memory.budget / 1e6, "memory", "MB")


def _range(plan: Plan, device: DeviceAnswer) -> _Range | None:
    """Return what a latency may be: by the confidence that was asked of the first device, or as its rows spread."""
    latency, asked = device.latency_ms, plan.confidence
    if asked is not None and device.table == plan.provenance.table:
        return _Range(
            latency.predicted, asked.latency_ms, f"{100 * asked.asked:g} % sure: at most {asked.latency_ms:.1f} ms"
        )
    if latency.low is None or latency.high is None:
        return None
    sure = "95 %" if latency.timed else "the derivation's error"
    return _Range(latency.low, latency.high, f"{sure}: {latency.low:.1f} to {latency.high:.1f} ms")


@dataclass(frozen=True)
class _Range:
    """Where a number lies, and what that is called."""

    low: float
    high: float
    name: str


@dataclass(frozen=True)
class _Part:
    """A piece of a bar."""

    name: str
    size: float
    colour: str


def _draw_bar(
    axes: Axes,
    parts: Sequence[_Part],
    budget: float | None,
    title: str,
    unit: str,
    between: _Range | None = None,
) -> None:
    """Draw a bar against its budget. What its parts are stands below it, where nothing is too short for its name."""
    left = 0.0
    handles: list[Any] = []
    for part in parts:
        if part.size:
            axes.barh(0, part.size, left=left, color=part.colour, height=0.7, edgecolor="white", linewidth=0.5)
        handles.append(Patch(color=part.colour, label=f"{part.name}: {_number(part.size)} {unit}"))
        left += part.size
    if between is not None:
        ends = [[max(left - between.low, 0.0)], [max(between.high - left, 0.0)]]
        drawn = axes.errorbar([left], [0], xerr=ends, fmt="none", ecolor=_INK, elinewidth=1.4, capsize=4, zorder=4)
        drawn.set_label(between.name)
        handles.append(drawn)
    limit = 1.02 * max(left, budget or 0.0, between.high if between else 0.0)
    told = f"{_number(left)} {unit}"
    if budget is not None:
        over = left > budget + 1e-6
        name = f"budget: {_number(budget)} {unit}"
        handles += axes.plot([budget] * 2, [-0.5, 0.5], color=_OVER if over else "black", lw=1.8, zorder=5, label=name)
        told += " OVER" if over else ""
    axes.annotate(told, (1, 0.5), (6, 0), xycoords="axes fraction", textcoords="offset points", va="center",
                  fontsize=9, color=_OVER if "OVER" in told else _INK)  # fmt: skip
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.01, 0.06), ncols=5, frameon=False, fontsize=8,
                labelcolor=_INK, handlelength=1, handleheight=1, columnspacing=1.4, borderpad=0.2)  # fmt: skip
    axes.set(xlim=(0, limit or 1), ylim=(-0.5, 0.5), yticks=[0], yticklabels=[title], xticks=[])
    axes.tick_params(length=0, colors=_INK, labelsize=9)
    axes.spines[:].set_visible(False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.3g}"


def _counts(plan: Plan) -> str:
    return " + ".join(f"{n} {label}" for label, n in plan.counts.items() if n)


def _write_plainly(figure: Figure) -> None:
    """Let names and sentences of strangers be no formulas between dollars, and have no control characters."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if (said := text.get_text()) and not said.startswith("$\\mathdefault"):  # a number of a logarithmic axis
            text.set_parse_math(False)
            text.set_text(printable(said))

"""Figures of plans and fronts (matplotlib, no display needed)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from types import MappingProxyType
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from s2search.cost import format_bytes
from s2search.errors import InputError
from s2search.planner.plan import Plan
from s2search.report.colours import block_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from s2search.planner.frontier import Frontier

_INK, _FAINT, _REFERENCE = "#333333", "#BBBBBB", "#D55E00"
_FRONT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6D31", "#56B4E9")
_FRONT = "s2search.front"  # marks the lines of fronts, so that the next front on the same axes takes another colour
_PLAN_INCHES, _FRONT_INCHES = (10, 4.2), (8, 4.5)


def plan_figure(plan: Plan) -> Figure:
    """Return a picture of the sandwich in its two streams, and of what it spends of each budget."""
    figure = Figure(figsize=_PLAN_INCHES, layout="constrained")
    _fill_plan(figure, plan)
    return figure


def plot_plan(plan: Plan, ax: Axes | None = None) -> Axes:
    """Draw the sandwich on axes; without any, the whole picture as pyplot's current one. Return the sandwich's axes."""
    if ax is None:
        return _fill_plan(pyplot_figure(_PLAN_INCHES), plan)
    _draw_sandwich(ax, plan)
    ax.set_title(_plan_title(plan), fontsize=10)
    return ax


def front_figure(plans: Sequence[Plan], references: Mapping[str, Plan] = MappingProxyType({})) -> Figure:
    """Return a picture of the latency-score front: one point per plan, labelled with its counts where there is room.

    `references` are further plans by name, drawn as diamonds for comparison.
    """
    figure = Figure(figsize=_FRONT_INCHES, layout="constrained")
    _fill_front(figure.subplots(), plans, references)
    return figure


def plot_front(front: Frontier, ax: Axes | None = None, *, label: str = "") -> Axes:
    """Draw a front on axes, in a colour and with a name of its own where others are there already.

    Without axes, draw it with its references as pyplot's current picture.
    """
    if ax is None:
        axes = pyplot_figure(_FRONT_INCHES).subplots()
        _fill_front(axes, front.plans, front.references, label=label)
        return axes
    drawn = sum(line.get_gid() == _FRONT for line in ax.get_lines())
    _draw_front(ax, front.plans, _FRONT_COLOURS[drawn % len(_FRONT_COLOURS)], label or _front_label(front.plans[0]))
    _name_axes(ax, front.plans[0])
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return ax


def pyplot_figure(inches: tuple[float, float]) -> Figure:
    """Return a figure of pyplot's, which a notebook shows by itself."""
    from matplotlib import pyplot

    return pyplot.figure(figsize=inches, layout="constrained")


def _fill_plan(figure: Figure, plan: Plan) -> Axes:
    sandwich, latency, memory = figure.subplots(3, 1, height_ratios=[3, 1, 1])
    origin = plan.provenance
    figure.suptitle(_plan_title(plan), fontsize=12, color=_INK)
    sandwich.set_title(f"{plan.scenario}, {plan.video}; {origin.table_statement}", fontsize=9, color=_INK)
    _draw_sandwich(sandwich, plan)
    _draw_latency(latency, plan)
    _draw_memory(memory, plan)
    first: Axes = sandwich
    return first


def _plan_title(plan: Plan) -> str:
    counts = " + ".join(f"{n} {label}" for label, n in plan.counts.items())
    return f"{counts}  on  {plan.provenance.table}"


def _fill_front(axes: Axes, plans: Sequence[Plan], references: Mapping[str, Plan], *, label: str = "") -> None:
    _draw_front(axes, plans, _FRONT_COLOURS[0], label)
    x, y = [plan.latency_ms.predicted for plan in plans], [plan.score for plan in plans]
    for i in sorted({round(k * (len(plans) - 1) / 6) for k in range(7)}):
        axes.annotate(plans[i].written if len(plans[i].written) <= 8 else _counts(plans[i]), (x[i], y[i]), (4, -12),
                      textcoords="offset points", fontsize=7, color=_INK)  # fmt: skip
    for name, reference in references.items():
        _draw_reference(axes, name, reference, plans)
    _name_axes(axes, plans[0])
    origin = plans[0].provenance
    axes.set_title(fill(f"{origin.table}: {origin.table_statement}", 100), fontsize=9, color=_INK)
    axes.margins(x=0.12, y=0.1)


def _draw_front(axes: Axes, plans: Sequence[Plan], colour: str, label: str) -> None:
    x, y = [plan.latency_ms.predicted for plan in plans], [plan.score for plan in plans]
    axes.step(x, y, where="post", color=_FAINT, zorder=1, gid=_FRONT)
    axes.scatter(x, y, s=22, color=colour, zorder=2, label=label or None)


def _name_axes(axes: Axes, plan: Plan) -> None:
    axes.set_xlabel("latency of one forward pass (ms)")
    axes.set_ylabel(f"score: {plan.provenance.score}")
    axes.spines[["top", "right"]].set_visible(False)


def _front_label(plan: Plan) -> str:
    budget = plan.memory_bytes.budget
    return ", ".join([*plan.counts, *([] if budget is None else [format_bytes(budget)])])


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; the ending of the path names the format."""
    try:
        figure.savefig(Path(path), dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the figure {str(path)!r} cannot be written: {error}", remedy="use a .png, .svg or .pdf path"
        ) from error


def _draw_reference(axes: Axes, name: str, plan: Plan, front: Sequence[Plan]) -> None:
    """Draw a diamond around a point, with its name above the front where the point is on it, else below."""
    place = (plan.latency_ms.predicted, plan.score)
    beaten = any(p.latency_ms.predicted <= place[0] and p.score > place[1] for p in front)
    offset, side = ((7, -9), "left") if beaten else ((-7, 5), "right")
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
    for label, colour in colours.items():
        axes.scatter([], [], marker="s", s=60, color=colour, label=label)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    axes.set(xlim=(-1.2, plan.depth + 0.2), ylim=(-0.5, 1.5), yticks=[0, 1], yticklabels=["low res", "high res"])
    axes.set_xticks(range(0, plan.depth, max(1, plan.depth // 14)))
    axes.tick_params(length=0, colors=_INK, labelsize=8)
    axes.spines[:].set_visible(False)


def _draw_latency(axes: Axes, plan: Plan) -> None:
    colours = block_colours(plan.counts)
    parts = [(label, n * plan.blocks[label].latency_ms, colours[label]) for label, n in plan.counts.items()]
    parts += [("switches", plan.latency_ms.switches, "#999999"), ("stem, head", plan.latency_ms.fixed, "#555555")]
    _draw_bar(axes, parts, plan.latency_ms.budget, "latency (ms)")


def _draw_memory(axes: Axes, plan: Plan) -> None:
    colours, memory = block_colours(plan.counts), plan.memory_bytes
    parts = [(label, n * plan.blocks[label].memory_bytes / 1e6, colours[label]) for label, n in plan.counts.items()]
    parts += [("fixed", memory.fixed / 1e6, "#555555"), ("peak", memory.peak / 1e6, "#999999")]
    _draw_bar(axes, parts, None if memory.budget is None else memory.budget / 1e6, "memory (MB)")


def _draw_bar(axes: Axes, parts: list[tuple[str, float, str]], budget: float | None, title: str) -> None:
    total, left = sum(size for _, size, _ in parts), 0.0
    limit = max(total, budget or 0) * 1.08
    for name, size, colour in parts:
        axes.barh(0, size, left=left, color=colour, height=0.7)
        if size > 0.09 * limit:
            axes.text(
                left + size / 2, 0, f"{name} {_number(size)}", ha="center", va="center", color="white", fontsize=8
            )
        left += size
    if budget is not None:
        axes.axvline(budget, color="black", linewidth=1.5)
        axes.annotate(
            f"budget {_number(budget)} ", (budget, 0.42), ha="right", va="bottom", fontsize=8, annotation_clip=False
        )
    axes.set(xlim=(0, limit), yticks=[0], yticklabels=[title])
    axes.tick_params(length=0, colors=_INK, labelsize=8)
    axes.spines[:].set_visible(False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _counts(plan: Plan) -> str:
    return "+".join(f"{n}{label[0].upper()}" for label, n in plan.counts.items())

"""What verification found of a package's numbers, as a figure: parity of every block and of every chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from s2search.verification.result import CheckResult, Verification

_INK, _FAINT = "#333333", "#DDDDDD"
#: Okabe and Ito's palette (2008). One colour per arithmetic, on both sides.
_COLOURS = {"float32": "#0072B2", "float16": "#D55E00", "pessimistic": "#CC79A7", "": "#0072B2"}


def parity_figure(found: Verification) -> Figure:
    """Draw decibels by block on the left and by chunk on the right, with what is asked as a line.

    Blocks come from the check `blocks`, chunks from `stream`; streams that run free are left out.
    """
    blocks = [check for check in found.checks if check.name.split(".")[0] == "blocks" and check.parts]
    streams = [check for check in found.checks if check.name.split(".")[0] == "stream" and check.parts]
    streams = [check for check in streams if not check.name.endswith(".free_running")]
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    for check in blocks:
        _draw(left, check, "o", check.mode or found.precision)
    for check in streams:
        _draw(right, check, "--" if check.name.endswith("clean_pass") else "-", _label(check))
    if blocks:
        names = list(blocks[0].parts)
        left.set_xticks(range(len(names)), [name.removeprefix("layers.") for name in names], rotation=90, fontsize=8)
    left.set_title("every block alone" if any(check.mode for check in blocks) else "after every block", fontsize=10)
    left.set_ylabel("parity with the source, dB")
    left.set_xlabel("block; numbers are layers")
    right.set_title("every chunk of a stream", fontsize=10)
    right.set_xlabel("chunk")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, checks in ((left, blocks), (right, streams)):
        _finish(axes, checks)
    return figure


def _draw(axes: Axes, check: CheckResult, style: str, label: str) -> None:
    values = list(check.parts.values())
    colour = _COLOURS.get(check.mode, _INK)
    axes.plot(range(len(values)), values, style, markersize=4, linewidth=1.4, color=colour, label=label)


def _label(check: CheckResult) -> str:
    of = check.name.partition(".")[2]
    return of if of == check.mode else f"{check.mode} {of}".strip()


def _finish(axes: Axes, checks: list[CheckResult]) -> None:
    asked = next((check.threshold for check in checks if check.required and check.threshold is not None), None)
    if asked is not None:
        axes.axhline(asked, color=_INK, linewidth=1)
        place = axes.get_yaxis_transform()
        axes.text(0.99, asked + 0.5, f"asked: {asked:g} dB", transform=place, ha="right", fontsize=8, color=_INK)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if checks:
        axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2)

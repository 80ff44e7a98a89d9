"""What devices can do as a picture for a slide: for every rate and number of steps the largest video (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from s2search.designer.document import Design
from s2search.errors import InputError
from s2search.reporting import design_words as words
from s2search.reporting.colours import ink_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _NOTHING = "#222222", "#8A8F98", "#EEEFF1"
#: From small videos to large ones; in between by evenness of lightness, as colour-blind readers can tell them too.
_LIGHT, _DARK = (0.86, 0.92, 0.97), (0.03, 0.30, 0.55)
_MOST = 6
_CELL_INCHES, _LEGEND_INCHES, _LETTER_INCHES = (1.55, 0.62), 1.9, 0.12
_SAYS = "The largest video for every rate and number of steps"


def design_figure(designs: Sequence[Design]) -> Figure:
    """Return a matrix for each design, side by side, with one scale of colours for all videos.

    The answer's cell has a frame. Rates that have the same cells share a row.

    Raises:
        InputError: There is none, or more than one can read beside each other.
    """
    if not 0 < len(designs) <= _MOST:
        raise InputError(
            f"{len(designs)} designs in one picture", allowed=f"1 to {_MOST}", remedy="draw some of them apart"
        )
    matrices = [words.matrix(design) for design in designs]
    across = min(3, len(designs))
    down = -(-len(designs) // across)
    columns = max(len(design.steps) for design in designs)
    lines = max(len(cell.said) for rows in matrices for row in rows for cell in row.cells)
    inches = _CELL_INCHES[1] * (0.55 + 0.225 * lines)
    height = down * (1.5 + inches * max(map(len, matrices))) + 1.2
    figure = Figure(figsize=(max(7.0, across * (1.5 + _CELL_INCHES[0] * columns)), height), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    colours = _colours(words.by_video(designs))
    for axes, design, rows in zip(panels, designs, matrices, strict=False):
        _draw(axes, design, rows, colours, most=max(map(len, matrices)))
    for axes in panels[len(designs) :]:
        axes.set_visible(False)
    _head(figure, list(panels), designs)
    _legend(figure, colours, designs)
    return figure


def _head(figure: Figure, panels: Sequence[Axes], designs: Sequence[Design]) -> None:
    """Write the title above, and what a cell says below it; of several designs each panel has its own title."""
    bold: dict[str, Any] = {"fontsize": 13, "fontweight": "bold", "color": _INK}
    inches = figure.get_figwidth() / min(3, len(designs))
    told = [fill(words.question_text(design), int(inches / _LETTER_INCHES)) for design in designs]
    head = told[0] if len(designs) == 1 else _SAYS
    figure.suptitle(head, x=0.01, ha="left", **bold)
    for axes, title in zip(panels, told, strict=False):
        if len(designs) == 1:
            axes.set_title(_SAYS, fontsize=11, color="#555555", pad=10, loc="left")
        else:
            axes.set_title(title, pad=10, loc="left", **bold | {"fontsize": 11})


def _colours(videos: Sequence[str]) -> dict[str, str]:
    found = {}
    for n, video in enumerate(videos):
        share = n / (len(videos) - 1) if len(videos) > 1 else 0.75
        red, green, blue = (low + share * (high - low) for low, high in zip(_LIGHT, _DARK, strict=True))
        found[video] = to_hex((red, green, blue))
    return found


def _draw(axes: Axes, design: Design, rows: Sequence[words.MatrixRow], colours: dict[str, str], *, most: int) -> None:
    for y, row in enumerate(rows):
        for x, cell in enumerate(row.cells):
            _draw_cell(axes, x, y, cell, colours)
    axes.set(xlim=(-0.02, len(design.steps) + 0.02), ylim=(most + 0.02, -0.02))
    axes.set_xticks([x + 0.5 for x in range(len(design.steps))], [words.setting("steps", s) for s in design.steps])
    axes.set_yticks([y + 0.5 for y in range(len(rows))], [row.label for row in rows])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("denoising steps of a chunk", fontsize=10, color=_INK)
    axes.set_ylabel("at least", fontsize=10, color=_INK)
    axes.tick_params(length=0, labelsize=11, colors=_INK)
    axes.spines[:].set_visible(False)
    origin = design.provenance
    marked = f"; MARKED: {origin.table_marks[0][:80]}" if origin.table_marks else ""
    said = f"{origin.table}: {origin.table_statement}{marked}"
    axes.annotate(
        fill(said, max(40, 24 * len(design.steps))), (0, len(rows)), (0, -8), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="top", fontsize=8.5, color="#555555",
    )  # fmt: skip


def _draw_cell(axes: Axes, x: int, y: int, cell: words.MatrixCell, colours: dict[str, str]) -> None:
    """Draw a cell: the video in large, below it what it reaches; empty ones are hatched, and say what lacks."""
    nothing = cell.design is None
    colour = _NOTHING if nothing else colours[cell.said[0]]
    hatch: dict[str, Any] = (
        {"hatch": "////", "edgecolor": "#D7DADF", "linewidth": 0.0} if nothing else {"edgecolor": "none"}
    )
    axes.add_patch(Rectangle((x + 0.025, y + 0.04), 0.95, 0.92, facecolor=colour, **hatch))
    ink = "#555555" if nothing else ink_on(colour)
    below = [fill(line, 19) for line in cell.said[1:]]
    share = 1 / (1.35 + sum(line.count("\n") + 1 for line in below))
    middle: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    large: dict[str, Any] = {"fontsize": 9.5} if nothing else {"fontsize": 12.5, "fontweight": "bold"}
    axes.text(x + 0.5, y + 0.5 - 0.36 * (1 - share), cell.said[0], **middle, **large)
    axes.text(x + 0.5, y + 0.53 + 0.42 * share, "\n".join(below), **middle, fontsize=8.5, linespacing=1.15)
    if cell.is_answer:
        axes.add_patch(Rectangle((x + 0.025, y + 0.04), 0.95, 0.92, fill=False, edgecolor="#D55E00", linewidth=3))


def _legend(figure: Figure, colours: dict[str, str], designs: Sequence[Design]) -> None:
    handles = [Patch(facecolor=colour, label=f"largest video {video}") for video, colour in colours.items()]
    if any(design.answer is not None for design in designs):
        handles.append(Patch(facecolor="none", edgecolor="#D55E00", linewidth=2.5, label="the answer"))
    if any(cell.design is None for design in designs for cell in design.cells):
        handles.append(Patch(facecolor=_NOTHING, hatch="////", edgecolor="#D7DADF", label="not possible"))
    columns = max(1, int(figure.get_figwidth() // _LEGEND_INCHES))
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, frameon=False, fontsize=9, labelcolor=_INK)

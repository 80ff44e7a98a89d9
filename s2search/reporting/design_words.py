"""What there is to say of a design, in words and cells, for the terminal, figures and pages alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from s2search.cost import format_bytes, format_fps, format_us
from s2search.designer.axes import ORDERED, AxisName, Value, amount
from s2search.designer.document import AxisAnswer, BudgetAnswer, Design, Firmness, Neighbour, Possible

#: Of the columns and rows of the matrix themselves.
_ON_ITS_EDGES = ("video", "steps")
_TO_READ: Mapping[str, str] = {
    "window": "many chunks it looks back",
    "chunk": "many latent frames it makes at once",
    "width": "many channels the model has",
    "depth": "many layers it has",
}
_MORE: Mapping[str, str] = {
    "video": "a larger video",
    "steps": "more steps",
    "width": "a wider model",
    "depth": "more layers",
    "window": "a longer window",
    "precision": "more bits",
}
_HELD_BY = {
    "offer": "the most that is on offer",
    "budgets": "more of it does not fit the budgets",
    "wishes": "more of it fits, but with less of what counts more",
    "unpriced": "nobody knows what more of it takes: the table has no rows to foretell it from",
    "fixed": "there was no choice",
    "cost": "nobody ranks its values, so the one that leaves most for the rest",
    "quality": "which of its values is better, the quality says",
}
_TELLING = 0.01  # share of the doubt, below which rows are named together
_LAST_REASONS = 3
_UNITS = {"window": "chunks", "chunk": "latent frames", "depth": "layers", "width": "wide"}


@dataclass(frozen=True, kw_only=True)
class MatrixCell:
    """A cell: the place of its design among `Design.designs`, or what lacks.

    `said` are its lines: the video, the rate that it reaches, and what else is chosen in it.
    """

    design: int | None
    said: tuple[str, ...]
    is_answer: bool


@dataclass(frozen=True, kw_only=True)
class MatrixRow:
    """Rates that have the same cells, in words, and these cells by steps."""

    label: str
    rates_fps: tuple[float, ...]
    cells: tuple[MatrixCell, ...]


def matrix(design: Design) -> list[MatrixRow]:
    """Return the matrix by falling rate, rates that have the same cells joined: whoever reaches 20 FPS reaches 10."""
    by_place = {(cell.rate_fps, cell.steps): cell for cell in design.cells}

    def held(rate: float) -> tuple[tuple[int | None, str], ...]:
        cells = [by_place.get((rate, steps)) for steps in design.steps]
        return tuple((None, "") if cell is None else (cell.design, cell.missing) for cell in cells)

    rows = []
    for cells, group in groupby(sorted(design.rates_fps, reverse=True), key=held):
        rates = tuple(group)
        label = f"{rates[0]:g} FPS" if len(rates) == 1 else f"{rates[-1]:g} to {rates[0]:g} FPS"
        rows.append(MatrixRow(label=label, rates_fps=rates, cells=tuple(_cell(design, *cell) for cell in cells)))
    return rows


def _cell(design: Design, place: int | None, missing: str) -> MatrixCell:
    if place is None:
        return MatrixCell(
            design=None,
            said=("nothing", *([missing] if missing and not missing.startswith("nothing") else [])),
            is_answer=False,
        )
    one = design.designs[place]
    videos = {design.designs[cell.design].settings["video"] for cell in design.cells if cell.design is not None}
    layout = [] if len(videos) > 1 else [counts_text(one)]  # where videos are alike, layouts are what differs
    said = (str(one.settings["video"]), format_fps(one.frames_per_second), *layout, *_short(design, one))
    return MatrixCell(design=place, said=said, is_answer=place == design.answer)


def free_axes(design: Design) -> list[AxisName]:
    """Return the axes with a choice, beside those on the edges of the matrix."""
    return [axis.name for axis in design.axes if len(axis.values) > 1 and axis.name not in _ON_ITS_EDGES]


def differing_axes(design: Design) -> list[AxisName]:
    """Return the axes with a choice, beside those on the edges of the matrix, that cells do not agree on."""
    shown = [design.designs[cell.design] for cell in design.cells if cell.design is not None]
    return [name for name in free_axes(design) if len({one.settings[name] for one in shown}) > 1]


def _short(design: Design, one: Possible) -> list[str]:
    """Return what was chosen in a design beside its video and steps, in a few letters, where cells differ in it."""
    named = {"window", "chunk", "width", "depth"}
    chosen = [(name, one.settings[name]) for name in differing_axes(design) if one.settings[name] != ""]
    found = [f"{name} {value}" if name in named else str(value).replace("_", " ") for name, value in chosen]
    return [", ".join(found)] if found else []


def varying(design: Design, one: Possible) -> list[str]:
    """Return what was chosen in a design beside its video and steps, where there was a choice."""
    return [setting(name, one.settings[name]) for name in free_axes(design) if one.settings[name] != ""]


def setting(name: AxisName, value: Value) -> str:
    """Return one setting in words.

    >>> setting("steps", 1), setting("chunk", 3), setting("precision", "w4a8")
    ('1 step', 'chunk of 3 latent frames', 'w4a8')
    """
    if name == "steps":
        return f"{value} step" if value == 1 else f"{value} steps"
    if name in ("chunk", "window"):
        unit = _UNITS[name] if value != 1 else _UNITS[name][:-1]
        return f"{name} of {value} {unit}"
    if name in ("width", "depth"):
        return f"{value} {_UNITS[name]}"
    if name in ("decoder", "text_encoder"):
        return f"{name.replace('_', ' ')} {value}"
    return f"packages resident {str(value).replace('_', ' ')}" if name == "residency" else str(value)


def in_words(one: Possible, without: Sequence[AxisName] = ()) -> str:
    """Return all settings of a design that are stated."""
    return ", ".join(setting(n, v) for n, v in one.settings.items() if v != "" and n not in without)


def counts_text(one: Possible) -> str:
    """Return how many layers take which block."""
    return " + ".join(f"{count} {label}" for label, count in one.counts.items() if count)


def in_short(one: Possible) -> str:
    """Return the video, the rate and the steps."""
    steps = setting("steps", one.settings["steps"])
    return f"{one.settings['video']} at {format_fps(one.frames_per_second)} with {steps}"


def score_text(one: Possible) -> str:
    """Return the score of the layout, and the quality of the whole where it is known."""
    proof = "" if one.proven else " (not proven the best)"
    said = f"{one.score:.6f}{proof}, more is better"
    if one.quality is None:
        return said
    error = "" if one.quality.error is None else f" +- {one.quality.error:.4g}"
    return f"{said}; quality {one.quality.value:.4g}{error} ({one.quality.scale}, {one.quality.provenance})"


def latency_text(one: Possible) -> str:
    """Return one forward pass, with its deviation where it is known, and the kinds of evidence behind it."""
    off = "" if one.latency_std_ms is None else f" +- {one.latency_std_ms:.1f} ms"
    kinds = " and ".join(one.latency_provenance)
    return f"{format_us(1000 * one.latency_ms)}{off} a forward pass" + (f", {kinds}" if kinds else "")


def memory_text(one: Possible) -> str:
    """Return what an application takes, how much of that is the transformer, and what nobody counted."""
    whole = format_bytes(one.memory_bytes)
    own = (
        f"{whole}, all of it the transformer"
        if one.transformer_bytes == one.memory_bytes
        else f"{whole}, {format_bytes(one.transformer_bytes)} of it the transformer"
    )
    return f"{own}; NOT counted: {'; '.join(one.uncounted)}" if one.uncounted else own


def question_text(design: Design) -> str:
    """Return what was asked, in one sentence."""
    budgets = [budget.text for budget in design.budgets]
    within = f" within {' and '.join(budgets)}" if budgets else ""
    return f"What {design.provenance.device} can do{within}"


def how_to_read(design: Design) -> str:
    """Return what a cell of the matrix says, for somebody who never saw one."""
    other = [budget.text for budget in design.budgets if budget.kind != "rate"]
    kept = f" and keeps {' and '.join(other)}" if other else ""
    free = set(differing_axes(design))
    below = ["how fast it really is"]
    if len(by_video([design])) == 1:
        below.append("how many of its layers are which block")
    below += [f"how {what} ({name})" for name, what in _TO_READ.items() if name in free]
    alike = [name for name in free_axes(design) if name not in free]
    shown = next((design.designs[cell.design] for cell in design.cells if cell.design is not None), None)
    same = [] if shown is None else [setting(name, shown.settings[name]) for name in alike if shown.settings[name]]
    return (
        f"A cell is the largest video that plays at least as fast as its row says{kept}, when a chunk of video is made "
        "in as many denoising steps as its column says. Fewer steps are faster, and may look worse. Below the video: "
        f"{', and '.join(below)}." + (f" All cells have: {', '.join(same)}." if same else "")
    )


def budget_text(budget: BudgetAnswer, design: Design) -> str:
    """Return what of a budget the answer uses, and what would be had without it."""
    limit = _amount(budget.limit, budget.unit)
    side = "at least" if budget.kind == "rate" else "of"
    used = (
        "" if budget.used is None else f"{_amount(budget.used, budget.unit)}, {side} {limit}; ".replace(", of", " of")
    )
    if not budget.binds:
        return f"{used}it does not decide" if used else "without it nothing would be possible either"
    if budget.without is None:
        return f"{used}BINDS"
    other = design.designs[budget.without]
    return f"{used}BINDS: without it {_gain(design, other)}{in_short(other)}"


def _gain(design: Design, other: Possible) -> str:
    """Return the first thing wished for that another design has more of than the answer; nothing without an answer."""
    best = design.best
    if best is None:
        return ""
    if best.quality and other.quality and other.quality.value > best.quality.value:
        gains = {"quality": f"a better quality ({other.quality.value:.4g}): "}
    else:
        gains = {}
    if other.score > best.score:
        gains["score"] = f"a better score ({other.score:.6f}): "
    for axis in ORDERED:
        if amount(axis, other.settings[axis]) > amount(axis, best.settings[axis]):
            gains[axis] = f"{_MORE[axis]}: "
    return next((gains[wish] for wish in design.prefer if wish in gains), "")


def _amount(value: float, unit: str) -> str:
    """Return an amount in the unit of a budget."""
    if unit == "bytes":
        return format_bytes(round(value))
    return format_us(1000 * value) if unit == "ms" else format_fps(value) if unit == "fps" else f"{value:g} {unit}"


def axis_text(axis: AxisAnswer) -> str:
    """Return what the answer has of an axis, of what, and what keeps it from more."""
    chosen = "nothing" if axis.chosen is None else setting(axis.name, axis.chosen)
    if len(axis.values) == 1:
        return f"{chosen}, the only one"
    held = "" if axis.held_by is None else f"; {_HELD_BY[axis.held_by]}"
    return f"{chosen}, of {', '.join(map(str, axis.values))}{held}"


def neighbour_text(near: Neighbour) -> str:
    """Return what is had with the next value of an axis, or what lacks."""
    if near.design is not None:
        one = near.design
        return f"{in_short(one)}, {format_bytes(one.memory_bytes)}, score {one.score:.6f}"
    return near.missing or "not possible"


def neighbour_name(near: Neighbour) -> str:
    """Return the axis and value of a neighbour, and whether it was on offer."""
    name = f"video {near.value}" if near.axis == "video" else setting(near.axis, near.value)
    return name if near.offered else f"{name} (not on offer)"


def firmness_lines(firm: Firmness) -> list[str]:
    """Return whether measuring could change the answer, and what to measure."""
    if not firm.firm:
        said = "NOT FIRM: measuring may change the answer"
    elif firm.unmeasured:
        kinds = " and ".join(firm.unmeasured)
        said = f"FIRM, if its {kinds} rows are no further off than they state: nobody measured these"
    else:
        said = "FIRM: measuring would not change these settings"
    lines = [said]
    if firm.probability is not None:
        lines.append(f"some layout of these settings keeps the budgets: {_percent(firm.probability)} probable")
    if firm.layout_probability is not None:
        lines.append(f"this very layout keeps them: {_percent(firm.layout_probability)} probable")
    lines += firm.doubts
    if firm.settles is not None and not firm.rows:
        lines.append("no row would settle it: what is in doubt is the decoder, which was timed at another size")
    if firm.rows:
        settled = "" if firm.settles is None else f", with a probability of {_percent(firm.settles)}"
        count = f"these {len(firm.rows)} rows" if len(firm.rows) > 1 else "this row"
        lines.append(f"measuring {count} would settle it{settled}:")
        telling = [row for row in firm.rows if row.share >= _TELLING]
        lines += [f"{row.key} ({100 * row.share:.0f} % of the doubt)" for row in telling]
        if few := [row.key for row in firm.rows if row.share < _TELLING]:
            lines.append(f"with less than 1 % each: {', '.join(few)}")
    return lines


def _percent(probability: float) -> str:
    """Write a probability that is neither 0 nor 1 as neither.

    >>> _percent(0.99999), _percent(1.0), _percent(0.52)
    ('over 99 %', '100 %', '52 %')
    """
    if 0.99 < probability < 1:
        return "over 99 %"
    return "under 1 %" if 0 < probability < 0.01 else f"{100 * probability:.0f} %"


def evidence_lines(design: Design) -> list[str]:
    """Return what others found where they changed the same: a line for each figure, with its source."""
    return [
        f"{one.axis.replace('_', ' ')} from {one.before} to {one.after}: {one.value_before:g} to {one.value_after:g} "
        f"({one.metric}), {one.model}; {one.source}"
        for one in design.evidence
    ]


def search_text(design: Design) -> str:
    """Return how many combinations there were, and what became of them."""
    unpriced = sum(design.unpriced.values())
    parts = [
        f"{design.combinations:,} combinations",
        f"{design.solved:,} searched",
        f"{design.ruled_out:,} ruled out by bounds",
        f"{design.impossible:,} impossible",
        *([f"{unpriced:,} without a price"] if unpriced else []),
    ]
    return ", ".join(parts)


def unpriced_lines(design: Design) -> list[str]:
    """Return why combinations have no price: the commonest reasons, and how many more there are."""
    reasons = sorted(design.unpriced.items(), key=lambda reason: -reason[1])
    lines = [f"{count:,} combinations have no price: {why}" for why, count in reasons[:_LAST_REASONS]]
    left = reasons[_LAST_REASONS:]
    return [*lines, *([f"{sum(count for _, count in left):,} more have none for such reasons"] if left else [])]


def unranked_text(design: Design) -> str:
    """Return of which axes nobody knows what they do to quality, and what follows; nothing where there is none."""
    names = ", ".join(name.replace("_", " ") for name in design.unranked)
    said = "the order is one of wishes, and all of their values stand side by side in the front"
    return f"what these do to quality is not known: {names}; {said}" if names else ""


def front_designs(design: Design) -> list[Possible]:
    """Return the front, by falling rate."""
    return sorted((design.designs[n] for n in design.front), key=lambda one: -one.frames_per_second)


def by_video(designs: Iterable[Design]) -> list[str]:
    """Return all videos of some matrices, the smallest first."""
    found = {
        str(design.designs[cell.design].settings["video"])
        for design in designs
        for cell in design.cells
        if cell.design is not None
    }
    return sorted(found, key=lambda video: amount("video", video))

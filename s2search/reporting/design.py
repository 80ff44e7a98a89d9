"""A design in the terminal, made for 80 columns: what is possible, the answer, what binds it, whether it is firm."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes, format_fps, format_us
from s2search.designer.document import Design
from s2search.reporting import design_words as words
from s2search.reporting.origin import mark_lines
from s2search.reporting.terminal import strip

_MOST_FRONT, _MOST_ASSUMPTIONS = 12, 12


def design_text(design: Design) -> RenderableType:
    """Return the matrix with how to read it, the answer, the neighbours, the front, and what all of it rests on."""
    parts: list[RenderableType] = [Text(), Text(words.question_text(design), style="bold"), Text()]
    parts += [_matrix(design), Text(), Text(words.how_to_read(design), style="dim"), Text()]
    parts += [_facts(design), Text()]
    if design.plan is not None:
        parts += [Text("The layers of the answer, from the first to the last:"), strip(design.plan), Text()]
    parts += [_front(design), Text(), *_evidence(design), _rests_on(design), Text()]
    return Group(*parts)


def _matrix(design: Design) -> RenderableType:
    """Return rates by steps; the answer's cell is in brackets."""
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    grid.add_column("at least", no_wrap=True)
    for steps in design.steps:
        grid.add_column(words.setting("steps", steps), overflow="fold")
    rows = words.matrix(design)
    for number, row in enumerate(rows):
        grid.add_row(Text(row.label, style="bold"), *map(_cell, row.cells), end_section=number < len(rows) - 1)
        if number < len(rows) - 1:
            grid.add_row()
    return grid


def _cell(cell: words.MatrixCell) -> Text:
    if cell.design is None:
        return Text("\n".join(cell.said), style="dim")
    first, *rest = cell.said
    text = Text(f"[{first}]" if cell.is_answer else first, style="bold reverse" if cell.is_answer else "bold")
    for line in rest:
        text.append(f"\n{line}", style="not bold not reverse")
    return text


def _facts(design: Design) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, line in facts(design):
        grid.add_row(name, line)
    return grid


def facts(design: Design) -> Iterator[tuple[str, str]]:
    """Yield what there is to say of the answer, by name."""
    best = design.best
    if best is None:
        asked = any(budget.kind != "memory" for budget in design.budgets)
        yield "answer", f"NONE: {design.missing}" if asked else "none was asked for: give a budget such as 10fps"
    else:
        above = ", in brackets above" if any(cell.design == design.answer for cell in design.cells) else ""
        yield "answer", f"{words.in_short(best)}{above}\n{words.in_words(best, ('video', 'steps'))}"
        yield "layout", f"{words.counts_text(best)}\n{best.written}"
        yield "latency", words.latency_text(best)
        yield "first", f"frames after {format_us(1000 * best.first_ms)}"
        yield "memory", words.memory_text(best)
        yield "score", words.score_text(best)
    for budget in design.budgets:
        yield "budget", f"{budget.text}: {words.budget_text(budget, design)}"
    for axis in design.axes:
        if best is not None and len(axis.values) > 1:
            yield axis.name.replace("_", " "), words.axis_text(axis)
    for near in design.neighbours:
        yield "next to it", f"{words.neighbour_name(near)}: {words.neighbour_text(near)}"
    if design.equals and best is not None:
        told = "; ".join(words.in_short(design.designs[n]) for n in design.equals[:4])
        yield "as good", f"the quality cannot tell from it: {told}"
    if design.firmness is not None:
        yield "firm", "\n".join(words.firmness_lines(design.firmness))


def _evidence(design: Design) -> list[RenderableType]:
    """Return what others found, which is long, and no part of the answer."""
    found = words.evidence_lines(design)
    head = "What others found where they changed the same, as evidence; no number in the answer is theirs:"
    grid = Table.grid(padding=(0, 1))
    for line in found:
        grid.add_row("-", line)
    return [Text(head), grid, Text()] if found else []


def _front(design: Design) -> RenderableType:
    """Return designs that no other beats in everything, by falling rate."""
    every = words.front_designs(design)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("FPS", "video", "steps", "memory", "first", "score"):
        grid.add_column(name, justify="left" if name == "video" else "right", no_wrap=True)
    grid.add_column("what else is chosen, layout", overflow="fold")
    for one in every[:_MOST_FRONT]:
        chosen = [*words.varying(design, one), words.counts_text(one)]
        grid.add_row(
            *(
                format_fps(one.frames_per_second).removesuffix(" FPS"),
                str(one.settings["video"]),
                str(one.settings["steps"]),
            ),
            *(format_bytes(one.memory_bytes), format_us(1000 * one.first_ms), f"{one.score:.4f}", "; ".join(chosen)),
        )
    left = len(every) - _MOST_FRONT
    more = [Text(f"and {left} more; --json and --csv have all of them")] if left > 0 else []
    return Group(Text("Nothing beats these in everything:"), grid, *more) if every else Text("Nothing is possible.")


def _rests_on(design: Design) -> RenderableType:
    origin = design.provenance
    lines = [
        f"{words.search_text(design)}; best is, in this order: {', '.join(design.prefer)}",
        *words.unpriced_lines(design),
        f"{origin.table} ({origin.table_digest[7:19]}), {origin.table_statement}; what it lacks is foretold by "
        f"{origin.latency_model}",
        *mark_lines(origin.table_marks),
        f"score {origin.score} ({origin.score_digest[7:19]}): {origin.score_statement}",
        f"quality {origin.quality} ({origin.quality_digest[7:19]}): {origin.quality_statement}",
    ]
    if unranked := words.unranked_text(design):
        lines.append(unranked)
    shown = design.assumptions[:_MOST_ASSUMPTIONS]
    lines += [f"assumed: {line}" for line in shown]
    if len(design.assumptions) > len(shown):
        lines.append(f"and {len(design.assumptions) - len(shown)} further assumptions")
    return Group(*map(Text, lines))

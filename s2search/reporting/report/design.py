"""What a device can do: the matrix of rates and steps, the answer and what binds it, and every design that is named.

A cell leads to its design, which the page tells below; where scripts run, the page shows the one that is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from s2search.cost import format_bytes, format_fps, format_us
from s2search.designer.document import Design
from s2search.reporting import design_words as words
from s2search.reporting.notebook import strip_svg
from s2search.reporting.report.campaign import GivenPart
from s2search.reporting.report.markup import (
    Html,
    borrowed,
    bullets,
    element,
    facts,
    folded,
    joined,
    paragraph,
    table,
    verdict,
)
from s2search.reporting.report.origins import Origins
from s2search.reporting.report.picture import spaced

_MOST_FRONT = 40


def designs_html(designs: Sequence[GivenPart[Design]], origins: Origins) -> Html:
    """Return every design: one after another, their matrices with one scale of shades for all videos."""
    videos = words.by_video([given.part for given in designs])
    return joined(part for n, given in enumerate(designs) for part in _design(given, f"d{n}", videos, origins))


def _design(given: GivenPart[Design], anchor: str, videos: Sequence[str], origins: Origins) -> Iterator[Html]:
    design, file = given.part, given.told
    yield element("h3", f"{words.question_text(design)} ({design.provenance.table})")
    yield _verdict(design, file, origins)
    yield _matrix(given, anchor, videos, origins)
    yield paragraph(words.how_to_read(design), class_="small")
    yield _details(given, anchor, origins)
    if design.best is not None:
        yield element("h4", "What decides the answer")
        yield facts(_deciding(given, origins))
    if design.plan is not None:
        yield element("div", borrowed(strip_svg(design.plan)), class_="drawing")
    yield _front(given, origins)
    told = [words.search_text(design), *words.unpriced_lines(design), *filter(None, [words.unranked_text(design)])]
    yield paragraph(origins.lines("\n".join(told), f"{file}: combinations, solved, ruled_out and impossible"))
    if design.assumptions:
        yield folded(f"What it assumes: {len(design.assumptions)} sentences", bullets(design.assumptions))


def _verdict(design: Design, file: str, origins: Origins) -> Html:
    best, origin = design.best, f"{file}: answer, {_whence(design)}"
    if best is None:
        return verdict("doubt", design.missing or "no answer was asked for: the matrix has all that is possible")
    firm = design.firmness is None or design.firmness.firm
    after = "" if firm else "; measuring may change it"
    return verdict("good" if firm else "doubt", "the answer is ", origins.number(words.in_short(best), origin), after)


def _whence(design: Design) -> str:
    """Return what the figures of a design rest on."""
    origin = design.provenance
    marked = ", in a marked run" if origin.table_marks else ""
    return (
        f"table {origin.table} ({origin.table_digest[7:19]}), {origin.table_statement}{marked}; rows that nobody "
        f"measured by {origin.latency_model}"
    )


def _matrix(given: GivenPart[Design], anchor: str, videos: Sequence[str], origins: Origins) -> Html:
    """Return the matrix: a cell is a link to its design, in a shade by its video, with the answer's in a frame."""
    design = given.part
    whence = f"{given.told}: cells, the best design of each, {_whence(design)}"
    heads = [element("th", "at least", scope="col", class_="w")]
    heads += [element("th", words.setting("steps", steps), scope="col") for steps in design.steps]
    rows = [
        element(
            "tr",
            element("th", row.label, scope="row", class_="w"),
            *(_cell(cell, anchor, videos, whence, origins) for cell in row.cells),
        )
        for row in words.matrix(design)
    ]
    caption = element("caption", element("span", "The largest video for every rate and number of denoising steps"))
    whole = element("table", caption, element("thead", element("tr", *heads)), element("tbody", *rows), class_="matrix")
    return element("div", whole, class_="scroll", role="region", tabindex=0, aria_label="Rates by denoising steps")


def _cell(cell: words.MatrixCell, anchor: str, videos: Sequence[str], whence: str, origins: Origins) -> Html:
    if cell.design is None:
        return element("td", origins.number(": ".join(cell.said), whence), class_="nothing")
    first, *rest = cell.said
    answer = element("span", "the answer", class_="tag") if cell.is_answer else Html()
    below = [element("span", line) for line in rest]
    shade = round(1 + 4 * videos.index(first) / max(1, len(videos) - 1)) if len(videos) > 1 else 3
    link = element(
        "a",
        element("strong", first),
        *below,
        answer,
        href=f"#{anchor}-{cell.design}",
        aria_describedby=origins.anchor(whence),
    )
    return element("td", link, class_=f"v{shade}" + (" answer" if cell.is_answer else ""))


def _details(given: GivenPart[Design], anchor: str, origins: Origins) -> Html:
    """Return every design that a cell leads to."""
    design = given.part
    named = list(dict.fromkeys(cell.design for cell in design.cells if cell.design is not None))
    if design.answer is not None:
        named = [design.answer, *(place for place in named if place != design.answer)]
    parts = [_detail(given, place, anchor, origins) for place in named]
    return element("div", *parts, class_="chosen", aria_live="polite") if parts else Html()


def _detail(given: GivenPart[Design], place: int, anchor: str, origins: Origins) -> Html:
    design, one = given.part, given.part.designs[place]
    origin = f"{given.told}: a design, {_whence(design)}"
    evidence = f"{origin}; latency {' and '.join(one.latency_provenance)}"
    judged = f"{given.told}: score {design.provenance.score} ({design.provenance.score_digest[7:19]}), "
    judged += f"{design.provenance.score_statement}; quality {design.provenance.quality}"
    pairs = [
        ("Settings", origins.number(words.in_words(one), f"{given.told}: settings of a design")),
        (
            "Layout",
            origins.lines(f"{words.counts_text(one)}\n{one.written}", f"{given.told}: the best layout of a design"),
        ),
        ("Rate", origins.number(format_fps(one.frames_per_second), evidence)),
        ("Latency", origins.number(words.latency_text(one), evidence)),
        ("First frames", origins.number(f"after {format_us(1000 * one.first_ms)}", evidence)),
        ("Memory", origins.number(words.memory_text(one), f"{origin}; the application, as far as its parts are known")),
        ("Score", origins.number(words.score_text(one), judged)),
    ]
    heading = element("h4", words.in_short(one) + (" (the answer)" if place == design.answer else ""))
    return element("article", heading, facts(pairs), id=f"{anchor}-{place}", tabindex=-1)


def _deciding(given: GivenPart[Design], origins: Origins) -> Iterator[tuple[str, str]]:
    design, file = given.part, given.told
    for budget in design.budgets:
        yield f"Budget {budget.text}", origins.number(words.budget_text(budget, design), f"{file}: budgets")
    for axis in design.axes:
        if len(axis.values) > 1:
            name = axis.name.replace("_", " ").capitalize()
            yield name, origins.number(words.axis_text(axis), f"{file}: axes, what was chosen and what was on offer")
    for near in design.neighbours:
        told = words.neighbour_text(near)
        yield f"Next: {words.neighbour_name(near)}", origins.number(told, f"{file}: neighbours, {_whence(design)}")
    if design.equals:
        told = "; ".join(words.in_short(design.designs[place]) for place in design.equals[:6])
        yield "As good", origins.number(told, f"{file}: equals, within the errors of {design.provenance.quality}")
    if design.firmness is not None:
        told = "\n".join(words.firmness_lines(design.firmness))
        yield "Is it firm?", origins.lines(told, f"{file}: firmness, by the deviations of the rows")
    if design.evidence:
        told = "\n".join(words.evidence_lines(design))
        yield "Others found", origins.lines(told, f"{file}: evidence of other models, no number in the answer")


def _front(given: GivenPart[Design], origins: Origins) -> Html:
    design = given.part
    every = words.front_designs(design)
    if not every:
        return Html()
    shown = [every[place] for place in spaced(len(every), _MOST_FRONT)]
    origin, judged = f"{given.told}: front, {_whence(design)}", f"{given.told}: front, score {design.provenance.score}"
    rows = [
        (
            *(
                origins.number(said, origin)
                for said in (format_fps(one.frames_per_second).removesuffix(" FPS"), str(one.settings["video"]))
            ),
            origins.number(str(one.settings["steps"]), origin),
            origins.number(format_bytes(one.memory_bytes), origin),
            origins.number(format_us(1000 * one.first_ms), origin),
            origins.number(f"{one.score:.4f}", judged),
            origins.number("; ".join([*words.varying(design, one), words.counts_text(one)]), origin),
        )
        for one in shown
    ]
    heads = ("FPS", "video", "steps", "memory", "first frames", "score", "what else is chosen, layout")
    some = f"{len(shown)} of {len(every)} designs" if len(shown) < len(every) else f"{len(every)} designs"
    caption = f"Nothing beats these in everything: {some}"
    return folded(caption, table(caption, heads, rows, words=0, last_words=1))

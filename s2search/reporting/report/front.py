"""The front: the best score for every latency, of every table that was asked, in one picture and as tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from s2search.cost import format_bytes, format_us
from s2search.planner.frontier import Frontier
from s2search.planner.plan import Plan
from s2search.reporting.notebook import small_strip_svg
from s2search.reporting.origin import evidence_text, score_with_error
from s2search.reporting.report.campaign import GivenPart
from s2search.reporting.report.markup import Html, borrowed, element, folded, joined, paragraph
from s2search.reporting.report.origins import Origins
from s2search.reporting.report.picture import SERIES, fronts_svg, legend_mark, spaced

_MOST_LINES = 40


def fronts_html(fronts: Sequence[GivenPart[Frontier]], origins: Origins) -> Html:
    """Return fronts of one score in one picture, others apart, and every front as a table."""
    named = _named(fronts)
    parts = []
    for group in _by_score(named):
        plans = {name: given.part.plans for name, given in group.items()}
        alone = next(iter(group.values())).part.references if len(group) == 1 else {}
        rows = {
            name: [f"{_anchor(named, name)}-{_row_of(several, n)}" for n in range(len(several))]
            for name, several in plans.items()
        }
        parts.append(element("figure", fronts_svg(plans, alone, rows), _legend(group), class_="wide"))
    if len(parts) > 1:
        parts.insert(0, paragraph("Fronts by different scores stand apart: their heights say nothing of each other."))
    tables = [_table(name, given, _anchor(named, name), origins) for name, given in named.items()]
    return joined([*parts, *tables])


def _anchor(named: Mapping[str, GivenPart[Frontier]], name: str) -> str:
    return f"front-{list(named).index(name)}"


def _named(fronts: Sequence[GivenPart[Frontier]]) -> dict[str, GivenPart[Frontier]]:
    found: dict[str, GivenPart[Frontier]] = {}
    beside = (dataclasses.replace(given, part=one) for given in fronts for one in given.part.beside.values())
    for given in (*fronts, *beside):
        name = given.part.plans[0].provenance.table
        found[name if name not in found else f"{name} ({given.name})"] = given
    return found


def _by_score(named: Mapping[str, GivenPart[Frontier]]) -> list[dict[str, GivenPart[Frontier]]]:
    groups: dict[str, list[dict[str, GivenPart[Frontier]]]] = {}
    for name, given in named.items():
        own = groups.setdefault(given.part.plans[0].provenance.score_digest, [{}])
        if len(own[-1]) == SERIES:
            own.append({})
        own[-1][name] = given
    return [group for several in groups.values() for group in several]


def _legend(group: Mapping[str, GivenPart[Frontier]]) -> Html:
    items = []
    for n, (name, given) in enumerate(group.items()):
        first = given.part.plans[0]
        marked = " (marked run)" if first.provenance.table_marks else ""
        evidence = evidence_text([plan.every_device[0] for plan in given.part.plans], given.part.plans)
        items.append(element("li", legend_mark(n), f"{name}{marked}: {evidence}"))
    return element("figcaption", element("ul", *items, class_="legend"))


def _row_of(plans: Sequence[Plan], place: int) -> int:
    """Return the line of the table that is nearest to a point."""
    return min(spaced(len(plans), _MOST_LINES), key=lambda line: abs(line - place))


def _table(name: str, given: GivenPart[Frontier], anchor: str, origins: Origins) -> Html:
    front = given.part
    shown, first = spaced(len(front.plans), _MOST_LINES), front.plans[0]
    heads = ["latency", "memory", "score", *first.counts, "layers, first to last"]
    if front.references:
        heads.insert(0, "plan")
    left = {"plan", heads[-1]}
    head = element("tr", *(element("th", one, scope="col", class_="w" if one in left else None) for one in heads))
    named = bool(front.references)
    body = [_line(front.plans[n], f"{anchor}-{n}", given, origins, f"point {n + 1}" * named) for n in shown]
    references = [_line(plan, None, given, origins, label) for label, plan in front.references.items()]
    some = f"{len(shown)} of its {len(front)} plans" if len(shown) < len(front) else f"its {len(front)} plans"
    caption = f"The front on {name}: {some}"
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", *body, *references))
    scrolled = element("div", whole, class_="scroll", role="region", tabindex=0, aria_label=caption)
    return folded(caption, scrolled)


def _line(plan: Plan, anchor: str | None, given: GivenPart[Frontier], origins: Origins, name: str = "") -> Html:
    origin, file = plan.provenance, given.told
    evidence = " and ".join(plan.every_device[0].latency_kinds(plan.counts))
    bytes_ = " and ".join(plan.every_device[0].bytes_kinds(plan.counts))
    source = f"{origin.table} ({origin.table_digest[7:19]})"
    ms = f"{file}: latency of a plan, {evidence}, by {origin.latency_model_label} from {source}"
    kept = f", kept with {100 * plan.confidence.asked:g} %" if plan.confidence else ""
    score = f"{file}: score of a plan by {origin.score_label} ({origin.score_digest[7:19]}): {origin.score_statement}"
    counts = f"{file}: counts of a plan, found by {origin.solver_label}"
    cells = [
        origins.number(format_bytes(plan.memory_bytes.predicted), f"{file}: memory of a plan, {bytes_}, from {source}"),
        origins.number(score_with_error(plan.score, plan.score_error), score),
        *(origins.number(str(count), counts) for count in plan.counts.values()),
    ]
    latency = origins.number(format_us(1000 * plan.kept_ms), ms + kept)
    last = element("td", borrowed(small_strip_svg(plan)), element("code", plan.written), class_="w strip")
    head = [element("th", name, scope="row", class_="w"), element("td", latency)]
    head = head if name else [element("th", latency, scope="row")]
    return element("tr", *head, *(element("td", cell) for cell in cells), last, id=anchor)

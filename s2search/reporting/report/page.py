"""The page of a campaign: one file, which loads nothing, runs nothing that a stranger wrote, and stays below 2 MB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from s2search.cost import format_bytes, format_us
from s2search.errors import InputError
from s2search.planner.plan import Plan
from s2search.reporting.report.campaign import CampaignParts, GivenPart
from s2search.reporting.report.design import designs_html
from s2search.reporting.report.file import page_file
from s2search.reporting.report.front import fronts_html
from s2search.reporting.report.markup import Html, element, joined, paragraph, section, verdict
from s2search.reporting.report.missing import KINDS, missing_html, not_given
from s2search.reporting.report.origins import Origins
from s2search.reporting.report.pictures import Pictures
from s2search.reporting.report.plan import plan_origin, plans_html
from s2search.reporting.report.recalibration import recalibrations_html
from s2search.reporting.report.training import training_html
from s2search.reporting.report.trust import tables_html, trust_lines
from s2search.reporting.report.verification import verifications_html

MOST_BYTES = 2_000_000
_MOST_TILES = 4  # parts of a kind whose figures stand at the beginning
_NOTE = "\x00note\x00"


@dataclass(frozen=True, kw_only=True)
class CampaignPage:
    """A page, and what is to be said of it.

    Attributes:
        html: The file's content.
        shown: Headings of the sections that have parts.
        not_given: A line for each section that has none.
        notes: What was made smaller or left out.
    """

    html: str
    shown: tuple[str, ...]
    not_given: tuple[str, ...]
    notes: tuple[str, ...]


def page_text(page: CampaignPage, path: str) -> RenderableType:
    """Return what the command says: what the page shows, what nobody gave, and what was made smaller."""
    lines = [
        f"{path}: {len(page.html.encode()) / 1e6:.2f} MB, one file that loads nothing",
        *(f"shows: {heading}" for heading in page.shown),
        *(f"lacks: {line}" for line in page.not_given),
        *page.notes,
    ]
    return Group(*map(Text, lines))


def campaign_html(campaign: CampaignParts, *, title: str, version: str) -> CampaignPage:
    """Return the page.

    Args:
        campaign: All parts.
        title: Of the page.
        version: Of s2search, which the page says that it was made by.

    Raises:
        InputError: Its text alone is too large.
    """
    origins, pictures = Origins(), Pictures()
    sections = _sections(campaign, origins, pictures)
    lacking = {field: told for told, field in not_given(campaign)}
    short = _short(campaign, origins)
    last = [
        section("missing", "What was not measured", missing_html(campaign, origins)),
        section("files", "What this page is made of", _files(campaign, version)),
        section("origins", "Where the numbers come from", origins.listed()),
    ]
    head = element("header", element("h1", title), paragraph(_subject(campaign)), Html(_NOTE))
    body = joined(
        [
            element("a", "Skip to the content", href="#main", class_="skip"),
            head,
            _contents(lacking),
            element("main", short, *sections.values(), *last, id="main", tabindex=-1),
            element("footer", f"Made by s2search {version}. This file loads nothing from anywhere."),
        ]
    )
    page, note = pictures.fill(page_file(title, body), MOST_BYTES - 500)
    notes = tuple(one for one in (note, *pictures.why_not) if one)
    page = page.replace(_NOTE, paragraph(f"{note}.", class_="small") if note else "")
    if (size := len(page.encode())) > MOST_BYTES:
        raise InputError(
            f"the page would have {size / 1e6:.1f} MB",
            allowed=f"{MOST_BYTES // 1_000_000} MB",
            remedy="name fewer parts",
        )
    shown = tuple(heading for field, (heading, _) in KINDS.items() if field not in lacking)
    return CampaignPage(html=page, shown=shown, not_given=tuple(lacking.values()), notes=notes)


def _subject(campaign: CampaignParts) -> str:
    devices = dict.fromkeys(given.part.table.card.device for given in campaign.tables)
    named = devices or dict.fromkeys(device.table for given in campaign.plans for device in given.part.every_device)
    return f"What was found, from table to package: {', '.join(named)}" if named else "What was found"


def _sections(campaign: CampaignParts, origins: Origins, pictures: Pictures) -> dict[str, Html]:
    """Return a section for every kind of part; of those that nobody gave it says so."""
    bodies = {
        "tables": lambda: tables_html(campaign.tables, origins),
        "fronts": lambda: fronts_html(campaign.fronts, origins),
        "designs": lambda: designs_html(campaign.designs, origins),
        "plans": lambda: plans_html(campaign.plans, campaign.promises, origins),
        "runs": lambda: training_html(campaign.runs, campaign.whole, campaign.clips, origins, pictures),
        "verifications": lambda: verifications_html(campaign.verifications, origins),
        "recalibrations": lambda: recalibrations_html(campaign.recalibrations, origins),
    }
    lacking = {field for _, field in not_given(campaign)}
    found = {}
    for field, (heading, how) in KINDS.items():
        nothing = paragraph(f"Nothing was given. To have it, {how}.", class_="none")
        found[field] = section(field, heading, nothing if field in lacking else bodies[field]())
    return found


def _contents(lacking: dict[str, str]) -> Html:
    named = {"short": "In short", **{field: heading for field, (heading, _) in KINDS.items()}}
    named |= {"missing": "What was not measured", "files": "Files", "origins": "Origins"}
    items = [
        element(
            "li",
            element("a", heading, href=f"#{anchor}"),
            element("span", " (nothing given)", class_="empty") if anchor in lacking else Html(),
        )
        for anchor, heading in named.items()
    ]
    return element("nav", element("ol", *items), aria_label="Sections")


def _short(campaign: CampaignParts, origins: Origins) -> Html:
    """Return the answer before all else: what was planned, whether it was kept, and what it stands on."""
    tiles = []
    for heading, some in _tiles(campaign, origins):
        every = [
            element("div", element("dt", name), element("dd", told, element("small", below)))
            for name, told, below in some
        ]
        tiles += [element("h3", heading), element("dl", *every, class_="tiles")]
    verdicts = [verdict(kind, line) for kind, line in _verdicts(campaign)]
    hint = (
        "Every underlined number tells where it comes from: rest the pointer on it, or go there with the Tab key. "
        "Arrow keys move among neighbours, Enter leads to the origin."
    )
    return section(
        "short",
        "In short",
        *(tiles or [paragraph("No plan, no package and no recalibration was given.")]),
        *verdicts,
        paragraph(hint, class_="hint"),
    )


def _tiles(campaign: CampaignParts, origins: Origins) -> Iterator[tuple[str, list[tuple[str, Html, str]]]]:
    """Yield groups of figures, each with what it is of: a name, the figure, and what it is held against."""
    for given in campaign.plans[:_MOST_TILES]:
        plan = given.part
        yield f"{given.name}: {plan.depth} layers on {plan.provenance.table}", list(_of_plan(given, origins))
    for verified in campaign.verifications[:_MOST_TILES]:
        found = verified.part
        passed = sum(check.status == "passed" for check in found.checks if check.required)
        required = sum(check.required for check in found.checks)
        shown = origins.number(f"{passed} of {required}", f"{verified.told}: required checks that ran and passed")
        yield (
            f"{verified.name}: {found.exporter}",
            [("Checks passed", shown, "verified" if found.passed else "NOT verified")],
        )
    for corrected in campaign.recalibrations[:_MOST_TILES]:
        errors = corrected.part.found.held_out
        whence = f"{corrected.told}: median error of held-out layouts, before and after the correction"
        shown = origins.number(f"{errors.before_median:.1%} to {errors.after_median:.1%}", whence)
        held = origins.number(f"{errors.layouts} layouts held out", whence)
        yield f"{corrected.name}: {corrected.part.found.table}", [("Error of the table", shown, held)]


def _of_plan(given: GivenPart[Plan], origins: Origins) -> Iterator[tuple[str, Html, str]]:
    plan = given.part
    latency, memory = plan.latency_ms, plan.memory_bytes
    took = origins.number(format_us(1000 * latency.predicted), plan_origin(given, "latency"))
    asked = f"{given.told}: budgets, as asked"
    of = "no budget" if latency.budget is None else f"of {format_us(1000 * latency.budget)}"
    yield "One forward pass", took, origins.number(of, asked)
    held = origins.number(format_bytes(memory.predicted), plan_origin(given, "memory"))
    of = "no budget" if memory.budget is None else f"of {format_bytes(memory.budget)}"
    yield "Memory", held, origins.number(of, asked)
    if plan.rate is not None:
        told = f"{plan.rate.frames_per_second[plan.commit]:.1f} fps"
        of = f"{plan.commit}, no budget" if plan.rate.budget is None else f"{plan.commit}, asked {plan.rate.budget:g}"
        yield "Frames per second", origins.number(told, plan_origin(given, "rate")), origins.number(of, asked)
    proof = "proven optimal" if plan.optimal else "not proven optimal"
    yield "Score", origins.number(f"{plan.score:.4f}", plan_origin(given, "score")), f"{plan.provenance.score}, {proof}"


def _verdicts(campaign: CampaignParts) -> Iterator[tuple[str, str]]:
    for given in campaign.tables:
        for kind, line in trust_lines(given):
            if kind != "good":
                yield kind, f"{given.part.table.name}: {line}"
    for plan in campaign.plans:
        if not plan.part.fits:
            yield "bad", f"{plan.name} does not fit what was asked"
    for verified in campaign.verifications:
        if not verified.part.passed:
            yield "bad", f"{verified.part.package} is not verified"
    for whole in campaign.whole:
        if not whole.part.holds:
            yield "bad", f"{whole.name}: the package is not verified, or is not what was planned"


def _files(campaign: CampaignParts, version: str) -> Html:
    rows = [
        element(
            "li",
            f"{given.name}",
            element("br"),
            element("code", given.schema or "a value"),
            " ",
            element("code", given.digest),
        )
        for given in campaign.every
    ]
    return joined(
        [paragraph(f"Read by s2search {version}; nothing else went in."), element("ul", *rows, class_="small")]
    )

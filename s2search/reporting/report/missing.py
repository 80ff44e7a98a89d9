"""What was not measured: parts that nobody gave, numbers that are no measurements, parts that do not go together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from s2search.planner.plan import Plan
from s2search.reporting.report.campaign import CampaignParts, GivenPart
from s2search.reporting.report.markup import Html, bullets, element, joined, paragraph
from s2search.reporting.report.origins import Origins
from s2search.tables.table import LatencyTable

#: Every kind of part: its field of `CampaignParts`, the heading of its section, and how one gives it.
KINDS = {
    "tables": ("Is the table to be trusted?", "name it: --table NAME, or a table's folder"),
    "fronts": ("The front", "give what s2search frontier --json printed"),
    "designs": ("What this device can do", "give what s2search design --json printed"),
    "plans": ("The plan, and why", "give a plan.json of s2search plan --out"),
    "runs": ("Training", "give the folder of s2search run or s2search train"),
    "verifications": ("Verification", "give a package's folder with its report.json"),
    "recalibrations": ("Recalibration", "give what s2search recalibrate --json printed"),
}
_MOST = 60


def missing_html(campaign: CampaignParts, origins: Origins) -> Html:
    """Return all of it; each line says of what it speaks."""
    parts = [
        *_said("Parts that do not go together", strangers(campaign), origins),
        *_said("Not given to this page", ((told, "") for told, _ in not_given(campaign)), origins),
        *_said("Not measured, by what the parts say themselves", unmeasured(campaign), origins),
    ]
    return (
        joined(parts) if parts else paragraph("Every kind of part was given, and none says that something is missing.")
    )


def _said(heading: str, lines: Iterable[tuple[str, str]], origins: Origins) -> list[Html]:
    """Return lines with their origins, where they have one, below a heading; nothing where there are none."""
    found = list(lines)
    shown = [origins.number(line, whence) if whence else line for line, whence in found[:_MOST]]
    more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return [element("h3", heading), bullets([*shown, *more])] if found else []


def not_given(campaign: CampaignParts) -> Iterator[tuple[str, str]]:
    """Yield a line for every kind of which there is no part, and its field."""
    for field, (heading, how) in KINDS.items():
        if not getattr(campaign, field) and not (field == "runs" and campaign.whole):
            yield f"{heading.rstrip('?')}: nothing was given. To have it, {how}.", field


def strangers(campaign: CampaignParts) -> Iterator[tuple[str, str]]:
    """Yield what shows that two parts are of different things: a plan of another table, a package of another plan."""
    tables = {given.part.table.digest: given.part.table.name for given in campaign.tables}
    for given in _priced(campaign):
        for device in given.part.every_device:
            if tables and device.table_digest not in tables:
                named = ", ".join(f"{name} ({digest[7:19]})" for digest, name in tables.items())
                yield (
                    f"{given.name} was made from {device.table} ({device.table_digest[7:19]}), which is no table here: "
                    f"there is {named}",
                    f"{given.told}: table_digest",
                )
    plans = {given.part.digest: given.name for given in campaign.plans}
    for verified in campaign.verifications:
        digest = verified.part.plan_digest
        if plans and digest is not None and digest not in plans:
            told = f"the package {verified.part.package} was made from a plan ({digest[7:19]}) that is not here"
            yield told, f"{verified.told}: plan_digest"
    for corrected in campaign.recalibrations:
        found = corrected.part.found
        if tables and not {found.table_digest, found.new_digest} & set(tables):
            told = f"the recalibration is of {found.table} ({found.table_digest[7:19]}), which is no table here"
            yield told, f"{corrected.told}: table_digest"


def _priced(campaign: CampaignParts) -> Iterator[GivenPart[Plan]]:
    """Yield plans, and one plan of each front."""
    yield from campaign.plans
    for given in campaign.fronts:
        yield GivenPart(part=given.part.plans[0], name=given.name, digest=given.digest)


def unmeasured(campaign: CampaignParts) -> Iterator[tuple[str, str]]:
    """Yield what parts say of themselves that nobody measured."""
    for judged in campaign.tables:
        table = judged.part.table
        kinds = {row.latency_provenance for row in table.rows} - {"measured"}
        if kinds:
            told = f"latencies of {table.name}: {_count(table, 'latency_provenance')}"
            yield told, f"{judged.name}, table.csv: latency_provenance"
        if {row.bytes_provenance for row in table.rows} - {"measured"}:
            told = f"bytes of {table.name}: {_count(table, 'bytes_provenance')}"
            yield told, f"{judged.name}, table.csv: bytes_provenance"
        if not judged.part.samples:
            yield f"{table.name} has no raw timings beside it", f"{judged.name}: its folder"
    for plan in campaign.plans:
        yield from _of_plan(plan)
    for whole in campaign.whole:
        if whole.part.distances is None:
            told = f"how far clips of {whole.name} are from real ones: {whole.part.no_distances or 'not said why'}"
            yield told, f"{whole.told}: distances"
    for run in campaign.runs:
        if run.part.judgement is None:
            yield f"{run.name} was not judged on held-out clips", f"{run.name}: no judgement.json"
    for verified in campaign.verifications:
        for check in verified.part.checks:
            if check.status == "not_run":
                yield f"the check {check.name} did not run: {check.why}", f"{verified.told}: the check {check.name}"


def _count(table: LatencyTable, column: str) -> str:
    kinds = Counter(getattr(row, column) for row in table.rows)
    return ", ".join(f"{count} rows {kind}" for kind, count in sorted(kinds.items()))


def _of_plan(given: GivenPart[Plan]) -> Iterator[tuple[str, str]]:
    plan, file = given.part, given.told
    for device in plan.every_device:
        kinds = device.latency_kinds(plan.counts)
        if set(kinds) != {"measured"}:
            yield (
                f"{given.name}: its latency on {device.table} is {' and '.join(kinds)}",
                f"{file}: provenance of blocks",
            )
        if not device.memory_bytes.decoder_counted:
            told = f"{given.name}: the decoder's memory on {device.table}, which comes on top"
            yield told, f"{file}: memory_bytes.decoder_counted"
        if device.latency_ms.free_switches:
            yield f"{given.name}: {device.latency_ms.free_switches}", f"{file}: latency_ms.free_switches"
        if device.rate is None:
            yield f"{given.name}: frames per second on {device.table}, whose card has no pipeline", f"{file}: rate"
    if plan.score_error is None:
        score = plan.provenance
        told = f"{given.name}: how sure its score is; {score.score_label} states no errors ({score.score_statement})"
        yield told, f"{file}: score_error"
    if plan.p95 is None:
        yield f"{given.name}: the 95th percentile of a pass, for which no budget asked", f"{file}: p95"

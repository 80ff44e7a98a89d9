"""The command `report`: one page that tells a campaign, from its documents and folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2search.api.values import PathText, table_of
from s2search.border.regular_file import read_regular
from s2search.document import check_writable, read_json, read_object, write_text
from s2search.errors import InputError
from s2search.registry import own_version
from s2search.tables.table import LatencyTable, installed_tables

if TYPE_CHECKING:
    from s2search.reporting.report.campaign import CampaignParts, GivenPart, JudgedTable, Learnt
    from s2search.reporting.report.page import CampaignPage

_MOST = 24  # parts of one kind
#: What a folder is, by a file that is in it.
_FOLDERS = {
    "stages.json": "a run from a budget to a video",
    "run.json": "a training run",
    "card.json": "a latency table",
    "report.json": "a verified package",
}


def report(
    out: PathText,
    parts: PathText | Sequence[PathText] = (),
    *,
    table: PathText | LatencyTable | Sequence[PathText | LatencyTable] = (),
    title: str | None = None,
) -> CampaignPage:
    """Write one page that tells a campaign: whether its numbers can be trusted, the answers, and what is missing.

    Args:
        out: The page; one file below 2 MB that loads nothing from anywhere.
        parts: Documents (what `--json` or `--out` of plan, plan check, frontier, design, verify and recalibrate wrote)
            and folders (of run, train, a table, or a package with its report.json). Which is which they say themselves.
        table: Latency tables, installed or a folder. Installed ones that plans and fronts were made from come by
            themselves.
        title: Of the page.

    Returns:
        The page, with what it shows and what nobody gave.

    Raises:
        InputError: A part is nothing that the page can show, there is nothing at all, or the page would be too large.
    """
    from s2search.reporting.report.page import campaign_html

    check_writable(Path(out))
    given = [parts] if isinstance(parts, str | os.PathLike) else [*parts]
    named = [table] if isinstance(table, str | os.PathLike | LatencyTable) else [*table]
    found = _campaign([Path(part) for part in given], [_judged(_opened(one)) for one in named])
    page = campaign_html(found, title=title or _title(found), version=own_version())
    write_text(Path(out), page.html)
    return page


def _campaign(parts: Sequence[Path], tables: list[GivenPart[JudgedTable]]) -> CampaignParts:
    """Return all parts by kind, each once, with the installed tables that they were made from."""
    from s2search.reporting.report.campaign import CampaignParts

    kinds: dict[str, list[GivenPart[Any]]] = {"tables": tables}
    clips: dict[str, bytes] = {}
    for part in parts:
        for kind, one in _part(part, clips):
            kinds.setdefault(kind, []).append(one)
    if not any(kinds.values()):
        raise InputError("a report of nothing", allowed=_allowed(), remedy="name a table, a plan or a run's folder")
    kinds["tables"] += _made_from(kinds)
    for kind, several in kinds.items():
        kinds[kind] = list({one.digest or str(n): one for n, one in enumerate(several)}.values())
        if len(kinds[kind]) > _MOST:
            raise InputError(
                f"{len(kinds[kind])} {kind} in one report", allowed=f"at most {_MOST}", remedy="name fewer"
            )
    return CampaignParts(**{kind: tuple(several) for kind, several in kinds.items()}, clips=clips)


def _title(found: CampaignParts) -> str:
    names = dict.fromkeys(given.part.table.name.partition(".")[0] for given in found.tables)
    return f"Campaign on {', '.join(names)}" if names else "Campaign"


def _allowed() -> str:
    return f"documents {', '.join(_documents())}; folders of {', of '.join(_FOLDERS.values())}"


def _documents() -> dict[str, tuple[str, Any]]:
    """Return how a document is read, and its kind, by its schema."""
    from s2search.designer.document import Design
    from s2search.planner.frontier import Frontier
    from s2search.planner.plan import Plan
    from s2search.planner.promise import PlanCheck
    from s2search.verification.result import Verification

    return {
        "s2search.design/1": ("designs", Design.load),
        "s2search.plan/1": ("plans", Plan.load),
        "s2search.plan_check/1": ("promises", lambda path: read_json(path, PlanCheck, what="check of a plan")),
        "s2search.frontier/1": ("fronts", Frontier.load),
        "s2search.verification/1": ("verifications", lambda path: read_json(path, Verification, what="verification")),
        "s2search.recalibration/1": ("recalibrations", _recalibrated),
    }


def _part(part: Path, clips: dict[str, bytes]) -> Iterator[tuple[str, GivenPart[Any]]]:
    """Yield the kind and value of what a path holds: one document, or what a folder has.

    Raises:
        InputError: It is nothing that the page shows.
    """
    if not part.is_dir():
        yield _document(part)
        return
    if (part / "stages.json").exists():
        yield from _whole_way(part, clips)
    elif (part / "run.json").exists():
        yield "runs", _learnt(part, part.name)
    elif (part / "card.json").exists():
        yield "tables", _judged(_opened(part), _called(part))
    elif (part / "report.json").exists():
        yield _document(part / "report.json")
    else:
        raise InputError(f"the folder {str(part)!r} is no part of a report", allowed=_allowed(), remedy="name another")


def _document(path: Path) -> tuple[str, GivenPart[Any]]:
    from s2search.reporting.report.campaign import GivenPart

    if path.name in ("card.json", "table.csv") and (path.parent / "card.json").exists():
        return "tables", _judged(_opened(path.parent), _called(path.parent))
    schema = str(read_object(path).get("schema"))
    known = _documents()
    if schema not in known:
        raise InputError(f"{str(path)!r} is no part of a report: its schema is {schema[:60]!r}", allowed=_allowed())
    kind, load = known[schema]
    return kind, GivenPart(part=load(path), name=_called(path), digest=_digest(path), schema=schema)


def _called(path: Path) -> str:
    """Return a path as it was named; of an absolute one its end, since others need not know where it lay."""
    return "/".join(path.parts[-2:]) if path.is_absolute() else path.as_posix()


def _digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(read_regular(path)).hexdigest()}"


def _recalibrated(path: Path) -> Any:
    from s2search.recalibration.result import Recalibration
    from s2search.recalibration.version import correction_text, memory_text
    from s2search.reporting.report.campaign import Recalibrated

    found = Recalibration.load(path)
    memory = memory_text(found.memory.correction) if found.memory else ""
    return Recalibrated(found=found, correction=correction_text(found.correction), memory=memory)


def _opened(table: PathText | LatencyTable) -> LatencyTable:
    if not isinstance(table, LatencyTable) and not str(table):
        raise InputError("a table without a name", remedy="name an installed one, or a folder")
    return table_of(table)


def _judged(table: LatencyTable, name: str = "") -> GivenPart[JudgedTable]:
    """Return a table with the linter's findings, and the names of its raw samples."""
    from s2search.lint.linter import lint, lint_table
    from s2search.reporting.report.campaign import GivenPart, JudgedTable

    folder = table.folder
    findings = lint_table(table) if folder is None else lint(folder)
    samples = () if folder is None else tuple(sorted(path.name for path in folder.glob("samples*.jsonl")))
    part = JudgedTable(table=table, findings=tuple(findings), samples=samples)
    return GivenPart(part=part, name=name or table.name, digest=table.digest, schema=table.card.schema)


def _made_from(kinds: dict[str, list[GivenPart[Any]]]) -> Iterator[GivenPart[JudgedTable]]:
    """Yield installed tables that plans and fronts name by their digests, and that nobody gave."""
    plans = [one.part for one in kinds.get("plans", ())] + [one.part.plans[0] for one in kinds.get("fronts", ())]
    named = {one.part.provenance.table_digest: one.part.provenance.table for one in kinds.get("designs", ())}
    asked = named | {device.table_digest: device.table for plan in plans for device in plan.every_device}
    there = {one.digest for one in kinds["tables"]}
    installed = installed_tables()
    for digest, name in asked.items():
        if digest not in there and name in installed and (table := table_of(installed[name])).digest == digest:
            yield _judged(table)


def _whole_way(folder: Path, clips: dict[str, bytes]) -> Iterator[tuple[str, GivenPart[Any]]]:
    """Yield what a folder of `s2search run` has: its plan, figures, training runs and verification."""
    from s2search.pipeline.record import PipelineRecord
    from s2search.pipeline.result import PipelineResult
    from s2search.reporting.report.campaign import GivenPart

    record = PipelineRecord.load(folder)
    figures = folder / "report" / "figures.json"
    if figures.exists():
        found = read_json(figures, PipelineResult, what="result of a run")
        yield "whole", GivenPart(part=found, name=folder.name, digest=_digest(figures), schema=found.schema)
    for document in (folder / "plan" / "plan.json", folder / "verify" / "report.json"):
        if document.exists():
            kind, one = _document(document)
            yield kind, replace(one, name=f"{folder.name}/{document.relative_to(folder).as_posix()}")
    for stage in record.stages:
        if Path(stage).name == stage != ".." and (folder / stage / "run.json").exists():
            yield "runs", _learnt(folder / stage, f"{folder.name}/{stage}")
    strip = folder / "stream" / "strip.png"
    if strip.exists():
        clips[folder.name] = read_regular(strip)


def _learnt(folder: Path, name: str) -> GivenPart[Learnt]:
    from s2search.reporting.report.campaign import GivenPart, Learnt
    from s2search.training.judgement import ModelJudgement
    from s2search.training.run_folder import JUDGEMENT, RECORD, STRIP, Record, read_metrics
    from s2search.training.watch import Watched

    record = read_json(folder / RECORD, Record, what="training run")
    metrics = list(read_metrics(folder))
    judged, strip = folder / JUDGEMENT, folder / STRIP
    part = Learnt(
        trainer=record.settings.trainer,
        steps=record.settings.optimizer.steps,
        data=str(record.settings.data),
        metrics=metrics,
        judgement=read_json(judged, ModelJudgement, what="judgement") if judged.exists() else None,
        watched=Watched.of(metrics),
        strip=read_regular(strip) if strip.exists() else b"",
    )
    return GivenPart(part=part, name=name, digest=_digest(folder / RECORD), schema=record.schema)

"""A run from a budget to a video, for people: lines while it goes on, what it came to, and the page of its folder."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes
from s2search.document import as_json
from s2search.reporting.distance import distance_lines, distances_text, with_error
from s2search.reporting.durations import duration
from s2search.reporting.progress import notice
from s2search.reporting.training import look_table, loss_curve

if TYPE_CHECKING:
    from s2search.api.run import PipelineOutcome
    from s2search.pipeline.execute import StageFate
    from s2search.pipeline.more_time import OneHourMore
    from s2search.pipeline.result import PipelineResult
    from s2search.pipeline.rival import RivalResult
    from s2search.training.run_folder import Row
    from s2search.training.watch import Watched

_HOW = (
    "More steps are an hour over the median time of a step of this run, for one stage alone. The loss is that of "
    "single steps: a line in the logarithm of the step, fitted to the last half and drawn on, to four times the steps "
    "at most. The learning rate of a longer run would fall later: an extrapolation, no promise."
)


@dataclass(kw_only=True)
class Teller:
    """Says of each stage what becomes of it.

    Attributes:
        total: How many there are.
        found: What became of those so far.
    """

    total: int
    found: list[StageFate] = field(default_factory=list)

    def tell(self, found: StageFate, seconds: float | None) -> None:
        """Print a line of a stage that is about to be made, or kept."""
        self.found.append(found)
        last = f" ({duration(seconds)} the last time)" if seconds and found.fate != "kept" else ""
        notice(f"stage {len(self.found)} of {self.total}, {_line(found)}{last}")


def foreseen_text(stages: Iterable[StageFate]) -> RenderableType:
    """Return what would become of each stage."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for found in stages:
        table.add_row(found.stage, found.fate, found.why)
    return table


def outcome_text(outcome: PipelineOutcome) -> RenderableType:
    """Return what a run came to."""
    kept = sum(found.fate == "kept" for found in outcome.stages)
    head = f"{outcome.folder}: {len(outcome.stages)} stages, {kept} of them kept"
    if outcome.result is None:
        return Text(head)
    found = outcome.result
    lines: list[RenderableType] = [Text(head), Text(), *map(Text, _facts(found)), Text(), _judged_table(found)]
    lines += [Text(), *_distances(found)]
    if found.more:
        lines += [Text(), _more_table(found.more), Text(_HOW)]
    lines += [Text(), Text(f"{outcome.folder}/clip.mp4, {outcome.folder}/report.html")]
    return Group(*lines)


def rival_lines(found: RivalResult) -> list[str]:
    """Return what was promised of the plan against another layout, and what came."""
    agree = "they agree" if found.agrees else "they do not agree"
    seeds = f"{len(found.seeds)} seeds" if len(found.seeds) > 1 else "1 seed, which says nothing of other seeds"
    return [
        f"rival: {found.rival} ({found.chosen})",
        f"the plan loses less by {found.promised:.4f} +- {found.promised_error:.4f} by the score, and by "
        f"{found.measured:.4f} +- {found.measured_error:.4f} trained ({seeds}, {found.steps} steps, {found.samples} "
        f"samples): within two standard errors {agree}",
        f"the score's values, corrected by that: times {found.factor:.2f} +- {found.factor_error:.2f}",
    ]


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a stage learnt.

    Attributes:
        stage: Its name.
        metrics: What it reported.
        blind: The loss of the blind baseline, for a stage that is judged.
        watched: What was seen of its model meanwhile.
        strip: A PNG picture of what its model draws, or nothing.
    """

    stage: str
    metrics: Sequence[Row]
    blind: float | None
    watched: Watched
    strip: bytes


def run_html(found: PipelineResult, strip: bytes, learnt: Sequence[Learning]) -> str:
    """Return a page that loads nothing from anywhere.

    Args:
        found: All figures.
        strip: A PNG picture of frames of the clips, side by side.
        learnt: The stages that train.
    """
    rows = [(one.stage, f"{one.seconds:.1f}", one.digest[7:19]) for one in found.stages]
    rows.append(("all", f"{sum(one.seconds for one in found.stages):.1f}", ""))
    content = [
        "<h1>From a budget to a video</h1>",
        *(f'<p class="verdict">{escape(line)}</p>' for line in _facts(found)),
        "<h2>What it shows</h2>",
        _picture(strip, "frames of the clips, side by side", found.prompt),
        "<h2>How good each stage's model is</h2>",
        _html_table(("stage", "steps", "samples", "loss", "times blind", "+-"), _judged_rows(found)),
        "<h2>How far what is made is from real clips</h2>",
        *_distances_html(found),
        "<h2>What each stage learnt</h2>",
        "<p>Loss over steps, and eight frames of what its model draws from noise, a row for each caption.</p>",
        *(part for one in learnt for part in _learning(one)),
        "<h2>What one hour more would buy</h2>",
        _html_table(_MORE, [_more_row(one) for one in found.more]),
        f"<p>{escape(_HOW)}</p>",
        "<h2>Stages</h2>",
        _html_table(("stage", "seconds", "files"), rows),
        "<h2>Settings</h2>",
        f"<pre>{escape(as_json(found.settings))}</pre>",
    ]
    page = resources.files("s2search.reporting").joinpath("training.html").read_text(encoding="utf-8")
    page = page.replace("<title>Training run: s2search</title>", "<title>From a budget to a video: s2search</title>")
    return page.replace("{{content}}", "\n".join(content))


def _learning(one: Learning) -> Iterator[str]:
    yield f"<h3>{escape(one.stage)}</h3>"
    yield loss_curve(one.metrics, one.blind)
    if one.watched.looks:
        yield look_table(one.watched)
    if one.strip:
        yield _picture(one.strip, f"what the model of {one.stage} draws", "")


def _picture(png: bytes, alt: str, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    data = base64.b64encode(png).decode()
    return f'<figure>{below}<img alt="{escape(alt)}" src="data:image/png;base64,{data}"></figure>'


_MORE = ("stage", "step, s", "steps", "in an hour", "loss", "at steps", "change")


def _line(found: StageFate) -> str:
    if found.fate == "kept":
        return f"{found.stage}: kept"
    return f"{found.stage}: {found.fate} ({found.why})"


def _facts(found: PipelineResult) -> list[str]:
    plan, package, check = found.plan, found.package, found.check
    error = "" if plan.score_error is None else f" +- {plan.score_error:.4f}"
    budget = ", ".join(plan.budget) or "none"
    failed = f": {', '.join(package.failed)}" if package.failed else ""
    verified = "verified" if package.verified else f"NOT verified{failed}"
    rates = "; ".join(f"{one.name}: {one.frames_per_second:.1f}" for one in found.streamed)
    return [
        f"plan: {plan.layout}, {plan.latency_ms:.1f} ms and {format_bytes(plan.memory_bytes)} on {plan.table} (budget "
        f"{budget}), score {plan.score:.4f}{error}",
        *([] if found.rival is None else rival_lines(found.rival)),
        f"data: {found.clips[0]} clips to train on, {found.clips[1]} held out",
        f"package: {package.exporter}, {format_bytes(package.file_bytes)}, {verified}",
        f"check: the package is {'what was planned' if check.holds else 'NOT what was planned'}: {check.layout}, "
        f"{check.latency_ms:.1f} ms by the table",
        f"frames per second here, weights read and clips decoded: {rates}",
    ]


def _judged_rows(found: PipelineResult) -> list[tuple[str, ...]]:
    return [
        (one.stage, str(one.steps), str(one.samples), f"{one.loss:.4f}", f"{one.ratio:.3f}", f"{one.ratio_error:.3f}")
        for one in found.judged
    ]


def _judged_table(found: PipelineResult) -> Table:
    table = _right("held-out loss", "steps", "samples", "loss", "times blind", "+-")
    for row in _judged_rows(found):
        table.add_row(*row)
    return table


def _distances(found: PipelineResult) -> list[RenderableType]:
    if found.distances is None:
        return [Text(f"distances: {found.no_distances}")]
    return [distances_text(found.distances)]


def _distances_html(found: PipelineResult) -> list[str]:
    if found.distances is None:
        return [f"<p>{escape(found.no_distances)}</p>"]
    names = tuple(found.distances.networks)
    rows = [
        (
            row.title,
            *(with_error(row.distances[name].mmd, row.distances[name].mmd_error) for name in names),
            *(with_error(row.distances[name].frechet, row.distances[name].frechet_error) for name in names),
            f"{row.std_ratio:.2f}",
            f"{row.motion_ratio:.2f}",
        )
        for row in found.distances.rows
    ]
    heads = *(f"MMD^2, {name}" for name in names), *(f"Fréchet, {name}" for name in names)
    table = _html_table(("clips", *heads, "s.d.", "motion"), rows)
    return [table, *(f"<p>{escape(line)}</p>" for line in distance_lines(found.distances))]


def _more_row(one: OneHourMore) -> tuple[str, ...]:
    if one.loss is None or one.loss_then is None:
        return one.stage, f"{one.step_s:.3g}", str(one.steps), f"{one.more_steps:,}", "", "", ""
    change = f"{one.loss_then - one.loss:+.4f} +- {one.error:.4f}" if one.clear else "no clear trend"
    numbers = f"{one.step_s:.3g}", str(one.steps), f"{one.more_steps:,}", f"{one.loss:.4f}", f"{one.drawn_to:,}"
    return one.stage, *numbers, change


def _more_table(more: Sequence[OneHourMore]) -> Table:
    table = _right(*_MORE)
    for one in more:
        table.add_row(*_more_row(one))
    return table


def _right(first: str, *names: str) -> Table:
    table = Table(first, box=None, pad_edge=False, header_style="")
    for name in names:
        table.add_column(name, justify="right")
    return table


def _html_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'

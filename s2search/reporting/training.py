"""A training run for people: what the command prints, and the page of the run's folder."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes
from s2search.document import as_json
from s2search.reporting.durations import duration

if TYPE_CHECKING:
    from s2search.training.engine import Outcome
    from s2search.training.estimate import RunEstimate
    from s2search.training.judgement import JudgedPart, ModelJudgement
    from s2search.training.run_folder import Record, Row
    from s2search.training.watch import Look, Watched

_WIDTH, _HEIGHT = 900, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 12, 40
_LOOK = ("step", "deviation / real", "motion / real")
_MOST_POINTS = 600  # of a curve 800 pixels wide
_SMOOTH = 1 / 20  # of the curve, which a point of the smooth one is the mean of


def outcome_text(found: Outcome) -> RenderableType:
    """Return where a run stopped, and how good its model is."""
    resumed = f" (went on at step {found.resumed_at})" if found.resumed_at else ""
    head = [Text(f"{found.folder}: {found.steps} steps{resumed}"), *([Text(found.left)] if found.left else [])]
    looks = ["", *_looks(found.watched)] if found.watched.looks else []
    if found.judgement is None:
        return Group(*head, *looks)
    return Group(*head, *looks, "", *_judged(found.judgement))


def estimate_text(found: RunEstimate) -> RenderableType:
    """Return what a run would cost, and all of its settings."""
    memory = ", ".join(f"{name} {format_bytes(amount)}" for name, amount in found.memory_bytes.items())
    facts = (
        f"{found.parameters:,} parameters\n"
        f"memory of a process {format_bytes(sum(found.memory_bytes.values()))}: {memory}\n"
        f"a step {found.step_s:.3g} s, all {found.settings.optimizer.steps:,} of them {duration(found.run_s)}"
    )
    return Text(f"{facts}\n\n{as_json(found.settings).rstrip()}")


def training_html(
    record: Record,
    metrics: Sequence[Row],
    judgement: ModelJudgement | None,
    strips: Mapping[str, bytes],
    left: str = "",
    watched: Watched | None = None,
) -> str:
    """Return a page that loads nothing from anywhere: loss, judgement per band of noise, and what the model draws.

    Args:
        record: What the run is.
        metrics: What it reported.
        judgement: How good its model is.
        strips: PNG pictures by what was asked of the model.
        left: What there is to say of what it left.
        watched: What was seen of the model while it was trained.
    """
    settings = record.settings
    content = [
        f"<h1>Training run: {escape(settings.trainer)}</h1>",
        f"<p>{settings.optimizer.steps:,} steps of {settings.optimizer.batch} clips; data {escape(settings.data)}, "
        f"model {escape(record.digests['model'][7:19])}, seed {settings.seed}</p>",
    ]
    if left:
        content.append(f"<p>{escape(left)}</p>")
    if judgement is not None:
        content += [f'<p class="verdict">{escape(line)}</p>' for line in map(judged_text, judgement.parts)]
    blind = None if judgement is None else judgement.parts[0].blind
    content += ["<h2>Loss on what it is trained on</h2>", loss_curve(metrics, blind)]
    if judgement is not None:
        content += ["<h2>Loss by noise level</h2>", *map(_bands, judgement.parts)]
        content.append(f"<p>blind: {escape(judgement.baseline)}</p>")
    if watched is not None and watched.looks:
        content += ["<h2>What it made, beside held-out clips</h2>", look_table(watched)]
    if strips:
        content.append("<h2>What it draws</h2>")
        content.append("<p>From noise alone, without guidance; eight frames from the first to the last.</p>")
    for asked, png in strips.items():
        data = base64.b64encode(png).decode()
        shown = escape(asked or "(no caption)")
        content.append(
            f'<figure><img alt="{shown}" src="data:image/png;base64,{data}"><figcaption>{shown}</figcaption></figure>'
        )
    content += ["<h2>Settings</h2>", f"<pre>{escape(as_json(record).rstrip())}</pre>"]
    template = resources.files("s2search.reporting").joinpath("training.html").read_text(encoding="utf-8")
    return template.replace("{{content}}", "\n".join(content))


def _judged(judgement: ModelJudgement) -> list[RenderableType]:
    table = Table("part", box=None, pad_edge=False, header_style="")
    for name in ("samples", "loss", "blind", "ratio"):
        table.add_column(name, justify="right")
    for part in judgement.parts:
        ratio = f"{part.ratio:.3f} +- {part.ratio_error:.3f}"
        table.add_row(part.name, str(part.samples), f"{part.loss:.4f}", f"{part.blind:.4f}", ratio)
    lines = [judged_text(part) for part in judgement.parts if not part.trained]
    of_bands = [one for part in judgement.parts if part.also for one in (_band_table(part), Text())]
    return [table, Text(), *of_bands, *map(Text, [f"blind: {judgement.baseline}", *lines])]


def _looks(watched: Watched) -> list[RenderableType]:
    """Return the first look, the best one and the last."""
    table = Table(*_LOOK[:1], box=None, pad_edge=False, header_style="")
    for name in (*(f"MMD^2 {name}" for name in watched.looks[0].seen.mmd), *_LOOK[1:]):
        table.add_column(name, justify="right")
    chosen = {look.step: look for look in (watched.looks[0], watched.best, watched.looks[-1]) if look}
    for step in sorted(chosen):
        table.add_row(*look_cells(chosen[step], watched))
    return [table]


def look_cells(look: Look, watched: Watched) -> list[str]:
    """Return a line of a table: the step, how far samples were by each network, their deviation and their motion."""
    seen, best = look.seen, watched.best
    name = f"{look.step}, the best" if best is not None and look.step == best.step else str(look.step)
    apart = (f"{value:.4f} +- {seen.mmd_error[name]:.4f}" for name, value in seen.mmd.items())
    return [name, *apart, f"{seen.std_ratio:.2f}", f"{seen.motion_ratio:.2f}"]


def look_heads(watched: Watched) -> list[str]:
    """Return the headings of a table of looks."""
    return [_LOOK[0], *(f"MMD^2 {name}" for name in watched.looks[0].seen.mmd), *_LOOK[1:]]


def look_table(watched: Watched) -> str:
    """Return all looks as a table in HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in look_heads(watched))
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in look_cells(look, watched)) + "</tr>"
        for look in watched.looks
    )
    said = "of averaged weights; MMD^2 is 0, but for its error, where what is made is as clips are"
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div><p>{said}</p>'


def _band_table(part: JudgedPart) -> Table:
    """Return what a trainer judges beside the loss, by noise level."""
    table = Table(f"{part.name}, s", box=None, pad_edge=False, header_style="")
    for name in ("samples", "loss", "blind", *part.also):
        table.add_column(name, justify="right")
    for band in part.bands:
        numbers = (f"{value:.4f}" for value in (band.loss, band.blind, *band.also.values()))
        table.add_row(f"{band.low:.1f} to {band.high:.1f}", str(band.samples), *numbers)
    return table


def judged_text(part: JudgedPart) -> str:
    """Return in one line how much better a model is than one that does not look."""
    times = f"{part.ratio:.3f} +- {part.ratio_error:.3f} times the blind baseline's loss"
    return f"{part.name}: {times}" + ("" if part.trained else ": UNTRAINED, no better than not to look")


def _bands(part: JudgedPart) -> str:
    rows = "".join(
        f"<tr><td>{band.low:.1f} to {band.high:.1f}</td><td>{band.samples}</td><td>{band.loss:.4f}</td>"
        f"<td>{band.blind:.4f}</td><td>{band.loss / band.blind:.3f}</td>"
        + "".join(f"<td>{value:.4f}</td>" for value in band.also.values())
        + "</tr>"
        for band in part.bands
    )
    head = "".join(f"<th>{name}</th>" for name in (escape(part.name), "samples", "loss", "blind", "ratio", *part.also))
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def loss_curve(metrics: Sequence[Row], blind: float | None) -> str:
    """Return a run's loss over its steps as SVG, in the colours of the page that it is put into.

    Args:
        metrics: What the run reported.
        blind: The loss of the blind baseline; none is drawn without it.
    """
    # What a trainer minimises beside the flow loss is no loss of the baseline's kind.
    name = "flow" if any(name == "flow" for _, name, _ in metrics) else "loss"
    points = [(step, value) for step, own, value in metrics if own == name and 0 < value < math.inf]
    if not points:
        return "<p>No step was reported.</p>"
    values = [value for _, value in points] + ([blind] if blind else [])
    low, high = math.log(min(values)), math.log(max(values))
    low, high = low - 0.03 * (high - low or 1), high + 0.03 * (high - low or 1)
    last = points[-1][0]

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - math.log(value)) / (high - low)

    def way(ends: Sequence[tuple[int, float]]) -> str:
        return "M" + "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in ends)

    points = _thinned(points)
    width = max(1, round(_SMOOTH * len(points)))
    smooth = []
    for i, (step, _) in enumerate(points):
        near = [value for _, value in points[max(0, i - width) : i + width + 1]]
        smooth.append((step, sum(near) / len(near)))
    ticks = [math.exp(low + (high - low) * share) for share in (0.05, 0.28, 0.5, 0.72, 0.95)]
    floor = _HEIGHT - _BOTTOM
    drawn = "".join(
        f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
        for tick in ticks
    )
    for share in (0, 0.25, 0.5, 0.75, 1):
        anchor = "end" if share == 1 else "middle"
        drawn += f'<text x="{x(share * last):.0f}" y="{floor + 16}" text-anchor="{anchor}">{share * last:.0f}</text>'
    drawn += f'<text x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">step</text>'
    drawn += f'<path class="raw" d="{way(points)}"/><path class="smooth" d="{way(smooth)}"/>'
    if blind:
        drawn += f'<path class="blind" d="M{_LEFT} {y(blind):.1f}H{_WIDTH - _RIGHT}"/>'
        drawn += (
            f'<text class="blind" x="{_WIDTH - _RIGHT}" y="{y(blind) - 6:.1f}" text-anchor="end">blind baseline</text>'
        )
    return f'<svg role="img" aria-label="loss over steps" viewBox="0 0 {_WIDTH} {_HEIGHT}">{drawn}</svg>'


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return so many points at most, each the mean of neighbours, at the last step of these.

    >>> len(_thinned([(step, 1.0) for step in range(5000)])), _thinned([(1, 2.0), (2, 4.0)])
    (556, [(1, 2.0), (2, 4.0)])
    """
    size = -(-len(points) // _MOST_POINTS)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]

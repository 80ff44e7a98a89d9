"""What was trained: how each model learnt, how good it is, what it draws, and what came of the whole way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from s2search.pipeline.result import PipelineResult
from s2search.reporting.distance import distance_lines, with_error
from s2search.reporting.report.campaign import GivenPart, Learnt
from s2search.reporting.report.markup import Html, borrowed, element, facts, folded, joined, paragraph, table, verdict
from s2search.reporting.report.origins import Origins
from s2search.reporting.report.pictures import Pictures
from s2search.reporting.run import rival_lines
from s2search.reporting.training import judged_text, look_cells, look_heads, loss_curve
from s2search.training.judgement import JudgedPart, ModelJudgement

_MOST_LOOKS = 24


def training_html(
    runs: Sequence[GivenPart[Learnt]],
    whole: Sequence[GivenPart[PipelineResult]],
    clips: Mapping[str, bytes],
    origins: Origins,
    pictures: Pictures,
) -> Html:
    """Return what came of whole ways first, then every training run."""
    parts = [part for given in whole for part in _whole(given, origins)]
    for name, png in clips.items():
        parts.append(
            pictures.figure(png, f"Frames of the clips of {name}, side by side", f"{name}: frames of the clips")
        )
    parts += [part for given in runs for part in _run(given, origins, pictures)]
    return joined(parts)


def _whole(given: GivenPart[PipelineResult], origins: Origins) -> Iterator[Html]:
    found, file = given.part, given.told
    yield element("h3", f"From a budget to a video: {given.name}")
    yield verdict(
        "good" if found.holds else "bad",
        "the package is verified, and is what was planned"
        if found.holds
        else "the package is not verified, or is not what was planned",
    )
    train, held = found.clips
    told = [
        ("Prompt", found.prompt),
        ("Clips", origins.number(f"{train} to train on, {held} held out", f"{file}: clips of the data set")),
        *(
            (
                f"Streamed by {one.name}",
                origins.number(
                    f"{one.frames} frames at {one.frames_per_second:.1f} frames per second",
                    f"{file}: streamed, timed on the machine of the run, weights read and clips decoded",
                ),
            )
            for one in found.streamed
        ),
    ]
    if found.rival is not None:
        lines = "\n".join(rival_lines(found.rival))
        told.append(
            ("Rival", origins.lines(lines, f"{file}: rival, both layouts trained alike and judged on one data set"))
        )
    yield facts(told)
    yield from _distances(found, file, origins)
    if found.more:
        yield _more(found, file, origins)


def _distances(found: PipelineResult, file: str, origins: Origins) -> Iterable[Html]:
    if found.distances is None:
        return [paragraph(f"How far clips are from real ones was not measured: {found.no_distances}", class_="none")]
    names = list(found.distances.networks)
    origin = f"{file}: distances of clips to held-out ones, with standard errors"
    rows = [
        [
            row.title,
            *(
                origins.number(with_error(row.distances[name].mmd, row.distances[name].mmd_error), origin)
                for name in names
            ),
            origins.number(f"{row.std_ratio:.2f}", origin),
            origins.number(f"{row.motion_ratio:.2f}", origin),
        ]
        for row in found.distances.rows
    ]
    heads = ("clips", *(f"MMD squared, {name}" for name in names), "deviation / real", "motion / real")
    lines = [paragraph(origins.number(line, origin), class_="small") for line in distance_lines(found.distances)]
    return [table("How far what is made is from real clips", heads, rows), *lines]


def _more(found: PipelineResult, file: str, origins: Origins) -> Html:
    origin = f"{file}: more, a line through the losses of the last half, drawn on; no promise"
    rows = []
    for one in found.more:
        if one.loss is None or one.loss_then is None:
            change = Html(), Html(), "not known"
        else:
            gain = f"{one.loss_then - one.loss:+.4f} +- {one.error:.4f}" if one.clear else ""
            loss = origins.number(f"{one.loss:.4f}", origin)
            change = loss, origins.number(f"{one.drawn_to:,}", origin), origins.number(gain, origin) or "no clear trend"
        more = origins.number(f"{one.more_steps:,}", f"{file}: an hour over the median time of a step")
        rows.append((one.stage, origins.number(str(one.steps), f"{file}: steps of the stage"), more, *change))
    heads = ("stage", "steps", "in an hour more", "loss now", "drawn on to step", "change by then")
    return table("What one hour more would buy", heads, rows)


def _run(given: GivenPart[Learnt], origins: Origins, pictures: Pictures) -> Iterator[Html]:
    run, file = given.part, given.name
    yield element("h3", f"{given.name}: {run.trainer}")
    yield facts(
        [
            ("Steps", origins.number(f"{run.steps:,}", f"{file}/run.json: settings.optimizer.steps, as asked")),
            ("Data", origins.number(run.data, f"{file}/run.json: settings.data")),
        ]
    )
    blind = None if run.judgement is None else run.judgement.parts[0].blind
    caption = "Loss over steps, its scale logarithmic; the thick line is a running mean"
    origin = origins.number("metrics.csv", f"{file}/metrics.csv: what the trainer reported of single steps")
    yield element(
        "figure", borrowed(loss_curve(run.metrics, blind)), element("figcaption", f"{caption}; from ", origin)
    )
    if run.judgement is not None:
        yield from _judged(run.judgement, file, origins)
    else:
        yield paragraph("It was not judged on held-out clips.", class_="none")
    if run.watched.looks:
        yield _looks(run, file, origins)
    if run.strip:
        said = (
            f"What the model of {given.name} draws from noise alone: eight frames of each clip, a row for each caption"
        )
        yield pictures.figure(run.strip, said, f"{given.name}: what its model draws, eight frames from first to last")


def _judged(judgement: ModelJudgement, file: str, origins: Origins) -> Iterator[Html]:
    origin = f"{file}/judgement.json: mean of |v_hat - v|^2 over samples; blind: {judgement.baseline}"
    for part in judgement.parts:
        yield verdict("good" if part.trained else "bad", origins.number(judged_text(part), origin))
    yield folded("Loss by noise level", *(_bands(part, origin, origins) for part in judgement.parts))


def _bands(part: JudgedPart, origin: str, origins: Origins) -> Html:
    rows = [
        [
            origins.number(f"{band.low:.1f} to {band.high:.1f}", origin),
            *(
                origins.number(said, origin)
                for said in (
                    f"{band.samples}",
                    f"{band.loss:.4f}",
                    f"{band.blind:.4f}",
                    f"{band.loss / band.blind:.3f}" if band.blind else "",
                    *(f"{value:.4f}" for value in band.also.values()),
                )
            ),
        ]
        for band in part.bands
    ]
    heads = ("noise level", "samples", "loss", "blind", "ratio", *(part.bands[0].also if part.bands else ()))
    return table(f"Loss by noise level: {part.name}", heads, rows, words=0)


def _looks(run: Learnt, file: str, origins: Origins) -> Html:
    origin = f"{file}/metrics.csv: samples of the averaged weights, held against held-out clips"
    looks = run.watched.looks
    shown = looks if len(looks) <= _MOST_LOOKS else (*looks[: _MOST_LOOKS // 2], *looks[-_MOST_LOOKS // 2 :])
    rows = [[origins.number(cell, origin) for cell in look_cells(look, run.watched)] for look in shown]
    caption = "What it made, beside held-out clips" + (" (the first looks and the last)" if shown is not looks else "")
    return table(caption, look_heads(run.watched), rows, words=0)

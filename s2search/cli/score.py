"""`s2search score`: what candidates are worth at each layer of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2search.cli.examples import epilog
from s2search.cli.options import FigureOption, check_outputs, is_first_process, printed_anyway, say
from s2search.errors import InputError, keeping

if TYPE_CHECKING:
    from s2search.score.check import ScoreCheck

score_app = typer.Typer(help="Measure what candidates are worth at each layer.", epilog=epilog("score"))


@score_app.callback()
def score() -> None:
    """Measure what candidates are worth at each layer."""


@score_app.command("measure", epilog=epilog("score measure"))
def score_measure(
    weights: Annotated[Path, typer.Argument(help="A trained model whose layers all run in the high stream.")],
    data: Annotated[Path, typer.Option(help="A folder that `data make` wrote.")],
    out: Annotated[Path, typer.Option(help="The folder. An unfinished measurement is finished.")],
    candidates: Annotated[str, typer.Option(help="Blocks to choose from.")] = "lcha,ssa,kv_compressed",
    runs: Annotated[
        list[int] | None, typer.Option(help="Also runs of low candidates over so many layers. Repeatable.")
    ] = None,
    steps: Annotated[
        list[int] | None,
        typer.Option(help="Of training: a shorter time and the whole. Twice.", show_default="90, 180"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips of a step.")] = 8,
    samples: Annotated[int, typer.Option(min=2, help="Held out, to compare on.")] = 512,
    lr: Annotated[float, typer.Option(help="Learning rate at its highest.")] = 2e-3,
    shift: Annotated[float, typer.Option(help="How far noise levels are pushed towards 1.")] = 3.0,
    text: Annotated[
        str | None, typer.Option(help="Text encoder.", show_default="hashing, as wide as the model")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and noise.")] = 0,
    device: Annotated[str, typer.Option(help="Where it is computed: cpu or cuda.")] = "cpu",
) -> int:
    """Measure what a trained model loses where candidates stand in for its layers."""
    from s2search.api.score import score_measure as run
    from s2search.reporting.score import score_text

    times = tuple(steps or (90, 180))
    if len(times) != 2:
        raise InputError(f"--steps is given {len(times)} times", allowed="twice: a shorter time and the whole")
    found = run(
        weights,
        data,
        out,
        candidates=candidates,
        runs=tuple(runs or ()),
        steps=(times[0], times[1]),
        batch=batch,
        samples=samples,
        lr=lr,
        shift=shift,
        text=text,
        seed=seed,
        device=device,
    )
    say(score_text(found, out))
    return 0


@score_app.command("judge", epilog=epilog("score judge"))
def score_judge(
    score: Annotated[Path, typer.Argument(help="score.json that `score measure` wrote.")],
    check: Annotated[Path, typer.Argument(help="check.json that `score check` wrote of another one.")],
    out: Annotated[Path | None, typer.Option(help="Write it as a check of this score.")] = None,
    figure: FigureOption = None,
) -> int:
    """Say how a score orders trained layouts of another model; 1 where it does not reach what a plan asks of it."""
    from s2search.api.score import score_judge as run
    from s2search.reporting.score import check_text

    check_outputs(out, figure)
    for given in (score, check):
        if out is not None and out.exists() and given.exists() and out.samefile(given):
            raise InputError(f"--out {str(out)!r} would overwrite what is judged", remedy="choose another name")
    found = run(score, check)

    def show(found: ScoreCheck) -> None:
        say(check_text(found))

    with printed_anyway(show), keeping(found):
        if out is not None:
            found.save(out)
        if figure is not None:
            from s2search.reporting.score import check_figure

            check_figure(found, figure)
    show(found)
    return 0 if found.passed else 1


@score_app.command("check", epilog=epilog("score check"))
def score_check(
    scores: Annotated[Path, typer.Argument(help="A folder that `score measure` wrote.")],
    weights: Annotated[Path, typer.Argument(help="The model that it was measured on.")],
    data: Annotated[Path, typer.Option(help="The clips.")],
    high: Annotated[str, typer.Option(help="The candidate of the high stream.")] = "lcha",
    low: Annotated[str, typer.Option(help="That of the low stream.")] = "ssa",
    low_layers: Annotated[
        int | None, typer.Option(min=1, help="Low layers of each layout.", show_default="half of them")
    ] = None,
    begins_high: Annotated[
        bool, typer.Option("--begins-high", help="Draw only layouts whose first layer is high, as plans have it.")
    ] = False,
    layouts: Annotated[int, typer.Option(min=3, help="How many are drawn.")] = 16,
    seeds: Annotated[int, typer.Option(min=1, help="How often each is tuned.")] = 3,
    steps: Annotated[int, typer.Option(min=0, help="Of tuning.")] = 60,
    batch: Annotated[int, typer.Option(min=1, help="Clips of a step.")] = 8,
    samples: Annotated[int, typer.Option(min=2, help="Held out, to compare on.")] = 512,
    lr: Annotated[float, typer.Option(help="Learning rate at its highest.")] = 1e-3,
    shift: Annotated[float, typer.Option(help="How far noise levels are pushed towards 1.")] = 3.0,
    text: Annotated[str | None, typer.Option(help="Text encoder; hashing by default.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the layouts.")] = 0,
    device: Annotated[str, typer.Option(help="Where it is computed: cpu or cuda.")] = "cpu",
    figure: FigureOption = None,
) -> int:
    """Train layouts, and say how a measured score orders them; 1 where it does not reach what a plan asks of it."""
    from s2search.api.score import score_check as run
    from s2search.reporting.score import check_text

    if figure is not None:
        from s2search.document import check_writable

        check_writable(figure)
    found = run(
        scores,
        weights,
        data,
        high=high,
        low=low,
        low_layers=low_layers,
        begins_high=begins_high,
        layouts=layouts,
        seeds=seeds,
        steps=steps,
        batch=batch,
        samples=samples,
        lr=lr,
        shift=shift,
        text=text,
        seed=seed,
        device=device,
    )
    say(check_text(found))
    if figure is not None and is_first_process():
        from s2search.reporting.score import check_figure

        check_figure(found, figure)
    return 0 if found.passed or not is_first_process() else 1

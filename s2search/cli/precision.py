"""`s2search sensitivity` and `s2search plan precision`: what precision costs, part by part, and which to take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.options import (
    LayoutOption,
    PlanOption,
    PresetOption,
    VideoOption,
    WeightsArgument,
    check_outputs,
    printed_anyway,
    say,
    say_json,
    say_misleading,
)
from s2search.errors import keeping
from s2search.precision.documents import Palette


def sensitivity(
    out: Annotated[Path, typer.Option(help="The file to write: sensitivity.json. An unfinished sweep is finished.")],
    weights: WeightsArgument = None,
    preset: PresetOption = None,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Untrained weights: to try it out.")] = False,
    plan: PlanOption = None,
    layout: LayoutOption = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Precisions to try: float16, w4a16, w4g32a8. Repeatable.", show_default="7 of them"),
    ] = None,
    palette: Annotated[Palette, typer.Option(help="How tables of values are found.")] = "kmeans",
    video: VideoOption = "256x144",
    chunks: Annotated[int, typer.Option(min=1, help="Chunks of the stream that is compared.")] = 4,
    mixtures: Annotated[
        int, typer.Option(min=0, help="Random assignments that test whether the noise of parts adds up.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of inputs, mixtures and random weights.")] = 0,
) -> int:
    """Measure what each precision of each part of a model costs, in noise of the velocity."""
    from s2search.api.precision import sensitivity as run
    from s2search.reporting.precision import sensitivity_text

    with printed_anyway(lambda found: say(sensitivity_text(found))):
        found = run(
            out,
            weights,
            preset=preset,
            random_weights=random_weights,
            plan=plan,
            layout=layout,
            precision=precision or (),
            palette=palette,
            video=video,
            chunks=chunks,
            mixtures=mixtures,
            seed=seed,
        )
    say(sensitivity_text(found))
    return 0


def plan_precision(
    file: Annotated[Path, typer.Argument(metavar="SENSITIVITY", help="What s2search sensitivity wrote.")],
    budget: Annotated[
        list[str] | None, typer.Option(help="Limit on all weights: 1.2MB; with --table also on latency: 260ms.")
    ] = None,
    least_db: Annotated[float | None, typer.Option(help="Signal-to-noise ratio of the velocity, dB.")] = None,
    table: Annotated[str | None, typer.Option(help="Latency table with rows of several precisions.")] = None,
    solver: Annotated[str, typer.Option(help="dynamic, milp, exhaustive, ...")] = "dynamic",
    out: Annotated[Path | None, typer.Option(help="Write the choice as JSON: precision.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> int:
    """Choose the precision of every part, exactly: least noise within a budget, or fewest bytes at a quality."""
    from s2search.api.precision import plan_precision as run
    from s2search.precision.documents import PrecisionPlan, Sensitivity
    from s2search.reporting.precision import precision_text

    check_outputs(out)
    found = Sensitivity.load(file)
    answer = run(found, budget=budget or (), least_db=least_db, table=table, solver=solver)
    say_misleading([] if table is None else [table])

    def show(answer: PrecisionPlan) -> None:
        if as_json:
            say_json(answer.to_json())
        else:
            say(precision_text(answer, found))

    with printed_anyway(show), keeping(answer):
        if out is not None:
            answer.save(out)
    show(answer)
    return 0

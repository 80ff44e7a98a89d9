"""`s2search frontier`: the best score for every latency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2search.cli.options import FigureOption, check_outputs, printed_anyway, say, say_json
from s2search.cli.plan import (
    CandidatesOption,
    CountOption,
    DepthOption,
    FirstOption,
    GroupOption,
    LastOption,
    ModelOption,
    PrecisionOption,
    ScenarioOption,
    ScoreCheckOption,
    ScoreOption,
    SizeOption,
    SolverOption,
    SwitchesOption,
    UnitOption,
)
from s2search.errors import InputError, keeping
from s2search.space import DEFAULT_CANDIDATES
from s2search.tables.table import DEFAULT_TABLE

if TYPE_CHECKING:
    from s2search.planner.frontier import Frontier
    from s2search.planner.plan import Plan


def frontier(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Write the front as CSV, with its provenance.")] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="Latency table, installed or a folder. Repeatable: the front is over the first one's latency, and the "
            "others keep budgets of their own, NAME:16ms,1.1GB.",
            show_default=DEFAULT_TABLE,
        ),
    ] = None,
    scenario: ScenarioOption = "stream",
    depth: DepthOption = None,
    group_size: GroupOption = 1,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    score: ScoreOption = "published",
    score_check: ScoreCheckOption = None,
    budget: Annotated[list[str] | None, typer.Option(help="Memory budget of the whole front: 1.1GB.")] = None,
    count: CountOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    max_switches: SwitchesOption = None,
    confidence: Annotated[
        float | None, typer.Option(help="Keep every plan's latency with this probability: 0.95.")
    ] = None,
    points: Annotated[int, typer.Option(min=2, help="Latency budgets to try between the fastest and the best.")] = 40,
    solver: SolverOption = "dynamic",
    latency_model: ModelOption = "lookup",
    video: SizeOption = None,
    precision: PrecisionOption = None,
    compute_unit: UnitOption = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Trace another table with the same question, and draw it beside this one. Repeatable."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the front as JSON (schema s2search.frontier/1).")
    ] = False,
    figure: FigureOption = None,
    html: Annotated[Path | None, typer.Option(help="Write an interactive page: one file, no network.")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Draw this front as well, as --json printed it. Repeatable.")
    ] = None,
) -> int:
    """Trace the best score for every latency, at one memory budget."""
    from s2search.api.frontier import frontier as run
    from s2search.cli.project import asked

    check_outputs(out, figure, others=(html,))
    others = _fronts(beside or [])
    front = asked(context, run)(
        table or DEFAULT_TABLE,
        scenario=scenario,
        depth=depth,
        group_size=group_size,
        candidates=candidates,
        score=score,
        score_check=score_check,
        budget=budget or (),
        count=count or (),
        first=first,
        last=last,
        max_switches=max_switches,
        confidence=confidence,
        points=points,
        solver=solver,
        latency_model=latency_model,
        video=video,
        precision=precision,
        compute_unit=compute_unit,
        compare=compare or (),
    )
    drawn = {name: one.plans for name, one in front.beside.items()} | others

    def show(front: Frontier) -> None:
        if as_json:
            say_json(front.to_json())
        else:
            say(front)

    with printed_anyway(show), keeping(front):
        if out:
            front.save(out)
        if figure:
            from s2search.reporting.figures import front_figure, save_figure

            save_figure(front_figure(front.plans, front.references, drawn), figure)
        if html:
            from s2search.reporting.html import front_html, save_html

            save_html(front_html(front.plans, front.references, drawn), html)
    show(front)
    return 0


def _fronts(files: list[Path]) -> dict[str, tuple[Plan, ...]]:
    """Return fronts by the names of their files."""
    from s2search.planner.frontier import Frontier

    for twice in {file.stem for file in files if [other.stem for other in files].count(file.stem) > 1}:
        raise InputError(f"two fronts beside this one are called {twice!r}", remedy="rename one of the files")
    return {file.stem: Frontier.load(file).plans for file in files}

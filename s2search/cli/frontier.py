"""`s2search frontier`: the best score for every latency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.options import FigureOption, check_outputs, say, say_misleading
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
    ScoreOption,
    SizeOption,
    SolverOption,
    SwitchesOption,
    UnitOption,
)
from s2search.space import DEFAULT_CANDIDATES
from s2search.tables.table import DEFAULT_TABLE


def frontier(
    out: Annotated[Path, typer.Option(help="Write the front as CSV.")],
    table: Annotated[str, typer.Option(help="Installed latency table, or a table's folder.")] = DEFAULT_TABLE,
    scenario: ScenarioOption = "stream",
    depth: DepthOption = 28,
    group_size: GroupOption = 1,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    score: ScoreOption = "published",
    budget: Annotated[list[str] | None, typer.Option(help="Memory budget of the whole front: 1.1GB.")] = None,
    count: CountOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    max_switches: SwitchesOption = None,
    points: Annotated[int, typer.Option(min=2, help="Latency budgets to try between the fastest and the best.")] = 40,
    solver: SolverOption = "dynamic",
    latency_model: ModelOption = "lookup",
    video: SizeOption = None,
    precision: PrecisionOption = None,
    compute_unit: UnitOption = None,
    figure: FigureOption = None,
    html: Annotated[Path | None, typer.Option(help="Write an interactive page: one file, no network.")] = None,
) -> int:
    """Trace the best score for every latency, at one memory budget."""
    from s2search.api.frontier import frontier as run
    from s2search.api.question import tables_of

    check_outputs(out, figure)
    check_outputs(html)
    front = run(
        table,
        scenario=scenario,
        depth=depth,
        group_size=group_size,
        candidates=candidates,
        score=score,
        budget=budget or (),
        count=count or (),
        first=first,
        last=last,
        max_switches=max_switches,
        points=points,
        solver=solver,
        latency_model=latency_model,
        video=video,
        precision=precision,
        compute_unit=compute_unit,
    )
    say_misleading(tables_of(table, latency_model))
    front.save(out)
    if figure:
        from s2search.report.figures import front_figure, save_figure

        save_figure(front_figure(front.plans, front.references), figure)
    if html:
        from s2search.report.html import front_html, save_html

        save_html(front_html(front.plans, front.references), html)
    say(front)
    return 0

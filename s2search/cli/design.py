"""`s2search design`: which video a device can have, when everything beside the layout is a choice as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2search.cli.options import FigureOption, check_outputs, printed_anyway, say, say_json, say_misleading
from s2search.cli.plan import (
    CandidatesOption,
    CountOption,
    DecodeOption,
    FirstOption,
    GroupOption,
    LastOption,
    ScoreCheckOption,
    ScoreOption,
    SolverOption,
    SwitchesOption,
    TextOption,
    UnitOption,
)
from s2search.errors import keeping
from s2search.space import DEFAULT_CANDIDATES
from s2search.tables.table import DEFAULT_TABLE

if TYPE_CHECKING:
    from s2search.designer.document import Design


def design(
    table: Annotated[str, typer.Option(help="Latency table, installed or a folder.")] = DEFAULT_TABLE,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="Limit: 10fps, 1.2GB (the whole application), first:800ms, 260ms a pass. May be repeated."),
    ] = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(
            help="Values to choose among: steps=1|2|4,video=512x288|768x432. Axes: video, steps, width, depth, window, "
            "precision, chunk, decoder, text_encoder, commit, residency. May be repeated."
        ),
    ] = None,
    fix: Annotated[list[str] | None, typer.Option(help="An axis at one value: video=512x288.")] = None,
    prefer: Annotated[
        str | None,
        typer.Option(help="What is best, the most important first.", show_default="video,quality,steps,...,score"),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(help="A row of the matrix, frames per second. May be repeated.", show_default="5 to 30"),
    ] = None,
    quality: Annotated[
        str, typer.Option(help="Quality across axes: published, trained[run=FOLDER], or a JSON file.")
    ] = "published",
    score: ScoreOption = "published",
    score_check: ScoreCheckOption = None,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    group_size: GroupOption = 1,
    count: CountOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    max_switches: SwitchesOption = None,
    text_ms: TextOption = None,
    decode_ms: DecodeOption = None,
    solver: SolverOption = "dynamic",
    latency_model: Annotated[
        str, typer.Option(help="How rows that nobody measured are foretold: linear, lookup, ...")
    ] = "linear",
    compute_unit: UnitOption = None,
    solve_all: Annotated[bool, typer.Option("--all", help="Search also what bounds rule out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.design/1).")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the design as JSON to this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every design that is named, as CSV.")] = None,
    figure: FigureOption = None,
    html: Annotated[Path | None, typer.Option(help="Write an interactive page: one file, no network.")] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Draw this design as well, as --json printed it. Repeatable.")
    ] = None,
) -> int:
    """Say what is possible: for every rate and number of steps the best design, exactly."""
    from s2search.api.design import design as run
    from s2search.api.values import table_of
    from s2search.designer.document import Design

    check_outputs(out, figure, others=(csv, html))
    others = [Design.load(file) for file in beside or []]
    opened = table_of(table)
    found = run(
        opened,
        budget=budget or (),
        choose=choose or (),
        fix=fix or (),
        prefer=prefer,
        rate=rate or (),
        quality=quality,
        score=score,
        score_check=score_check,
        candidates=candidates,
        group_size=group_size,
        count=count or (),
        first=first,
        last=last,
        max_switches=max_switches,
        text_ms=text_ms,
        decode_ms=decode_ms,
        solver=solver,
        latency_model=latency_model,
        compute_unit=compute_unit,
        solve_all=solve_all,
    )
    say_misleading([opened])

    def show(found: Design) -> None:
        if as_json:
            say_json(found.to_json())
        else:
            say(found)

    with printed_anyway(show), keeping(found):
        if out:
            found.save(out)
        if csv:
            found.save_csv(csv)
        if figure:
            from s2search.reporting.design_figure import design_figure
            from s2search.reporting.figures import save_figure

            save_figure(design_figure([found, *others]), figure)
        if html:
            from s2search.reporting.design_page import design_html
            from s2search.reporting.html import save_html

            save_html(design_html([found, *others]), html)
    show(found)
    return 1 if found.missing else 0

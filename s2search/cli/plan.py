"""`s2search plan` and `s2search frontier`: the best layout within budgets, and at all budgets."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2search.block import Scenario
from s2search.cost import CommitPolicy
from s2search.errors import InfeasibleError, InputError
from s2search.space import DEFAULT_CANDIDATES
from s2search.tables.table import DEFAULT_TABLE

if TYPE_CHECKING:
    from rich.console import RenderableType

    from s2search.cost import Budget
    from s2search.planner.plan import Plan
    from s2search.planner.request import Request, Target
    from s2search.solver.base import Solver

_FIGURES = (".png", ".svg", ".pdf")

plan_app = typer.Typer()


TableOption = Annotated[str, typer.Option(help="Installed latency table, or a table's folder.")]
ScenarioOption = Annotated[Scenario, typer.Option(help="stream: a chunk with its window. clip: bidirectional.")]
DepthOption = Annotated[int, typer.Option(help="Layers of the model.")]
GroupOption = Annotated[int, typer.Option(help="Neighbouring layers that take the same block.")]
CandidatesOption = Annotated[str, typer.Option(help="Blocks to choose from, such as lcha,lcha[gate=false],ssa.")]
ScoreOption = Annotated[str, typer.Option(help="Installed score, or a JSON file of scores.")]
CommitOption = Annotated[CommitPolicy, typer.Option(help="Forward passes per chunk: steps, or steps + 1 (clean_pass).")]
VideoOption = Annotated[str | None, typer.Option(help="Video size, where the table holds several: 512x288.")]
PrecisionOption = Annotated[str | None, typer.Option(help="Precision, where the table holds several.")]
UnitOption = Annotated[str | None, typer.Option(help="Compute unit, where the table holds several.")]
ModelOption = Annotated[str, typer.Option(help="Latency model: lookup, interpolate, ...")]
SolverOption = Annotated[str, typer.Option(help="Solver: dynamic, milp, exhaustive, allocation, nsga2, ...")]
CountOption = Annotated[list[str] | None, typer.Option(help="Layers of a block: ssa=16 or ssa=10..14. Repeatable.")]
FirstOption = Annotated[str | None, typer.Option(help="Blocks of the first layers: lcha*2.")]
LastOption = Annotated[str | None, typer.Option(help="Blocks of the last layers: lcha*2.")]
SwitchesOption = Annotated[int | None, typer.Option(help="Maximum number of changes between the two resolutions.")]
FigureOption = Annotated[Path | None, typer.Option(help="Write a picture: .png, .svg or .pdf.")]


@plan_app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="Latency table, installed or a folder; with its own budgets, NAME:260ms,1.1GB, repeatable: "
            "one layout for all these devices.",
            show_default=DEFAULT_TABLE,
        ),
    ] = None,
    scenario: ScenarioOption = "stream",
    depth: DepthOption = 28,
    group_size: GroupOption = 1,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    score: ScoreOption = "published",
    budget: Annotated[list[str] | None, typer.Option(help="Limit: 260ms, 1.1GB or 10fps. May be repeated.")] = None,
    commit: CommitOption = "reuse_last",
    count: CountOption = None,
    first: FirstOption = None,
    last: LastOption = None,
    max_switches: SwitchesOption = None,
    like: Annotated[Path | None, typer.Option(help="Stay near this plan: a JSON file. With --max-changes.")] = None,
    max_changes: Annotated[
        int | None, typer.Option(help="Maximum number of layers that may differ from --like.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Keep the latency budget with this probability: 0.95.")
    ] = None,
    near: Annotated[
        float | None, typer.Option(help="Also count layouts that score less by at most this: 0.001.")
    ] = None,
    layout: Annotated[str | None, typer.Option(help="Price this layout instead of searching: L4S8L4S8L4.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why: swaps, prices, decisive rows.")] = False,
    solver: SolverOption = "dynamic",
    latency_model: ModelOption = "lookup",
    video: VideoOption = None,
    precision: PrecisionOption = None,
    compute_unit: UnitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON (schema s2search.plan/1).")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the plan as JSON to this file.")] = None,
    figure: FigureOption = None,
) -> int:
    """Place a block at every layer, exactly, within latency and memory budgets."""
    if context.invoked_subcommand:
        _refuse_options(context)
        return 0
    _check_outputs(out, figure)
    answer = _answer(context)
    if out:
        answer.save(out)
    if figure:
        from s2search.report.figures import plan_figure, save_figure

        save_figure(plan_figure(answer), figure)
    if as_json:
        typer.echo(answer.to_json(), nl=False)
    else:
        from s2search.report.terminal import plan_text

        _print(plan_text(answer))
        if answer.explanation:
            from s2search.report.explanation import explanation_text

            _print(explanation_text(answer.explanation, answer))
    return 0 if answer.fits else 1


@plan_app.command("diff")
def plan_diff(
    before: Annotated[Path, typer.Argument(help="A plan as JSON.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.plan_difference/1).")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 where anything changed.")] = False,
) -> int:
    """Show what changed from one plan to another, layer by layer, and why."""
    from s2search.planner.diff import difference
    from s2search.planner.plan import Plan

    old, new = Plan.load(before), Plan.load(after)
    found = difference(old, new)
    if as_json:
        typer.echo(found.to_json(), nl=False)
    else:
        from s2search.report.difference import difference_text

        _print(difference_text(old, new, found))
    return int(exit_code and not found.empty)


def frontier(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Write the front as CSV.")],
    table: TableOption = DEFAULT_TABLE,
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
    video: VideoOption = None,
    precision: PrecisionOption = None,
    compute_unit: UnitOption = None,
    figure: FigureOption = None,
    html: Annotated[Path | None, typer.Option(help="Write an interactive page: one file, no network.")] = None,
) -> int:
    """Trace the best score for every latency, at one memory budget."""
    from s2search.planner.find import front, save_front
    from s2search.report.references import reference_plans
    from s2search.report.terminal import front_text

    _check_outputs(out, figure)
    if html is not None:
        _check_outputs(html)
    request = _request(context)
    with _solver(solver) as chosen:
        plans = front(request, chosen, points=points)
        save_front(plans, out)
        references = reference_plans(request, chosen) if figure or html else {}
    if figure:
        from s2search.report.figures import front_figure, save_figure

        save_figure(front_figure(plans, references), figure)
    if html:
        from s2search.report.html import front_html, save_html

        save_html(front_html(plans, references), html)
    _print(front_text(plans))
    return 0


def _check_outputs(out: Path | None, *figures: Path | None) -> None:
    """Refuse paths that cannot be written before anything is computed, so that nothing is written by halves."""
    from s2search.document import check_writable
    from s2search.errors import require

    if any(figures):
        require("matplotlib")
    for path in (out, *figures):
        if path is not None:
            check_writable(path)
    for path in figures:
        if path is not None and path.suffix.lower() not in _FIGURES:
            raise InputError(
                f"the figure {str(path)!r} has the ending {path.suffix!r}",
                allowed=f"one of {', '.join(_FIGURES)}",
                remedy="correct the ending",
            )


def _refuse_options(context: typer.Context) -> None:
    """Refuse options of `plan` before a sub-command, where they would be lost in silence."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(
                f"--{name.replace('_', '-')} is given before {context.invoked_subcommand!r}, which does not use it",
                remedy=f"leave it out; see s2search plan {context.invoked_subcommand} --help",
            )


def _answer(context: typer.Context) -> Plan:
    """Search, or price a hand-written layout; with `--json`, that nothing fits is said as JSON too."""
    from s2search.planner.find import find, price

    words = context.params
    if words["near"] is not None and words["layout"] is not None:
        raise InputError(
            f"--near {words['near']:g} needs a search, and --layout does not search", remedy="leave out one of them"
        )
    request = _request(context)
    choice_L = None if words["layout"] is None else request.space.parse_layout(words["layout"])
    try:
        with _solver(words["solver"]) as chosen:
            answer = find(request, chosen, near=words["near"]) if choice_L is None else price(request, choice_L, chosen)
            if words["explain"]:
                from s2search.planner.explain import explain

                answer = dataclasses.replace(answer, explanation=explain(request, answer.layout, chosen))
    except InfeasibleError as error:
        if words["as_json"]:
            from s2search.planner.infeasible import infeasible

            typer.echo(infeasible(request, error).to_json(), nl=False)
        raise
    return answer


def _request(context: typer.Context) -> Request:
    """Read the words that `plan` and `frontier` share, all of them before anything is computed."""
    from s2search import registry
    from s2search.planner.constraints import Constraints
    from s2search.planner.plan import Plan
    from s2search.planner.request import Request
    from s2search.score.file import open_score
    from s2search.space import Space

    words = context.params
    space = Space.parse(words["candidates"], depth=words["depth"], group_size=words["group_size"])
    first, *further = _targets(words)
    return Request(
        table=first.table,
        scope=first.scope,
        space=space,
        latency_model=registry.create("latency_models", words["latency_model"]),
        score=open_score(words["score"]),
        budgets=first.budgets,
        commit=first.commit,
        constraints=Constraints.parse(
            space,
            counts=words["count"] or (),
            first=words["first"],
            last=words["last"],
            max_switches=words["max_switches"],
            like=Plan.load(words["like"]).layout if words.get("like") else None,
            max_changes=words.get("max_changes"),
        ),
        further=tuple(further),
        confidence=words.get("confidence"),
    )


def _targets(words: dict[str, Any]) -> list[Target]:
    """Read the tables with their budgets. `--budget` belongs to the only one."""
    from s2search.cost import Budget
    from s2search.planner.request import Target
    from s2search.preset import token_grid
    from s2search.tables.table import open_table

    given = [words["table"]] if isinstance(words["table"], str) else words["table"] or [DEFAULT_TABLE]
    named = [_table_and_budgets(text) for text in given]
    common = tuple(Budget.parse(text) for text in words["budget"] or ())
    if common and len(named) > 1:
        raise InputError(
            f"--budget {common[0].text} does not say which of {len(named)} tables it is for",
            remedy=f"write it after the table, such as --table {named[0][0]}:{common[0].text}",
        )
    video = token_grid(words["video"]) if words["video"] else None
    targets: list[Target] = []
    for name, budgets in named:
        table = open_table(name)
        offered = {"precision": [r.precision for r in table.rows], "compute_unit": [r.compute_unit for r in table.rows]}
        # A further table that does not know the first one's precision has its own.
        chosen = {key: words[key] if not targets or words[key] in offered[key] else None for key in offered}
        scope = table.scope(words["scenario"], video=video, **chosen)
        video = video or (scope.shape.height, scope.shape.width)
        commit = words.get("commit", "reuse_last")
        targets.append(Target(table=table, scope=scope, budgets=common + budgets, commit=commit))
    return targets


def _table_and_budgets(text: str) -> tuple[str, tuple[Budget, ...]]:
    """Split `NAME:260ms,1.1GB` at its last colon; a colon that no quantity follows belongs to the name."""
    from s2search.cost import Budget

    name, colon, after = text.rpartition(":")
    if not colon or not re.match(r"\s*[+-]?\.?\d", after) or Path(text).is_dir():
        return text, ()
    return name, tuple(Budget.parse(part) for part in after.split(","))


@contextmanager
def _solver(text: str) -> Iterator[Solver]:
    """Yield the named solver; one that reports its progress moves a bar."""
    from s2search import registry

    chosen = registry.create("solvers", text)
    if not hasattr(chosen, "progress"):
        yield chosen
        return
    from s2search.report.progress import progress_bar

    with progress_bar("searching") as progress:
        yield dataclasses.replace(chosen, progress=progress)


def _print(text: RenderableType) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.print(text)

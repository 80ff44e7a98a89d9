"""`s2search plan`: the best layout within budgets, what changed between two plans, and whether one still holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2search.block import Scenario
from s2search.cli.examples import epilog
from s2search.cli.options import FigureOption, check_outputs, printed_anyway, say, say_json
from s2search.cost import CommitPolicy
from s2search.document import write_text
from s2search.errors import InfeasibleError, InputError, keeping
from s2search.precision.noise import Elsewhere
from s2search.solver.questions.tie_break import TieRule
from s2search.space import DEFAULT_CANDIDATES
from s2search.tables.table import DEFAULT_TABLE

if TYPE_CHECKING:
    from s2search.family.plan import FamilyPlan
    from s2search.planner.plan import Plan
    from s2search.planner.promise import PlanCheck

plan_app = typer.Typer(epilog=epilog("plan"))

ScenarioOption = Annotated[Scenario, typer.Option(help="stream: a chunk with its window. clip: bidirectional.")]
DepthOption = Annotated[int | None, typer.Option(help="Layers of the model; by default the table's preset's.")]
GroupOption = Annotated[int, typer.Option(help="Neighbouring layers that take the same block.")]
CandidatesOption = Annotated[str, typer.Option(help="Blocks to choose from, such as lcha,lcha[gate=false],ssa.")]
ScoreOption = Annotated[str, typer.Option(help="Installed score, or a JSON file of scores.")]
ScoreCheckOption = Annotated[
    Path | None, typer.Option(help="Its check.json: pairs of layers count if they predict better there.")
]
CommitOption = Annotated[CommitPolicy, typer.Option(help="Forward passes per chunk: steps, or steps + 1 (clean_pass).")]
StepsOption = Annotated[
    int | None, typer.Option(help="Denoising passes of a chunk, such as 1, 2 or 4, over the table's.")
]
TextOption = Annotated[float | None, typer.Option(help="Text encoder per chunk in ms, if the table does not say.")]
DecodeOption = Annotated[float | None, typer.Option(help="Decoder per chunk in ms, if the table does not say.")]
SizeOption = Annotated[str | None, typer.Option(help="Video size, where the table holds several: 512x288.")]
PrecisionOption = Annotated[str | None, typer.Option(help="Precision, where the table holds several.")]
UnitOption = Annotated[str | None, typer.Option(help="Compute unit, where the table holds several.")]
ModelOption = Annotated[str, typer.Option(help="Latency model: lookup, interpolate, ...")]
SolverOption = Annotated[str, typer.Option(help="Solver: dynamic, milp, exhaustive, allocation, nsga2, ...")]
CountOption = Annotated[list[str] | None, typer.Option(help="Layers of a block: ssa=16 or ssa=10..14. Repeatable.")]
FirstOption = Annotated[str | None, typer.Option(help="Blocks of the first layers: lcha*2.")]
LastOption = Annotated[str | None, typer.Option(help="Blocks of the last layers: lcha*2.")]
SwitchesOption = Annotated[int | None, typer.Option(help="Maximum number of changes between the two resolutions.")]


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
    space: Annotated[
        Path | None, typer.Option(help="Plan any family of models: a TOML file. With --table FILE.csv.")
    ] = None,
    scenario: ScenarioOption = "stream",
    depth: DepthOption = None,
    group_size: GroupOption = 1,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    score: ScoreOption = "published",
    score_check: ScoreCheckOption = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Limit: 260ms, 1.1GB, 10fps, first:800ms (frames), p95:300ms; 10fps@sustained. May be repeated."
        ),
    ] = None,
    commit: CommitOption = "reuse_last",
    steps: StepsOption = None,
    text_ms: TextOption = None,
    decode_ms: DecodeOption = None,
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
    tie: Annotated[
        TieRule, typer.Option(help="Which of the layouts that tie: the fastest, or the fastest with fewest switches.")
    ] = "fastest",
    tie_score: Annotated[
        str | None, typer.Option(help="Another score, which chooses first among the layouts that tie.")
    ] = None,
    layout: Annotated[str | None, typer.Option(help="Price this layout instead of searching: L4S8L4S8L4.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why: swaps, prices, decisive rows.")] = False,
    solver: SolverOption = "dynamic",
    time_limit: Annotated[
        str | None, typer.Option(help="Stop the search after so long, 10s, with the best found and a proven bound.")
    ] = None,
    latency_model: ModelOption = "lookup",
    video: SizeOption = None,
    precision: PrecisionOption = None,
    compute_unit: UnitOption = None,
    precisions: Annotated[
        str | None, typer.Option(help="Choose a precision for every part in the same search: float16,w8a16,w4a16.")
    ] = None,
    sensitivity: Annotated[
        list[Path] | None, typer.Option(help="What s2search sensitivity wrote, for --precisions. Repeatable.")
    ] = None,
    least_db: Annotated[
        float | None, typer.Option(help="Signal-to-noise ratio of the velocity, dB, for --precisions.")
    ] = None,
    noise_elsewhere: Annotated[
        Elsewhere,
        typer.Option(help="A block at a layer where no sweep has it: refuse it, or take its mean noise over layers."),
    ] = "refuse",
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON (schema s2search.plan/1).")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the plan as JSON to this file.")] = None,
    figure: FigureOption = None,
) -> int:
    """Place a block at every layer, exactly, within latency and memory budgets."""
    if context.invoked_subcommand:
        _refuse_options(context)
        return 0
    from s2search.api.plan import plan as run
    from s2search.cli.project import asked

    check_outputs(out, figure)
    if space is not None:
        _refuse_with_space(context)
        return _plan_family(
            space,
            table or [],
            as_json=as_json,
            out=out,
            budget=budget or (),
            count=count or (),
            depth=depth,
            max_switches=max_switches,
            explain=explain,
            solver=solver,
            time_limit=time_limit,
        )
    try:
        answer = asked(context, run)(
            table or DEFAULT_TABLE,
            scenario=scenario,
            depth=depth,
            group_size=group_size,
            candidates=candidates,
            score=score,
            score_check=score_check,
            budget=budget or (),
            commit=commit,
            steps=steps,
            text_ms=text_ms,
            decode_ms=decode_ms,
            count=count or (),
            first=first,
            last=last,
            max_switches=max_switches,
            like=like,
            max_changes=max_changes,
            confidence=confidence,
            near=near,
            tie=tie,
            tie_score=tie_score,
            layout=layout,
            explain=explain,
            solver=solver,
            time_limit=time_limit,
            latency_model=latency_model,
            video=video,
            precision=precision,
            compute_unit=compute_unit,
            precisions=precisions or (),
            sensitivity=sensitivity or (),
            least_db=least_db,
            noise_elsewhere=noise_elsewhere,
        )
    except InfeasibleError as error:
        if as_json and "answer" in error.fields:
            say_json(error.fields["answer"].to_json())
        raise
    show = _say_json if as_json else say
    with printed_anyway(show), keeping(answer):
        if out:
            answer.save(out)
        if figure:
            from s2search.reporting.figures import plan_figure, save_figure

            save_figure(plan_figure(answer), figure)
    show(answer)
    return 0 if answer.fits else 1


@plan_app.command("diff", epilog=epilog("plan diff"))
def plan_diff(
    before: Annotated[Path, typer.Argument(help="A plan as JSON.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.plan_difference/1).")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 where anything changed.")] = False,
) -> int:
    """Show what changed from one plan to another, layer by layer, and why."""
    from s2search.api.plan import plan_diff as run
    from s2search.planner.plan import Plan
    from s2search.reporting.difference import difference_text

    old, new = Plan.load(before), Plan.load(after)
    found = run(old, new)
    if as_json:
        say_json(found.to_json())
    else:
        say(difference_text(old, new, found))
    return int(exit_code and not found.empty)


@plan_app.command("check", epilog=epilog("plan check"))
def plan_check(
    plan: Annotated[Path, typer.Argument(help="A plan as JSON.")],
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="Latency table to hold it against, installed or a folder; one for each device of the plan.",
            show_default="the plan's, as it is now",
        ),
    ] = None,
    tolerance: Annotated[
        str | None, typer.Option(help="Also hold it to what it promised, and so much more: 5%.")
    ] = None,
    changes: Annotated[int, typer.Option(help="Layers that another layout may change; 0 to look for none.")] = 3,
    score: Annotated[
        str | None,
        typer.Option(help="To rank other layouts: installed, or a JSON file.", show_default="the plan's"),
    ] = None,
    score_check: ScoreCheckOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.plan_check/1).")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write the budgets as test cases, as JUnit's XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for the page of a CI job.")] = None,
) -> int:
    """Say whether a plan's promise holds on another table; exit code 0 only if it does."""
    from s2search.api.plan import plan_check as run
    from s2search.reporting.plan_check import plan_check_junit, plan_check_markdown

    check_outputs(None, others=(junit, markdown))
    found = run(plan, table or (), tolerance=tolerance, changes=changes, score=score, score_check=score_check)

    def show(found: PlanCheck) -> None:
        if as_json:
            say_json(found.to_json())
        else:
            say(found)

    with printed_anyway(show), keeping(found):
        if junit is not None:
            write_text(junit, plan_check_junit(found))
        if markdown is not None:
            write_text(markdown, plan_check_markdown(found))
    show(found)
    return 0 if found.holds else 1


def _plan_family(space: Path, tables: list[str], *, as_json: bool, out: Path | None, **asked: Any) -> int:
    """Plan another family than the sandwich, from a table of any columns."""
    from s2search.api.family import plan_family as run

    if len(tables) != 1:
        raise InputError(
            f"--space {str(space)!r} is given with {len(tables) or 'no'} tables",
            remedy="name one CSV file with --table",
        )
    try:
        answer = run(space, tables[0], **asked)
    except InfeasibleError as error:
        if as_json:
            say_json(error.fields["answer"].to_json())
        raise
    show = _say_json if as_json else say
    with printed_anyway(show), keeping(answer):
        if out:
            answer.save(out)
    show(answer)
    return 0


def _say_json(answer: Plan | FamilyPlan) -> None:
    say_json(answer.to_json())


_WITH_SPACE = (
    "space",
    "table",
    "budget",
    "count",
    "depth",
    "max_switches",
    "explain",
    "solver",
    "time_limit",
    "as_json",
    "out",
)


def _refuse_with_space(context: typer.Context) -> None:
    """Refuse options that mean nothing for a family of the user's own."""
    allowed = [p.opts[0] for p in context.command.params if p.name in _WITH_SPACE and p.name != "space"]
    for parameter in context.command.params:
        if parameter.name not in _WITH_SPACE and _typed(context, parameter.name):
            raise InputError(
                f"{parameter.opts[0]} means nothing with --space",
                allowed=f"with it: {', '.join(allowed)}",
                remedy="leave it out, or say it in the family's file",
            )


def _typed(context: typer.Context, name: str | None) -> bool:
    source = context.get_parameter_source(name or "")
    return source is not None and source.name == "COMMANDLINE"


def _refuse_options(context: typer.Context) -> None:
    """Refuse options of `plan` before a sub-command, where they would be lost in silence."""
    for parameter in context.command.params:
        if _typed(context, parameter.name):
            raise InputError(
                f"{parameter.opts[0]} is given before {context.invoked_subcommand!r}, which does not use it",
                remedy=f"leave it out; see s2search plan {context.invoked_subcommand} --help",
            )

"""`s2search train`: a model from clips, and several of them compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from s2search.cli.examples import epilog
from s2search.cli.options import FigureOption, check_outputs, is_first_process, printed_anyway, say, say_json
from s2search.document import write_text
from s2search.errors import InputError, keeping

if TYPE_CHECKING:
    from s2search.training.compare.result import RunComparison

_INTERRUPTED = 130
_SUBCOMMAND = "s2search.train.subcommand"


class TrainGroup(TyperGroup):
    """Sub-commands beside a command that takes a file: a first word that is the name of one means it.

    So `train compare` compares, and a run.toml that is called so is written `./compare`.
    """

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in self.commands
        ctx.meta[_SUBCOMMAND] = named
        ctx.allow_interspersed_args, ctx.allow_extra_args = not named, named
        return super().parse_args(ctx, args)

    @override
    def get_params(self, ctx: Any) -> list[Any]:
        return [] if ctx.meta.get(_SUBCOMMAND) else super().get_params(ctx)


train_app = typer.Typer(cls=TrainGroup, epilog=epilog("train"), subcommand_metavar="| COMMAND [ARGS]...")


@train_app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    run: Annotated[Path | None, typer.Argument(help="A run.toml; all settings have defaults.")] = None,
    out: Annotated[Path, typer.Option(help="The folder of the run. An unfinished one is finished.")] = Path("run"),
    data: Annotated[Path | None, typer.Option(help="A folder that `data make` wrote, instead of the run's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: optimizer.steps=500. Repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print settings, parameters, memory and time per step; keep nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run, print it as JSON.")] = False,
) -> int:
    """Train a model on clips, or go on with a run that was stopped."""
    if context.invoked_subcommand:
        return 0
    from s2search.reporting.training import estimate_text, outcome_text

    if as_json and not dry_run:
        raise InputError("--json is given without --dry-run", remedy="add it, or read metrics.csv and judgement.json")
    if dry_run:
        from s2search.api.train import train_dry

        found = train_dry(run, data=data, settings=settings or ())
        if as_json:
            say_json(found.to_json())
        else:
            say(estimate_text(found))
        return 0
    from s2search.api.train import train as train_now

    outcome = train_now(run, out, data=data, settings=settings or ())
    if outcome.interrupted:
        return _INTERRUPTED
    say(outcome_text(outcome))
    return 0


@train_app.command("compare", epilog=epilog("train compare"))
def train_compare(
    comparison: Annotated[Path, typer.Argument(help="A compare.toml: what all runs share, and the contenders.")],
    out: Annotated[Path, typer.Option(help="The folder. An unfinished comparison is finished.")] = Path("comparison"),
    csv: Annotated[Path | None, typer.Option(help="Write a row per contender.")] = None,
    figure: FigureOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.run_comparison/1).")] = False,
) -> int:
    """Train several models alike, and say which are better, with paired errors."""
    from s2search.api.compare import train_compare as run
    from s2search.reporting.compare import comparison_csv, comparison_text

    check_outputs(csv, figure)
    found = run(comparison, out)

    def show(found: RunComparison) -> None:
        if as_json and is_first_process():
            say_json(found.to_json())
        elif not as_json:
            say(comparison_text(found))

    with printed_anyway(show), keeping(found):
        if is_first_process():
            if csv is not None:
                write_text(csv, comparison_csv(found))
            if figure is not None:
                from s2search.reporting.compare import comparison_figure
                from s2search.reporting.figures import save_figure

                save_figure(comparison_figure(found), figure)
    show(found)
    return 0

"""`s2search train`: a model from clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.options import say, say_json
from s2search.errors import InputError

_INTERRUPTED = 130


def train(
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
    from s2search.report.training import estimate_text, outcome_text

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

"""`s2search run`: from a budget to a video, all stages in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.options import say, say_json


def run(
    preset: Annotated[str, typer.Option(help="nano, tiny, small, or a TOML file of settings.")] = "nano",
    out: Annotated[Path, typer.Option(help="The folder, with one for each stage.")] = Path("pipeline"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: flow.optimizer.steps=500. Repeatable.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The last stage.", show_default="the report")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would become of each stage, and why; change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.pipeline_result/1).")] = False,
) -> int:
    """Go the whole way from a budget to a video; what is as asked is kept, and what was stopped goes on.

    The exit code is 1 where the package is not verified, or is not what was planned.
    """
    from s2search.reporting.run import foreseen_text, outcome_text

    if dry_run:
        from s2search.api.run import run_dry
        from s2search.document import as_json as json_of

        foreseen = run_dry(preset, out, settings=settings or (), until=until)
        say_json(json_of(foreseen)) if as_json else say(foreseen_text(foreseen))
        return 0
    from s2search.api.run import run as run_now

    outcome = run_now(preset, out, settings=settings or (), until=until)
    if as_json and outcome.result is not None:
        say_json(outcome.result.to_json())
    else:
        say(outcome_text(outcome))
    return 0 if outcome.result is None or outcome.result.holds else 1

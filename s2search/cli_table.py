"""`s2search table`: judge measurements before a plan trusts them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

table_app = typer.Typer(help="Judge measurements before a plan trusts them.")


@table_app.callback()
def table() -> None:
    """Judge measurements before a plan trusts them."""


@table_app.command("evaluate")
def table_evaluate(
    layouts: Annotated[Path, typer.Argument(help="CSV of layer_00, layer_01, ..., latency_ms, in measurement order.")],
    seed: Annotated[int, typer.Option(min=0, help="Draws the fifth of the rows that is held out.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.table_evaluation/1).")] = False,
) -> int:
    """Say how well measured layouts foretell held-out ones, with and without drift."""
    from s2search.evaluation import evaluate
    from s2search.layouts import read_layouts

    found = evaluate(read_layouts(layouts), seed=seed)
    if as_json:
        typer.echo(found.to_json(), nl=False)
    else:
        from rich.console import Console

        from s2search.report.evaluation import evaluation_text

        Console(highlight=False, markup=False).print(evaluation_text(found))
    return 0

"""`s2search table`: judge measurements before a plan trusts them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

table_app = typer.Typer(help="Judge measurements before a plan trusts them.")


@table_app.callback()
def table() -> None:
    """Judge measurements before a plan trusts them."""


@table_app.command("lint")
def table_lint(
    path: Annotated[str, typer.Argument(help="A table's folder, an installed table, or a CSV with latency_ms.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Find what is wrong with a table, row by row. Exits with 1 where it finds anything."""
    from s2search.lint.linter import lint, to_json
    from s2search.report.lint import lint_text

    findings = lint(path)
    _say(to_json(findings) if as_json else lint_text(findings))
    return 1 if findings else 0


@table_app.command("evaluate")
def table_evaluate(
    layouts: Annotated[Path, typer.Argument(help="CSV of layer_00, layer_01, ..., latency_ms, in measurement order.")],
    seed: Annotated[int, typer.Option(min=0, help="Draws the fifth of the rows that is held out.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.table_evaluation/1).")] = False,
) -> int:
    """Say how well measured layouts foretell held-out ones, with and without drift."""
    from s2search.evaluation import evaluate
    from s2search.layouts import read_layouts
    from s2search.report.evaluation import evaluation_text

    found = evaluate(read_layouts(layouts), seed=seed)
    _say(found.to_json() if as_json else evaluation_text(found))
    return 0


@table_app.command("transfer")
def table_transfer(
    known: Annotated[list[Path], typer.Option(help="CSV of layouts on a known device, as for evaluate; repeatable.")],
    target: Annotated[Path, typer.Option(help="CSV of layouts on the device to foretell.")],
    shots: Annotated[int, typer.Option(help="Layouts to time on the target.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="Draws of candidates to choose those from.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Draws the candidates.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (schema s2search.transfer_evaluation/1).")
    ] = False,
) -> int:
    """Say how well a few timings of a device, with known devices' models, foretell the rest."""
    from s2search.layouts import read_layouts
    from s2search.report.progress import progress_bar
    from s2search.report.transfer import transfer_text
    from s2search.transfer_evaluation import evaluate_transfer, fit_known

    with progress_bar("known devices") as progress:
        devices = fit_known(known, target, progress)
    with progress_bar("draws") as progress:
        found = evaluate_transfer(devices, read_layouts(target), shots=shots, draws=draws, seed=seed, progress=progress)
    _say(found.to_json() if as_json else transfer_text(found))
    return 0


def _say(answer: str | RenderableType) -> None:
    """Print JSON as it is, and everything else for a terminal."""
    if isinstance(answer, str):
        typer.echo(answer, nl=False)
        return
    from rich.console import Console

    Console(highlight=False, markup=False).print(answer)

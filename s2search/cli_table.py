"""`s2search table`: judge tables of latencies."""

from __future__ import annotations

from typing import Annotated

import typer

table = typer.Typer(help="Judge tables of latencies.")


@table.callback()
def _group() -> None:
    """Judge tables of latencies."""


@table.command("lint")
def table_lint(
    path: Annotated[str, typer.Argument(help="A table's folder, an installed table, or a CSV with latency_ms.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Find what is wrong with a table, row by row. Exits with 1 where it finds anything."""
    from s2search.lint.linter import lint, to_json

    findings = lint(path)
    if as_json:
        typer.echo(to_json(findings), nl=False)
    else:
        from rich.console import Console

        from s2search.report.lint import lint_text

        Console(highlight=False, markup=False).print(lint_text(findings))
    return 1 if findings else 0

"""`s2search report`: one page that tells a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.options import say


def report(
    out: Annotated[Path, typer.Argument(help="Where the page goes: one file below 2 MB, which loads nothing.")],
    parts: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Documents (plan.json, what --json of plan check, frontier, design, verify, recalibrate printed) and "
            "folders (of run, train, a table, a verified package), in any order.",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="Latency table, installed or a folder; those of plans come by themselves. Repeatable."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.", show_default="Campaign on the tables")] = None,
) -> int:
    """Write one page that tells a campaign: can the table be trusted, the answers, and what nobody measured."""
    from s2search.api.report import report as run
    from s2search.reporting.report.page import page_text

    found = run(out, parts or (), table=table or (), title=title)
    say(page_text(found, str(out)))
    return 0

"""Findings of the linter in the terminal: one block per rule, its rows, its remedy."""

from __future__ import annotations

from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.lint.base import Finding

_ROWS_SHOWN = 8


def lint_text(findings: list[Finding]) -> RenderableType:
    """Return findings by rule: how many, the first rows with their reasons, and what to do."""
    if not findings:
        return Text("nothing found")
    parts: list[RenderableType] = []
    for rule, group in groupby(sorted(findings, key=lambda finding: finding.rule), key=lambda finding: finding.rule):
        found = list(group)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(overflow="fold")
        for finding in found[:_ROWS_SHOWN]:
            grid.add_row("table" if finding.row is None else f"line {finding.row}", finding.message)
        if len(found) > _ROWS_SHOWN:
            grid.add_row("...", f"{len(found) - _ROWS_SHOWN:,} more; --json lists all")
        for remedy in dict.fromkeys(finding.remedy for finding in found):
            grid.add_row("remedy", remedy)
        parts += [Text(f"{rule}: {len(found):,}", style="bold"), grid, Text()]
    return Group(Text(), *parts)

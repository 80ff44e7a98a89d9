"""What the linter finds of numbers that are about to be used, and that may make the answer wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from s2search.lint.base import Finding, run
from s2search.lint.card_rules import TABLE_RULES
from s2search.lint.csv_rules import CSV_RULES
from s2search.lint.linter import lint
from s2search.lint.table_rules import Suspect
from s2search.tables.table import LatencyTable

_OF_FILES = {rule.name for rule in CSV_RULES if rule.misleads}


def misleading(numbers: LatencyTable | str | os.PathLike[str]) -> list[str]:
    """Return one sentence per rule that a table, or a file or folder of others' numbers, breaks to an answer's harm.

    >>> from s2search.tables.table import open_table
    >>> misleading(open_table("h100"))
    []
    """
    if isinstance(numbers, LatencyTable):
        found = run([rule for rule in TABLE_RULES if rule.misleads], Suspect.of(numbers))
        return list(_sentences(numbers.name, found))
    found = [finding for finding in lint(numbers) if finding.rule in _OF_FILES]
    return list(_sentences(Path(numbers).name, found))


def _sentences(name: str, findings: list[Finding]) -> Iterator[str]:
    for rule, group in groupby(sorted(findings, key=lambda finding: finding.rule), key=lambda finding: finding.rule):
        first, *others = group
        where = "" if first.row is None else f"line {first.row}: "
        more = f" (and {len(others)} more)" if others else ""
        yield f"{name}: {rule}: {where}{first.message}{more}; {first.remedy}"

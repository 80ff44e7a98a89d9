"""A rule is a name, a check and a remedy; what it finds is a row and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic, Literal, TypeVar

from s2search.document import Document

_Subject = TypeVar("_Subject")
Complaint = tuple[int | None, str]

#: By how much two latencies may differ by chance: of the latency, where no deviation is stated, and deviations else.
NOISE, DEVIATIONS = 0.05, 3.0
#: What lies beyond any spread, and below the 1000 between two units.
UNITS_APART = 100.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    `row` is the line of the CSV file, counting its header as line 1; null where the whole table is meant.
    """

    row: int | None
    rule: str
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Findings(Document):
    """All findings of one table or file; empty for a good one."""

    schema: Literal["s2search.table_findings/1"] = "s2search.table_findings/1"
    findings: list[Finding]


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[_Subject]):
    """A check with a name. `check` yields the row (or none) and why it is wrong, with the values in it.

    `misleads`: what it finds may make an answer from these numbers wrong; commands that use them say so.
    """

    name: str
    check: Callable[[_Subject], Iterable[Complaint]]
    remedy: str
    misleads: bool = True

    def findings(self, subject: _Subject) -> list[Finding]:
        """Return what this rule finds, in the order in which it finds it."""
        return [
            Finding(row=row, rule=self.name, message=one_line(message), remedy=self.remedy)
            for row, message in self.check(subject)
        ]


def one_line(message: str) -> str:
    """Return a message with single spaces for whatever parts its words."""
    plain = message.isprintable() and "  " not in message and message.strip() == message
    return message if plain else " ".join(message.split())  # most are, and there may be 200,000


def run(rules: Sequence[Rule[_Subject]], subject: _Subject, others: Iterable[Finding] = ()) -> list[Finding]:
    """Return the findings of all rules, and others: what concerns the whole table first, then row by row."""
    return in_order([*others, *(finding for rule in rules for finding in rule.findings(subject))])


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by row, those on the whole table first."""
    return sorted(sorted(findings, key=attrgetter("rule")), key=lambda finding: finding.row or 0)

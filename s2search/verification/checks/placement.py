"""Where operations run: on what the package was made for, or on what catches the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CheckResult


@dataclass(frozen=True, kw_only=True)
class PlacementCheck(Check):
    """Most operations run where they should. It is not required: what runs elsewhere is slow, and not wrong.

    Attributes:
        least_percent: Of operations.
    """

    name: ClassVar[str] = "placement"
    unit: ClassVar[str] = "% there"
    bound: ClassVar[Bound] = "at least"
    required: ClassVar[bool] = False

    least_percent: float = 50.0

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        found = opened.inspector.placement(opened)
        share = 100 * found.counts.get(found.wanted, 0) / max(sum(found.counts.values()), 1)
        parts = {place: float(count) for place, count in found.counts.items()}
        counts = ", ".join(f"{count} on {place}" for place, count in sorted(found.counts.items()))
        why, of = f"{counts}, {found.told_by}", opened.package.manifest.exporter
        yield self.judge(opened, share, self.least_percent, of=of, where=found.wanted, why=why, parts=parts)

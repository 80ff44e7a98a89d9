"""What in a package's graphs is known to go wrong, or slowly, on phones; see `inspectors/rules.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import CheckResult


@dataclass(frozen=True, kw_only=True)
class LintCheck(Check):
    """No operation of the package's graphs is one that phones refuse or compute wrongly.

    Rules on where a package runs are required of packages whose exporter promises them, and else reported.
    """

    name: ClassVar[str] = "lint"
    unit: ClassVar[str] = "operations"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        for found in opened.inspector.operations(opened):
            most = Counter(found.places).most_common(3)
            where = ", ".join(f"{name} ({count})" if found.unit == self.unit else name for name, count in most)
            why = found.why if found.places else ""
            result = self.judge(opened, len(found.places), 0, of=found.rule, where=where, why=why)
            yield replace(result, required=found.required, unit=found.unit)

"""What a check is, and how it becomes results."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from s2search.errors import S2SearchError
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CannotRunError, CheckResult, NotOfferedError, judged, not_run


@dataclass(frozen=True, kw_only=True)
class Check(abc.ABC):
    """Looks at one side of a package. Its fields are its thresholds.

    Where the files are not as they were written, only a check `of_files` runs: what is changed is not loaded.

    `run` yields one result or several. It raises `CannotRunError` where it cannot look (`NotOfferedError` where nobody
    offers to), and `S2SearchError` where what it looks at is broken.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    bound: ClassVar[Bound] = "at most"
    required: ClassVar[bool] = True
    of_files: ClassVar[bool] = False  # looks at bytes only, and loads nothing

    @abc.abstractmethod
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        """Yield results, the one that tells most about the rest first."""

    def judge(
        self,
        opened: Opened,
        value: float,
        threshold: float,
        *,
        of: str = "",
        where: str = "",
        why: str = "",
        parts: dict[str, float] | None = None,
    ) -> CheckResult:
        """Return the result of holding a figure against the user's threshold, or this one."""
        name = f"{self.name}.{of}" if of else self.name
        asked = opened.options.thresholds
        threshold = asked.get(name, asked.get(self.name, threshold))
        return judged(
            name,
            value,
            threshold,
            self.bound,
            unit=self.unit,
            required=self.required,
            where=where,
            why=why,
            parts=parts,
        )

    def judge_worst(
        self, opened: Opened, parts: dict[str, float], threshold: float, *, of: str = "", why: str = ""
    ) -> CheckResult:
        """Return the result of holding the least of some figures, whose names say where each was found."""
        worst = min(parts, key=lambda part: parts[part])
        return self.judge(opened, parts[worst], threshold, of=of, where=worst, why=why, parts=parts)


def results(check: Check, opened: Opened) -> tuple[CheckResult, ...]:
    """Run a check. What it raises becomes a result; a check that looked at nothing has not run."""
    found: list[CheckResult] = []
    try:
        found.extend(check.run(opened))
    except CannotRunError as error:
        required = check.required and not isinstance(error, NotOfferedError)
        found.append(not_run(check.name, _line(error), required=required))
    except S2SearchError as error:
        where = str(error.fields.get("path") or error.fields.get("function") or "")
        found.append(
            CheckResult(name=check.name, status="failed", required=check.required, where=where, why=_line(error))
        )
    return tuple(found) or (not_run(check.name, "there was nothing to look at", required=check.required),)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())

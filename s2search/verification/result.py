"""What verification found: one result per check, and whether the package keeps its promise.

A check that could not run is `not_run` and says why. It is never counted as passed: where it is required, the package
is not verified.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s2search.document import Document

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA: Literal["s2search.verification/1"] = "s2search.verification/1"


class CannotRunError(Exception):
    """A check cannot run here: why, in one line."""


class NotOfferedError(CannotRunError):
    """The package's inspector does not offer what a check asks for: it has not run, and is not required."""


Status = Literal["passed", "failed", "not_run"]
Bound = Literal["at least", "at most"]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: Of the check, and after a dot of what was looked at: `parity.denoise`.
        status: `not_run` where it could not run.
        required: Whether the package is verified only if this passed.
        value: The figure that decided, in `unit`; null where there is none.
        unit: Of value, threshold and parts.
        threshold: What the figure is held against; null where nothing is.
        bound: On which side of the threshold the figure must be.
        mode: The arithmetic that the figure is from, where there are several: `float32` rounds nothing, `float16` what
            operations return, `pessimistic` also what they add up. Empty where the runtime decides.
        where: The place that decided: a file, a tensor, an operation, a chunk.
        why: What there is to say in one line; for `not_run` the reason.
        parts: The figures of parts by name: per output, per chunk, per tensor.
    """

    name: str
    status: Status
    required: bool = True
    value: float | None = None
    unit: str = ""
    threshold: float | None = None
    bound: Bound | None = None
    mode: str = ""
    where: str = ""
    why: str = ""
    parts: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verification(Document):
    """All results of one package; the content of its report.json.

    Attributes:
        schema: Of the file.
        passed: Whether every required check ran and passed.
        package: The folder as it was named.
        exporter: What wrote the package, with its options.
        precision: Of the package.
        model_digest: The model in it.
        plan_digest: The plan that the model was realized from; null for a preset's own layout.
        environment: What ran the checks: platform and versions.
        checks: In the order in which they ran.
    """

    schema: Literal["s2search.verification/1"] = SCHEMA
    passed: bool
    package: str
    exporter: str
    precision: str
    model_digest: str
    plan_digest: str | None
    environment: dict[str, str]
    checks: tuple[CheckResult, ...]

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.verification_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.text_html(self)


def keeps_promise(checks: Iterable[CheckResult]) -> bool:
    """Return whether there are required checks, and all of them ran and passed.

    >>> keeps_promise([CheckResult(name="a", status="passed"), CheckResult(name="b", status="not_run")])
    False
    """
    required = [check.status for check in checks if check.required]
    return bool(required) and set(required) == {"passed"}


def judged(
    name: str,
    value: float,
    threshold: float,
    bound: Bound,
    *,
    unit: str,
    required: bool = True,
    where: str = "",
    why: str = "",
    parts: Mapping[str, float] | None = None,
) -> CheckResult:
    """Return the result of holding a figure against a threshold. A figure that is no number fails.

    >>> judged("parity", float("nan"), 40.0, "at least", unit="dB").status
    'failed'
    """
    passes = value >= threshold if bound == "at least" else value <= threshold
    return CheckResult(
        name=name,
        status="passed" if passes else "failed",
        required=required,
        value=value,
        unit=unit,
        threshold=threshold,
        bound=bound,
        where=where,
        why=why,
        parts=dict(parts or {}),
    )


def not_run(name: str, why: str, *, required: bool = True) -> CheckResult:
    """Return the result of a check that could not run."""
    return CheckResult(name=name, status="not_run", required=required, why=why)

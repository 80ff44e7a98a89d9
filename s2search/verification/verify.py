"""Verification of a package: all checks in order."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from s2search.errors import UnknownNameError
from s2search.exporters.package import Package
from s2search.verification.check import Check, results
from s2search.verification.checks.activations import ActivationsCheck
from s2search.verification.checks.arithmetic import ArithmeticCheck
from s2search.verification.checks.blocks import BlocksCheck
from s2search.verification.checks.compression import CompressionCheck
from s2search.verification.checks.each_operation import EachOperationCheck
from s2search.verification.checks.files import FilesCheck
from s2search.verification.checks.graph import GraphCheck
from s2search.verification.checks.latency import LatencyCheck
from s2search.verification.checks.loading import LoadingCheck
from s2search.verification.checks.memory import MemoryCheck
from s2search.verification.checks.operations import LintCheck
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.placement import PlacementCheck
from s2search.verification.checks.residency import ResidencyCheck
from s2search.verification.checks.sizes import SizesCheck
from s2search.verification.checks.state import StateCheck
from s2search.verification.checks.streaming import StreamingCheck
from s2search.verification.checks.sums import SumsCheck
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.opened import Opened, Options
from s2search.verification.result import CheckResult, Verification, keeps_promise, not_run

CHECKS: tuple[Check, ...] = (
    FilesCheck(),
    WeightsCheck(),
    GraphCheck(),
    ParityCheck(),
    BlocksCheck(),
    SumsCheck(),
    EachOperationCheck(),
    StreamingCheck(),
    CompressionCheck(),
    StateCheck(),
    ActivationsCheck(),
    LintCheck(),
    ResidencyCheck(),
    SizesCheck(),
    LoadingCheck(),
    PlacementCheck(),
    LatencyCheck(),
    MemoryCheck(),
    ArithmeticCheck(),
)
_DISTRIBUTIONS = ("s2search", "torch", "numpy")

#: Called with checks done, checks to do, and what is being done.
Progress = Callable[[int, int, str], Any]


def verify(
    folder: str | os.PathLike[str],
    options: Options | None = None,
    *,
    checks: tuple[Check, ...] = CHECKS,
    progress: Progress = lambda done, total, label: None,
) -> Verification:
    """Check a package against its source and its promises.

    Args:
        folder: What `s2search export` wrote. Nothing in it is changed.
        options: What was asked for.
        checks: What to look at, in this order.
        progress: Called as the work goes on.

    Raises:
        InputError: The folder holds no package, or a threshold is for no check.
    """
    package, options = Package.load(folder), options or Options()
    known = sorted(check.name for check in checks if check.unit)
    for name in options.thresholds:
        if name.partition(".")[0] not in known:
            raise UnknownNameError("check with a threshold", name, known, listed_as="checks with one")
    return inspect(Opened(package, options), checks, progress)


def inspect(opened: Opened, checks: tuple[Check, ...], progress: Progress) -> Verification:
    """Run checks on a package that is loaded."""
    found: list[CheckResult] = []
    for done, check in enumerate(checks):
        opened.say = partial(progress, done, len(checks))
        opened.say(check.name)
        if opened.fault and not check.of_files:  # what is changed is not loaded
            why = f"nothing of the package is loaded: {opened.fault}"
            found.append(not_run(check.name, why, required=check.required))
        else:
            found += results(check, opened)
    progress(len(checks), len(checks), "")
    manifest = opened.package.manifest
    return Verification(
        passed=keeps_promise(found),
        package=str(opened.package.folder),
        exporter=manifest.exporter_text,
        precision=manifest.precision,
        model_digest=manifest.model_digest,
        plan_digest=manifest.plan_digest,
        environment=_environment(opened),
        checks=tuple(found),
    )


def _environment(opened: Opened) -> dict[str, str]:
    found = {
        "runtime": opened.emulation.told if opened.emulation else opened.package.manifest.exporter,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    for name in (*_DISTRIBUTIONS, *opened.inspector.distributions):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

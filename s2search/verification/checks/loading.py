"""What it takes to load a package: compile time, load time and memory, measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from s2search.cost import format_bytes
from s2search.exporters.memory import predicted_memory_bytes
from s2search.exporters.package import Package
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import CannotRunError, CheckResult

_LONGEST_S = 1800.0
_SECONDS = {
    "compile_s": "from the package to a compiled program",
    "first_load_s": "the first load, in which the device makes a program of its own",
    "load_s": "a later load",
    "first_s": "loading and the first call",
}


def measured_apart(package: Package) -> dict[str, float]:
    """Return what `load_probe` prints.

    Raises:
        CannotRunError: It failed.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-m", "s2search.verification.load_probe", str(package.folder)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotRunError(f"the package was not loaded after {_LONGEST_S:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CannotRunError(f"a process that loads the package ends with {done.returncode}: {last[:300]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True, kw_only=True)
class LoadingCheck(Check):
    """Compile time, load time and memory are reported, memory beside its prediction. It needs `--measure`.

    Nothing is asked of them: how much a phone has depends on the phone.

    Attributes:
        measure: Loads a package and returns figures.
    """

    name: ClassVar[str] = "loading"
    required: ClassVar[bool] = False

    measure: Callable[[Package], dict[str, float]] = measured_apart

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        package = opened.package
        if opened.emulation:
            raise CannotRunError(opened.emulation.why)
        if not opened.options.measure:
            raise CannotRunError("not asked for; give --measure")
        opened.say("loading the package in a process of its own")
        found = self.measure(package)
        for key, what in _SECONDS.items():
            if key in found:
                yield self._reported(key.removesuffix("_s"), found[key], "s", what, {})
        predicted, memory = predicted_memory_bytes(package.manifest), found["memory_bytes"]
        why = (
            f"{format_bytes(int(memory))} more than before, {format_bytes(predicted)} predicted: "
            "weights, state and the largest part beside them"
        )
        parts = {"measured_bytes": memory, "predicted_bytes": float(predicted)}
        if "compiled_bytes" in found:
            parts["compiled_bytes"] = found["compiled_bytes"]
        yield self._reported("memory", memory / 1e6, "MB", why, parts)

    def _reported(self, of: str, value: float, unit: str, why: str, parts: dict[str, float]) -> CheckResult:
        return CheckResult(
            name=f"{self.name}.{of}", status="passed", required=False, value=value, unit=unit, why=why, parts=parts
        )

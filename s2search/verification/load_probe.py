"""Loads a package in a process of its own, and prints what that took: `python -m ...load_probe FOLDER`.

One process per package: memory that a process has taken once cannot be told from memory that it needs. What is printed
is one line of JSON: seconds, and the growth of the resident size in bytes. On a Mac that leaves out what the Neural
Engine's driver holds for the process.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from s2search.exporters.package import FunctionSpec, Package
from s2search.verification.inspectors.base import inspector_of

_FIRST = "denoise"


def probe(package: Package, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Return seconds of loading and of calls, and bytes that loading and calling took."""
    manifest = package.manifest
    inspector = inspector_of(package)
    if inspector.library:
        importlib.import_module(inspector.library)
    names = [function.name for function in manifest.functions]
    function = manifest.function(_FIRST if _FIRST in names else names[0])
    inputs = _zeros(function)
    before, marks = resident_bytes(), [clock()]
    runtime = inspector.runtime(package)
    for _ in range(2):
        runtime.run(function.name, inputs)
        marks.append(clock())
    found = {
        "first_s": marks[1] - marks[0],
        "call_s": marks[2] - marks[1],
        "memory_bytes": float(resident_bytes() - before),
    }
    with tempfile.TemporaryDirectory() as folder:
        found |= inspector.loading(package, function.name, Path(folder), clock)
    return found


def resident_bytes() -> int:
    """Return the resident size of this process: now, or the largest so far where the system does not tell (a Mac).

    The largest so far says nothing where importing libraries took more for a moment than the package does.
    """
    import resource

    if platform.system() == "Linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _zeros(function: FunctionSpec) -> dict[str, np.ndarray]:
    return {one.name: np.zeros(one.shape, one.dtype) for one in function.inputs}


def main(arguments: list[str]) -> int:
    """Print what loading the package takes."""
    (folder,) = arguments
    sys.stdout.write(json.dumps(probe(Package.load(folder))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

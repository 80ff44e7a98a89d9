"""How long a Mac compiles a Core ML package, and how long it loads what it compiled. It takes a Mac.

Core ML compiles a package to a .mlmodelc once. The first load on a device makes the device's own program of it, which
for the Neural Engine takes longest, and which the system keeps: later loads find it. Interface: coremltools 9,
`utils.compile_model` and `models.CompiledMLModel`; not run on a Mac yet, tested with an imitation of the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CoreMLLoading:
    """Seconds of compiling, of the first load and of a later one, and bytes of the compiled program."""

    compile_s: float
    first_load_s: float
    load_s: float
    compiled_bytes: int


def measure_loading(
    package: Path, function: str, folder: Path, clock: Callable[[], float] = time.perf_counter
) -> CoreMLLoading:
    """Compile a package and load one of its functions twice, for the Neural Engine.

    Args:
        package: A .mlpackage.
        function: Its name.
        folder: Where the compiled program goes.
        clock: Seconds.
    """
    from s2search.mil.library import load_coremltools

    coremltools = load_coremltools()
    units = coremltools.ComputeUnit.CPU_AND_NE
    start = clock()
    compiled = coremltools.utils.compile_model(str(package), str(folder / "model.mlmodelc"))
    marks = [clock()]
    for _ in range(2):
        coremltools.models.CompiledMLModel(compiled, compute_units=units, function_name=function)
        marks.append(clock())
    return CoreMLLoading(
        compile_s=marks[0] - start,
        first_load_s=marks[1] - marks[0],
        load_s=marks[2] - marks[1],
        compiled_bytes=sum(file.stat().st_size for file in Path(compiled).rglob("*") if file.is_file()),
    )

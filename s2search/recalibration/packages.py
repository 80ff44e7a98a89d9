"""Real packages as subjects: random layouts exported for a runtime of this machine, their denoising step timed whole.

What is timed is `Runtime.run("denoise")` as an application calls it: all inputs in, among them the state that two
chunks left, the velocity out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from s2search import registry
from s2search.block import Precision
from s2search.exporters.base import Runtime
from s2search.exporters.package import Package
from s2search.exporters.resident import Resident
from s2search.measurement.base import Memory, Prepared, Profiler
from s2search.network.config import ModelConfig
from s2search.preset import Preset, video_size
from s2search.recalibration.bench import Bench
from s2search.recalibration.models import random_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s2search.verification.opened import Opened


@dataclass(frozen=True, kw_only=True)
class PackageBench(Bench):
    """Exports and runs packages.

    Attributes:
        profiler: Its session sets threads and cores for the package too.
        exporter: Name of the exporter for the same runtime.
    """

    profiler: Profiler
    exporter: str

    @override
    def write(self, layout: Sequence[str], preset: Preset, grid: tuple[int, int], folder: Path, *, seed: int) -> None:
        config = ModelConfig.new(preset, tuple(layout))
        if folder.exists() and Package.load(folder).manifest.model_digest == config.digest:
            return
        model = random_model(config, seed)
        registry.create("exporters", self.exporter).export(model, grid, folder, functions=("denoise",))

    @override
    def prepare(self, folder: Path, grid: tuple[int, int]) -> Prepared:
        from s2search.verification.opened import Opened

        package = Package.load(folder)
        package.check_files()
        opened = Opened(package)
        runtime = opened.inspector.runtime_of(self.profiler, package)
        threads = getattr(self.profiler, "threads", 1)
        return DenoisingStep(package, runtime, opened.inputs("denoise"), lambda: _resident(opened, threads))


def _resident(opened: Opened, threads: int) -> Resident | None:
    """Measure what the package takes that denoises a chunk; None where nobody does."""
    from s2search.verification.result import NotOfferedError

    try:
        return opened.inspector.resident(opened, ("denoise",), threads=threads)
    except NotOfferedError:
        return None


def exporters_by_profiler() -> dict[str, str]:
    """Return the exporter for the runtime of every profiler that has one, as inspectors say."""
    inspectors = {exporter: registry.load("inspectors", exporter) for exporter in registry.installed("inspectors")}
    return {one.profiler: exporter for exporter, one in inspectors.items() if one.profiler}


class DenoisingStep(Prepared):
    """A loaded package with the inputs of one chunk."""

    def __init__(
        self,
        package: Package,
        runtime: Runtime,
        inputs: dict[str, NDArray[Any]],
        measured: Callable[[], Resident | None] = lambda: None,
    ) -> None:
        self._package, self._runtime, self._inputs, self._measured = package, runtime, inputs, measured

    @override
    def resident(self) -> Resident | None:
        return self._measured()

    @override
    def time_ms(self, repetitions: int) -> float:
        run, inputs = self._runtime.run, self._inputs
        start = time.perf_counter()
        for _ in range(repetitions):
            run("denoise", inputs)
        return 1000 * (time.perf_counter() - start) / repetitions

    def memory(self) -> Memory:
        """Return bytes of files and state, and by the formula of the largest block, activations."""
        manifest = self._package.manifest
        rows, columns = manifest.grid
        shape = manifest.model.preset.shape(video_size(rows, columns), "stream", frames=manifest.chunk_frames)
        blocks = [registry.create("blocks", label) for label in manifest.model.layout]
        return Memory(
            weight_bytes=manifest.sizes.weight_bytes,
            state_bytes=manifest.sizes.state_bytes,
            peak_bytes=max(block.peak_bytes(shape, Precision.named(manifest.precision)) for block in blocks),
        )

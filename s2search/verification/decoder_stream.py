"""A decoder's package as an application uses it: chunk after chunk, on one cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s2search.exporters.component.package import ComponentPackage
from s2search.exporters.package import NEW
from s2search.exporters.stateful import StatefulRuntime
from s2search.verification.inspectors.base import inspector_of
from s2search.verification.result import CheckResult, judged, not_run

if TYPE_CHECKING:
    from numpy.typing import NDArray


class DecoderStream:
    """Decodes a stream.

    The cache stays in the runtime where the runtime holds it, and is passed from call to call where not.

    Args:
        package: Of a decoder.
    """

    def __init__(self, package: ComponentPackage) -> None:
        self._manifest, self._runtime = package.manifest, inspector_of(package).runtime(package)
        self._state = self._runtime.make_state("first") if isinstance(self._runtime, StatefulRuntime) else None
        self._cache: dict[str, NDArray[Any]] = {}
        self._function = "first"

    def decode(self, latents_BCTYX: NDArray[Any]) -> NDArray[Any]:
        """Return video_BCTYX of the next chunk."""
        inputs = {"latents": latents_BCTYX} | self._cache
        taken = [one for one in self._manifest.function(self._function).inputs if one.name not in self._manifest.held]
        given = {one.name: np.ascontiguousarray(inputs[one.name], one.dtype) for one in taken}
        if isinstance(self._runtime, StatefulRuntime):
            outputs = self._runtime.call(self._function, given, self._state if self._manifest.held else None)
        else:
            outputs = self._runtime.run(self._function, given)
        self._cache = {name.removeprefix(NEW): array for name, array in outputs.items() if name.startswith(NEW)}
        self._function = "next"
        return outputs["video"]

    def begin_again(self) -> None:
        """Begin another stream, on the state that the last one leaves."""
        self._function, self._cache = "first", {}


def random_latents(package: ComponentPackage, chunks: int, seed: int) -> Iterator[NDArray[Any]]:
    """Yield latents_BCTYX of chunks, from the standard normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(chunks):
        yield torch.randn(package.manifest.function("first").inputs[0].shape, generator=generator).numpy()


def check_state(package: ComponentPackage, seed: int) -> CheckResult:
    """Look at how a program uses states, and whether `first` begins a stream whatever a state holds.

    Raises:
        S2SearchError: A file cannot be read, or a function cannot be computed.
    """
    manifest = package.manifest
    if not manifest.held:
        return not_run("state", "the runtime keeps none: a cache is passed in and out", required=False)
    faults = inspector_of(package).state_faults(package)
    latents_BCTYX, later_BCTYX = random_latents(package, 2, seed)
    stream = DecoderStream(package)
    wanted_BCTYX = stream.decode(latents_BCTYX)
    stream.decode(later_BCTYX)
    stream.begin_again()
    if not np.array_equal(stream.decode(latents_BCTYX), wanted_BCTYX):
        faults.append("a second stream on the same state begins with other frames")
    why = (
        f"{len(manifest.held)} states, declared alike by all functions; a used one leaves the next beginning as it was"
    )
    return judged("state", len(faults), 0, "at most", unit="faults", where=next(iter(faults), ""), why=why)

"""A package that streams: the functions of its runtime behind the methods of the model that samplers call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from s2search.block import Window
from s2search.errors import InputError
from s2search.exporters.base import Runtime
from s2search.exporters.package import NEW, Package
from s2search.exporters.step import MASKED, PAST_BIAS, VELOCITY
from s2search.network.network import LayerStates


class StreamedPackage:
    """Takes the place of `S2DiT` in a stream. A state is the tuple of the package's state tensors, in their order.

    Attributes:
        config: Sizes and layout of the model that was packaged.
    """

    def __init__(self, package: Package, runtime: Runtime) -> None:
        self.package, self.config, self._runtime = package, package.manifest.model, runtime
        self._names = tuple(spec.name for spec in package.manifest.states)
        self._functions = {function.name for function in package.manifest.functions}
        self._weight = nn.Parameter(torch.empty(0), requires_grad=False)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield one empty parameter: it says that latents go in as float32, from the processor's memory."""
        yield self._weight

    def weights_digest(self) -> str:
        """Return a hash of the package's files: another export may round otherwise, and its states are others."""
        files = (f"{file.path} {file.sha256}" for file in self.package.manifest.files)
        return f"sha256:{hashlib.sha256(chr(10).join(sorted(files)).encode()).hexdigest()}"

    def initial_state(
        self,
        batch: int,
        grid: tuple[int, int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        *,
        window: Window | None = None,
    ) -> LayerStates:
        """Return a state that remembers nothing yet.

        Raises:
            InputError: The package was made for another batch, grid or window.
        """
        manifest = self.package.manifest
        asked, made = (batch, grid, window or manifest.window), (1, manifest.grid, manifest.window)
        if asked != made:
            raise InputError(
                f"the package streams {made[0]} video of {made[1][0]}x{made[1][1]} tokens with {made[2]}, "
                f"not {batch} of {grid[0]}x{grid[1]} with {asked[2]}",
                remedy="export for this size",
            )
        return tuple(
            torch.full(spec.shape, MASKED if spec.name == PAST_BIAS else 0.0, device=device) for spec in manifest.states
        )

    def __call__(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> Tensor:
        """Return the velocity; the first chunk's from `first`, where the package has it."""
        if "first" in self._functions and self._is_empty(state):
            return self._run("first", latents_BCTYX, s_BT, text_BSE, ())[VELOCITY]
        return self._run("denoise", latents_BCTYX, s_BT, text_BSE, state)[VELOCITY]

    def commit(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> LayerStates:
        """Return the state with this chunk added."""
        return self._new_state(self._run("commit", latents_BCTYX, s_BT, text_BSE, state))

    def advance(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> tuple[Tensor, LayerStates]:
        """Return the velocity, and the state with this chunk added."""
        outputs = self._run("advance", latents_BCTYX, s_BT, text_BSE, state)
        return outputs[VELOCITY], self._new_state(outputs)

    def _is_empty(self, state: LayerStates) -> bool:
        if PAST_BIAS in self._names:
            return bool(state[self._names.index(PAST_BIAS)][-1] != 0)
        return not any(tensor.any() for tensor in state)

    def _new_state(self, outputs: Mapping[str, Tensor]) -> LayerStates:
        return tuple(outputs[NEW + name] for name in self._names)

    def _run(
        self, function: str, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> dict[str, Tensor]:
        spec = self.package.manifest.function(function)
        inputs = {}
        for one, tensor in zip(spec.inputs, (latents_BCTYX, s_BT, text_BSE, *state), strict=True):
            if tuple(tensor.shape) != one.shape:
                raise InputError(
                    f"{one.name!r} of the package has the shape {one.shape}, not {tuple(tensor.shape)}",
                    remedy="export for this size",
                )
            inputs[one.name] = np.ascontiguousarray(tensor.numpy(), dtype=one.dtype)
        outputs = self._runtime.run(function, inputs)
        return {name: torch.from_numpy(array.astype(np.float32, copy=False)) for name, array in outputs.items()}

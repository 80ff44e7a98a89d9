"""A package that streams: the functions of its runtime behind the methods of the model that samplers call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from s2search.block import Window
from s2search.errors import InputError
from s2search.exporters.base import Runtime
from s2search.exporters.host import Host
from s2search.exporters.package import NEW, Package
from s2search.exporters.step import MASKED, PAST_BIAS, VELOCITY
from s2search.network.network import LayerStates

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]


class StreamedPackage:
    """Takes the place of `S2DiT` in a stream. A state is the tuple of the package's state tensors, in their order.

    Where a host keeps the state, it is what the host keeps (`exporters/host.py`).

    Attributes:
        config: Sizes and layout of the model that was packaged.
    """

    def __init__(self, package: Package, runtime: Runtime) -> None:
        self.package, self.config, self._runtime = package, package.manifest.model, runtime
        form = package.manifest.host
        self.host = None if form is None else Host(form)
        kept = (spec.name for spec in package.manifest.states)
        self._names = tuple(kept if self.host is None else self.host.start())
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
        if self.host is not None:
            return tuple(torch.from_numpy(array).to(device) for array in self.host.start().values())
        return tuple(
            torch.full(spec.shape, MASKED if spec.name == PAST_BIAS else 0.0, device=device) for spec in manifest.states
        )

    def __call__(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> Tensor:
        """Return the velocity; the first chunk's from `first`, where the package has it."""
        function = "first" if "first" in self._functions and self._is_empty(state) else "denoise"
        outputs = self._run(function, latents_BCTYX, s_BT, text_BSE, state)
        return self._velocity(outputs, latents_BCTYX, s_BT)

    def commit(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> LayerStates:
        """Return the state with this chunk added."""
        return self._new_state(state, self._run("commit", latents_BCTYX, s_BT, text_BSE, state))

    def advance(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> tuple[Tensor, LayerStates]:
        """Return the velocity, and the state with this chunk added."""
        outputs = self._run("advance", latents_BCTYX, s_BT, text_BSE, state)
        return self._velocity(outputs, latents_BCTYX, s_BT), self._new_state(state, outputs)

    def named(self, state: LayerStates) -> Arrays:
        """Return a state as arrays by name."""
        return {name: tensor.numpy() for name, tensor in zip(self._names, state, strict=True)}

    def _is_empty(self, state: LayerStates) -> bool:
        if self.host is not None:
            return self.host.is_empty(self.named(state))
        if PAST_BIAS in self._names:
            return bool(state[self._names.index(PAST_BIAS)][-1] != 0)
        return not any(tensor.any() for tensor in state)

    def _velocity(self, outputs: Mapping[str, NDArray[Any]], latents_BCTYX: Tensor, s_BT: Tensor) -> Tensor:
        if self.host is None:
            return torch.from_numpy(outputs[VELOCITY].astype(np.float32, copy=False))
        velocity_CTYX = self.host.velocity(outputs, latents_BCTYX[0].numpy(), float(s_BT[0, 0]))
        return torch.from_numpy(velocity_CTYX)[None]

    def _new_state(self, state: LayerStates, outputs: Mapping[str, NDArray[Any]]) -> LayerStates:
        if self.host is not None:
            return tuple(torch.from_numpy(x) for x in self.host.after(self.named(state), outputs).values())
        return tuple(torch.from_numpy(outputs[NEW + name].astype(np.float32, copy=False)) for name in self._names)

    def _run(
        self, function: str, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> Mapping[str, NDArray[Any]]:
        past = {} if function == "first" else self.named(state)
        if self.host is None:
            inputs = {"latents": latents_BCTYX.numpy(), "s": s_BT.numpy(), "text": text_BSE.numpy(), **past}
        else:
            self._check_size("latents", latents_BCTYX, (1, *self.host.form.latents))
            self._check_size("text", text_BSE, (1, *self.host.form.text))
            latents_CTYX, text_SE = latents_BCTYX[0].numpy(), text_BSE[0].numpy()
            inputs = self.host.inputs(latents_CTYX, float(s_BT[0, 0]), text_SE, past or None)
        for one in self.package.manifest.function(function).inputs:
            self._check_size(one.name, inputs[one.name], one.shape)
        return self._call(function, inputs)

    def _check_size(self, name: str, given: Tensor | NDArray[Any], size: tuple[int, ...]) -> None:
        if tuple(given.shape) != size:
            raise InputError(
                f"{name!r} of the package has the shape {size}, not {tuple(given.shape)}", remedy="export for this size"
            )

    def _call(self, function: str, inputs: Arrays) -> Mapping[str, NDArray[Any]]:
        """Return what a function gives, by name."""
        specs = self.package.manifest.function(function).inputs
        given = {one.name: np.ascontiguousarray(inputs[one.name], dtype=one.dtype) for one in specs}
        return self._runtime.run(function, given)

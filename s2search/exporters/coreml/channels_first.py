"""A step's functions with channels before tokens, (1, C, 1, S): the layout that the Neural Engine works in.

They compute what those of `exporters/step.py` compute, from the same weights, with inputs and outputs of the same
names. Rings and tails stand otherwise: `keys_07` is (1, D, frames, tokens); `to_source` and `from_source` convert.
A block or part brings its own twin (`channels_first`, see `s2search/block.py`); one without runs in its own
layout, between two transpositions, with its state as in `step.py`.

Axes: C latent channels  T frames  Y X latent rows and columns  D channels  S tokens  E text channels  W text tokens
      M modulation (6 D)  R slots of a ring  G tokens of a frame
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from s2search.block import Stream
from s2search.exporters.coreml.channels_first_layer import (
    TURNED,
    OwnLayoutLayer,
    channels_first_layer,
    channels_first_part,
)
from s2search.exporters.package import NEW
from s2search.exporters.step import FUNCTIONS, PAST_BIAS, FunctionName, Steps, StepShape, Tensors
from s2search.network.network import S2DiT


class ChannelsFirstSteps(Steps):
    """The functions of one model at one shape, with channels before tokens.

    Attributes:
        network: The twin, whose weights have the names of the model's.
        own_layout: Numbers of layers that have no twin.
    """

    def __init__(self, model: S2DiT, shape: StepShape, functions: tuple[FunctionName, ...] = FUNCTIONS) -> None:
        super().__init__(model, shape, functions)
        self.network = ChannelsFirstNetwork(model, shape)
        self.own_layout = self.network.own_layout
        bias = {name: tensor for name, tensor in self.state.items() if name == PAST_BIAS}
        self.state = bias | self.network.empty()

    @property
    def stored(self) -> nn.Module:
        """The twin. See the base class."""
        return self.network

    def to_source(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return rings and tails with tokens before channels. See the base class."""
        return dict(self._turned(arrays, (0, 2, 3, 1)))

    def from_source(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Undo `to_source`."""
        return dict(self._turned(arrays, (0, 3, 1, 2)))

    def _turned(self, arrays: Mapping[str, Any], axes: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
        for name, array in arrays.items():
            plain = name.removeprefix(NEW)
            turns = plain.startswith(TURNED) and int(plain.rpartition("_")[2]) not in self.own_layout
            yield name, array.transpose(axes).copy() if turns else array

    def function(self, function: FunctionName) -> nn.Module:
        """Return a function as a module. See the base class."""
        return _Step(self.network, function, tuple(self.state))


class ChannelsFirstNetwork(nn.Module):
    """The twin of `S2DiT` for one chunk length, grid and window."""

    def __init__(self, model: S2DiT, shape: StepShape) -> None:
        super().__init__()
        self.config, self.streams, grid, frames = model.config, model.streams, shape.grid, shape.frames
        low = (-(-grid[0] // 2), -(-grid[1] // 2))
        self.stem = channels_first_part(model.stem, frames, grid)
        self.head = channels_first_part(model.head, frames, grid)
        if Stream.LOW in self.streams:
            self.down, self.up = (channels_first_part(part, frames, grid) for part in (model.down, model.up))
        past = model.initial_state(1, grid, window=shape.window)
        self.ways = [
            channels_first_layer(layer, past[number], number, shape, grid if stream is Stream.HIGH else low)
            for number, (layer, stream) in enumerate(zip(model.layers, self.streams, strict=True))
        ]
        self.layers = nn.ModuleList(way.module for way in self.ways)

    @property
    def own_layout(self) -> tuple[int, ...]:
        """Numbers of layers that run in their own layout."""
        return tuple(number for number, way in enumerate(self.ways) if isinstance(way, OwnLayoutLayer))

    def empty(self) -> Tensors:
        """Return the empty state of all layers, by the names of the step's inputs."""
        return {name: tensor for way in self.ways for name, tensor in way.empty().items()}

    def forward(
        self, latents_1CTYX: Tensor, s_11: Tensor, text_1WE: Tensor, past: Tensors | None, *, reads: bool, writes: bool
    ) -> tuple[Tensor | None, Tensors]:
        """Return the velocity where it is asked for, and what the layers return of their state where that is."""
        x_1D1S, modulation_1M11, time_1D11 = self.stem(latents_1CTYX, s_11)
        text_1E1W, skip_1D1S, current, new = text_1WE.transpose(1, 2)[:, :, None], x_1D1S, Stream.HIGH, Tensors()
        for number, (way, stream) in enumerate(zip(self.ways, self.streams, strict=True)):
            if stream is not current:
                if stream is Stream.LOW:
                    skip_1D1S, x_1D1S = x_1D1S, self.down(x_1D1S)
                else:
                    x_1D1S = self.up(x_1D1S) + skip_1D1S
                current = stream
            if writes and past is not None:
                new |= way.commit(x_1D1S, modulation_1M11, past)
            if reads or number + 1 < len(self.ways):
                x_1D1S = way.read(x_1D1S, modulation_1M11, text_1WE, text_1E1W, past)
        if not reads:
            return None, new
        return self.head(x_1D1S if current is Stream.HIGH else self.up(x_1D1S), time_1D11), new


class _Step(nn.Module):
    """One function. Its weights are the twin's, under `model.`."""

    def __init__(self, network: ChannelsFirstNetwork, function: FunctionName, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.function, self._names = network, function, names
        self.eval()

    def forward(self, latents_1CTYX: Tensor, s_11: Tensor, text_1WE: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `Steps.outputs`."""
        past = dict(zip(self._names, state, strict=True)) if self.function != "first" else None
        writes, reads = self.function in ("commit", "advance"), self.function != "commit"
        velocity_1CTYX, new = self.model(latents_1CTYX, s_11, text_1WE, past, reads=reads, writes=writes)
        if writes and past is not None and PAST_BIAS in past:
            bias_R, frames = past[PAST_BIAS], latents_1CTYX.shape[2]
            new[PAST_BIAS] = torch.cat((bias_R, bias_R.new_zeros(frames)))[-len(bias_R) :].clone()
        return (*((velocity_1CTYX,) if reads else ()), *(new[name] for name in self._names if writes))

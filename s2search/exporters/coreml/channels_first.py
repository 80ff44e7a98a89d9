"""A step's functions with channels before tokens, (1, C, 1, S): the layout that the Neural Engine works in.

They compute what those of `exporters/step.py` compute, from the same weights, with inputs and outputs of the same
names. Rings and tails stand otherwise: `keys_07` is (1, D, frames, tokens); `to_source` and `from_source` convert.
A block or part makes its own twin (`channels_first`, see `s2search/block.py`); one without runs in its own
layout, between two transpositions, with its state as in `step.py`.

Axes: C latent channels  T frames  Y X latent rows and columns  D channels  S tokens  E text channels  W text tokens
      M modulation (6 D)  R slots of a ring  G tokens of a frame
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from s2search.block import Stream
from s2search.exporters.coreml.channels_first_layer import (
    TURNED,
    channels_first_layer,
    channels_first_part,
)
from s2search.exporters.package import NEW
from s2search.exporters.step import FUNCTIONS, PAST_BIAS, FunctionName, Steps, StepShape, Tensors
from s2search.network.network import S2DiT
from s2search.network.walk import Pass, walk

PASSES: dict[FunctionName, Pass] = {"first": "read", "denoise": "read", "commit": "commit", "advance": "advance"}


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
    @override
    def stored(self) -> nn.Module:
        return self.network

    @override
    def to_source(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._turned(arrays, (0, 2, 3, 1)))

    @override
    def from_source(self, arrays: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._turned(arrays, (0, 3, 1, 2)))

    def _turned(self, arrays: Mapping[str, Any], axes: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
        for name, array in arrays.items():
            plain = name.removeprefix(NEW)
            turns = plain.startswith(TURNED) and int(plain.rpartition("_")[2]) not in self.own_layout
            yield name, array.transpose(axes).copy() if turns else array

    @override
    def function(self, function: FunctionName) -> nn.Module:
        return _ChannelsFirstFunction(self.network, function, tuple(self.state))


class ChannelsFirstNetwork(nn.Module):
    """The twin of `S2DiT` for one chunk length, grid and window."""

    stem: nn.Module
    head: nn.Module
    down: nn.Module
    up: nn.Module

    def __init__(self, model: S2DiT, shape: StepShape, make_layer: Callable[..., Any] = channels_first_layer) -> None:
        super().__init__()
        self.config, self.streams, grid = model.config, model.streams, shape.grid
        for name in ("stem", "head", "down", "up"):
            if part := model.parts.get(name):
                self.add_module(name, channels_first_part(part, getattr(model, name), shape))
        past = model.initial_state(1, grid, window=shape.window)
        grids = {Stream.HIGH: grid, Stream.LOW: (-(-grid[0] // 2), -(-grid[1] // 2))}
        self.ways = [
            make_layer(block, model.layers[number], past[number], number, shape, grids[block.stream])
            for number, block in enumerate(model.blocks)
        ]
        self.layers = nn.ModuleList(way.module for way in self.ways)

    @property
    def own_layout(self) -> tuple[int, ...]:
        """Numbers of layers that run in their own layout."""
        return tuple(number for number, way in enumerate(self.ways) if way.own_layout)

    def empty(self) -> Tensors:
        """Return the empty state of all layers, by the names of the step's inputs."""
        return {name: tensor for way in self.ways for name, tensor in way.empty().items()}

    def forward(
        self, what: Pass, latents_1CTYX: Tensor, s_11: Tensor, text_1WE: Tensor, past: Tensors | None
    ) -> tuple[Tensor | None, Tensors]:
        """Return the velocity (None of a commit), and what the layers return of their state where that is wanted."""
        text_1E1W = text_1WE.transpose(1, 2)[:, :, None]

        def visit(what: Pass, number: int, x_1D1S: Tensor, modulation_1M11: Tensor) -> tuple[Tensor, Tensors]:
            way = self.ways[number]
            new = way.commit(x_1D1S, modulation_1M11, past) if what != "read" and past is not None else Tensors()
            if what != "commit":
                x_1D1S = way.read(x_1D1S, modulation_1M11, text_1WE, text_1E1W, past)
            return x_1D1S, new

        velocity_1CTYX, states = walk(self, what, latents_1CTYX, s_11, visit)
        return velocity_1CTYX, {name: tensor for state in states for name, tensor in state.items()}

    def lowered(self, x_1D1S: Tensor) -> Tensor:
        """Return a high stream brought down. See `Sandwich`."""
        low_1D1S: Tensor = self.down(x_1D1S)
        return low_1D1S

    def raised(self, x_1D1S: Tensor, size: torch.Size) -> Tensor:
        """Return a low stream brought up; the switch was made for the grid. See `Sandwich`."""
        high_1D1S: Tensor = self.up(x_1D1S)
        return high_1D1S


class _ChannelsFirstFunction(nn.Module):
    """One function. Its weights are the twin's, under `model.`."""

    def __init__(self, network: ChannelsFirstNetwork, function: FunctionName, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.function, self._names = network, function, names
        self.eval()

    def forward(self, latents_1CTYX: Tensor, s_11: Tensor, text_1WE: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `Steps.outputs`."""
        past = dict(zip(self._names, state, strict=True)) if self.function != "first" else None
        velocity_1CTYX, new = self.model(PASSES[self.function], latents_1CTYX, s_11, text_1WE, past)
        if new and past is not None and PAST_BIAS in past:
            bias_R, frames = past[PAST_BIAS], latents_1CTYX.shape[2]
            new[PAST_BIAS] = torch.cat((bias_R, bias_R.new_zeros(frames)))[-len(bias_R) :].clone()
        return (*(() if velocity_1CTYX is None else (velocity_1CTYX,)), *(new[name] for name in self._names if new))

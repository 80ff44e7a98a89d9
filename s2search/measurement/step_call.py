"""One item in the form in which exporters write it into a step: a module of named tensors, and what it shall return.

In the layout `bc1s` channels stand before tokens, and a block is its twin (`channels_first` in `s2search/block.py`), or
itself between transpositions where it has none; in `blocks` it is itself. In both the state is that of a step's layer 0
(`keys_00`, `sum_00` and so on; see `s2search/exporters/step.py`), and rings read a `past_bias`, which is 0 here: the
window is full.

Axes: B batch (1)  T frames  H W rows and columns  D channels  S tokens  E text channels  P text tokens
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from s2search.block import Block, Shape, Stream, Window
from s2search.exporters.coreml.channels_first_layer import (
    TURNED,
    OwnLayoutLayer,
    TwinLayer,
    channels_first_layer,
    channels_first_part,
)
from s2search.exporters.coreml.form import Layout
from s2search.exporters.package import NEW
from s2search.exporters.past import PAST_BIAS, StepShape, Tensors, layer_past
from s2search.measurement.base import Item
from s2search.measurement.torch_call import TorchCall, stream_grid, torch_call

_EXACT = ("s", "sum_00", "norm_00")
_OUTPUTS = {"down": ("y",), "up": ("y",), "stem": ("x", "modulation", "time_embedding"), "head": ("velocity",)}


@dataclass(frozen=True, kw_only=True)
class StepCall:
    """A module, its inputs and its outputs by name.

    Attributes:
        module: Takes the arguments by position and returns a tuple.
        arguments: Contiguous, at most five axes each.
        outputs: Names of what it returns; a tensor of the state is called `new_keys_00`.
        state: Names of the state's tensors among the arguments.
        expected: What the block or part itself returns for the same numbers, in the form of the outputs.
        kept_bytes: Of the state in a float16 program, where its tensors among the arguments have others: padded, or
            not there.
    """

    module: nn.Module
    arguments: Tensors
    outputs: tuple[str, ...]
    state: tuple[str, ...]
    expected: tuple[Tensor, ...]
    kept_bytes: int | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that the module takes."""
        return tuple(self.arguments.values())

    @property
    def exact(self) -> tuple[str, ...]:
        """Names of inputs that a float16 program keeps in float32: the noise level, and the sums of LCHA."""
        return tuple(name for name in self.arguments if name in _EXACT)

    @property
    def float16_state_bytes(self) -> int:
        """Bytes of the state in a float16 program."""
        if self.kept_bytes is not None:
            return self.kept_bytes
        return sum(self.arguments[name].numel() * (4 if name in _EXACT else 2) for name in self.state)


@torch.no_grad()
def step_call(item: Item, layout: Layout, dtype: torch.dtype = torch.float32) -> StepCall:
    """Return an item in the form of a step, with the weights, inputs and state of its `torch_call`.

    Raises:
        InputError: Exporters know no way to keep what the block remembers, or a part has no such layout.
    """
    call = torch_call(item, torch.device("cpu"), dtype)
    return _block_call(item, call, layout) if isinstance(item.part, Block) else _part_call(item, call, layout)


class _BlocksLayer:
    """A layer with tokens before channels, whose state is that of a step."""

    def __init__(self, layer: nn.Module, state: Any, shape: StepShape) -> None:
        self.module = self._layer = layer
        self._past = layer_past(0, state, shape)
        self.reads_bias = self._past.reads_bias

    def read(
        self, x_BTHWD: Tensor, modulation_BT6D: Tensor, text_1PE: Tensor, _: Tensor, past: Tensors | None
    ) -> Tensor:
        state = None if past is None else self._past.read(past)
        y_BTHWD: Tensor = self._layer(x_BTHWD, modulation_BT6D, text_1PE, state)
        return y_BTHWD

    def commit(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, past: Tensors) -> Tensors:
        new = self._layer.commit(x_BTHWD, modulation_BT6D, self._past.read(past))  # type: ignore[operator]
        return self._past.write(past, new)


_Layer = TwinLayer | OwnLayoutLayer | _BlocksLayer


class _Read(nn.Module):
    """Reads as `denoise` does, or with no state among its inputs as `first` does."""

    def __init__(self, layer: _Layer, names: tuple[str, ...]) -> None:
        super().__init__()
        self.layer, self._way, self._names = layer.module, layer, names
        self.eval()

    def forward(self, x: Tensor, modulation: Tensor, text: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        past = dict(zip(self._names, state, strict=True)) if state else None
        return (self._way.read(x, modulation, text, text, past),)


class _Commit(nn.Module):
    """Commits as `commit` does; with a ring, it also returns which frames are there, so that something is returned."""

    def __init__(self, layer: _Layer, names: tuple[str, ...], frames: int) -> None:
        super().__init__()
        self.layer, self._way, self._names, self._frames = layer.module, layer, names, frames
        self.eval()

    def forward(self, x: Tensor, modulation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        past = dict(zip(self._names, state, strict=True))
        new = self._way.commit(x, modulation, past)
        if (bias_R := past.get(PAST_BIAS)) is not None:
            new[PAST_BIAS] = torch.cat((bias_R, bias_R.new_zeros(self._frames)))[-len(bias_R) :].clone()
        return tuple(new[name] for name in self._names)


class _Part(nn.Module):
    """A switch or one of the model's two ends; `further` is built in."""

    def __init__(self, part: nn.Module, further: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.part, self._further = part, further
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        returned = self.part(*inputs, *self._further)
        return returned if isinstance(returned, tuple) else (returned,)


def _block_call(item: Item, call: TorchCall, layout: Layout) -> StepCall:
    commits = item.role == "commit"
    module = call.module.block if commits else call.module
    kept = _Kept(item, module, layout, like=call.arguments["x"])  # type: ignore[arg-type]
    layer, state = kept.layer, {} if call.state is None else kept.of(call.state)
    arguments = {name: x for name, x in call.arguments.items() if isinstance(x, Tensor)}
    if layout == "bc1s":
        x_BTHWD, modulation_BT6D = arguments["x"], arguments["modulation"]
        arguments |= {"x": tokens_last(x_BTHWD), "modulation": modulation_BT6D.reshape(1, -1, 1, 1)}
    if isinstance(layer, TwinLayer) and not commits:
        arguments["text"] = arguments["text"].transpose(1, 2)[:, :, None]
    output, names = call(), tuple(state)
    if commits:
        new = kept.of(output)
        run: nn.Module = _Commit(layer, names, item.shape.frames)
        outputs, expected = tuple(NEW + name for name in names), tuple(new[name] for name in names)
    else:
        run, outputs = _Read(layer, names), ("y",)
        expected = (tokens_last(output) if layout == "bc1s" else output,)
    return StepCall(
        module=run,
        arguments=contiguous(arguments | state),
        outputs=outputs,
        state=tuple(name for name in names if name != PAST_BIAS),
        expected=expected,
    )


class _Kept:
    """A block's layer in a layout, and the block's own states as those of a step's layer 0."""

    def __init__(self, item: Item, module: nn.Module, layout: Layout, *, like: Tensor) -> None:
        block, shape = item.part, item.shape
        assert isinstance(block, Block)
        step = step_shape(shape, block.stream)
        grid = step.grid
        empty = module.initial_state(1, grid, step.window, like.device, like.dtype)  # type: ignore[operator]
        self.layer: _Layer = (
            channels_first_layer(block, module, empty, 0, step, grid)
            if layout == "bc1s"
            else _BlocksLayer(module, empty, step)
        )
        self._past, self._bias = layer_past(0, empty, step), {PAST_BIAS: like.new_zeros(step.slots)}

    def of(self, state: Any) -> Tensors:
        """Return a state whose window is full, and for a ring which of its frames are there: all."""
        tensors = self._past.write(self._past.empty() | self._bias, state)
        turns = TURNED if isinstance(self.layer, TwinLayer) else ()
        turned = {name: x.permute(0, 3, 1, 2) if name.startswith(turns) else x for name, x in tensors.items()}
        return self._bias | turned if self.layer.reads_bias else turned


def step_shape(shape: Shape, stream: Stream) -> StepShape:
    """Return the shape of a step on a stream's grid; without a past, its window is one chunk."""
    window = Window(frames=shape.context_frames or shape.frames)
    return StepShape(grid=stream_grid(shape, stream), frames=shape.frames, window=window)


def _part_call(item: Item, call: TorchCall, layout: Layout) -> StepCall:
    name, output = item.part.name, call()
    returned = output if isinstance(output, tuple) else (output,)
    arguments = {"s" if key == "time" else key: x for key, x in call.arguments.items() if isinstance(x, Tensor)}
    further = tuple(x for x in call.arguments.values() if not isinstance(x, Tensor))
    if layout == "blocks":
        run = _Part(call.module, further)
    else:
        run = _Part(channels_first_part(item.part, call.module, step_shape(item.shape, Stream.HIGH)))
        arguments = {key: _channels_first(key, x) for key, x in arguments.items()}
        returned = part_returned(item, call)
    return StepCall(module=run, arguments=contiguous(arguments), outputs=_OUTPUTS[name], state=(), expected=returned)


def part_returned(item: Item, call: TorchCall) -> tuple[Tensor, ...]:
    """Return what a part gives, with channels first."""
    output = call()
    returned = output if isinstance(output, tuple) else (output,)
    return tuple(_channels_first(key, x) for key, x in zip(_OUTPUTS[item.part.name], returned, strict=True))


def _channels_first(name: str, x: Tensor) -> Tensor:
    """Return an input or output of a part: tokens, vectors as (1, D, 1, 1), or what has channels first already."""
    if name in ("x", "y"):
        return tokens_last(x)
    return x.reshape(1, -1, 1, 1) if name in ("modulation", "time_embedding") else x


def tokens_last(x_BTHWD: Tensor) -> Tensor:
    """Return (1, D, 1, S)."""
    return x_BTHWD.permute(0, 4, 1, 2, 3).reshape(1, x_BTHWD.shape[-1], 1, -1)


def contiguous(tensors: Tensors) -> Tensors:
    """Return tensors without gaps, as runtimes take them."""
    return {name: x.contiguous() for name, x in tensors.items()}

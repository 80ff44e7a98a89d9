"""One item as a call in torch: the module with random weights, its inputs, and a block's state with a full window.

A commit is the call of a module of its own, so that whatever compiles, exports or captures modules takes it as well.

Axes: B batch (1)  T frames  H W token rows and columns of the item's stream  D channels  S text tokens  E text channels
      C latent channels  Y X latent rows and columns
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from s2search.block import Block, Shape, Stream, Window
from s2search.errors import InputError
from s2search.measurement.base import Item
from s2search.preset import LATENT_CHANNELS, PATCH

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class TorchCall:
    """Calls a module on inputs of its own. `arguments` are the inputs by name, then what is not an activation."""

    module: nn.Module
    arguments: dict[str, Any]
    state: Any

    def __call__(self) -> Any:
        """Run the module once."""
        return self.module(*self.arguments.values())

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The activations that a call reads."""
        return tuple(argument for argument in self.arguments.values() if isinstance(argument, Tensor))

    @property
    def weight_bytes(self) -> int:
        """Bytes of parameters and buffers."""
        return _storage_bytes([*self.module.parameters(), *self.module.buffers()])

    @property
    def state_bytes(self) -> int:
        """Bytes that the streaming state keeps alive."""
        return _storage_bytes(_tensors(self.state))


class Commit(nn.Module):
    """Commits a chunk to a block's state where the block itself would read it; returns the new state."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, state: Any) -> Any:
        """Return the state that a later chunk may see."""
        return self.block.commit(x_BTHWD, modulation_BT6D, state)  # type: ignore[operator]


@torch.no_grad()
def torch_call(item: Item, device: torch.device, dtype: torch.dtype) -> TorchCall:
    """Make an item's module and inputs; the same numbers every time, and torch's own generators are left as they were.

    A stream's block first commits random chunks until its window is full; a commit is of one chunk more.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        torch.manual_seed(_SEED)
        module = item.part.build(item.shape).to(dtype).eval().requires_grad_(False)
        if not isinstance(item.part, Block):
            return TorchCall(module=module, arguments=_part_arguments(item.part.name, item.shape, dtype), state=None)
        arguments, state = _block_arguments(item.part, item.shape, dtype), None
        if item.scenario == "stream":
            window, grid = Window(frames=item.shape.context_frames), stream_grid(item.shape, item.part.stream)
            state = module.initial_state(1, grid, window, device, dtype)  # type: ignore[operator]
            for _ in range(-(-item.shape.context_frames // item.shape.frames)):
                chunk_BTHWD, modulation_BT6D = torch.randn_like(arguments["x"]), arguments["modulation"]
                state = module.commit(chunk_BTHWD, modulation_BT6D, state)  # type: ignore[operator]
        if item.role == "commit":
            del arguments["text"]
            module = Commit(module)
        return TorchCall(module=module, arguments={**arguments, "state": state}, state=state)


def _block_arguments(block: Block, shape: Shape, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the stream, the modulation (one for all frames) and the text."""
    return {
        "x": _stream(shape, block.stream, dtype),
        "modulation": torch.randn(1, 1, 6, shape.channels, dtype=dtype),
        "text": torch.randn(1, shape.text_tokens, shape.text_channels, dtype=dtype),
    }


def _part_arguments(name: str, shape: Shape, dtype: torch.dtype) -> dict[str, Any]:
    match name:
        case "down":
            return {"x": _stream(shape, Stream.HIGH, dtype)}
        case "up":
            return {"x": _stream(shape, Stream.LOW, dtype), "height": shape.height, "width": shape.width}
        case "stem":
            rows, columns = PATCH[1] * shape.height, PATCH[2] * shape.width
            latents_BCTYX = torch.randn(1, LATENT_CHANNELS, shape.frames, rows, columns, dtype=dtype)
            return {"latents": latents_BCTYX, "time": torch.rand(1, 1)}  # the flow time is float32 in every precision
        case "head":
            time_embedding = torch.randn(1, 1, shape.channels, dtype=dtype)
            return {"x": _stream(shape, Stream.HIGH, dtype), "time_embedding": time_embedding}
    raise InputError(f"no profiler can call the part {name!r}", allowed="down, up, stem, head")


def _stream(shape: Shape, stream: Stream, dtype: torch.dtype) -> Tensor:
    return torch.randn(1, shape.frames, *stream_grid(shape, stream), shape.channels, dtype=dtype)


def stream_grid(shape: Shape, stream: Stream) -> tuple[int, int]:
    """Return the token rows and columns of a stream."""
    return (shape.height, shape.width) if stream is Stream.HIGH else (shape.low_height, shape.low_width)


def _tensors(state: Any) -> list[Tensor]:
    if dataclasses.is_dataclass(state):
        return _tensors([getattr(state, field.name) for field in dataclasses.fields(state)])
    leaves = tree_leaves(state)
    nested = [tensor for leaf in leaves if dataclasses.is_dataclass(leaf) for tensor in _tensors(leaf)]
    return nested + [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _storage_bytes(tensors: list[Tensor]) -> int:
    """Return the bytes of all storages, each counted once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

"""An item as a function of plain tensors, which is what a phone can be asked to run.

A streaming state becomes inputs, one per tensor, with at most five axes: Core ML takes no more. A read does not change
the state, so nothing has to be reset between two predictions.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from s2search.block import Block, LinearState
from s2search.measure.base import Item
from s2search.measure.torch_call import TorchCall, torch_call

_MOST_AXES = 5
_BLOCK_INPUTS = ("x", "modulation", "text")
_PART_INPUTS = {"down": ("x",), "up": ("x",), "stem": ("latents", "time"), "head": ("x", "time_embedding")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainCall:
    """A module whose inputs are all tensors.

    Attributes:
        module: Takes the arguments by position.
        arguments: Names and example values, float32 and contiguous.
        exact: Arguments that a float16 program keeps in float32: the sums of linear attention, and the flow time.
        state: Arguments that are streaming state.
    """

    module: nn.Module
    arguments: dict[str, Tensor]
    exact: tuple[str, ...]
    state: tuple[str, ...]


def plain_call(item: Item) -> PlainCall:
    """Make an item's call with random weights and inputs, the same every time."""
    call = torch_call(item, torch.device("cpu"), torch.float32)
    names = _BLOCK_INPUTS if isinstance(item.part, Block) else _PART_INPUTS[item.part.name]
    arguments = {name: tensor.contiguous() for name, tensor in zip(names, call.inputs, strict=True)}
    state = _state_tensors(call.state)
    for name, tensor in state.items():
        arguments[name] = tensor.flatten(_MOST_AXES - 1) if tensor.ndim > _MOST_AXES else tensor
    exact = tuple(state) if isinstance(call.state, LinearState) else ()
    return PlainCall(
        module=_Plain(call, tuple(state)).eval(),
        arguments=arguments,
        exact=tuple(name for name in (*exact, "time") if name in arguments and name != "tail"),
        state=tuple(state),
    )


class _Plain(nn.Module):
    """Puts plain tensors where the module of a call expects them."""

    def __init__(self, call: TorchCall, state: tuple[str, ...]) -> None:
        super().__init__()
        self.module = call.module
        self._call, self._state = call, state

    def forward(self, *tensors: Tensor) -> Any:
        inputs, state = tensors[: len(tensors) - len(self._state)], tensors[len(tensors) - len(self._state) :]
        rest = iter(inputs)
        arguments = [next(rest) if isinstance(argument, Tensor) else argument for argument in self._call.arguments]
        if self._state:
            arguments[-1] = _with_tensors(self._call.state, state)
        return self.module(*arguments)


def _state_tensors(state: Any) -> dict[str, Tensor]:
    """Return the tensors of a state by short names: `keys`, `values`, `sum`, `norm`, `tail`."""
    return {name.split("_")[0]: getattr(state, name) for name in _tensor_fields(state)}


def _with_tensors(state: Any, tensors: tuple[Tensor, ...]) -> Any:
    names = _tensor_fields(state)
    shaped = {name: x.reshape(getattr(state, name).shape) for name, x in zip(names, tensors, strict=True)}
    return dataclasses.replace(state, **shaped)


def _tensor_fields(state: Any) -> list[str]:
    if state is None:
        return []
    return [field.name for field in dataclasses.fields(state) if isinstance(getattr(state, field.name), Tensor)]

"""An item's call as other runtimes take it: a module of named tensors alone.

Export knows neither our states nor options: the tensors of all arguments become inputs, in their order, and the rest
(frames seen, rows and columns) is built in, as an application builds it into the package of one chunk size. A read does
not change the state, and a commit returns the tensors of a new one, so nothing has to be reset between two calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from s2search.measurement.torch_call import TorchCall

_MOST_AXES = 5  # of a tensor in Core ML
_EXACT = ("sum", "norm", "time")


class TensorCall(nn.Module):
    """Calls an item's module from the tensors among its arguments, the trailing axes of the largest made one.

    Attributes:
        arguments: Names and values of what `forward` takes, contiguous: activations, then the state's tensors.
        state: Names of the state's tensors: `keys`, `values`, `sum`, `norm`, `tail`.
        exact: Names of what a float16 program keeps in float32: the sums of linear attention, and the flow time.
    """

    def __init__(self, call: TorchCall) -> None:
        super().__init__()
        self.module, self._call = call.module, call.arguments
        self.arguments = {name: _at_most_five_axes(x) for name, x in _named(call.arguments)}
        self.state = tuple(name for name, _ in _fields(call.state))
        self.exact = tuple(name for name in _EXACT if name in self.arguments)
        self.eval()

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that `forward` takes."""
        return tuple(self.arguments.values())

    @property
    def float16_state_bytes(self) -> int:
        """Bytes of the state in a float16 program."""
        return sum(self.arguments[name].numel() * (4 if name in self.exact else 2) for name in self.state)

    def forward(self, *inputs: Tensor) -> Any:
        """Run the module once; of a new state return its tensors."""
        left = iter(inputs)
        output = self.module(*(_filled(argument, left) for argument in self._call.values()))
        if not dataclasses.is_dataclass(output):
            return output
        return tuple(tensor for _, tensor in _fields(output))


def _at_most_five_axes(x: Tensor) -> Tensor:
    return (x.flatten(_MOST_AXES - 1) if x.ndim > _MOST_AXES else x).contiguous()


def _named(arguments: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors among the arguments and in the fields of states among them."""
    for name, argument in arguments.items():
        if isinstance(argument, Tensor):
            yield name, argument
        yield from _fields(argument)


def _fields(state: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield a state's tensors by their names without axes."""
    for field in dataclasses.fields(state) if dataclasses.is_dataclass(state) else ():
        if isinstance(tensor := getattr(state, field.name), Tensor):
            yield field.name.split("_")[0], tensor


def _filled(argument: Any, left: Iterator[Tensor]) -> Any:
    """Return the argument with its tensors replaced by the next ones."""
    if isinstance(argument, Tensor):
        return next(left).view(argument.shape)
    if not dataclasses.is_dataclass(argument) or isinstance(argument, type):
        return argument
    values = {field.name: getattr(argument, field.name) for field in dataclasses.fields(argument)}
    tensors = {name: _filled(value, left) for name, value in values.items() if isinstance(value, Tensor)}
    return dataclasses.replace(argument, **tensors)

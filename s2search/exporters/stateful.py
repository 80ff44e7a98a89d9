"""A runtime that keeps states of its own between calls, behind the contract of `Runtime`, which keeps none.

`run` copies: the states given go into a fresh state of the runtime, and what the call wrote there comes out. So a state
can be kept, forked and read again, whatever the runtime does to its own. An application copies nothing: it makes one
state, and hands it to every call (`call`). `s2search verify` holds the two against each other.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import override

from s2search.exporters.base import Runtime
from s2search.exporters.package import NEW, Package, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]


class HeldState(Protocol):
    """What a runtime keeps: coremltools' MLState has these methods."""

    def read_state(self, name: str) -> NDArray[Any]:
        """Return a copy of a state's value."""

    def write_state(self, name: str, value: NDArray[Any]) -> None:
        """Set a state's value."""


class StatefulRuntime(Runtime):
    """Runs the functions of a package that names states as held."""

    def __init__(self, package: Package) -> None:
        self._package = package

    @abc.abstractmethod
    def make_state(self, function: str) -> HeldState:
        """Return a state of zeros, made by one function and good for all."""

    @abc.abstractmethod
    def call(self, function: str, inputs: Mapping[str, NDArray[Any]], state: HeldState | None) -> Arrays:
        """Run a function on a state, which it may change, and return its other outputs.

        Args:
            function: One of the manifest's.
            inputs: All that are not held.
            state: None where the function has no held states.
        """

    def returned(self, function: str) -> tuple[TensorSpec, ...]:
        """Return what `call` returns of a function: its outputs that are no states."""
        manifest = self._package.manifest
        return tuple(
            one for one in manifest.function(function).outputs if one.name.removeprefix(NEW) not in manifest.held
        )

    @override
    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        manifest = self._package.manifest
        spec = manifest.function(function)
        plain = {one.name: inputs[one.name] for one in spec.inputs if one.name not in manifest.held}
        if len(plain) == len(spec.inputs) and len(self.returned(function)) == len(spec.outputs):
            return self.call(function, plain, None)
        state = self.make_state(function)
        for name in inputs.keys() & set(manifest.held):
            state.write_state(name, inputs[name])
        outputs = self.call(function, plain, state)
        for one in spec.outputs:
            if (name := one.name.removeprefix(NEW)) in manifest.held:
                outputs[one.name] = state.read_state(name).astype(one.dtype).reshape(one.shape)
        return outputs

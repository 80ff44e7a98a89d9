"""A Core ML package that runs without Core ML: its functions through the evaluator.

What Core ML itself computes only a Mac or a phone can say; that the program is the source's can be said here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from s2search.exporters.chain import run_links
from s2search.exporters.package import NEW, ChainLink, Manifest, Package
from s2search.exporters.stateful import Arrays, HeldState, StatefulRuntime
from s2search.mil.evaluator import Evaluator, Mode, Result, Watch
from s2search.mil.function import Function
from s2search.mil.heap import give_large_arrays_back
from s2search.mil.program import Program
from s2search.verification.inspectors.coreml_joined import inputs_of_joined, joined_program, outputs_of_joined
from s2search.verification.inspectors.coreml_program import without_rounding

if TYPE_CHECKING:
    from numpy.typing import NDArray


class EmulatedState:
    """What Core ML would keep between calls."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = dict(values)

    def read_state(self, name: str) -> NDArray[Any]:
        """Return a copy of a state's value, float16."""
        array: NDArray[Any] = self.values[name].numpy().astype("float16")
        return array

    def write_state(self, name: str, value: NDArray[Any]) -> None:
        """Set a state's value."""
        self.values[name] = torch.from_numpy(value.astype("float16").astype("float32"))


class EmulatedCoreML(StatefulRuntime):
    """Runs functions of a Core ML package in a chosen arithmetic.

    Args:
        package: Of the exporter `coreml`.
        mode: See `Evaluator`: `float16` rounds what every operation returns, as float16 memory does.

    Raises:
        InputError: The program cannot be read, or has operations without cover.
    """

    def __init__(self, package: Package, mode: Mode = "float16") -> None:
        super().__init__(package)
        give_large_arrays_back()
        files = {function.file for function in package.manifest.stored_functions}
        self.programs = {file: Program.load(package.folder / file) for file in sorted(files)}
        self.mode = mode
        self._evaluators: dict[str, Evaluator] = {}
        self._links: dict[str, dict[str, Evaluator]] = {}
        self._whole: EmulatedCoreML | None = None
        self._in_modes: dict[Mode, EmulatedCoreML] = {mode: self}

    def with_whole_inputs(self) -> EmulatedCoreML:
        """Return the same package without rounding of what matrices are multiplied with: the graph alone.

        A number between two of 256 values is rounded one way or the other by its last digit: two right graphs differ.
        """
        if self._whole is None:
            self._whole = copy.copy(self)
            self._whole._evaluators, self._whole._links = {}, {}
            self._whole.programs = {file: without_rounding(program) for file, program in self.programs.items()}
        return self._whole

    def in_mode(self, mode: Mode) -> EmulatedCoreML:
        """Return the same package, read once, in another arithmetic."""
        if mode not in self._in_modes:
            other = self._in_modes[mode] = copy.copy(self)
            other.mode, other._evaluators, other._links, other._whole = mode, {}, {}, None
        return self._in_modes[mode]

    def evaluator(self, function: str) -> Evaluator:
        """Return the evaluator of a function; of a chain, of what its links' functions are together."""
        if function not in self._evaluators:
            manifest = self._package.manifest
            if manifest.chain:
                links = [(link, self._of_link(link, function).function) for link in manifest.chain]
                program = joined_program(function, links)
            else:
                program = self.programs[manifest.function(function).file]
            self._evaluators[function] = Evaluator(program, function, self.mode)
        return self._evaluators[function]

    def stored_functions(self) -> Iterator[Function]:
        """Yield the functions as they are in files: of every link of a chain, named with its number."""
        manifest = self._package.manifest
        for spec in manifest.functions if not manifest.chain else ():
            yield self.evaluator(spec.name).function
        for number, link in enumerate(manifest.chain, 1):
            for spec in link.functions:
                function = self._of_link(link, spec.name).function
                yield replace(function, name=f"{spec.name} of link {number}")

    def _of_link(self, link: ChainLink, function: str) -> Evaluator:
        spec = link.function(function)
        if spec.file not in self._links:
            self._links[spec.file] = {}
        if function not in self._links[spec.file]:
            self._links[spec.file][function] = Evaluator(self.programs[spec.file], function, self.mode)
        return self._links[spec.file][function]

    @override
    def make_state(self, function: str) -> EmulatedState:
        return EmulatedState(self.evaluator(function).initial_state())

    @override
    def call(self, function: str, inputs: Mapping[str, NDArray[Any]], state: HeldState | None) -> Arrays:
        manifest = self._package.manifest
        if manifest.chain:
            return self._in_turn(manifest, function, inputs)
        own = state if isinstance(state, EmulatedState) else None
        result = self._result(function, inputs, own, (), None)
        if own is not None:
            own.values.update(result.state)
        return {one.name: result.outputs[one.name].numpy().astype(one.dtype) for one in self.returned(function)}

    def _in_turn(self, manifest: Manifest, function: str, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the links one after the other, as an application does."""
        assert manifest.host is not None

        def call(number: int, given: Arrays) -> Arrays:
            tensors = {name: torch.from_numpy(array) for name, array in given.items()}
            with torch.no_grad():
                outputs = self._of_link(manifest.chain[number], function).run(tensors).outputs
            return {name: x.numpy() for name, x in outputs.items()}

        found = run_links(manifest.host, manifest.chain, function, inputs, call)
        return {one.name: found[one.name].astype(one.dtype) for one in self.returned(function)}

    def watched(
        self,
        function: str,
        inputs: Mapping[str, NDArray[Any]],
        watch: Sequence[Watch],
        forced: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Run a function, states among its inputs, and show every step; what is forced replaces computed values.

        Returns:
            What it returns and writes, as the mode rounds it.
        """
        manifest = self._package.manifest
        given = {one.name: inputs[one.name] for one in manifest.function(function).inputs}
        state = self.make_state(function)
        for name in manifest.held:
            if name in given:
                state.write_state(name, given.pop(name))
        if manifest.chain and manifest.host is not None:
            given = inputs_of_joined(manifest.host, manifest.chain, function, given)
            outputs = self._result(function, given, None, watch, forced).outputs
            return outputs_of_joined(manifest.host, manifest.chain, outputs)
        result = self._result(function, given, state, watch, forced)
        return {**result.outputs, **{NEW + name: x for name, x in result.state.items()}}

    def _result(
        self,
        function: str,
        inputs: Mapping[str, NDArray[Any]],
        state: EmulatedState | None,
        watch: Sequence[Watch],
        forced: Mapping[str, Tensor] | None,
    ) -> Result:
        with torch.no_grad():
            tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            return self.evaluator(function).run(
                tensors, None if state is None else state.values, watch=watch, forced=forced
            )

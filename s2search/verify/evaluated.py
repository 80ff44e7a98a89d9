"""A Core ML package that runs without Core ML: its functions through the evaluator.

What Core ML itself computes only a Mac or a phone can say; that the program is the source's can be said here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from s2search.export.base import Runtime
from s2search.export.package import Package
from s2search.verify.coreml_program import Program
from s2search.verify.evaluator import Evaluator, Mode, Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray


class EvaluatedCoreML(Runtime):
    """Runs functions of a Core ML package in a chosen arithmetic.

    Args:
        package: Of the exporter `coreml`.
        mode: See `Evaluator`: `float16` rounds what every operation returns, as float16 memory does.

    Raises:
        InputError: The program cannot be read, or has operations without cover.
    """

    def __init__(self, package: Package, mode: Mode = "float16") -> None:
        self._package = package
        files = {function.file for function in package.manifest.functions}
        self.programs = {file: Program.load(package.folder / file) for file in sorted(files)}
        self.mode = mode
        self._evaluators: dict[str, Evaluator] = {}

    def in_mode(self, mode: Mode) -> EvaluatedCoreML:
        """Return the same package, read once, in another arithmetic."""
        other = copy.copy(self)
        other.mode, other._evaluators = mode, {}
        return other

    def evaluator(self, function: str) -> Evaluator:
        """Return the evaluator of a function."""
        if function not in self._evaluators:
            program = self.programs[self._package.manifest.function(function).file]
            self._evaluators[function] = Evaluator(program, function, self.mode)
        return self._evaluators[function]

    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run a function. See the base class."""
        return self.watched(function, inputs, ())

    def watched(
        self,
        function: str,
        inputs: Mapping[str, NDArray[Any]],
        watch: Sequence[Watch],
        forced: Mapping[str, torch.Tensor] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a function, and show every step; what is forced takes the place of computed values."""
        spec = self._package.manifest.function(function)
        tensors = {one.name: torch.from_numpy(inputs[one.name]) for one in spec.inputs}
        with torch.no_grad():
            outputs = self.evaluator(function).run(tensors, watch=watch, forced=forced).outputs
        return {one.name: outputs[one.name].numpy().astype(one.dtype) for one in spec.outputs}

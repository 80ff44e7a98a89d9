"""coreml: constants, operations and states of Core ML programs, read without Core ML, and values inside of them.

Core ML runs on a Mac only. Elsewhere the evaluator runs its programs (`coreml_emulated.py`), in several arithmetics.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from typing_extensions import override

from s2search.exporters.coreml.loading import measure_loading
from s2search.exporters.coreml.operators import decompositions_for_coreml
from s2search.exporters.package import Package
from s2search.mil.evaluator import Mode
from s2search.mil.library import load_coremltools
from s2search.mil.residency import Residency, residency
from s2search.mil.rules.every import place_findings
from s2search.mil.rules.files import file_sizes, sizes
from s2search.mil.rules.operations import lint
from s2search.mil.rules.rule import PLACE_RULES, RuleFinding
from s2search.mil.rules.rule import RULES as PACKAGE_RULES
from s2search.mil.watch import KeptValues, Peaks
from s2search.verification.alone import Beside
from s2search.verification.expected import Expected
from s2search.verification.inspectors.base import Emulation, Inspector, Largest, Placed
from s2search.verification.inspectors.coreml_emulated import EmulatedCoreML
from s2search.verification.inspectors.coreml_program import constants, state_faults, stored_weights
from s2search.verification.inspectors.rules import RULES, RuleResult, by_rule
from s2search.verification.inspectors.stored_tensor import StoredTensor
from s2search.verification.inspectors.taps import Taps
from s2search.verification.numbers import StoredNumbers
from s2search.verification.reference import Reference
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn
    from torch.export import ExportedProgram

    from s2search.exporters.base import Runtime
    from s2search.exporters.step import FunctionName
    from s2search.verification.opened import Opened

_EMULATION = Emulation(
    told="the evaluator, in place of Core ML",
    why="only a Mac compiles and loads Core ML packages",
    mode="float16",
    others=("float32", "pessimistic"),
)


@dataclass(frozen=True, kw_only=True)
class CoreMLInspector(Inspector):
    """Looks into Core ML programs."""

    library: ClassVar[str] = "coremltools"
    distributions: ClassVar[tuple[str, ...]] = ("coremltools",)

    @override
    def stored_tensors(self, package: Package) -> Iterator[StoredTensor]:
        return constants(package)

    @override
    def expects(self, source: nn.Module, stored: nn.Module, frames: int) -> Expected:
        return Expected(source, stored, frames, folds=True, shares=True)

    @override
    def decompositions(self) -> dict[Any, Any]:
        return decompositions_for_coreml()

    @override
    def inside(self, opened: Opened, function: FunctionName) -> CoreMLTaps:
        return CoreMLTaps(opened, function)

    @override
    def stored_numbers(self, opened: Opened, function: FunctionName) -> StoredNumbers:
        evaluator = emulator(opened, "float32").evaluator(function)
        values = (output for operation in evaluator.function.operations for output in operation.outputs)
        return StoredNumbers(
            weights=stored_weights(evaluator, opened.programs[function].state_dict),
            halved={one.name.removesuffix(_HALVED): one.type.dtype == "float16" for one in values},
            exact=opened.exported.exact,
        )

    @override
    def operations(self, opened: Opened) -> tuple[RuleResult, ...]:
        found = by_rule(_broken_rules(opened), (*RULES, "no_cover"))
        if _promises_four_axes(opened):
            found = tuple(replace(one, required=True) for one in found)
        return (*found, *_place_rules(opened, self.promises(opened)))

    @override
    def promises(self, opened: Opened) -> frozenset[str]:
        own = getattr(opened.exported, "own_layout", ())  # what a layer without a twin computes with is its own choice
        return frozenset(() if own else getattr(opened.exporter, "promised_rules", ()))

    @override
    def residency(self, opened: Opened) -> tuple[Residency, ...]:
        runtime = emulator(opened, "float32")
        return tuple(residency(function) for function in runtime.stored_functions())

    @override
    def largest(self, opened: Opened, function: FunctionName) -> Largest:
        runtime, peaks = emulator(opened, "float32"), Peaks()
        runtime.watched(function, opened.inputs(function), [peaks])
        largest = peaks.largest
        at = peaks.first_non_finite or largest
        return Largest(
            value=largest.largest if largest else 0.0,
            where="" if at is None else f"{at.operation.type} ({at.operation.name})",
            why="the program in the evaluator, nothing rounded",
            mode="float32",
        )

    @override
    def placement(self, opened: Opened) -> Placed:
        if opened.emulation:
            raise CannotRunError("only a Mac tells where Core ML runs operations (MLComputePlan)")
        counts = Counter(_compute_plan(opened))
        return Placed(wanted="neural engine", counts=counts, told_by="preferred by MLComputePlan")

    @override
    def state_faults(self, package: Package) -> list[str]:
        return state_faults(package)

    @override
    def runtime(self, package: Package) -> Runtime:
        return EmulatedCoreML(package, _EMULATION.mode) if self.emulation() else super().runtime(package)

    @override
    def emulation(self) -> Emulation | None:
        return None if sys.platform == "darwin" else _EMULATION

    @override
    def in_mode(self, opened: Opened, mode: Mode) -> EmulatedCoreML:
        return emulator(opened, mode)

    @override
    def loading(self, package: Package, function: str, folder: Path, clock: Callable[[], float]) -> dict[str, float]:
        files = dict.fromkeys(one.file for one in package.manifest.stored_functions if one.name == function)
        found = []
        for number, file in enumerate(files):
            (own := folder / str(number)).mkdir()
            found.append(measure_loading(package.folder / file, function, own, clock))
        return {
            "compile_s": sum(one.compile_s for one in found),
            "first_load_s": sum(one.first_load_s for one in found),
            "load_s": sum(one.load_s for one in found),
            "compiled_bytes": float(sum(one.compiled_bytes for one in found)),
        }


def emulator(opened: Opened, mode: Mode) -> EmulatedCoreML:
    """Return a package in an arithmetic of the evaluator. Its program is read once.

    Raises:
        CannotRunError: The program cannot be read.
        InputError: On a Mac, the same.
    """
    runtime = opened.kept.get("emulator") or opened.runtime
    if not isinstance(runtime, EmulatedCoreML):
        runtime = opened.kept["emulator"] = EmulatedCoreML(opened.package)
    return runtime.in_mode(mode)


_HALVED = "_cast_fp16"  # what the converter puts behind the names of float16 values
#: Operations that coremltools' passes make anew, and number by themselves: `linear_4` is not the graph's.
_RENUMBERED = ("linear", "transpose", "matmul", "reshape", "concat")


class CoreMLTaps(Taps):
    """The values of a Core ML program in the evaluator. Converters add endings to names, and fuse some values away."""

    modes: ClassVar[tuple[Mode, ...]] = ("float16", "float32", "pessimistic")

    def __init__(self, opened: Opened, function: FunctionName, mode: Mode = "float16") -> None:
        self._opened, self._function = opened, function
        runtime = emulator(opened, mode)
        self._runtime = runtime.with_whole_inputs() if mode == "float32" else runtime
        operations = self._runtime.evaluator(function).function.operations
        named = [one for one in operations if one.type not in _RENUMBERED]
        outputs = [output.name for operation in named for output in operation.outputs]
        self._names = {name.removesuffix(_HALVED): name for name in outputs}

    @override
    def in_mode(self, mode: Mode) -> CoreMLTaps:
        return CoreMLTaps(self._opened, self._function, mode)

    @override
    def program(self) -> ExportedProgram:
        return self._opened.programs[self._function]

    @override
    def names(self) -> frozenset[str]:
        return frozenset(self._names)

    @override
    def run(self, inputs: Mapping[str, NDArray[Any]], names: set[str]) -> dict[str, NDArray[Any]]:
        return self._seen(inputs, names, None)

    @override
    def alone(
        self, inputs: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]], names: set[str]
    ) -> dict[str, NDArray[Any]]:
        forced = {self._names[name]: torch.from_numpy(array) for name, array in given.items()}
        return self._seen(inputs, {*given, *names}, forced)

    @override
    def operations_db(self, reference: Reference, inputs: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        runtime = emulator(self._opened, "float32")
        beside = Beside(
            function=runtime.evaluator(self._function).function,
            reference=reference,
            inputs=inputs,
            names={name: source for source, name in self._names.items() if source in reference.names},
        )
        runtime.watched(self._function, inputs, [beside], beside)
        return beside.found_db

    def _seen(
        self, inputs: Mapping[str, NDArray[Any]], names: set[str], forced: Mapping[str, torch.Tensor] | None
    ) -> dict[str, NDArray[Any]]:
        inner = names & self._names.keys()
        kept = KeptValues(self._runtime.evaluator(self._function).function, (self._names[name] for name in inner))
        returned = self._runtime.watched(self._function, inputs, [kept], forced)
        values = {name: kept.values[self._names[name]].numpy() for name in inner}
        return values | {name: returned[name].numpy() for name in names - inner}


def _promises_four_axes(opened: Opened) -> bool:
    """Whether the package's layout is one of four axes, and all of its layers are in it."""
    return getattr(opened.exporter, "layout", "") == "bc1s" and not getattr(opened.exported, "own_layout", ())


def _broken_rules(opened: Opened) -> Iterator[tuple[str, str]]:
    runtime = emulator(opened, "float32")
    for function in opened.functions():
        peaks = Peaks()
        runtime.watched(function, opened.inputs(function), [peaks])
        for finding in lint(runtime.evaluator(function).function, peaks):
            yield finding.rule, f"{finding.problem.partition(':')[0]} in {function}"


def _place_rules(opened: Opened, promised: frozenset[str]) -> Iterator[RuleResult]:
    """Yield what is known to keep the package from the Neural Engine, by rule."""
    manifest, runtime = opened.package.manifest, emulator(opened, "float32")
    version = manifest.facts.get("coremltools", "")
    found = [finding for function in runtime.stored_functions() for finding in place_findings(function, version)]
    for file in dict.fromkeys(function.file for function in manifest.stored_functions):
        found += sizes(file_sizes(opened.package.folder / file))
    for name in PLACE_RULES:
        broken, rule = [one for one in found if one.rule == name], PACKAGE_RULES[name]
        yield RuleResult(
            rule=name,
            places=tuple(f"{one.names[0]} in {one.function}" if one.function else one.names[0] for one in broken),
            required=name in promised,
            unit="findings",
            why="; ".join((*_told(broken), rule.fails, rule.remedy, rule.source)),
        )


def _told(broken: list[RuleFinding]) -> list[str]:
    """Return the problem that is found most, which stands for its like in other functions."""
    return [problem for problem, _ in Counter(one.problem for one in broken).most_common(1)]


def _compute_plan(opened: Opened) -> Iterator[str]:
    """Yield the preferred device of every operation. It takes a Mac: coremltools 9's interface, not run on one yet."""
    coremltools: Any = load_coremltools()
    from coremltools.models.compute_plan import MLComputePlan

    for file in dict.fromkeys(one.file for one in opened.package.manifest.stored_functions):
        compiled = coremltools.utils.compile_model(str(opened.package.folder / file))
        plan = MLComputePlan.load_from_path(compiled, compute_units=coremltools.ComputeUnit.CPU_AND_NE)
        operations = [
            one for function in plan.model_structure.program.functions.values() for one in function.block.operations
        ]
        for operation in operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:
                kind = type(usage.preferred_compute_device).__name__
                yield "neural engine" if "NeuralEngine" in kind else kind

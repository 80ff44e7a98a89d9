"""What is being verified: the package, the source that it was made from, and its runtime. Each is loaded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch.export import ExportedProgram

from s2search.errors import CheckError, InputError, S2SearchError
from s2search.exporters.base import Exporter, Runtime, exporter_of
from s2search.exporters.functions import trace_function
from s2search.exporters.package import Package
from s2search.exporters.prompt_tokens import PromptTokens
from s2search.exporters.step import FunctionName, Steps, StepShape, Tensors
from s2search.mil.library import quiet
from s2search.network.network import S2DiT
from s2search.verification.inspectors.base import Emulation, Inspector, inspector_of
from s2search.verification.packed_inputs import with_padding, with_shares_apart
from s2search.verification.reference import Reference
from s2search.verification.result import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
#: What a function remembers: chunks of a full ring, half of them, or nothing.
Past = Literal["full", "half", "empty"]
PASTS: tuple[Past, ...] = get_args(Past)
PASTS_TOLD: dict[Past, str] = {"full": "full ring", "half": "half-full ring", "empty": "empty ring"}
NUMBERS = ("float32", "float16")  # precisions whose weights are plain numbers


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may ask for.

    Attributes:
        chunks: How long the stream is.
        thresholds: Instead of the checks' own, by the check's name.
        measure: Also time the package.
        seed: Of all inputs.
        table: The plan's table, a name or a folder; by default the installed one of the plan's name.
    """

    chunks: int = 16
    thresholds: Mapping[str, float] = field(default_factory=dict)
    measure: bool = False
    seed: int = 0
    table: str | None = None

    def __post_init__(self) -> None:
        if self.chunks < 1:
            raise InputError(f"a stream of {self.chunks} chunks", allowed="at least 1", remedy="correct --chunks")


class Opened:
    """A package under verification.

    Attributes:
        package: Its folder and manifest.
        options: What was asked for.
        say: Called with what is being done, for people who wait.
    """

    def __init__(
        self, package: Package, options: Options | None = None, say: Callable[[str], Any] = lambda label: None
    ) -> None:
        self.package, self.options, self.say = package, options or Options(), say
        #: What its inspector reads once and needs again, by names of its own.
        self.kept: dict[str, Any] = {}
        self._states: dict[Past, Tensors] = {}
        self._references: dict[FunctionName, Reference] = {}

    @cached_property
    def fault(self) -> CheckError | None:
        """What is wrong with the files, by their digests; nothing of a package that has a fault is loaded."""
        try:
            self.package.check_files()
        except CheckError as error:
            return error
        return None

    @cached_property
    def inspector(self) -> Inspector:
        """What knows packages of this exporter."""
        return inspector_of(self.package)

    @cached_property
    def exporter(self) -> Exporter:
        """What wrote the package, with its options."""
        return exporter_of(self.package)

    @cached_property
    def source(self) -> S2DiT:
        """The model that the package was made from, in float32; its weights stay in their file.

        Raises:
            CannotRunError: It cannot be loaded, or is another model than the manifest names.
        """
        try:
            model = S2DiT.from_pretrained(self.package.source, dtype=torch.float32, mapped=True)
        except S2SearchError as error:
            raise CannotRunError(f"the source cannot be loaded: {error}") from error
        if model.config.digest != self.package.manifest.model_digest:
            raise CannotRunError(
                f"the source is the model {model.config.digest[:19]}, "
                f"and the manifest names {self.package.manifest.model_digest[:19]}"
            )
        return model.requires_grad_(False)

    @cached_property
    def steps(self) -> Steps:
        """The source's functions at the package's shape.

        Raises:
            CannotRunError: The source cannot be loaded, or the manifest's shape fits no step.
        """
        manifest = self.package.manifest
        try:
            shape = StepShape(grid=manifest.grid, frames=manifest.chunk_frames, window=manifest.window)
            return Steps(self.source, shape)
        except InputError as error:
            raise CannotRunError(f"the manifest's shape fits no step: {error}") from error

    @cached_property
    def exported(self) -> Steps:
        """The same functions in the layout of the package.

        Raises:
            CannotRunError: The source cannot be loaded, or the manifest's shape fits no step.
        """
        exported = self.exporter.packaged_steps(self.package.manifest, self.source, self.steps.shape)
        exported.prompts = self.prompts
        return exported

    @cached_property
    def prompts(self) -> PromptTokens | None:
        """Tokens as the model was trained to read them, where the package was made with some.

        Raises:
            CannotRunError: They cannot be read, or are those of another model.
        """
        try:
            found = PromptTokens.beside(self.package.source)
            if found is not None:
                found.check(self.package.manifest.model.preset)
        except InputError as error:
            raise CannotRunError(f"the prompts beside the source cannot be used: {error}") from error
        return found

    @property
    def text_BSE(self) -> torch.Tensor:
        """What a stream shows: the package's prompt for checks; without one, noise that depends on the seed alone."""
        if self.prompts is not None:
            return self.prompts.held_out.float()
        preset, generator = self.package.manifest.model.preset, torch.Generator().manual_seed(self.options.seed)
        return torch.randn(1, preset.text_tokens, preset.text_channels, generator=generator)

    @cached_property
    def programs(self) -> dict[FunctionName, ExportedProgram]:
        """The source's functions as graphs, traced as the exporter traces them when one is first asked for."""
        return _Programs(self)

    @cached_property
    def graphs(self) -> dict[FunctionName, ExportedProgram]:
        """The source's functions as graphs with the package's names of values, those that were asked for."""
        return {}

    @cached_property
    def runtime(self) -> Runtime:
        """The package, loaded; its files are checked before.

        Raises:
            CannotRunError: There is no such runtime here, or the files are not as they were written.
        """
        if self.fault:
            raise CannotRunError(f"nothing of it is loaded: {self.fault}")
        try:
            return self.inspector.runtime(self.package)
        except InputError as error:
            raise CannotRunError(str(error)) from error

    @property
    def emulation(self) -> Emulation | None:
        """What stands in for the runtime on this machine."""
        return self.inspector.emulation()

    @property
    def mode(self) -> str:
        """The arithmetic of `runtime` where it stands in for another; else empty."""
        return self.emulation.mode if self.emulation else ""

    def functions(self) -> tuple[FunctionName, ...]:
        """Return the functions that the package has."""
        return tuple(function.name for function in self.package.manifest.functions)  # type: ignore[misc]

    def pasts(self, function: FunctionName) -> tuple[Past, ...]:
        """Return the pasts with which a function is looked at: a full ring, a half-full one, and none."""
        return ("empty",) if function == "first" else PASTS

    def inputs(self, function: FunctionName, past: Past = "full") -> Arrays:
        """Return inputs of a function in the types that the package takes: random ones, with a state that was left.

        Every chunk of the past has latents of its own, and other ones than the inputs: else a state that is never
        written, or a ring whose slots change places, would look right. Where a host packs what goes in, the padding is
        random, and a half-full ring comes with shares that differ from head to head.

        Raises:
            CannotRunError: The source takes inputs of other names or shapes than the manifest states.
        """
        example = self.exported.example("first", seed=self.options.seed)
        if function != "first":
            example |= self._left(past)
        specs = self.package.manifest.function(function).inputs
        stated = {spec.name: tuple(spec.shape) for spec in specs}
        if stated != (taken := {name: tuple(tensor.shape) for name, tensor in example.items()}):
            name = next(iter(sorted(stated.items() ^ taken.items())))[0]
            raise CannotRunError(f"the manifest states {name!r} of {function!r} otherwise than the source has it")
        return self._packed({spec.name: example[spec.name].numpy().astype(spec.dtype) for spec in specs}, past)

    def _packed(self, arrays: Arrays, past: Past) -> Arrays:
        """Return inputs that hide nothing of what a packed function reads; of other functions as they are."""
        form = self.exported.form
        if form is None:
            return arrays
        if past == "half" and "sums" in arrays:
            arrays = arrays | {"sums": with_shares_apart(form, arrays["sums"])}
        return with_padding(form, arrays, self.options.seed)

    def _left(self, past: Past) -> Tensors:
        """Return the state that a past leaves."""
        if past not in self._states:
            seeds = range(self.options.seed + 1, self.options.seed + 1 + self.chunks_of(past))
            self._states[past] = self.exported.left(self.exported.example("first", seed=seed) for seed in seeds)
        return self._states[past]

    def chunks_of(self, past: Past) -> int:
        """Return of how many chunks a past is: as many as the ring holds, and two at least for sums."""
        most = max(2, -(-self.exported.shape.slots // self.exported.shape.frames))
        return {"full": most, "half": most // 2, "empty": 0}[past]

    def reference(self, function: FunctionName) -> Reference:
        """Return a function of the source as a graph, which computes with the numbers that the package stores.

        Where the package stores the source's own, it has the values' names of the package.
        """
        if function not in self._references:
            program = self.inspector.inside(self, function).program()
            stored = self.inspector.stored_numbers(self, function)
            self._references[function] = Reference(
                function=function, steps=self.exported, program=program, stored=stored
            )
        return self._references[function]

    def least_db(self, by_precision: Mapping[str, float]) -> float:
        """Return what is asked of the package's arithmetic.

        Weights of any bits are on both sides, so they are float16. What inputs rounded to 8 bits cost is on one.
        """
        precision = self.package.manifest.precision
        if precision in by_precision:
            return by_precision[precision]
        return by_precision["rounded inputs" if precision.endswith("a8") else "float16"]

    @property
    def is_compressed(self) -> bool:
        """Whether weights are stored in fewer bits than those of a number."""
        return self.package.manifest.precision not in NUMBERS

    def run_source(self, function: FunctionName, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return what the source gives in float32 in its own layout, for the inputs as the package got them."""
        given = self.exported.to_source(inputs)
        tensors = {name: torch.from_numpy(array.astype(np.float32)) for name, array in given.items()}
        with torch.no_grad(), self.exported.given_to(self.source, inputs):
            outputs = self.steps.function(function)(*(tensors[name] for name in self.steps.inputs(function)))
        named = zip(self.steps.outputs(function), outputs, strict=True)
        return self.exported.from_source({name: x.numpy() for name, x in named}, given)

    def run_package(self, function: FunctionName, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return what the package gives.

        Raises:
            CannotRunError: There is no such runtime here.
            CheckError: The runtime refuses the package or the call.
        """
        runtime = self.runtime
        try:
            return runtime.run(function, inputs)
        except S2SearchError:
            raise
        except Exception as error:  # errors of runtimes share no base
            raise CheckError(f"the runtime fails in {function!r}: {error}", function=function) from error


class _Programs(dict[FunctionName, ExportedProgram]):
    """Functions of a source, each traced when it is first asked for."""

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self._opened = opened

    def __missing__(self, function: FunctionName) -> ExportedProgram:
        taken_apart = self._opened.inspector.decompositions()
        self._opened.say(f"tracing the source's {function}")
        with quiet():
            self.update(
                trace_function(self._opened.exported, "first" if function == "first" else "advance", taken_apart)
            )
        return self[function]

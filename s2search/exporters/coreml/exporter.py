"""coreml: a package for Core ML on iOS 18, float16: one model of four functions that share their weights.

    model.mlpackage    functions first, denoise (the default), commit and advance

All of it is float16: weights, activations, what goes in and what comes out. Nothing is kept by Core ML, and nothing is
computed that float16 cannot hold: keys, values, convolution tails and LCHA's sums come in packed into four tensors,
functions return what is new of a chunk, and the host keeps it (`exporters/host.py`): it writes rings, adds sums in
float32, and makes the sinusoids of the noise level. `state=core_ml` keeps rings and tails in one state of Core ML's
own; `state=plain` passes all of the state in and out, with sums and noise level in float32. Depthwise convolutions are
one grouped 2-D convolution each. Channels stand before tokens, (B, C, 1, S), with 1x1 convolutions for linear maps and
no transpositions, as the Neural Engine likes best; `layout=blocks` keeps tokens before channels. A block without such a
twin keeps its own layout.

Why this form: docs/decisions/export.md, "Nothing is kept by Core ML".

Precision is a choice per part (`s2search/precision`): palettes of 4, 6 or 8 bits, and what matrices are multiplied with
rounded to 8 bits, in ranges that the source is watched for. Source: S2DiT, table A3 (4-bit weights, 8-bit where text
and latents come in and out, 8-bit activations). The switches between the streams and the time embedding have 8-bit
weights as well: every token passes through them, and at 4 bits the two switches alone make 87 % of the noise.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.exporters.base import Exporter, Runtime, Written
from s2search.exporters.chain import run_links
from s2search.exporters.coreml.form import Layout, PackageKeeper
from s2search.exporters.coreml.functions import SharedFunctions
from s2search.exporters.host import ONE_STATE
from s2search.exporters.package import FunctionSpec, Manifest, NumberType, Package, Progress, TensorSpec
from s2search.exporters.stateful import Arrays, HeldState, StatefulRuntime
from s2search.planner.plan import PrecisionAnswer
from s2search.precision.documents import Palette, PrecisionPlan
from s2search.precision.part import PartPrecision, package_precision, part_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

    from s2search.exporters.component.base import ComponentWriter
    from s2search.exporters.coreml.packed import PackedSteps
    from s2search.exporters.quantised import InputRange
    from s2search.exporters.step import FunctionName, Link, Steps, StepShape
    from s2search.network.network import S2DiT

    Programs = dict[FunctionName, ExportedProgram]

_FILE = "model.mlpackage"
_DEFAULT = "denoise"
_OF_PLAN = "precision.json"  # what a package calls the precisions that its plan chose
_PACKAGE_MB = 900.0  # above 1.0 to 1.4 GB packages are said to run on the GPU, silently
_SENSITIVE = ("stem", "down", "up", "head", "text")  # parts that everything passes through
_CONVERTED: tuple[FunctionName, ...] = ("first", "advance")  # the others are parts of `advance`


@dataclass(frozen=True, kw_only=True)
class CoreMLExporter(Exporter):
    """Exports Core ML packages anywhere, and runs them on a Mac.

    Attributes:
        bits: Of the layers' matrices; 8 of all others where these have fewer than 16.
        group: Rows of a layer's matrix that share a table of values; 0 for one table each.
        activations: Bits of what the layers' matrices are multiplied with.
        palette: How the values of a table are found: `kmeans`, or spaced evenly, which is quicker (`uniform`).
        mixed: Instead of all these, a precision.json of `s2search plan precision`: the precision of every part.
        layout: `bc1s`: channels before tokens, or that of the blocks.
        state: Who keeps the state from call to call: the host, which is given what is new; Core ML, rings and tails in
            one state; or the caller, who is given all of it again.
        package_mb: Megabytes of weights in a package, at most: a larger model becomes several, where the host keeps the
            state (`exporters/chain.py`).
    """

    bits: Literal[16, 8, 6, 4] = 16
    group: int = 0
    activations: Literal[16, 8] = 16
    palette: Literal["kmeans", "uniform"] = "kmeans"
    mixed: str = ""
    layout: Layout = "bc1s"
    state: PackageKeeper = "host"
    package_mb: float = _PACKAGE_MB

    def __post_init__(self) -> None:
        if self.mixed and (self.bits, self.group, self.activations, self.palette) != (16, 0, 16, "kmeans"):
            raise InputError(
                f"mixed={self.mixed} is combined with other options of precision",
                remedy="leave them out: the file has them",
            )
        if self.group < 0 or (self.bits == 16 and (self.group or self.activations < 16)):
            raise InputError(
                f"group={self.group} and activations={self.activations} beside {self.bits}-bit weights",
                allowed="groups of at least 1 row and 8-bit activations, with weights of 4, 6 or 8 bits",
                remedy="correct the exporter's options",
            )
        if not self.package_mb > 0:
            raise InputError(
                f"package_mb is {self.package_mb:g}", allowed="more than 0", remedy="correct the exporter's options"
            )
        if self.state != "host" and self.package_mb != _PACKAGE_MB:
            raise InputError(
                f"package_mb={self.package_mb:g} is given with state={self.state}",
                allowed="state=host: only the host keeps the state of several packages",
                remedy="leave one of them out",
            )
        if self.layout == "blocks" and self.state != "plain":
            raise InputError(
                f"state={self.state} packs a state that has channels before tokens, and layout=blocks has tokens first",
                allowed="layout=blocks,state=plain",
                remedy="correct the exporter's options",
            )

    @property
    @override
    def precision(self) -> str:
        if self._plan is not None:
            return package_precision(PartPrecision.parse(choice.precision) for choice in self._plan.parts.values())
        return package_precision([self._of_layers])

    @property
    @override
    def options_text(self) -> str:
        return super().options_text.replace(f"mixed={self.mixed}", f"mixed={Path(self.mixed).name}")

    @property
    def promised_rules(self) -> tuple[str, ...]:
        """The rules on where a package runs (`package lint`) that its form holds at every size."""
        if self.state != "host":
            return ()
        rules = ("float32_operation", "states", "state_width", "io_width", "ring_by_concat", "palette_with_state")
        return (*rules, "weight_file_size", "package_size") if self.package_mb <= _PACKAGE_MB else rules

    @override
    def why_not(self) -> str | None:
        missing = missing_extra("coremltools", "torch")
        return str(missing) if missing else None

    @property
    @override
    def reads_prompts(self) -> bool:
        return self.precision != PartPrecision().label

    @property
    @override
    def precision_options(self) -> tuple[str, ...]:
        return ("bits", "activations", "group", "mixed")

    @override
    def in_precision(self, precision: str) -> Exporter | None:
        if precision == self.precision or self.mixed:
            return super().in_precision(precision)
        try:
            part: Any = PartPrecision.parse(precision)
        except InputError:
            return None
        return dataclasses.replace(self, bits=part.weight_bits, activations=part.activation_bits)

    @override
    def in_precisions(self, chosen: PrecisionAnswer) -> Exporter | None:
        if self.mixed:
            return None
        exporter = dataclasses.replace(self, mixed=_OF_PLAN)
        exporter.__dict__["_plan"] = chosen  # there is no file of that name yet: the package will have it
        return exporter

    def precisions(self, model: S2DiT) -> dict[str, PartPrecision]:
        """Return the precision of every part of a model.

        Raises:
            InputError: The precisions were chosen for another model.
        """
        from s2search.exporters.quantised import matrices, weights_digest

        parts = dict.fromkeys(part_of(name) for name in matrices(model))
        if self._plan is None:
            others = PartPrecision(weight_bits=8 if self.bits < 16 else 16)
            return {part: others if part in _SENSITIVE else self._of_layers for part in parts}
        own = (model.config.digest, weights_digest(model))
        plan = self._settled(model)
        if (plan.model_digest, plan.weights_digest) != own or plan.parts.keys() != parts.keys():
            what = "model" if plan.model_digest != own[0] or plan.parts.keys() != parts.keys() else "set of weights"
            raise InputError(
                f"the precisions in {self.mixed!r} were chosen for another {what}",
                remedy="sweep this one with s2search sensitivity, and choose again",
            )
        return {part: PartPrecision.parse(choice.precision) for part, choice in self._plan.parts.items()}

    @override
    def predicted_weight_bytes(self, steps: Steps) -> int:
        spans = [link.layers for link in steps.links] or [(0, len(steps.model.layers))]
        return sum(map(self._weight_bytes(steps), spans))

    def _weight_bytes(self, steps: Steps) -> Callable[[tuple[int, int]], int]:
        """Return what tells the bytes of a package of some layers."""
        from s2search.exporters.coreml.link_bytes import LinkBytes

        model = steps.model
        others = getattr(steps, "own_layout", range(len(model.layers)))  # layers with tokens before channels
        twins = set(range(len(model.layers))).difference(others)
        return LinkBytes(model, steps.shape, twins, self.precisions(model))

    @override
    def dtype(self, name: str, steps: Steps) -> NumberType:
        from s2search.exporters.step import VELOCITY

        if self.state != "plain":
            return "float16"
        # A residual is added to what is computed of the exact noise level; a cast of it behind the last reshape would
        # be an operation on five axes.
        exact = {*steps.exact, *([VELOCITY] if steps.model.config.velocity == "residual" else [])}
        return "float32" if name.removeprefix("new_") in exact else "float16"

    @override
    def steps(self, model: S2DiT, shape: StepShape, functions: tuple[FunctionName, ...] | None = None) -> Steps:
        from s2search.exporters.coreml.channels_first import ChannelsFirstSteps
        from s2search.exporters.coreml.packed import PackedSteps

        if self.state == "host":
            return self._in_links(PackedSteps(model, shape))
        if self.state == "core_ml":
            return PackedSteps(model, shape, keeper=self.state)
        return ChannelsFirstSteps(model, shape) if self.layout == "bc1s" else super().steps(model, shape)

    @override
    def packaged_steps(self, manifest: Manifest, model: S2DiT, shape: StepShape) -> Steps:
        from s2search.exporters.coreml.chained import ChainSteps
        from s2search.exporters.coreml.packed import PackedSteps

        if self.state != "host":
            return self.steps(model, shape)
        spans = [link.layers for link in manifest.chain]
        return ChainSteps(model, shape, spans) if spans else PackedSteps(model, shape)

    def _in_links(self, steps: PackedSteps) -> PackedSteps:
        """Return the steps as they are if one package holds them, else in the best links."""
        from s2search.exporters.chain import Course, Cutting
        from s2search.exporters.coreml.chained import ChainSteps

        model, shape = steps.model, steps.shape
        course = Course.of(model.config, model.streams, shape.grid, shape.frames)
        spans = Cutting(course=course, weight_bytes=self._weight_bytes(steps), most_bytes=1e6 * self.package_mb).best()
        return steps if len(spans) == 1 else ChainSteps(model, shape, spans, network=steps.network)

    @override
    def write(self, steps: Steps, folder: Path, progress: Progress) -> Written:
        from s2search.exporters.quantised import matrices

        parts = self.precisions(steps.model)
        linears = {name: (parts[part_of(name)], linear.out_features) for name, linear in matrices(steps.model).items()}
        rounded = [name for name, (precision, _) in linears.items() if precision.rounds_inputs]
        ranges, watched = self._ranges(steps, rounded, progress) if rounded else ({}, {})
        held = (ONE_STATE,) if ONE_STATE in steps.state else ()
        files = []
        for file, package, programs, tell in self._packages(steps, progress):
            with tempfile.TemporaryDirectory(dir=folder) as shared:
                several = SharedFunctions(Path(shared))
                for function in _CONVERTED:
                    tell(f"converting {function}")
                    with _temporary_files_in(folder) as part:
                        self._save_converted(
                            steps, package, function, programs[function], ranges, linears, part / _FILE
                        )
                        several.add(function, part / _FILE)
                tell("writing the package")
                self._save(several, steps, package, folder / file, held)
            files.append(dict.fromkeys(steps.functions, file))
        if self._plan is not None:
            self._settled(steps.model).save(folder / Path(self.mixed).name)
        facts = {"target": "iOS18", **{name: version(name) for name in ("torch", "coremltools")}, **watched}
        if own := getattr(steps, "own_layout", ()):
            facts["layers_in_their_own_layout"] = ", ".join(map(str, own))
        if steps.links:
            return Written(files=dict.fromkeys(steps.functions, ""), facts=facts, chain=files)
        return Written(files=files[0], facts=facts, held=held)

    def convert(self, steps: Steps, function: FunctionName, program: Any) -> Any:
        """Return one traced function as a program by itself, as packages hold it beside others; not loaded."""
        from s2search.exporters.coreml.compression import compress, rounding_pipeline
        from s2search.exporters.quantised import matrices

        parts = self.precisions(steps.model)
        linears = {name: (parts[part_of(name)], linear.out_features) for name, linear in matrices(steps.model).items()}
        rounded = [name for name, (precision, _) in linears.items() if precision.rounds_inputs]
        ranges = self._ranges(steps, rounded, lambda done, total, label: None)[0] if rounded else {}
        return compress(self._converted(steps, function, program, rounding_pipeline(ranges)), linears, self._palette)

    @override
    def check_form(self, manifest: Manifest) -> None:
        if manifest.host is None and self.state != "plain":
            raise InputError(
                "the package was written when Core ML kept a state for every ring, which nothing here reads any more",
                remedy="export it again",
            )
        if not self.mixed:  # that file lies in the package, and its weights are held against it
            super().check_form(manifest)

    @override
    def component_writer(self) -> ComponentWriter:
        from s2search.exporters.component.coreml import CoreMLComponents

        return CoreMLComponents(self)

    @override
    def open(self, package: Package) -> Runtime:
        if (system := platform.system()) != "Darwin":
            raise InputError(
                f"Core ML does not run on {system}",
                remedy="take the package to a Mac; s2search verify evaluates it here",
            )
        return LoadedCoreML(package)

    @cached_property
    def _plan(self) -> PrecisionPlan | PrecisionAnswer | None:
        return PrecisionPlan.load(self.mixed) if self.mixed else None

    def _settled(self, model: S2DiT) -> PrecisionPlan:
        """Return the chosen precisions as those of a model; what a plan chose belongs to all that are realized from it.

        Raises:
            InputError: The model is realized from another plan.
        """
        from s2search.exporters.quantised import weights_digest

        plan = self._plan
        assert plan is not None
        if isinstance(plan, PrecisionPlan):
            return plan
        if model.plan is None or model.plan.precisions != plan:
            raise InputError(
                "the precisions were chosen with another layout than this model was realized from",
                remedy="export the model that was realized from that plan",
            )
        return plan.of_model(model.config.digest, weights_digest(model), optimal=model.plan.optimal)

    @property
    def _palette(self) -> Palette:
        return self.palette if self._plan is None else self._plan.palette

    @property
    def _of_layers(self) -> PartPrecision:
        return PartPrecision(weight_bits=self.bits, group=self.group, activation_bits=self.activations)

    def _ranges(
        self, steps: Steps, names: Sequence[str], progress: Progress
    ) -> tuple[dict[str, InputRange], dict[str, str]]:
        """Return the ranges of the inputs of some linear layers, and what is to be known of them."""
        from s2search.exporters.calibration import RangeStreams, calibrate
        from s2search.exporters.prompt_tokens import PromptTokens

        prompts = steps.prompts or PromptTokens.hashed(steps.model.config.preset)
        calibration = RangeStreams(shape=steps.shape, prompts=prompts)
        found = calibrate(steps.model, calibration, progress)
        told = {"ranges": calibration.told(steps.model)}
        return {name: found[name] for name in names if name in found}, told

    def _packages(
        self, steps: Steps, progress: Progress
    ) -> Iterator[tuple[str, Steps | Link, Programs, Callable[[str], None]]]:
        """Yield what becomes a package: its file, names and graphs, and what tells how far it is."""
        from s2search.exporters.coreml.chained import ChainSteps
        from s2search.exporters.coreml.operators import decompositions_for_coreml
        from s2search.exporters.functions import trace_functions

        table, count = decompositions_for_coreml(), max(len(steps.links), 1)
        done = itertools.count(2)

        def tell(label: str) -> None:
            progress(next(done), 2 + 3 * count, label)

        if not isinstance(steps, ChainSteps):
            yield _FILE, steps, trace_functions(steps, table, progress, further=3), tell
        else:
            traced = []
            for number, function in enumerate(_CONVERTED):
                progress(number, 2 + 3 * count, f"tracing {function}")
                traced.append(steps.programs(function, table))
            for number, link in enumerate(steps.links, 1):
                programs = {function: next(parts) for function, parts in zip(_CONVERTED, traced, strict=True)}
                yield f"model-{number}.mlpackage", link, programs, tell
        progress(2 + 3 * count, 2 + 3 * count, "")

    def _save_converted(
        self,
        steps: Steps,
        package: Steps | Link,
        function: FunctionName,
        program: Any,
        ranges: Mapping[str, InputRange],
        linears: Mapping[str, tuple[PartPrecision, int]],
        path: Path,
    ) -> None:
        """Write a package of one function."""
        from s2search.exporters.coreml.compression import compress, rounding_pipeline

        model = self._converted(steps, function, program, rounding_pipeline(ranges), package)
        compress(model, linears, self._palette).save(str(path))
        del model
        gc.collect()  # programs refer to themselves, and hold all their weights

    def _save(
        self, several: SharedFunctions, steps: Steps, package: Steps | Link, path: Path, held: tuple[str, ...]
    ) -> None:
        """Write a package of all functions, of those that were converted."""
        from s2search.exporters.coreml.state import hold_states
        from s2search.exporters.coreml.subsets import add_parts

        parts: tuple[FunctionName, ...] = ("denoise", "commit")
        add_parts(several.specification, "advance", {part: package.outputs(part) for part in parts})
        hold_states(several.specification, held)
        config = steps.model.config
        metadata = {"s2search.model": config.digest, "s2search.plan": config.plan_digest or "none"}
        several.save(path, default=_DEFAULT, metadata=metadata)

    def _converted(
        self, steps: Steps, function: FunctionName, program: Any, pipeline: Any, package: Steps | Link | None = None
    ) -> Any:
        from s2search.exporters.coreml.conversion import convert_program

        package = package or steps
        return convert_program(
            program,
            inputs={name: self.dtype(name, steps) for name in package.inputs(function)},
            outputs={name: self.dtype(name, steps) for name in package.outputs(function)},
            exact=steps.exact,
            pipeline=pipeline,
        )


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[Path]:
    """Let coremltools leave its copies of all weights here, not where temporary files may be memory, nor until the end.

    A killed export leaves them in the folder that the next one removes.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=folder) as part:
        tempfile.tempdir = part
        try:
            yield Path(part)
        finally:
            tempfile.tempdir = before


class LoadedCoreML(StatefulRuntime):
    """Core ML's own models, one per function, each loaded when it is first called. It takes a Mac.

    Not run on one yet: tested with an imitation of coremltools 9's MLModel and MLState.
    """

    def __init__(self, package: Package) -> None:
        super().__init__(package)
        self._models: dict[tuple[str, str], Any] = {}

    @override
    def make_state(self, function: str) -> HeldState:
        state: HeldState = self._model(self._package.manifest.function(function)).make_state()
        return state

    @override
    def call(self, function: str, inputs: Mapping[str, NDArray[Any]], state: HeldState | None) -> Arrays:
        manifest = self._package.manifest
        if not manifest.chain or manifest.host is None:
            return self._predicted(manifest.function(function), self.returned(function), inputs, state)

        def call_link(number: int, given: Arrays) -> Arrays:
            spec = manifest.chain[number].function(function)
            return self._predicted(spec, spec.outputs, given, None)

        return run_links(manifest.host, manifest.chain, function, inputs, call_link)

    def _predicted(
        self,
        spec: FunctionSpec,
        returned: Sequence[TensorSpec],
        inputs: Mapping[str, NDArray[Any]],
        state: HeldState | None,
    ) -> Arrays:
        # predict writes into the dictionary that it is given.
        outputs = self._model(spec).predict(dict(inputs), state)
        return {one.name: outputs[one.name].astype(one.dtype).reshape(one.shape) for one in returned}

    def _model(self, spec: FunctionSpec) -> Any:
        from s2search.mil.library import load_coremltools

        key = spec.file, spec.name
        if key not in self._models:
            path = str(self._package.folder / spec.file)
            self._models[key] = load_coremltools().models.MLModel(path, function_name=spec.name)
        return self._models[key]

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
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.exporters.base import Exporter, Runtime, Written
from s2search.exporters.coreml.form import Layout, PackageKeeper
from s2search.exporters.host import ONE_STATE
from s2search.exporters.package import Manifest, NumberType, Package, Progress
from s2search.exporters.stateful import Arrays, HeldState, StatefulRuntime
from s2search.precision.documents import Palette, PrecisionPlan
from s2search.precision.part import PartPrecision, package_precision, part_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s2search.exporters.component.base import ComponentWriter
    from s2search.exporters.quantised import InputRange
    from s2search.exporters.step import FunctionName, Steps, StepShape
    from s2search.network.network import S2DiT

_FILE = "model.mlpackage"
_DEFAULT = "denoise"
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
    """

    bits: Literal[16, 8, 6, 4] = 16
    group: int = 0
    activations: Literal[16, 8] = 16
    palette: Literal["kmeans", "uniform"] = "kmeans"
    mixed: str = ""
    layout: Layout = "bc1s"
    state: PackageKeeper = "host"

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
        return ("float32_operation", "states", "state_width", "io_width", "ring_by_concat", "palette_with_state")

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
        if (self._plan.model_digest, self._plan.weights_digest) != own or self._plan.parts.keys() != parts.keys():
            what = "model" if self._plan.model_digest != own[0] else "set of weights"
            raise InputError(
                f"the precisions in {self.mixed!r} were chosen for another {what}",
                remedy="sweep this one with s2search sensitivity, and choose again",
            )
        return {part: PartPrecision.parse(choice.precision) for part, choice in self._plan.parts.items()}

    @override
    def predicted_weight_bytes(self, steps: Steps) -> int:
        from s2search.exporters.quantised import grid_bytes, part_bytes, rest_bytes

        model = steps.model
        parts = self.precisions(model).items()
        others = getattr(steps, "own_layout", range(len(model.layers)))  # layers with tokens before channels
        twins = set(range(len(model.layers))).difference(others)
        rest = rest_bytes(model, steps.shape.frames) + grid_bytes(model, steps.shape, twins)
        return rest + sum(part_bytes(model, part, precision) for part, precision in parts)

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

        if self.state != "plain":
            return PackedSteps(model, shape, keeper=self.state)
        return ChannelsFirstSteps(model, shape) if self.layout == "bc1s" else super().steps(model, shape)

    @override
    def write(self, steps: Steps, folder: Path, progress: Progress) -> Written:
        from s2search.exporters.coreml.compression import compress, rounding_pipeline
        from s2search.exporters.coreml.functions import SharedFunctions
        from s2search.exporters.coreml.operators import decompositions_for_coreml
        from s2search.exporters.coreml.state import hold_states
        from s2search.exporters.coreml.subsets import add_parts
        from s2search.exporters.functions import trace_functions
        from s2search.exporters.quantised import matrices

        parts = self.precisions(steps.model)
        linears = {name: (parts[part_of(name)], linear.out_features) for name, linear in matrices(steps.model).items()}
        rounded = [name for name, (precision, _) in linears.items() if precision.rounds_inputs]
        ranges, watched = self._ranges(steps, rounded, progress) if rounded else ({}, {})
        programs = trace_functions(steps, decompositions_for_coreml(), progress, further=3)
        held = (ONE_STATE,) if ONE_STATE in steps.state else ()
        with tempfile.TemporaryDirectory(dir=folder) as shared:
            several = SharedFunctions(Path(shared))
            for done, function in enumerate(_CONVERTED):
                progress(2 + done, 5, f"converting {function}")
                with _temporary_files_in(folder) as part:
                    model = self._converted(steps, function, programs[function], rounding_pipeline(ranges))
                    model = compress(model, linears, self._palette)
                    model.save(str(part / _FILE))
                    del model
                    gc.collect()  # programs refer to themselves, and hold all their weights
                    several.add(function, part / _FILE)
            progress(4, 5, "writing the package")
            add_parts(several.specification, "advance", {part: steps.outputs(part) for part in ("denoise", "commit")})
            hold_states(several.specification, held)
            config = steps.model.config
            metadata = {"s2search.model": config.digest, "s2search.plan": config.plan_digest or "none"}
            several.save(folder / _FILE, default=_DEFAULT, metadata=metadata)
        if self._plan is not None:
            self._plan.save(folder / Path(self.mixed).name)
        progress(5, 5, "")
        facts = {"target": "iOS18", **{name: version(name) for name in ("torch", "coremltools")}, **watched}
        if own := getattr(steps, "own_layout", ()):
            facts["layers_in_their_own_layout"] = ", ".join(map(str, own))
        return Written(files=dict.fromkeys(programs, _FILE), facts=facts, held=held)

    @override
    def check_form(self, manifest: Manifest) -> None:
        if manifest.host is None and self.state != "plain":
            raise InputError(
                "the package was written when Core ML kept a state for every ring, which nothing here reads any more",
                remedy="export it again",
            )

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
    def _plan(self) -> PrecisionPlan | None:
        return PrecisionPlan.load(self.mixed) if self.mixed else None

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

    def _converted(self, steps: Steps, function: FunctionName, program: Any, pipeline: Any) -> Any:
        from s2search.exporters.coreml.conversion import convert_program

        return convert_program(
            program,
            inputs={name: self.dtype(name, steps) for name in steps.inputs(function)},
            outputs={name: self.dtype(name, steps) for name in steps.outputs(function)},
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
        self._models: dict[str, Any] = {}

    @override
    def make_state(self, function: str) -> HeldState:
        state: HeldState = self._model(function).make_state()
        return state

    @override
    def call(self, function: str, inputs: Mapping[str, NDArray[Any]], state: HeldState | None) -> Arrays:
        # predict writes into the dictionary that it is given.
        outputs = self._model(function).predict(dict(inputs), state)
        returned = self.returned(function)
        return {one.name: outputs[one.name].astype(one.dtype).reshape(one.shape) for one in returned}

    def _model(self, function: str) -> Any:
        from s2search.mil.library import load_coremltools

        if function not in self._models:
            path = str(self._package.folder / self._package.manifest.function(function).file)
            self._models[function] = load_coremltools().models.MLModel(path, function_name=function)
        return self._models[function]

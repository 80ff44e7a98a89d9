"""What an exporter is: it turns a model into a package for one runtime, and runs packages where that runtime is.

An exporter is a frozen keyword-only dataclass; its fields are its options. It implements `why_not`, `write` and `open`;
`export` does what all packages have in common. `s2search/testing/exporters.py` holds it to this contract.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2search import registry
from s2search.block import Window
from s2search.errors import InputError
from s2search.exporters.package import (
    SOURCE,
    ChainLink,
    FunctionSpec,
    Manifest,
    NumberType,
    Package,
    Progress,
    TensorSpec,
    new_folder,
    predicted_sizes,
    write_manifest,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s2search.exporters.component.base import ComponentWriter
    from s2search.exporters.prompt_tokens import PromptTokens
    from s2search.exporters.step import FunctionName, Link, Steps, StepShape
    from s2search.network.network import S2DiT
    from s2search.planner.plan import PrecisionAnswer


class Runtime(abc.ABC):
    """Runs the functions of one package."""

    @abc.abstractmethod
    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs of a function by name, in the types that the manifest states.

        Args:
            function: One of the manifest's.
            inputs: All of the function's inputs, of the manifest's names, shapes and types. They are not changed, and
                no output shares memory with one.
        """


class Exporter(registry.Plugin, abc.ABC):
    """Writes and runs packages for one runtime. Subclasses are frozen keyword-only dataclasses."""

    @property
    def precision(self) -> str:
        """Of weights and activations, as latency tables name it."""
        return "float32"

    @abc.abstractmethod
    def why_not(self) -> str | None:
        """Return in one line why this machine cannot export, and the remedy; None where it can."""

    @abc.abstractmethod
    def write(self, steps: Steps, folder: Path, progress: Progress) -> Written:
        """Write the runtime's own files into an empty folder, which also becomes the package."""

    @abc.abstractmethod
    def open(self, package: Package) -> Runtime:
        """Load a package that this exporter wrote.

        Raises:
            InputError: It cannot run on this machine: why, and the remedy.
        """

    def check_form(self, manifest: Manifest) -> None:
        """Raise unless a package is in the form that these options stand for today, and of their precision.

        Raises:
            InputError: They stood for another form when it was written, or its manifest states another precision, which
                decides what is asked of a package.
        """
        if manifest.precision != self.precision:
            raise InputError(
                f"the manifest says {manifest.precision}, and {manifest.exporter_text} writes {self.precision}",
                remedy="export it again",
            )

    def component_writer(self) -> ComponentWriter:
        """Return what writes text encoders and decoders by these options.

        Raises:
            InputError: It writes none, which is the default, or not with these options.
        """
        classes = {name: registry.load("exporters", name) for name in registry.installed("exporters")}
        others = [name for name, one in classes.items() if one.component_writer is not Exporter.component_writer]
        problem = f"the exporter {self.name!r} writes no text encoders and no decoders"
        raise InputError(problem, allowed=", ".join(others))

    def dtype(self, name: str, steps: Steps) -> NumberType:
        """Return the type of an input or output of a function."""
        return "float32"

    def steps(self, model: S2DiT, shape: StepShape, functions: tuple[FunctionName, ...] | None = None) -> Steps:
        """Return the functions that are exported, by default all, from a model in evaluation mode."""
        from s2search.exporters.step import FUNCTIONS, Steps

        return Steps(model, shape, functions or FUNCTIONS)

    def packaged_steps(self, manifest: Manifest, model: S2DiT, shape: StepShape) -> Steps:
        """Return the functions of a package that is there: cut as it is, where it is in several."""
        return self.steps(model, shape)

    @property
    def reads_prompts(self) -> bool:
        """Whether what is written, or how exact it is, depends on what the model is asked to show."""
        return False

    @property
    def precision_options(self) -> tuple[str, ...]:
        """The options that say a precision; where none is named, a plan's table does."""
        return ()

    def in_precision(self, precision: str) -> Exporter | None:
        """Return this exporter so that it writes a precision, as latency tables name it; None where it cannot."""
        return self if precision == self.precision else None

    def in_precisions(self, chosen: PrecisionAnswer) -> Exporter | None:
        """Return the same exporter with the precision of every part that a plan chose; None where it cannot."""
        return None

    def predicted_weight_bytes(self, steps: Steps) -> int | None:
        """Return the bytes of all stored weights, where the exporter knows better than the formulas of the blocks."""
        return None

    def export(
        self,
        model: S2DiT,
        grid: tuple[int, int],
        out: Path,
        progress: Progress = lambda done, total, label: None,
        *,
        frames: int | None = None,
        window: Window | None = None,
        functions: tuple[FunctionName, ...] | None = None,
        prompts: PromptTokens | None = None,
    ) -> Package:
        """Write a package, all or nothing.

        The weights are saved first, and all else is made from their file, tensor by tensor: a model that is not in
        memory itself (`open_model`) need not fit there.

        Args:
            model: In float32, on the processor, or not drawn yet. It is left as it is.
            grid: Token rows and columns.
            out: Its folder; there may be nothing at that place.
            progress: Called as the work goes on.
            frames: Latent frames of a chunk; by default the preset's.
            window: Past frames that softmax attention sees; by default the preset's.
            functions: Those that are needed; by default all, as streaming does.
            prompts: Tokens as the model was trained to read them: for ranges of activations, where these have few bits,
                and for verification. By default hashed ones where the numbers have few bits.

        Raises:
            InputError: This machine cannot export so, the weights were trained to stream with another chunk or window,
                the model reads other tokens, or the folder exists.
        """
        from s2search.exporters.prompt_tokens import PromptTokens
        from s2search.exporters.step import StepShape
        from s2search.network.network import S2DiT
        from s2search.network.random_weights import RandomS2DiT
        from s2search.streaming.as_trained import check_shape

        if problem := self.why_not():
            raise InputError(problem)
        weight = next(model.parameters())
        undrawn = isinstance(model, RandomS2DiT)
        if str(weight.dtype) != "torch.float32" or not (weight.device.type == "cpu" or undrawn):
            raise InputError(
                f"the model is {str(weight.dtype).removeprefix('torch.')} on {weight.device}",
                allowed="float32 on the processor: exporters convert by themselves",
            )
        check_shape(model.config, window=window, frames=frames)
        preset = model.config.preset
        if prompts is None and self.reads_prompts:
            prompts = PromptTokens.hashed(preset)
        if prompts is not None:
            prompts.check(preset)
        shape = StepShape(grid=grid, frames=frames or preset.chunk_frames, window=window or preset.window)
        with new_folder(out) as folder:
            progress(0, 1, "saving the weights")
            model.save_pretrained(folder / SOURCE)
            source = S2DiT.from_pretrained(folder / SOURCE, mapped=True)
            assert source.mapping is not None
            if prompts is not None:
                prompts.save(folder / SOURCE)
            with source.mapping.released():
                steps = self.steps(source, shape, functions)
                steps.prompts = prompts
                written = self.write(steps, folder, progress)
            write_manifest(folder, self._manifest(steps, written), progress)
        return Package.load(out)

    def _manifest(self, steps: Steps, written: Written) -> Manifest:
        config, shape = steps.model.config, steps.shape
        states = tuple(self._spec(name, steps.state[name].shape, steps) for name in steps.state)
        padded_bytes = sum(spec.bytes for spec in states if spec.name != "past_bias")
        state_bytes = padded_bytes if steps.form is None else steps.form.state_bytes
        sizes = predicted_sizes(config, shape.grid, shape.frames, shape.slots, self.precision)
        weight_bytes = self.predicted_weight_bytes(steps) or sizes.predicted_weight_bytes
        return Manifest(
            exporter=self.name,
            options=self.options_text,
            facts=dict(written.facts),
            model=config,
            model_digest=config.digest,
            plan_digest=config.plan_digest,
            grid=shape.grid,
            chunk_frames=shape.frames,
            window=shape.window,
            precision=self.precision,
            functions=tuple(self._function(name, file, steps) for name, file in written.files.items()),
            states=states,
            held=written.held,
            host=steps.form,
            chain=tuple(self._link(steps, *link) for link in zip(steps.links, written.chain, strict=True)),
            sizes=dataclasses.replace(sizes, state_bytes=state_bytes, predicted_weight_bytes=weight_bytes),
            files=(),
        )

    def _link(self, steps: Steps, link: Link, files: Mapping[FunctionName, str]) -> ChainLink:
        return ChainLink(
            layers=link.layers,
            hands_on=link.hands_on,
            functions=tuple(self._function(name, file, steps, link) for name, file in files.items()),
            host=link.form,
        )

    def _function(self, function: FunctionName, file: str, steps: Steps, link: Link | None = None) -> FunctionSpec:
        shapes = (link or steps).shapes()
        return FunctionSpec(
            name=function,
            file=file,
            inputs=tuple(self._spec(name, shapes[name], steps) for name in (link or steps).inputs(function)),
            outputs=tuple(self._spec(name, shapes[name], steps) for name in (link or steps).outputs(function)),
        )

    def _spec(self, name: str, shape: tuple[int, ...], steps: Steps) -> TensorSpec:
        return TensorSpec(name=name, shape=tuple(shape), dtype=self.dtype(name, steps))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What an exporter wrote.

    Attributes:
        files: The functions, each with the file or folder that holds it.
        facts: What is worth knowing: versions, opset.
        held: States that the runtime keeps by itself.
        chain: The same as `files` of every link, where the model is in several packages; `files` name none then.
    """

    files: Mapping[FunctionName, str]
    facts: Mapping[str, str]
    held: tuple[str, ...] = ()
    chain: Sequence[Mapping[FunctionName, str]] = ()


def exporter_of(package: Package) -> Exporter:
    """Return the exporter that wrote a package, with its options.

    Raises:
        UnknownNameError: It is not installed.
        InputError: It wrote packages in another form then.
    """
    exporter: Exporter = registry.create("exporters", package.manifest.exporter_text)
    exporter.check_form(package.manifest)
    return exporter


def open_runtime(package: Package) -> Runtime:
    """Check a package's files and load it.

    Raises:
        CheckError: A file is missing or changed.
        InputError: It cannot run on this machine.
    """
    package.check_files()
    return exporter_of(package).open(package)

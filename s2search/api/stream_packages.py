"""`stream --package`: what streams are packages, each run by what runs it on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from s2search.errors import InputError
from s2search.exporters.package import Package, is_component
from s2search.preset import video_size

if TYPE_CHECKING:
    import torch

    from s2search.codec.base import LoadedCodec
    from s2search.exporters.base import Runtime
    from s2search.exporters.component.package import ComponentPackage
    from s2search.network.config import ModelConfig
    from s2search.streaming.base import StreamingModel
    from s2search.streaming.chunk_sampler import ChunkSampler
    from s2search.text.base import LoadedText


@dataclass(frozen=True, kw_only=True, eq=False)
class TextPackage:
    """A text encoder's package where a stream has a text encoder."""

    package: ComponentPackage

    @property
    def label(self) -> str:
        """How a state names it."""
        return _label(self.package)

    def load(self, device: torch.device, dtype: torch.dtype) -> LoadedText:
        """Return it, loaded where its runtime has it."""
        from s2search.exporters.component.streamed import PackagedText

        return PackagedText(self.package, _runtime(self.package))


@dataclass(frozen=True, kw_only=True, eq=False)
class DecoderPackage:
    """A decoder's package where a stream has a codec."""

    package: ComponentPackage

    @property
    def label(self) -> str:
        """How a state names it."""
        return _label(self.package)

    def load(self, device: torch.device) -> LoadedCodec:
        """Return it, loaded where its runtime has it."""
        from s2search.exporters.component.streamed import PackagedDecoder

        return PackagedDecoder(self.package, _runtime(self.package))


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamPackages:
    """A step's package, and those of what stands around it.

    Attributes:
        step: Denoises.
        text: Encodes prompts; None where a plugin does.
        decoder: Decodes latents; None where a plugin does.
    """

    step: Package
    text: TextPackage | None = None
    decoder: DecoderPackage | None = None

    @classmethod
    def read(cls, folders: Sequence[Path]) -> StreamPackages:
        """Return packages by what they are, their files checked.

        Raises:
            InputError: None is a step's, or two are of one kind.
            CheckError: A file is missing or changed.
        """
        from s2search.exporters.component.package import ComponentPackage

        steps, components = list[Package](), dict[str, ComponentPackage]()
        for folder in folders:
            if is_component(folder):
                one = ComponentPackage.load(folder)
                if one.manifest.part in components:
                    raise InputError(f"two of the packages are a {one.manifest.part}", remedy="leave out one of them")
                components[one.manifest.part] = one
            else:
                steps.append(Package.load(folder))
        if len(steps) != 1:
            raise InputError(
                f"{len(steps)} of the packages are of a streaming step",
                allowed="one; beside it one of a text encoder, and one of a decoder",
                remedy="name what s2search export wrote without --part",
            )
        for package in (*steps, *components.values()):
            package.check_files()
        text, decoder = components.get("text"), components.get("decoder")
        return cls(
            step=steps[0],
            text=None if text is None else TextPackage(package=text),
            decoder=None if decoder is None else DecoderPackage(package=decoder),
        )

    @property
    def config(self) -> ModelConfig:
        """Of the model that was packaged."""
        return self.step.manifest.model

    @property
    def video(self) -> str:
        """The size that the package streams."""
        return video_size(*self.step.manifest.grid)

    def check(self, sampler: ChunkSampler) -> None:
        """Raise unless the step's package can be streamed so.

        Raises:
            InputError: It lacks a function, or has chunks of another length.
        """
        from s2search.streaming.sampler_of import needs

        manifest = self.step.manifest
        lacking = {"denoise", needs(sampler)} - {function.name for function in manifest.functions}
        if lacking:
            raise InputError(
                f"the package lacks {' and '.join(sorted(lacking))}, which {sampler.commit} streams by",
                remedy="export all functions, or choose the other --commit",
            )
        if manifest.chunk_frames != self.config.preset.chunk_frames:
            raise InputError(
                f"the package takes {manifest.chunk_frames} latent frames at a time, and its model makes chunks of "
                f"{self.config.preset.chunk_frames}",
                remedy="export it with the model's own chunk",
            )

    def load(self) -> StreamingModel:
        """Return the step, loaded where its runtime has it."""
        from s2search.exporters.streamed import StreamedPackage

        model: Any = StreamedPackage(self.step, _runtime(self.step))  # it takes no clip without a state
        return cast("StreamingModel", model)

    @property
    def runtime(self) -> str:
        """What runs the step on this machine."""
        from s2search.verification.inspectors.base import inspector_of

        emulation = inspector_of(self.step).emulation()
        return self.step.manifest.exporter if emulation is None else emulation.told

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the figures."""
        from s2search.verification.inspectors.base import inspector_of

        emulation = inspector_of(self.step).emulation()
        if emulation is None:
            return ()
        return (f"by {emulation.told}, since {emulation.why}: its times say nothing of a phone",)


def _label(package: ComponentPackage) -> str:
    from s2search.exporters.component.streamed import component_label

    return component_label(package)


def _runtime(package: Package) -> Runtime:
    from s2search.verification.inspectors.base import inspector_of

    return inspector_of(package).runtime(package)

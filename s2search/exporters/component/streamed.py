"""Packages of a text encoder and of a decoder in the places that they have in a stream.

Axes: see s2search/codec/base.py and s2search/text/base.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from s2search.codec.base import LoadedCodec
from s2search.errors import InputError
from s2search.exporters.base import Runtime
from s2search.exporters.component.package import ComponentPackage
from s2search.exporters.package import NEW
from s2search.text.base import LoadedText, TextComponent


def component_label(package: ComponentPackage) -> str:
    """Return how a stream's state names a component that came as a package.

    Its cache has shapes of its own, so that no stream goes on with it that began with the plugin itself.
    """
    return f"package[of={package.manifest.plugin}]"


class PackagedText(LoadedText):
    """Encodes prompts by a package; its tokenizer splits them here, as an application does.

    Args:
        package: Of a text encoder.
        runtime: Runs it.
    """

    def __init__(self, package: ComponentPackage, runtime: Runtime) -> None:
        source = package.open_source()
        assert isinstance(source, TextComponent)
        self._ids, self._runtime = source.ids, runtime

    @override
    def encode(self, prompts: Sequence[str]) -> Tensor:
        rows = [self._runtime.run("encode", {"ids": self._ids(prompt).numpy()})["text"] for prompt in prompts]
        return torch.from_numpy(np.concatenate(rows).astype(np.float32))


class PackagedDecoder(LoadedCodec):
    """Decodes by a package: `first` where a stream begins, `next` from then on.

    Args:
        package: Of a decoder.
        runtime: Runs it.
    """

    def __init__(self, package: ComponentPackage, runtime: Runtime) -> None:
        self._package, self._runtime = package, runtime
        self._latents = package.manifest.function("first").inputs[0].shape
        device, channels = torch.device("cpu"), self._latents[1]
        super().__init__(component_label(package), device, torch.float32, latent_channels=channels)

    @override
    def _encode(self, video_BCTYX: Tensor, before: Mapping[str, Tensor] | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        raise InputError("the package of a decoder encodes nothing", remedy="use the codec that it was made from")

    @override
    def _decode(
        self, latents_BCTYX: Tensor, before: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        if tuple(latents_BCTYX.shape) != self._latents:
            raise InputError(
                f"the decoder's package takes latents of {self._latents}, not {tuple(latents_BCTYX.shape)}",
                remedy="export the decoder for this video",
            )
        spec = self._package.manifest.function("first" if before is None else "next")
        given = {"latents": latents_BCTYX} | dict(before or {})
        outputs = self._runtime.run(
            spec.name, {one.name: np.ascontiguousarray(given[one.name].numpy(), one.dtype) for one in spec.inputs}
        )
        found = {name: torch.from_numpy(array.astype(np.float32)) for name, array in outputs.items()}
        return found.pop("video"), {name.removeprefix(NEW): tensor for name, tensor in found.items()}

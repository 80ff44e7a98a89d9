"""Text encoders and decoders as functions that every exporter takes: a module each, tensors in and tensors out.

What a text encoder or a codec gives of itself is its plugin's to say (`component()`); here it gets the names and the
example inputs that packages of its kind have in common.

Axes: see s2search/codec/base.py and s2search/text/base.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from s2search import registry
from s2search.codec.base import Codec, DecoderComponent
from s2search.errors import UnknownNameError
from s2search.exporters.package import NEW
from s2search.preset import PATCH
from s2search.text.base import TextComponent, TextEncoder

Kind = Literal["text", "decoder"]
CACHE = "cache_"
_FAMILIES = ("texts", "codecs")


@dataclass(frozen=True, kw_only=True)
class ComponentFunction:
    """A function of a component's package.

    Attributes:
        name: Of the function.
        module: What it computes. Its weights are under `model.`.
        inputs: Examples, by name and in their order.
        outputs: Names.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]


def open_component(name: str, options: Mapping[str, str]) -> TextComponent | DecoderComponent:
    """Return what a text encoder or a codec gives of itself to exporters.

    Args:
        name: Of the plugin.
        options: Of the plugin.

    Raises:
        UnknownNameError: There is no such text encoder and no such codec.
        InputError: It cannot be exported, or its files cannot be read.
    """
    known = {other: group for group in _FAMILIES for other in registry.installed(group)}
    if name not in known:
        raise UnknownNameError("text encoder or codec", name, sorted(known))
    kind = registry.FAMILIES[known[name]]
    plugin: TextEncoder | Codec = registry.build(
        registry.load(known[name], name), dict(options), described_as=f"{kind} {name!r}"
    )
    return plugin.component()


def functions_of(
    component: TextComponent | DecoderComponent, grid: tuple[int, int], frames: int
) -> tuple[ComponentFunction, ...]:
    """Return what the package of a component can do.

    Args:
        component: What is exported.
        grid: Of a decoder: token rows and columns.
        frames: Of a decoder: latent frames of a chunk.
    """
    if isinstance(component, TextComponent):
        ids = {"ids": component.ids("a cat")}
        return (ComponentFunction(name="encode", module=component.module, inputs=ids, outputs=("text",)),)
    size = (1, component.loaded.latent_channels, frames, PATCH[1] * grid[0], PATCH[2] * grid[1])
    latents = {"latents": torch.zeros(size)}
    first, later = _Decode(component.model, begins=True), _Decode(component.model, begins=False)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        _, *after = first(fake.from_tensor(latents["latents"]))  # shapes only
    cache = {f"{CACHE}{number:02}": torch.zeros(tuple(x.shape)) for number, x in enumerate(after)}
    outputs = ("video", *(NEW + name for name in cache))
    return (
        ComponentFunction(name="first", module=first, inputs=latents, outputs=outputs),
        ComponentFunction(name="next", module=later, inputs=latents | cache, outputs=outputs),
    )


class _Decode(nn.Module):
    """A decoder at the start of a stream, or after it."""

    def __init__(self, model: nn.Module, *, begins: bool) -> None:
        super().__init__()
        self.model, self.begins = model, begins

    def forward(self, latents_BCTYX: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """Return the video, and the cache after it."""
        found: tuple[Tensor, ...] = self.model(latents_BCTYX, *cache, begins=self.begins)
        return found

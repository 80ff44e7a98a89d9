"""Text encoders and decoders as functions that every exporter takes: a module each, tensors in and tensors out.

Axes: see s2search/codec/base.py and s2search/text/base.py
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from s2search import registry
from s2search.errors import InputError
from s2search.exporters.component.dct_decoder import DCTDecoder
from s2search.exporters.component.wan_decoder import WanDecoder
from s2search.exporters.package import NEW
from s2search.exporters.step import MASKED
from s2search.preset import LATENT_CHANNELS, PATCH

Kind = Literal["text", "decoder"]
CACHE = "cache_"
_DECODERS: Mapping[str, Any] = {"dct": DCTDecoder, "wan": WanDecoder}
_ALLOWED = "clip[folder=DIR] (text), dct or wan[folder=DIR] (decoders)"


@dataclass(frozen=True, kw_only=True)
class PartFunction:
    """A function of a part's package.

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


class Part(abc.ABC):
    """A text encoder or a decoder of which a package is made.

    Attributes:
        model: The network; packages store its weights.
        sources: Where its plugin reads from; each folder by its place inside the package's source.
    """

    kind: ClassVar[Kind]
    model: Any
    sources: Mapping[str, Path]

    @abc.abstractmethod
    def functions(self) -> tuple[PartFunction, ...]:
        """Return what the package can do."""


def open_part(
    name: str, options: Mapping[str, str], *, grid: tuple[int, int] = (9, 16), frames: int = 3
) -> TextPart | DecoderPart:
    """Return the part behind a text encoder or a codec.

    Args:
        name: Of the plugin.
        options: Of the plugin.
        grid: Of a decoder: token rows and columns.
        frames: Of a decoder: latent frames of a chunk.

    Raises:
        InputError: It cannot be a package, or its files cannot be read.
    """
    if name == "clip":
        return TextPart(_plugin("texts", name, options))
    if name in _DECODERS:
        return DecoderPart(_plugin("codecs", name, options), grid, frames)
    known = {*registry.installed("texts"), *registry.installed("codecs")}
    why = "has no network that is known here" if name in known else "is no text encoder and no codec"
    if name == "hashing":
        why = "needs no package: its tokens are computed from the words"
    raise InputError(f"the part {name!r} {why}", allowed=_ALLOWED, remedy="name one of them")


def _plugin(group: str, name: str, options: Mapping[str, str]) -> Any:
    return registry.build(registry.load(group, name), dict(options), described_as=f"part {name!r}")


class TextPart(Part):
    """The network of CLIP's text half. Splitting a prompt into numbers stays with the host.

    Attributes:
        encoder: The loaded text encoder itself, which the package must equal.
    """

    kind = "text"

    def __init__(self, encoder: Any) -> None:
        self.encoder: Any = encoder.load(torch.device("cpu"), torch.float32)
        self.tokens, self.model = encoder.tokens, self.encoder._model
        self.model.set_attn_implementation("eager")  # written out: converters refuse what sdpa's mask becomes
        folder = Path(encoder.folder).expanduser()
        places = {encoder._place("text_encoder"), encoder._place("tokenizer")}
        self.sources = {str(place.relative_to(folder)): place for place in places}

    def functions(self) -> tuple[PartFunction, ...]:
        """Return `encode`. See the base class."""
        module = _Encode(self.model, self.tokens)
        return (PartFunction(name="encode", module=module, inputs={"ids": self.ids("a cat")}, outputs=("text",)),)

    def ids(self, prompt: str) -> Tensor:
        """Return a prompt as numbers, int32."""
        from s2search.text.pretrained import token_ids

        vocabulary: int = self.model.config.vocab_size
        return token_ids(self.encoder._tokenizer, [prompt], self.tokens, vocabulary)[0].to(torch.int32)


class _Encode(nn.Module):
    def __init__(self, model: Any, tokens: int) -> None:
        super().__init__()
        self.model = model
        # CLIP's own mask of what comes later is minus infinity in float16, and takes operators that Core ML lacks.
        self.later_11SS = torch.full((1, 1, tokens, tokens), MASKED).triu(1)

    def forward(self, ids_BS: Tensor) -> tuple[Tensor, ...]:
        """Return text_BSE."""
        return (self.model(input_ids=ids_BS.long(), attention_mask=self.later_11SS).last_hidden_state,)


class DecoderPart(Part):
    """The decoder of a codec.

    Attributes:
        codec: The loaded codec itself, which the package must equal.
    """

    kind = "decoder"

    def __init__(self, codec: Any, grid: tuple[int, int], frames: int) -> None:
        self.codec: Any = codec.load("cpu", torch.float32)
        self.sources = {".": codec._folder()} if hasattr(codec, "folder") else {}
        self.model = _DECODERS[codec.name](self.codec).eval()
        self._size = (1, LATENT_CHANNELS, frames, PATCH[1] * grid[0], PATCH[2] * grid[1])

    def functions(self) -> tuple[PartFunction, ...]:
        """Return `first` and `next`, with a cache that a chunk left. See the base class."""
        latents = {"latents": torch.zeros(self._size)}
        first, later = _Decode(self.model, begins=True), _Decode(self.model, begins=False)
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            _, *after = first(fake.from_tensor(latents["latents"]))  # shapes only
        cache = {f"{CACHE}{number:02}": torch.zeros(tuple(x.shape)) for number, x in enumerate(after)}
        outputs = ("video", *(NEW + name for name in cache))
        return (
            PartFunction(name="first", module=first, inputs=latents, outputs=outputs),
            PartFunction(name="next", module=later, inputs=latents | cache, outputs=outputs),
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

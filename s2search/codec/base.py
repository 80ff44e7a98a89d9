"""What a codec is: it turns video into the latents that the transformer denoises, and back, causally.

A codec plugin is configuration (`dct`, `wan[folder=DIR]`); `load(device, dtype)` makes the worker that
holds the weights. `component` says how the decoder is exported, where it can be. Files are read from a folder that the
option `folder` names: a package keeps a copy of what is read there, and verification names the copy instead.

Geometry (source: S2DiT, section 4; Wan autoencoder): 4x8x8 compression, as a rule into 16 channels. The first latent
frame is one pixel frame and every other one is four, so 1 + 4k pixel frames are 1 + k latent frames, and the first
chunk of 3 latent frames decodes to 9 pixel frames, every later one to 12. Pixels are in [-1, 1], RGB; latents have
about zero mean and unit variance per channel.

Streaming: every call takes a cache and returns another. A cache is a value: no call changes one, so a stream can be
forked, repeated or saved anywhere. However a stream is split into calls, the results are those of one call.

Axes:  B batch  C channels  T frames (pixel frames of a video, latent frames of latents)  Y X rows and columns
"""

from __future__ import annotations

import abc
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

from s2search.border.regular_file import read_regular
from s2search.errors import InputError
from s2search.preset import LATENT_CHANNELS
from s2search.registry import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FRAMES_PER_LATENT = 4
PIXELS_PER_LATENT = 8

Direction = Literal["encode", "decode"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cache:
    """Where one direction of a stream stands.

    Attributes:
        codec: Name of the codec whose cache it is.
        direction: `encode` or `decode`.
        latent_frames: Latent frames that passed so far.
        grid: Batch, and latent rows and columns, of the stream.
        tensors: What the codec remembers, by name. Never written to.
    """

    codec: str
    direction: Direction
    latent_frames: int
    grid: tuple[int, int, int]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))

    @property
    def cache_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def named_tensors(self) -> dict[str, Tensor]:
        """Return it as a flat dictionary of tensors, for safetensors or a larger state; `from_named_tensors` reads it.

        >>> Cache(codec="dct", direction="decode", latent_frames=3, grid=(1, 18, 32)).named_tensors()
        {'dct.decode': tensor([ 3,  1, 18, 32])}
        """
        import torch

        stem = f"{self.codec}.{self.direction}"
        position = torch.tensor([self.latent_frames, *self.grid])
        return {stem: position, **{f"{stem}.{name}": tensor for name, tensor in self.tensors.items()}}

    @classmethod
    def from_named_tensors(cls, named: Mapping[str, Tensor]) -> Cache:
        """Return the cache that `named_tensors` wrote.

        Raises:
            InputError: It is none.
        """
        stem = min(named, key=len, default="")
        match = re.fullmatch(r"(.+)\.(encode|decode)", stem)
        strangers = [name for name in named if name != stem and not name.startswith(f"{stem}.")]
        if match is None or strangers or named[stem].shape != (4,) or named[stem].is_floating_point():
            raise InputError(f"{sorted(named)[:3]} are not a codec cache", remedy="load what `named_tensors` gave")
        latent_frames, *grid = (int(value) for value in named[stem])
        return cls(
            codec=match[1],
            direction="encode" if match[2] == "encode" else "decode",
            latent_frames=latent_frames,
            grid=(grid[0], grid[1], grid[2]),
            tensors={name.removeprefix(f"{stem}."): tensor for name, tensor in named.items() if name != stem},
        )


class LoadedCodec(abc.ABC):
    """A codec at work on one device in one number format; gradients do not pass through it.

    A member writes `_encode` and `_decode`; both get what was checked, already on the device. It has no state between
    calls, but calls from several threads must not overlap.

    Args:
        name: The plugin's name.
        device: Where it works and where its results are.
        dtype: The number format of its results.
        latent_channels: Of its latents.
    """

    def __init__(
        self, name: str, device: torch.device, dtype: torch.dtype, *, latent_channels: int = LATENT_CHANNELS
    ) -> None:
        self.name, self.device, self.dtype, self.latent_channels = name, device, dtype, latent_channels

    def encode(self, video_BCTYX: Tensor) -> Tensor:
        """Return the latents of a whole video.

        Args:
            video_BCTYX: 3 channels in [-1, 1], 1 + 4k frames, sides that are multiples of 8.

        Returns:
            `latents_BCTYX`: its latent channels, 1 + k frames, an eighth of the rows and columns.
        """
        return self.encode_chunk(video_BCTYX, None)[0]

    def encode_chunk(self, video_BCTYX: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Return the latents of the next frames of a stream, and the cache for those after them.

        Args:
            video_BCTYX: 1 + 4k frames at the stream's start (k from 0), 4k later (k from 1).
            cache: What the call before returned; None at the stream's start.

        Raises:
            InputError: The video or the cache does not fit.
        """
        import torch

        batch, channels, frames, rows, columns = _five(video_BCTYX, "video")
        odd = rows % PIXELS_PER_LATENT or columns % PIXELS_PER_LATENT
        if channels != 3 or odd or not min(batch, rows, columns):
            raise InputError(
                f"a video of {channels} channels, {rows} rows and {columns} columns cannot be encoded",
                allowed="3 channels; rows and columns that are multiples of 8",
                remedy="resize or crop it",
            )
        first = 1 if cache is None else 0
        if frames < 1 or (frames - first) % FRAMES_PER_LATENT:
            raise InputError(
                f"{frames} frames cannot be encoded {'at the start of' if first else 'later in'} a stream",
                allowed="1, 5, 9, ... frames at the start; 4, 8, 12, ... later",
                remedy="trim the video to such a length",
            )
        grid = (batch, rows // PIXELS_PER_LATENT, columns // PIXELS_PER_LATENT)
        before = self._tensors(cache, "encode", grid)
        with torch.no_grad():
            latents_BCTYX, after = self._encode(video_BCTYX.to(self.device, self.dtype), before)
        return latents_BCTYX, self._cache("encode", grid, cache, latents_BCTYX, after)

    def decode(self, latents_BCTYX: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Return the pixels of the next latent frames of a stream, clamped to [-1, 1], and the cache for those after.

        Args:
            latents_BCTYX: Its latent channels, one frame or more.
            cache: What the call before returned; None at the stream's start, whose first latent is a single frame.

        Raises:
            InputError: The latents or the cache do not fit.
        """
        import torch

        batch, channels, frames, rows, columns = _five(latents_BCTYX, "latents")
        if channels != self.latent_channels or not min(batch, frames, rows, columns):
            raise InputError(
                f"latents of the shape {tuple(latents_BCTYX.shape)} cannot be decoded",
                allowed=f"(batch, {self.latent_channels}, frames, rows, columns), all from 1",
            )
        grid = (batch, rows, columns)
        before = self._tensors(cache, "decode", grid)
        with torch.no_grad():
            video_BCTYX, after = self._decode(latents_BCTYX.to(self.device, self.dtype), before)
        return video_BCTYX.clamp(-1, 1), self._cache("decode", grid, cache, latents_BCTYX, after)

    @abc.abstractmethod
    def _encode(self, video_BCTYX: Tensor, before: Mapping[str, Tensor] | None) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return latents, and what is to be remembered; `before` is None at the stream's start."""

    @abc.abstractmethod
    def _decode(
        self, latents_BCTYX: Tensor, before: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return pixels, and what is to be remembered; `before` is None at the stream's start."""

    def _tensors(
        self, cache: Cache | None, direction: Direction, grid: tuple[int, int, int]
    ) -> Mapping[str, Tensor] | None:
        if cache is None:
            return None
        if (cache.codec, cache.direction, cache.grid) != (self.name, direction, grid) or cache.latent_frames < 1:
            raise InputError(
                f"a cache of {cache.codec} {cache.direction} for (batch, rows, columns) = {cache.grid} does not fit "
                f"{self.name} {direction} for {grid}",
                remedy="pass the cache that this stream returned last, or None to start another",
            )
        return {name: tensor.to(self.device, self.dtype) for name, tensor in cache.tensors.items()}

    def _cache(
        self,
        direction: Direction,
        grid: tuple[int, int, int],
        cache: Cache | None,
        latents_BCTYX: Tensor,
        tensors: Mapping[str, Tensor],
    ) -> Cache:
        passed = (cache.latent_frames if cache else 0) + latents_BCTYX.shape[2]
        return Cache(codec=self.name, direction=direction, latent_frames=passed, grid=grid, tensors=tensors)


@dataclass(frozen=True, kw_only=True)
class DecoderComponent:
    """A codec's decoder as exporters take it.

    Attributes:
        loaded: The codec itself, in float32 on the processor, which a package must equal.
        model: Takes latents_BCTYX of one batch, then the tensors that a chunk before left, then `begins`, whether the
            stream starts here; it then takes no such tensors. It returns video_BCTYX from -1 to 1, then the tensors for
            the next chunk, always the same number, in the same order and shapes.
        sources: The folders that are read, each by its place in the option `folder`; `.` is that folder itself.
    """

    loaded: LoadedCodec
    model: nn.Module
    sources: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Codec(Plugin, abc.ABC):
    """Configuration of a codec; making one loads nothing."""

    #: What it is and where its weights or constants come from: one line.
    statement: ClassVar[str]

    @property
    def latent_channels(self) -> int:
        """How many channels its latents have; known before anything is loaded."""
        return LATENT_CHANNELS

    @property
    def digest(self) -> str:
        """A hash of what latents depend on: name, options, and all files of the folder that it reads, wherever it is.

        Raises:
            InputError: A file cannot be read.
        """
        options = {name: value for name, value in self.options.items() if name != "folder"}
        found = hashlib.sha256(f"{self.name} {sorted(options.items())}\n".encode())
        folder = self.read_folder
        for path in sorted(folder.rglob("*")) if folder else ():
            if folder and path.is_file():
                content = hashlib.sha256(read_regular(path)).hexdigest()
                found.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
        return f"sha256:{found.hexdigest()}"

    @property
    def read_folder(self) -> Path | None:
        """The folder that it reads, and no more than that: what the option `folder` names; None without one."""
        return Path(self.options["folder"]) if self.options.get("folder") else None

    @abc.abstractmethod
    def load(self, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> LoadedCodec:
        """Return the worker. Imports torch.

        Args:
            device: Where it works.
            dtype: Its number format; float32 by default.

        Raises:
            InputError: Its weights cannot be read, or a library is not installed.
        """

    def component(self) -> DecoderComponent:
        """Return the decoder as exporters take it, loaded.

        Raises:
            InputError: It does not say how it is exported, which is the default.
        """
        raise InputError(
            f"the codec {self.name!r} does not say how its decoder is exported",
            remedy="export another, or let its component() return the decoder",
        )


def _five(tensor: Tensor, what: str) -> tuple[int, ...]:
    if tensor.dim() != 5 or not tensor.is_floating_point():
        raise InputError(
            f"{what} of {tensor.dtype} with the shape {tuple(tensor.shape)}",
            allowed="floating-point numbers with the axes (batch, channels, frames, rows, columns)",
        )
    return tuple(tensor.shape)

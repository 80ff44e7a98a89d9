"""A folder of clips as a training run reads it: latents in safetensors shards, and a manifest of what they are.

    clips.jsonl            the manifest: a heading, a line per shard with its clips, and a last line when all is there
    shards/000000.safetensors ...    latents, a tensor `N` (channels, frames, rows, columns) per clip
    skipped.csv            recordings that gave no clip, and why

Train and held-out clips are divided by recording. A shard is written before its line: a folder that was being made when
its maker was killed holds the beginning of the whole, and the same command makes the rest.

Axes: B clips  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import msgspec

from s2search import registry
from s2search.border.regular_file import check_regular, read_regular
from s2search.errors import InputError
from s2search.journal import read_journal
from s2search.preset import LATENT_CHANNELS
from s2search.training.data.base import Cut, Geometry

if TYPE_CHECKING:
    from torch import Tensor

    from s2search.codec.base import Codec, LoadedCodec
    from s2search.training.data.base import Footage

MANIFEST, SHARDS, SKIPPED = "clips.jsonl", "shards", "skipped.csv"
OF = "data set"

Split = Literal["train", "held-out"]


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A source as it was asked: its label, how many recordings it had, and a hash of their names and contents."""

    source: str
    recordings: int
    digest: str


class Heading(msgspec.Struct, frozen=True, kw_only=True, tag="data"):
    """What all clips of a data set have in common.

    Attributes:
        codec: That encoded them, as people write it, without its folder.
        codec_digest: A hash of its constants or weights.
        geometry: Of all clips.
        sources: In their order.
        seed: Of cuts and of the division.
        clips: Of a recording at most.
        strides: Frames of a recording from one frame of a clip to the next: one of these is drawn for each clip.
        held_out: Part of the recordings that is kept from training.
        cached: Whether latents are in shards; else they are encoded whenever they are read.
        latent_channels: Of the codec.
    """

    schema: Literal["s2search.clips/1"] = "s2search.clips/1"
    codec: str
    codec_digest: str
    geometry: Geometry
    sources: tuple[SourceEntry, ...]
    seed: int
    clips: int
    strides: tuple[int, ...]
    held_out: float
    cached: bool = True
    latent_channels: Annotated[int, msgspec.Meta(ge=1, le=1024)] = LATENT_CHANNELS

    @property
    def latent_size(self) -> tuple[int, int, int, int]:
        """Channels, frames, rows and columns of a clip's latents."""
        return self.latent_channels, *self.geometry.latent_size


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """One clip.

    Attributes:
        id: Its number, and the name of its latents.
        source: The number of its source in the heading.
        recording: What it was cut out of.
        digest: Of that.
        group: What it was divided by: the recording's digest, or what it belongs to.
        cut: Where.
        split: Which part it is of, as all clips of its group.
        caption: What is to be seen.
    """

    id: int
    source: int
    recording: str
    digest: str
    group: str
    cut: Cut
    split: Split
    caption: str


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A recording that gave no clip."""

    source: int
    recording: str
    reason: str


class Shard(msgspec.Struct, frozen=True, kw_only=True, tag="shard"):
    """Clips of so many recordings from where the shard before ended, and their file; empty where it is not cached."""

    file: str
    sha256: str
    recordings: int
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...] = ()


class Whole(msgspec.Struct, frozen=True, kw_only=True, tag="whole"):
    """The last line: all recordings were seen."""

    clips: int
    skipped: int


@dataclass(frozen=True, kw_only=True)
class Clips:
    """A data set that is whole.

    Attributes:
        folder: Where it lies.
        heading: What all clips have in common.
        shards: Its files.
        digest: A hash of its manifest, and so of everything in it.
        codec: Encodes clips that are not cached; by default the one that the heading names.
    """

    folder: Path
    heading: Heading
    shards: tuple[Shard, ...]
    digest: str
    codec: Codec | None = None
    _open: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path, codec: Codec | None = None) -> Self:
        """Read a manifest; shards, or recordings, are opened when they are read.

        Args:
            folder: What `data make` wrote.
            codec: Encodes clips that are not cached, where the one that the heading names needs its folder.

        Raises:
            InputError: There is none, or it is not whole.
        """
        heading, journal = read_journal(
            folder / MANIFEST, Heading, Shard | Whole, of=OF, remedy="name a folder that `s2search data make` wrote"
        )
        *shards, last = journal.lines or [None]
        if not isinstance(last, Whole) or not all(isinstance(one, Shard) for one in shards):
            raise InputError(
                f"the data set {str(folder)!r} was not finished", remedy="repeat the command that began it"
            )
        found = cls(folder=folder, heading=heading, shards=tuple(shards), digest=journal.digest, codec=codec)
        names = [shard.file for shard in shards]
        if names != [shard_name(number) if heading.cached else "" for number in range(len(names))]:
            raise InputError(f"the manifest in {str(folder)!r} names files that are no shards", remedy="restore it")
        if [clip.id for clip in found.clips] != list(range(last.clips)):
            raise InputError(f"the manifest in {str(folder)!r} does not number its clips", remedy="restore it")
        return found

    @cached_property
    def clips(self) -> tuple[Clip, ...]:
        """All clips by their numbers."""
        return tuple(clip for shard in self.shards for clip in shard.clips)

    @cached_property
    def skipped(self) -> tuple[Skipped, ...]:
        """Recordings that gave no clip."""
        return tuple(skipped for shard in self.shards for skipped in shard.skipped)

    def of(self, split: Split) -> tuple[Clip, ...]:
        """Return the clips of one part."""
        return tuple(clip for clip in self.clips if clip.split == split)

    def check_channels(self, wanted: int) -> None:
        """Raise unless a model that denoises so many latent channels can learn from it.

        Raises:
            InputError: Its latents have another number.
        """
        mine = self.heading.latent_channels
        if mine != wanted:
            raise InputError(
                f"the data set {str(self.folder)!r} has latents of {mine} channels, and the model denoises {wanted}",
                remedy="make the data with the codec that the model was trained with",
            )

    def latents(self, ids: Sequence[int]) -> Tensor:
        """Return clips side by side: `latents_BCTYX`, float32.

        Raises:
            InputError: A shard cannot be read, or a clip in it is of another size.
        """
        import torch

        latents_BCTYX = torch.stack([self._tensor(id) for id in ids])
        if latents_BCTYX.shape[1:] != self.heading.latent_size:
            raise InputError(f"clips in {str(self.folder)!r} have another size than it says", remedy="make it anew")
        return latents_BCTYX

    def check(self) -> Iterator[str]:
        """Yield a line for everything that does not hold: files, sizes, numbers, and the division by recording."""
        for shard in self.shards if self.heading.cached else ():
            path = self.folder / SHARDS / shard.file
            if not path.is_file():
                yield f"{shard.file} is missing"
            elif hashlib.sha256(read_regular(path)).hexdigest() != shard.sha256:
                yield f"{shard.file} was changed since it was written"
            else:
                yield from self._problems(shard)
        for shard in () if self.heading.cached else self.shards:
            yield from self._problems(shard)
        splits: dict[str, set[Split]] = {}
        for clip in self.clips:
            for key in (clip.group, clip.digest):
                splits.setdefault(key, set()).add(clip.split)
        for key, found in splits.items():
            if len(found) > 1:
                yield f"clips of {key[:60]} are in train and held-out"

    def _problems(self, shard: Shard) -> Iterator[str]:
        for clip in shard.clips:
            try:
                latents_CTYX = self._tensor(clip.id)
            except InputError as error:
                yield str(error)
                continue
            if latents_CTYX.shape != self.heading.latent_size:
                yield f"clip {clip.id} in {shard.file or clip.recording} has the size {tuple(latents_CTYX.shape)}"
            elif not latents_CTYX.isfinite().all():
                yield f"clip {clip.id} in {shard.file or clip.recording} has numbers that are not finite"

    @cached_property
    def _file_of(self) -> dict[int, str]:
        return {clip.id: shard.file for shard in self.shards for clip in shard.clips}

    @cached_property
    def _recordings(self) -> dict[tuple[int, str], Footage]:
        sources = enumerate(registry.create("sources", entry.source) for entry in self.heading.sources)
        return {(number, one.name): one for number, source in sources for one in source.recordings()}

    @cached_property
    def _encoder(self) -> LoadedCodec:
        codec: Codec = self.codec or registry.create("codecs", self.heading.codec)
        if codec.digest != self.heading.codec_digest:
            raise InputError(
                f"the codec {codec.label} is {codec.digest[:19]}, and the data set {str(self.folder)!r} is of "
                f"{self.heading.codec_digest[:19]}",
                remedy="name the codec that it was made with",
            )
        return codec.load()

    def _encoded(self, clip: Clip) -> Tensor:
        from s2search.codec.pixels import video_from_frames

        recording = self._recordings.get((clip.source, clip.recording))
        if recording is None or recording.digest != clip.digest:
            since = "gone" if recording is None else "changed"
            raise InputError(
                f"the recording {clip.recording!r} of {str(self.folder)!r} is {since}",
                remedy="restore it, or make the data set anew",
            )
        (frames_THWC,) = recording.clips([clip.cut], self.heading.geometry)
        return self._encoder.encode(video_from_frames(frames_THWC))[0].float()

    def _tensor(self, id: int) -> Tensor:
        if not self.heading.cached:
            return self._encoded(self.clips[id])
        from safetensors import SafetensorError, safe_open

        path = self.folder / SHARDS / self._file_of[id]
        try:
            if path.name not in self._open:
                check_regular(path)
                self._open[path.name] = safe_open(path, framework="pt")
            tensor: Tensor = self._open[path.name].get_tensor(str(id))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path.name} of the data set cannot be read: {error}", remedy="make it anew") from error
        return tensor.float()


def shard_name(number: int) -> str:
    """Return the name of a shard's file.

    >>> shard_name(7)
    '000007.safetensors'
    """
    return f"{number:06}.safetensors"

"""How a data set is made: recordings are divided, clips are cut and encoded, shard after shard."""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.border.printable import printable
from s2search.codec.base import Codec
from s2search.document import write_text
from s2search.errors import CheckError, InputError
from s2search.journal import open_journal
from s2search.training.data.base import ClipSource, Cut, Footage, Geometry, digest_of, random_of
from s2search.training.data.clips import (
    MANIFEST,
    OF,
    SHARDS,
    SKIPPED,
    Clip,
    Clips,
    Heading,
    Shard,
    Skipped,
    SourceEntry,
    Split,
    Whole,
    shard_name,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from s2search.codec.base import LoadedCodec

_CLIPS_PER_SHARD = 64

#: Called with (recordings seen, recordings in all, what is next).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A recording with its source's number, what it is divided by, and its part."""

    source: int
    recording: Footage
    group: str
    split: Split


def make(
    sources: Sequence[ClipSource],
    out: Path,
    *,
    geometry: Geometry,
    codec: Codec,
    clips: int,
    strides: Sequence[int],
    held_out: float,
    seed: int,
    max_skipped: int | None = None,
    cached: bool = True,
    device: torch.device | str = "cpu",
    progress: Progress = lambda done, total, label: None,
) -> Clips:
    """Make a data set, or finish one that the same question began.

    Args:
        sources: Where recordings come from.
        out: The folder.
        geometry: Of all clips.
        codec: Encodes them.
        clips: Of a recording, at most; fewer where it is too short for so many beside one another.
        strides: One of them is drawn for each clip.
        held_out: Part of the recordings that is kept from training, 0 to below 1; at least one recording where above 0.
        seed: Of cuts and of the division.
        max_skipped: How many recordings may give no clip; any number by default.
        cached: Encode all clips now; else whenever they are read, from the recordings where they are.
        device: Where they are encoded now.
        progress: Called before every recording, and at the end.

    Raises:
        InputError: There is nothing to make or to hold out, or the folder holds something else.
        CheckError: Too many recordings gave no clip.
    """
    parts = list(_divided(sources, held_out, seed))
    heading = Heading(
        codec=_without_folder(codec),
        codec_digest=codec.digest,
        geometry=geometry,
        sources=tuple(_entry(source, parts, number) for number, source in enumerate(sources)),
        seed=seed,
        clips=clips,
        strides=tuple(strides),
        held_out=held_out,
        cached=cached,
        latent_channels=codec.latent_channels,
    )
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise InputError(f"{str(out)!r} holds something that is no data set", remedy="choose another folder")
    (out / SHARDS).mkdir(parents=True, exist_ok=True)
    with open_journal(out / MANIFEST, heading, Shard | Whole, of=OF) as journal:
        if not journal.lines or not isinstance(journal.lines[-1], Whole):
            maker, shards = (
                _Maker(geometry=geometry, codec=codec, heading=heading, out=out, device=device),
                journal.lines,
            )
            while (seen := sum(shard.recordings for shard in shards)) < len(parts):
                say = partial(_say, progress, seen, len(parts))
                journal.append(maker.shard(len(shards), sum(len(one.clips) for one in shards), parts[seen:], say))
                _check_skipped(shards, max_skipped)
            _check_skipped(shards, max_skipped)
            _check_parts(shards, out, held_out)
            journal.append(
                Whole(clips=sum(len(one.clips) for one in shards), skipped=sum(len(one.skipped) for one in shards))
            )
    progress(len(parts), len(parts), "done")
    found = Clips.load(out)
    write_text(out / SKIPPED, _skipped_csv(found))
    return found


def _say(progress: Progress, seen: int, total: int, taken: int, label: str) -> None:
    progress(seen + taken, total, label)


def _check_skipped(shards: Sequence[Shard], most: int | None) -> None:
    skipped = [one for shard in shards for one in shard.skipped]
    if most is not None and len(skipped) > most:
        raise CheckError(
            f"{len(skipped)} recordings gave no clip; the last: {skipped[-1].reason}",
            allowed=f"{most}",
            remedy="give a larger --max-skipped, or correct them and choose another folder",
        )


def _check_parts(shards: Sequence[Shard], out: Path, held_out: float) -> None:
    """Raise where a part that is wanted has no clip; where there is none at all, the folder is free again."""
    wanted: dict[Split, str] = {"train": "to train on"}
    if held_out:
        wanted["held-out"] = "to hold out"
    there = {clip.split for shard in shards for clip in shard.clips}
    for split, what in wanted.items():
        if split in there:
            continue
        if not there:
            (out / MANIFEST).unlink()
            shutil.rmtree(out / SHARDS)
        reason = next((one.reason for shard in shards for one in shard.skipped), "no recording gave one")
        raise InputError(
            f"no clip is left {what if there else ''}".rstrip() + f": {reason}",
            remedy="ask for shorter clips, name other files, or choose another folder and seed",
        )


def _divided(sources: Sequence[ClipSource], held_out: float, seed: int) -> Iterator[_Part]:
    """Yield all recordings. Those of one group or of equal content go to one part, whatever they are called."""
    if not 0 <= held_out < 1:
        raise InputError(f"{held_out:g} of the recordings held out", allowed="0 to below 1", remedy="correct it")
    found = [(number, recording) for number, source in enumerate(sources) for recording in source.recordings()]
    # By the source's name: two seeds of one source walk through the same maps.
    groups = [f"{sources[n].name}/{one.group}" if one.group else one.digest for n, one in found]
    order = sorted(set(groups), key=lambda group: digest_of(seed, group))
    count = max(1, round(held_out * len(order))) if held_out else 0
    if count and len(order) < 2:
        raise InputError(
            "there is one recording, and none beside it to hold out",
            remedy="name further ones, or give --held-out 0 and judge the model by other means",
        )
    apart = set(order[:count])
    for (number, recording), group in zip(found, groups, strict=True):
        split: Split = "held-out" if group in apart else "train"
        yield _Part(source=number, recording=recording, group=group, split=split)


def _without_folder(codec: Codec) -> str:
    """Return a codec as people write it, but for where its files lie: the digest says what they are."""
    options = ",".join(f"{name}={value}" for name, value in codec.options.items() if name != "folder")
    return f"{codec.name}[{options}]" if options else codec.name


def _entry(source: ClipSource, parts: Sequence[_Part], number: int) -> SourceEntry:
    own = [part.recording for part in parts if part.source == number]
    if len({recording.name for recording in own}) < len(own):
        raise InputError(f"the source {source.label!r} names two recordings alike", remedy="tell those who made it")
    digest = digest_of(*(f"{recording.digest} {recording.name}\t{recording.caption}" for recording in own))
    return SourceEntry(source=source.label, recordings=len(own), digest=digest)


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Cuts and encodes recordings."""

    geometry: Geometry
    codec: Codec
    heading: Heading
    out: Path
    device: torch.device | str

    @cached_property
    def loaded(self) -> LoadedCodec:
        """The codec with its weights, which all shards share."""
        return self.codec.load(self.device)

    def shard(self, number: int, first: int, parts: Sequence[_Part], say: Callable[[int, str], None]) -> Shard:
        """Write the next shard, which begins with these recordings, and return its line."""
        from s2search.network.weight_file import save_tensors

        tensors: dict[str, Tensor] = {}
        clips: list[Clip] = []
        skipped: list[Skipped] = []
        taken = 0
        for part in parts:
            if len(clips) >= _CLIPS_PER_SHARD:
                break
            say(taken, part.recording.name)
            taken += 1
            given = 0
            try:
                for cut, latents_CTYX in self._encoded(part.recording):
                    clip = self._clip(part, first + len(clips), cut)
                    clips.append(clip)
                    given += 1
                    if latents_CTYX is not None:
                        tensors[str(clip.id)] = latents_CTYX
            except InputError as error:
                # All or nothing: of a file that breaks in its middle nobody knows what the rest would have been.
                for clip in clips[len(clips) - given :]:
                    tensors.pop(str(clip.id), None)
                del clips[len(clips) - given :]
                skipped.append(
                    Skipped(source=part.source, recording=part.recording.name, reason=printable(error.problem))
                )
        if not self.heading.cached:
            return Shard(file="", sha256="", recordings=taken, clips=tuple(clips), skipped=tuple(skipped))
        path = self.out / SHARDS / shard_name(number)
        hidden = path.with_name(f".{path.name}.partial")
        save_tensors(tensors, hidden, {"format": "pt"})
        digest = hashlib.sha256(hidden.read_bytes()).hexdigest()
        hidden.replace(path)
        return Shard(
            file=path.name,
            sha256=digest,
            recordings=taken,
            clips=tuple(clips),
            skipped=tuple(skipped),
        )

    def _encoded(self, recording: Footage) -> Iterator[tuple[Cut, Tensor | None]]:
        from s2search.codec.pixels import video_from_frames

        cuts = drawn_cuts(recording, self.heading)
        if not self.heading.cached:
            yield from ((cut, None) for cut in cuts)
            return
        frames = recording.clips(cuts, self.geometry)
        for cut, frames_THWC in zip(cuts, islice(frames, len(cuts)), strict=True):
            yield cut, self.loaded.encode(video_from_frames(frames_THWC))[0].float().cpu().contiguous()

    def _clip(self, part: _Part, id: int, cut: Cut) -> Clip:
        recording = part.recording
        return Clip(
            id=id,
            source=part.source,
            recording=recording.name,
            digest=recording.digest,
            group=part.group,
            cut=cut,
            split=part.split,
            caption=recording.caption,
        )


def drawn_cuts(recording: Footage, heading: Heading) -> list[Cut]:
    """Draw where clips are cut from a recording, by their starts; the same for the same recording and seed.

    As many as fit beside one another at the shortest stride, and no more than were asked for; where they stand, and
    whether they overlap, is drawn.

    Raises:
        InputError: It is shorter than a clip.
    """
    length, frames = recording.length(), heading.geometry.frames
    fitting = [stride for stride in heading.strides if stride * (frames - 1) < length]
    if not fitting:
        least = min(heading.strides) * (frames - 1) + 1
        raise InputError(
            f"{recording.name!r} has {length} frames, and a clip needs {least}", remedy="ask for shorter clips"
        )
    rng = random_of("cuts", heading.seed, recording.digest)
    count = min(heading.clips, length // (min(fitting) * (frames - 1) + 1))
    drawn = []
    for _ in range(count):
        stride = int(rng.choice(fitting))
        start = int(rng.integers(length - stride * (frames - 1)))
        left, top = (round(float(place), 4) for place in rng.uniform(size=2))
        drawn.append(Cut(start=start, stride=stride, left=left, top=top))
    return sorted(drawn, key=lambda cut: (cut.start, cut.stride, cut.left))


def _skipped_csv(found: Clips) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("source", "recording", "reason"))
    for one in found.skipped:
        writer.writerow((found.heading.sources[one.source].source, one.recording, one.reason))
    return text.getvalue()

"""Many clips in a folder, and beside it what they are: `FOLDER.jsonl`, a heading and then a line for each.

The list lies beside the folder because VBench reads whatever is in it as a video. A clip gets its name when it is whole
and its line after that: what has no line, or another length than its line says, is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from s2search.codec.video import VideoWriter
from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.journal import Journal, open_journal
from s2search.streaming.pipeline import Chunk, StreamPipeline
from s2search.streaming.prompt_list import AskedClip
from s2search.streaming.state import StreamState

_OF = "folder of clips"


class StreamClips(msgspec.Struct, frozen=True, kw_only=True, tag="clips"):
    """The heading of a list of clips: all that they depend on beside prompt and seed.

    Attributes:
        schema: Of the list.
        model: Digest of the model's config.
        weights: Digest of its weights.
        schedule: Noise levels at which the network was asked.
        commit: How chunks were committed.
        flow_level: Noise level of what was committed, where chunks follow the flow.
        video: Size of the frames.
        chunks: Of each clip.
        fps: Frames per second of the files.
        codec: What decoded the latents, as people write it.
        text: What encoded the prompts.
        device: Kind of device: noise differs between them.
        dtype: Number format of the model.
        seed: What the clips' seeds depend on beside prompt and index.
    """

    schema: Literal["s2search.stream_clips/1"] = "s2search.stream_clips/1"
    model: str
    weights: str
    schedule: tuple[float, ...]
    commit: CommitPolicy
    flow_level: float | None
    video: str
    chunks: int
    fps: float
    codec: str
    text: str
    device: str
    dtype: str
    seed: int


class StreamClip(msgspec.Struct, frozen=True, kw_only=True, tag="clip"):
    """A clip that is there: `stream --prompt PROMPT --seed SEED` with the heading's options gives it again.

    Attributes:
        file: Its name in the folder.
        prompt: What it shows.
        index: Which of the prompt's samples, from 0.
        seed: Of its noise.
        frames: Pixel frames.
        bytes: Of the file.
    """

    file: str
    prompt: str
    index: int
    seed: int
    frames: int
    bytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipFolder:
    """A folder that clips are written to, and their list; made by `open_clips`.

    Attributes:
        folder: Of the clips.
        asked: All that shall be there.
        missing: Those of them that are not there yet.
        heading: Of the list.
    """

    folder: Path
    asked: tuple[AskedClip, ...]
    missing: tuple[AskedClip, ...]
    heading: StreamClips
    journal: Journal[StreamClip]

    def make(
        self,
        pipeline: StreamPipeline,
        start: Callable[[int], StreamState],
        *,
        on_chunk: Callable[[Chunk], Any] = lambda chunk: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[StreamClip]:
        """Yield the missing clips as they are finished; nothing is left of the one at hand when it is stopped.

        Args:
            pipeline: Makes the chunks.
            start: Returns the state before the first chunk of a stream with some seed.
            on_chunk: Called with every chunk.
            stopped: Asked after every chunk.
        """
        for clip in self.missing:
            place, chunks = self.folder / clip.file, self.heading.chunks
            with VideoWriter(place, fps=self.heading.fps) as writer:
                for chunk in pipeline.chunks(partial(_always, clip.prompt), chunks, start(clip.seed)):
                    writer.append(chunk.frames_THWC)
                    on_chunk(chunk)
                    if stopped() and not _is_last(chunk, chunks):
                        writer.discard()
                        return
            line = StreamClip(
                file=clip.file,
                prompt=clip.prompt,
                index=clip.index,
                seed=clip.seed,
                frames=writer.frames_written,
                bytes=place.stat().st_size,
            )
            self.journal.append(line)
            yield line


def _is_last(chunk: Chunk, chunks: int) -> bool:
    return chunk.number + 1 == chunks


def _always(prompt: str, _: int) -> str:
    return prompt


def list_of(folder: Path) -> Path:
    """Return where the list of a folder's clips is.

    >>> list_of(Path("mine/clips")).name
    'clips.jsonl'
    """
    whole = folder.resolve()
    return whole.with_name(f"{whole.name}.jsonl")


@contextmanager
def open_clips(folder: Path, asked: Sequence[AskedClip], heading: StreamClips) -> Iterator[ClipFolder]:
    """Make a folder of clips and its list, or go on with them; no other process can meanwhile.

    Raises:
        InputError: The folder has something else in it, or clips of other settings or prompts.
    """
    check_clip_folder(folder)
    with open_journal(list_of(folder), heading, StreamClip, of=_OF) as journal:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{str(folder)!r} cannot be made: {error.strerror}", remedy="choose another") from error
        lines = {line.file: line for line in journal.lines}
        missing = tuple(clip for clip in asked if not _is_there(folder, clip, lines.get(clip.file)))
        yield ClipFolder(folder=folder, asked=tuple(asked), missing=missing, heading=heading, journal=journal)


def check_clip_folder(folder: Path) -> None:
    """Raise unless a folder is new, empty, or one of clips with its list beside it.

    Raises:
        InputError: It is none of these.
    """
    if folder.is_dir() and not list_of(folder).exists() and any(folder.iterdir()):
        raise InputError(
            f"the folder {str(folder)!r} is not empty, and there is no {list_of(folder).name!r} beside it",
            remedy="choose a new folder: VBench takes whatever is in it for videos",
        )


def _is_there(folder: Path, clip: AskedClip, line: StreamClip | None) -> bool:
    """Return whether a clip is there, whole.

    Raises:
        InputError: Another prompt's clip has its name.
    """
    if line is None:
        return False
    if line.prompt != clip.prompt:
        raise InputError(
            f"{clip.file!r} was made of the prompt {line.prompt[:60]!r}, and shall be of {clip.prompt[:60]!r}",
            remedy="choose another folder",
        )
    try:
        return (folder / clip.file).stat().st_size == line.bytes
    except OSError:
        return False

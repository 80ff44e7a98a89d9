"""The command `data`: clips to train on, cut out of videos and encoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.values import PathText, plugin_of
from s2search.document import check_folder
from s2search.errors import InputError, require
from s2search.training.data.base import ClipSource, Geometry
from s2search.training.data.clips import Clips
from s2search.training.data.files import Files

if TYPE_CHECKING:
    from s2search.codec.base import Codec
    from s2search.training.data.inspect import Inspection

#: One source, or several: paths of videos, the text of plugins, or the plugins.
Sources = PathText | ClipSource | Sequence[PathText | ClipSource]


def data_make(
    sources: Sources,
    out: PathText,
    *,
    video: str = "256x144",
    frames: int = 33,
    codec: str | Codec = "dct",
    clips: int = 8,
    stride: Sequence[int] = (1,),
    held_out: float = 0.1,
    seed: int = 0,
    max_skipped: int | None = None,
    uncached: bool = False,
    device: str = "cpu",
) -> Clips:
    """Cut clips out of recordings and encode them, once and for all of training.

    Args:
        sources: Video files, folders of them, tar archives, or sources by name: `shapes[count=500]`.
        out: The folder. An unfinished one is finished.
        video: Video size. Frames are scaled until they cover it, and cut at a random place.
        frames: Pixel frames of a clip, 1 + 4 k.
        codec: What encodes them.
        clips: Of a recording, at most.
        stride: Frames of a recording from one frame of a clip to the next; of several, one is drawn for each clip.
        held_out: Part of the recordings that is kept from training, to judge by.
        seed: Of cuts and of the division.
        max_skipped: How many recordings may give no clip; any number by default.
        uncached: Encode clips whenever they are read, from where the recordings are, not now.
        device: Where clips are encoded: cpu or cuda.

    Raises:
        InputError: A source cannot be read, there is nothing to make or to hold out, or the folder holds something
            else.
        CheckError: Too many recordings gave no clip.
    """
    check_folder(Path(out))
    require("torch", "safetensors")
    from s2search.reporting.progress import progress_bar
    from s2search.training.data.make import make
    from s2search.training.parallel import device_of

    given = list(sources) if isinstance(sources, Sequence) and not isinstance(sources, str) else [sources]
    for name, values in {"clips": (clips,), "stride": stride}.items():
        if not values or min(values) < 1:
            raise InputError(f"{name} is {', '.join(map(str, values)) or 'empty'}", allowed="1 or more")
    if not given:
        raise InputError("there is no source", remedy="name videos, a folder, or a source such as shapes")
    with progress_bar("encoding") as progress:
        return make(
            [_source(one) for one in given],
            Path(out),
            geometry=Geometry(video=video, frames=frames),
            codec=plugin_of("codecs", codec),
            clips=clips,
            strides=tuple(stride),
            held_out=held_out,
            seed=seed,
            max_skipped=max_skipped,
            cached=not uncached,
            device=device_of(device),
            progress=progress,
        )


def data_inspect(folder: PathText) -> Inspection:
    """Say what a data set holds: its parts, its recordings and captions, and how its latents are distributed.

    Args:
        folder: What `data make` wrote.

    Raises:
        InputError: It is no data set, or a shard cannot be read.
    """
    require("torch", "safetensors")
    from s2search.training.data.inspect import inspect

    return inspect(Clips.load(Path(folder)))


def data_verify(folder: PathText) -> tuple[str, ...]:
    """Return what does not hold of a data set, a line each: changed files, odd sizes, clips in the wrong part.

    Args:
        folder: What `data make` wrote.

    Raises:
        InputError: It is no data set.
    """
    require("torch", "safetensors")
    return tuple(Clips.load(Path(folder)).check())


def _source(given: PathText | ClipSource) -> ClipSource:
    if isinstance(given, ClipSource):
        return given
    if Path(given).exists():
        return Files(path=str(given))
    name = str(given).partition("[")[0]  # a plugin's options may be paths
    if "/" in name or "." in name:
        raise InputError(f"there is no {str(given)!r}", remedy="name a video, a folder, a tar archive, or a source")
    source: ClipSource = plugin_of("sources", str(given))
    return source

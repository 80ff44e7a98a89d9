"""Video files <-> frames: arrays of 8-bit RGB, `frames_THWC` (T frames, H rows, W columns, C = 3).

PyAV (the extra `video`) reads whatever FFmpeg reads. Written files are MP4 with H.264 in yuv420p, tagged BT.709, which
browsers and players show. A file appears under its name only when it is complete: frames go to a hidden `.partial`
beside it, renamed at the end. A fragmented MP4 would be playable after a kill, but has no index: players cannot seek in
it and do not know its length.

Why: docs/decisions/streaming.md, "An interrupted video is no file, rather than a fragmented one".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from s2search.border.regular_file import check_regular
from s2search.document import check_writable
from s2search.errors import InputError, require
from s2search.preset import token_grid, video_size

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Frames = NDArray[np.uint8]
MOST_FPS = 1000

#: Best first. The last is in every FFmpeg, but no browser plays it; `VideoWriter.caveat` says so.
ENCODERS = ("libx264", "libopenh264", "mpeg4")
_CRF = "18"  # libx264's constant quality; 18 is close to transparent
# What libx264 sees ahead in tiny frames is not always the same: 44 of 150 files of the same frames differed, and with
# weightp alone off 1 of 150. Without both, 600 were equal.
_REPEATABLE = "mbtree=0:weightp=0"
_BITS_PER_PIXEL = 0.25  # of the encoders without constant quality
#: Of FFmpeg's swscale.h: BILINEAR or BICUBIC, and ACCURATE_RND with FULL_CHR_H_INT. By default RGB comes out a level or
#: two too dark, with accurate rounding alone even darker.
_ACCURATE = 0x40000 | 0x2000
_BILINEAR, _BICUBIC = 2 | _ACCURATE, 4 | _ACCURATE
_BT709, _LIMITED_RANGE = 1, 1  # ISO/IEC 23091-2, as FFmpeg numbers them


def read_video(path: str | Path, *, frames: int | None = None, start: int = 0, size: str | None = None) -> Frames:
    """Read frames of a video file.

    Args:
        path: Any file that FFmpeg reads; the first video stream counts.
        frames: How many; all that follow `start` by default. A minute of 512x288 at 25 FPS takes 0.66 GB.
        start: The first frame, counted from 0. Frames before it are decoded and dropped, so that it is exact.
        size: Width by height, multiples of 16, such as `512x288`: frames are scaled until they cover it (pixels that
            are not square become so) and cut to its centre. By default pixels stay as they are stored.

    Returns:
        `frames_THWC`, 8-bit RGB.

    Raises:
        InputError: No such video, or it has fewer frames.
    """
    if start < 0 or (frames is not None and frames < 1):
        raise InputError(f"start is {start} and frames is {frames}", allowed="start from 0, frames from 1")
    stop = None if frames is None else start + frames
    read = list(islice(iterate_video(path, size=size), start, stop))
    if not read or (frames is not None and len(read) < frames):
        count = sum(1 for _ in iterate_video(path)) if start else len(read)
        raise InputError(
            f"{str(path)!r} has {count} frames, and {frames or 'some'} from frame {start} were asked for",
            remedy="ask for fewer",
            frames=count,
        )
    return np.stack(read)


def count_frames(path: str | Path) -> int:
    """Return how many frames a video file says that it has, without decoding any.

    Raises:
        InputError: See `read_video`.
    """
    with _opened(path) as (container, stream):
        return sum(packet.size > 0 for packet in container.demux(stream))


def iterate_video(path: str | Path, *, size: str | None = None, whole: bool = False) -> Iterator[Frames]:
    """Yield the frames of a video file one by one, each `frame_HWC`; memory does not grow with its length.

    Args:
        path: See `read_video`.
        size: See `read_video`.
        whole: Scale frames until they cover the size, and cut nothing off.

    Raises:
        InputError: See `read_video`; also where the file is broken further on.
    """
    rows_columns = None if size is None else token_grid(size)
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        aspect = float(stream.sample_aspect_ratio or 1)
        for frame in container.decode(stream):
            yield _pixels(frame, aspect, rows_columns, whole)


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """Open a file and its first video stream."""
    av = _av()
    try:
        check_regular(path)
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise InputError(f"{str(path)!r} holds no video", remedy="name another file")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{str(path)!r} cannot be read as video: {error.strerror}", remedy="check the file") from error


def _pixels(frame: VideoFrame, aspect: float, rows_columns: tuple[int, int] | None, whole: bool) -> Frames:
    turns = frame.rotation // 90 % 4  # a phone held upright stores its picture lying, and says so
    if rows_columns is None:
        return np.ascontiguousarray(np.rot90(_rgb(frame), turns))
    width, height = (int(side) for side in video_size(*rows_columns).split("x"))
    if turns % 2:
        width, height = height, width
    scale = max(width / (frame.width * aspect), height / frame.height)
    cover_width, cover_height = round(frame.width * aspect * scale), round(frame.height * scale)
    pixels = _rgb(frame.reformat(width=cover_width, height=cover_height, format="rgb24", interpolation=_BICUBIC))
    if whole:
        return np.ascontiguousarray(np.rot90(pixels, turns))
    top, left = (cover_height - height) // 2, (cover_width - width) // 2
    return np.ascontiguousarray(np.rot90(pixels[top : top + height, left : left + width], turns))


def scaled(frame_HWC: Frames, size: str) -> Frames:
    """Return a frame scaled until it covers a size, its aspect kept; nothing is cut off."""
    frame = _av().VideoFrame.from_ndarray(frame_HWC, format="rgb24")
    return _pixels(frame, 1.0, token_grid(size), True)


def _rgb(frame: VideoFrame) -> Frames:
    pixels: Any = frame.reformat(format="rgb24", interpolation=_BILINEAR).to_ndarray()
    return pixels  # type: ignore[no-any-return]


def png(frame_HWC: Frames) -> bytes:
    """Return a picture as a PNG file."""
    av = _av()
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = frame_HWC.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 1)
    frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


class VideoWriter:
    """Writes an MP4 file, chunk by chunk; a context manager.

    Left by an error, it leaves no file. After a kill the hidden `.partial` remains, which the next writer to the same
    path replaces; an earlier file of that name stays whole until the new one is complete. yuv420p stores colours for
    pairs of pixels, so an odd width or height is padded by repeating the last column or row.

    Args:
        path: Where; its name ends in `.mp4`.
        fps: Frames per second; Wan's 16 by default.
        encoder: One of FFmpeg's H.264 or MPEG-4 encoders; by default the first of `ENCODERS` that is there.

    Attributes:
        encoder: The encoder in use.
        caveat: One line where the file will not play everywhere, else empty.
        frames_written: Frames appended so far.

    Raises:
        InputError: It cannot be written there, or there is no such encoder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, VideoWriter(f"{folder}/clip.mp4") as writer:
    ...     writer.append(np.zeros((9, 32, 48, 3), np.uint8))
    ...     writer.append(np.zeros((12, 32, 48, 3), np.uint8))
    ...     print(writer.frames_written)
    21
    """

    def __init__(self, path: str | Path, *, fps: float | Fraction = 16, encoder: str | None = None) -> None:
        self.path = Path(path)
        check_writable(self.path)
        if self.path.suffix.lower() != ".mp4":
            raise InputError(f"{str(path)!r} is not the name of an MP4 file", remedy="use a name that ends in .mp4")
        if not 0 < fps <= MOST_FPS:
            raise InputError(f"fps is {fps}", allowed=f"above 0, at most {MOST_FPS}", remedy="correct the frame rate")
        self.encoder = _encoder(encoder)
        self.caveat = (
            "no H.264 encoder was used: mpeg4 plays in VLC and ffplay, not in browsers; install an FFmpeg with libx264"
            if self.encoder == "mpeg4"
            else ""
        )
        self.frames_written = 0
        self._rate = Fraction(fps).limit_denominator(1001)
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._size: tuple[int, ...] | None = None
        self._closed = False
        self._container: Any = None
        self._stream: Any = None

    def append(self, frames_THWC: Frames) -> None:
        """Add frames at the end; all have the size of the first.

        Raises:
            InputError: They are no 8-bit RGB frames of that size, or the file cannot be written.
        """
        if self._closed:
            raise InputError(f"{str(self.path)!r} is complete; no frame can follow", remedy="write another file")
        shape = frames_THWC.shape
        if frames_THWC.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not all(shape[1:]):
            raise InputError(
                f"frames are {frames_THWC.dtype} of {shape}", allowed="uint8 of (frames, rows, columns, 3)"
            )
        if self._size not in (None, shape[1:3]):
            raise InputError(f"frames of {shape[1:3]} follow frames of {self._size}", remedy="keep one size per file")
        try:
            if self._container is None:
                self._open(*shape[1:3])
            for frame_HWC in frames_THWC:
                self._encode(frame_HWC)
        except (_av().FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Complete the file and give it its name; a second call does nothing.

        Raises:
            InputError: No frame was appended, or the file cannot be written.
        """
        if self._closed:
            return
        if self._container is None:
            raise InputError(f"{str(self.path)!r} would have no frame", remedy="append frames before closing")
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._partial.replace(self.path)
        except (_av().FFmpegError, OSError) as error:
            raise self._failed(error) from error
        self._closed = True

    def discard(self) -> None:
        """Drop what was written; nothing appears under the path."""
        if self._closed:
            return
        self._closed = True
        with suppress(_av().FFmpegError, OSError):  # closing writes; where that fails there is less to drop
            if self._container is not None:
                self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _open(self, height: int, width: int) -> None:
        self._size = (height, width)
        self._container = _av().open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        stream = self._container.add_stream(self.encoder, rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        if self.encoder == "libx264":
            stream.options = {"crf": _CRF, "x264-params": _REPEATABLE}
        else:
            stream.bit_rate = int(width * height * self._rate * _BITS_PER_PIXEL)
        colour = stream.codec_context
        colour.colorspace = colour.color_primaries = colour.color_trc = _BT709
        colour.color_range = _LIMITED_RANGE
        self._stream = stream

    def _encode(self, frame_HWC: Frames) -> None:
        height, width = frame_HWC.shape[:2]
        even_HWC = np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = _av().VideoFrame.from_ndarray(np.ascontiguousarray(even_HWC), format="rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation=_BILINEAR
        )
        frame.pts, frame.time_base = self.frames_written, 1 / self._rate
        self._container.mux(self._stream.encode(frame))
        self.frames_written += 1

    def _failed(self, error: Any) -> InputError:
        self.discard()
        return InputError(
            f"{str(self.path)!r} cannot be written: {error.strerror}", remedy="choose another path or size"
        )


def _encoder(asked: str | None) -> str:
    av = _av()
    for name in (asked,) if asked else ENCODERS:
        with suppress(av.FFmpegError, ValueError):  # PyAV's unknown codec is a ValueError
            if (codec := av.Codec(name, "w")).type == "video":
                return str(codec.name)
    raise InputError(
        f"FFmpeg has no encoder called {asked or ' or '.join(ENCODERS)!r}",
        allowed=f"encoders tried: {', '.join(ENCODERS)}",
        remedy="pip install 's2search[video]', whose PyAV has libx264",
    )


def _av() -> Any:
    require("av")
    import av

    return av

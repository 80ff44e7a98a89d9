"""Clips to train on: what is made is what was asked, survives a kill, and never mixes its parts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from s2search import data_inspect, data_make, data_verify, registry
from s2search.codec.base import Codec
from s2search.codec.dct import DCT
from s2search.codec.pixels import video_from_frames
from s2search.codec.video import VideoWriter, count_frames, iterate_video
from s2search.errors import CheckError, InputError
from s2search.testing.sources import check_source
from s2search.training.data.base import ClipSource, Cut, Footage, Geometry, digest_of
from s2search.training.data.clips import Clips
from s2search.training.data.doom import Doom
from s2search.training.data.files import Files
from s2search.training.data.make import drawn_cuts
from s2search.training.data.shapes import COLOURS, Shapes

SMALL = {"video": "64x32", "frames": 5}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 20, 12 and 4 frames, whose pixels are all different."""
    folder = tmp_path_factory.mktemp("videos")
    for number, frames in enumerate((20, 12, 4)):
        rng = np.random.default_rng(number)
        with VideoWriter(folder / f"clip{number}.mp4") as writer:
            writer.append(np.kron(rng.integers(0, 255, (frames, 6, 10, 3), np.uint8), np.ones((1, 8, 8, 1), np.uint8)))
    (folder / "clip0.txt").write_text("a first  clip\n")
    (folder / "clip1.json").write_text('{"caption": "a second clip"}')
    return folder


@pytest.mark.parametrize("source", [Shapes(count=4, most=3), Shapes(count=3, speed=0.3, seed=9)], ids=repr)
def test_shapes_keep_the_contract_of_sources(source: Shapes) -> None:
    check_source(source)


def test_files_keep_the_contract_of_sources(videos: Path, tmp_path: Path) -> None:
    for name in ("clip0.mp4", "clip1.mp4", "clip0.txt"):
        (tmp_path / name).write_bytes((videos / name).read_bytes())
    check_source(Files(path=str(tmp_path)))


def test_walks_keep_the_contract_of_sources_and_maps_are_divided(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    source = Doom(maps=2, walks=2, length=12)
    check_source(source)
    made = data_make(source, tmp_path, **SMALL, clips=2, held_out=0.5)
    (apart,) = {clip.recording[:5] for clip in made.of("held-out")}
    (train,) = {clip.recording[:5] for clip in made.of("train")}
    assert {apart, train} == {"MAP01", "MAP02"}
    assert data_verify(tmp_path) == ()


def test_a_turn_to_the_right_moves_the_picture_to_the_left() -> None:
    """Of two frames a turn apart, the second one's left part is found in the first one, further to the right."""
    pytest.importorskip("vizdoom")
    geometry = Geometry(video="256x144", frames=5)
    walks = [walk for walk in Doom(maps=1, walks=40, length=5).recordings() if walk.caption.startswith("turning")][:6]
    assert {walk.caption for walk in walks} == {"turning left", "turning right"}
    for walk in walks:
        (frames,) = walk.clips([Cut(start=0, stride=1, left=0.0, top=0.0)], geometry)
        one, other = frames[0, :, :, :].astype(int), frames[4].astype(int)
        errors = {
            shift: np.abs(
                one[:, max(shift, 0) : 256 + min(shift, 0)] - other[:, max(-shift, 0) : 256 - max(shift, 0)]
            ).mean()
            for shift in range(-90, 91, 3)
        }
        best = min(errors, key=errors.__getitem__)
        assert (best > 0) == (walk.caption == "turning right"), (walk.name, best)


def test_what_a_scene_says_is_what_is_seen() -> None:
    """Of one shape alone: there are pixels of its colour, and their centre moves as the caption says."""
    geometry = Geometry(video="128x64", frames=9)
    for scene in Shapes(count=12, most=1, speed=0.02).recordings():
        _, colour, _, _, heading, *_ = scene.caption.split()
        (cut,) = drawn_cuts(scene, heading_of(geometry, clips=1))
        (frames,) = scene.clips([msgspec.structs.replace(cut, start=0)], geometry)
        shape = np.abs(frames.astype(int) - COLOURS[colour]).sum(-1) < 30
        assert shape.any(axis=(1, 2)).all()
        places = np.array([np.argwhere(frame).mean(0) for frame in shape])
        steps = np.diff(places, axis=0)
        axis, sign = {"right": (1, 1), "left": (1, -1), "down": (0, 1), "up": (0, -1)}[heading]
        assert np.abs(steps[:, 1 - axis]).max() < 0.6
        assert (sign * steps[:, axis] > 0).mean() > 0.4 or np.ptp(np.sign(steps[:, axis])) == 2  # or it turned back


def test_a_clip_is_its_cut_of_the_video_encoded(videos: Path, tmp_path: Path) -> None:
    made = data_make(videos, tmp_path / "set", **SMALL, clips=3, stride=(1, 2), held_out=0.3)
    codec = registry.create("codecs", "dct").load()
    assert {clip.recording for clip in made.clips} == {"clip0.mp4", "clip1.mp4"}
    assert {clip.caption for clip in made.clips} == {"a first clip", "a second clip"}
    for clip in made.clips:
        frames = list(iterate_video(videos / clip.recording, size="64x32", whole=True))
        cut = clip.cut
        wanted = []
        for number in range(cut.start, cut.start + 5 * cut.stride, cut.stride):
            rows, columns = frames[number].shape[0] - 32, frames[number].shape[1] - 64
            top, left = round(cut.top * rows), round(cut.left * columns)
            wanted.append(frames[number][top : top + 32, left : left + 64])
        expected = codec.encode(video_from_frames(np.stack(wanted)))
        torch.testing.assert_close(made.latents([clip.id]), expected, rtol=0, atol=1e-5)


def test_what_gives_no_clip_is_counted_and_said(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("clip0.mp4", "clip1.mp4", "clip2.mp4"):
        (folder / name).write_bytes((videos / name).read_bytes())
    (folder / "broken.mp4").write_bytes((videos / "clip0.mp4").read_bytes()[:900])
    made = data_make(folder, tmp_path / "set", **SMALL, clips=2, held_out=0.5)
    lines = (tmp_path / "set" / "skipped.csv").read_text().splitlines()
    assert lines[0] == "source,recording,reason"
    assert [line.split(",")[1] for line in lines[1:]] == ["broken.mp4", "clip2.mp4"]
    assert "'clip2.mp4' has 4 frames, and a clip needs 5" in lines[2]
    assert len(made.skipped) == 2
    with pytest.raises(CheckError, match=r"2 recordings gave no clip; the last: 'clip2\.mp4' has 4 frames"):
        data_make(folder, tmp_path / "other", **SMALL, clips=2, held_out=0.5, max_skipped=1)


def test_too_many_that_give_no_clip_end_the_same_command_each_time(videos: Path, tmp_path: Path) -> None:
    asked = {**SMALL, "clips": 2, "held_out": 0.3}
    for _ in range(2):
        with pytest.raises(CheckError, match="1 recordings gave no clip; the last: "):
            data_make(videos, tmp_path / "set", **asked, max_skipped=0)
    assert len(data_make(videos, tmp_path / "set", **asked, max_skipped=1).skipped) == 1


def test_a_part_without_a_clip_is_said_and_a_folder_of_none_is_free_again(videos: Path, tmp_path: Path) -> None:
    """Of three files the shortest gives nothing; with some seed it is the one that is held out."""
    refused = 0
    for seed in range(12):
        try:
            made = data_make(videos, tmp_path / f"{seed}", **SMALL, clips=1, held_out=0.3, seed=seed)
        except InputError as error:
            assert str(error).startswith("no clip is left to hold out: 'clip2.mp4' has 4 frames")  # noqa: PT017
            refused += 1
        else:
            assert made.of("held-out")
            assert made.of("train")
    assert 0 < refused < 12
    with pytest.raises(InputError, match=r"no clip is left: 'clip0\.mp4' has 20 frames"):
        data_make(videos, tmp_path / "set", video="64x32", frames=21, clips=1, held_out=0.3)
    assert data_make("shapes[count=2]", tmp_path / "set", **SMALL, clips=1, held_out=0.5).clips


def test_a_folder_of_something_else_is_left_alone(videos: Path) -> None:
    before = sorted(videos.iterdir())
    with pytest.raises(InputError, match="holds something that is no data set; choose another folder"):
        data_make("shapes[count=2]", videos, **SMALL, clips=1, held_out=0.5)
    assert sorted(videos.iterdir()) == before


def test_a_map_is_in_one_part_though_two_seeds_walk_through_it() -> None:
    pytest.importorskip("vizdoom")
    from s2search.training.data.make import _divided

    walks = [Doom(maps=4, walks=2, seed=seed) for seed in (0, 1)]
    for seed in range(5):
        parts = list(_divided(walks, 0.5, seed))
        apart, train = ({p.recording.group for p in parts if p.split == split} for split in ("held-out", "train"))
        assert len(apart) == len(train) == 2
        assert not apart & train


def test_a_recording_is_in_one_part_whatever_it_is_called(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.mp4").write_bytes((videos / f"clip{number % 2}.mp4").read_bytes())
    for seed in range(4):
        made = data_make(folder, tmp_path / f"{seed}", **SMALL, clips=1, held_out=0.5, seed=seed)
        apart = {clip.digest for clip in made.of("held-out")}
        assert len(apart) == 1
        assert not apart & {clip.digest for clip in made.of("train")}
        assert data_verify(tmp_path / f"{seed}") == ()


def test_a_part_that_leaks_is_seen(tmp_path: Path) -> None:
    made = data_make("shapes[count=3]", tmp_path, **SMALL, clips=2, held_out=0.3)
    text = (tmp_path / "clips.jsonl").read_text()
    (tmp_path / "clips.jsonl").write_text(text.replace('"held-out"', '"train"', 1))
    assert made.of("held-out")
    (problem,) = data_verify(tmp_path)
    assert problem.startswith("clips of sha256:")
    assert problem.endswith(" are in train and held-out")


@given(seed=st.integers(0, 1000), held_out=st.floats(0, 0.99), count=st.integers(2, 30))
def test_the_division_is_by_recording_and_has_the_size_that_was_asked(seed: int, held_out: float, count: int) -> None:
    from s2search.training.data.make import _divided

    parts = list(_divided([Shapes(count=count)], held_out, seed))
    apart = sum(part.split == "held-out" for part in parts)
    assert apart == (max(1, round(held_out * count)) if held_out else 0)
    assert [part.recording.name for part in parts] == [recording.name for recording in Shapes(count=count).recordings()]


def test_a_set_that_was_killed_goes_on_and_is_the_same(tmp_path: Path) -> None:
    words = ["data", "make", "shapes[count=60]", "--out", "set", "--video", "64x32", "--frames", "17", "--clips", "4"]
    whole = data_make("shapes[count=60]", tmp_path / "whole", video="64x32", frames=17, clips=4)
    command = [sys.executable, "-m", "s2search", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest = tmp_path / "set" / "clips.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and not (manifest.exists() and len(manifest.read_text().splitlines()) > 1):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    lines = manifest.read_text().splitlines()
    if '"whole"' not in lines[-1]:
        with pytest.raises(InputError, match=r"was not finished; repeat the command"):
            Clips.load(tmp_path / "set")
    again = data_make("shapes[count=60]", tmp_path / "set", video="64x32", frames=17, clips=4)
    assert again.digest == whole.digest
    for shard in whole.shards:
        files = [(tmp_path / name / "shards" / shard.file).read_bytes() for name in ("whole", "set")]
        assert files[0] == files[1]
        assert hashlib.sha256(files[0]).hexdigest() == shard.sha256


def test_a_folder_of_another_question_is_refused_with_what_differs(tmp_path: Path) -> None:
    data_make("shapes[count=2]", tmp_path, **SMALL, clips=1, held_out=0.5)
    with pytest.raises(InputError, match="belongs to another data set: seed is 0 there and 1 here"):
        data_make("shapes[count=2]", tmp_path, **SMALL, clips=1, held_out=0.5, seed=1)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: path.unlink(), "000000.safetensors is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "000000.safetensors was changed since it was"),
    ],
    ids=["missing", "changed"],
)
def test_harm_is_seen(tmp_path: Path, harm, problem: str) -> None:  # type: ignore[no-untyped-def]
    data_make("shapes[count=2]", tmp_path, **SMALL, clips=1, held_out=0.5)
    harm(tmp_path / "shards" / "000000.safetensors")
    assert data_verify(tmp_path)[0].startswith(problem)


def test_latents_of_another_size_or_not_numbers_are_seen_under_a_right_hash(tmp_path: Path) -> None:
    data_make("shapes[count=4]", tmp_path, **SMALL, clips=1, held_out=0.5)
    path, manifest = tmp_path / "shards" / "000000.safetensors", tmp_path / "clips.jsonl"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    tensors = load_file(path)
    tensors["1"], tensors["2"] = tensors["1"][:, :1].contiguous(), tensors["2"] * torch.nan
    del tensors["3"]
    save_file(tensors, path)
    manifest.write_text(manifest.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))
    one, two, three = data_verify(tmp_path)
    assert one == "clip 1 in 000000.safetensors has the size (16, 1, 4, 8)"
    assert two == "clip 2 in 000000.safetensors has numbers that are not finite"
    assert three.startswith("000000.safetensors of the data set cannot be read: ")


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "000001.safetensors"])
def test_a_manifest_that_names_other_files_is_refused(tmp_path: Path, name: str) -> None:
    data_make("shapes[count=2]", tmp_path, **SMALL, clips=1, held_out=0.5)
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text(manifest.read_text().replace("000000.safetensors", name))
    with pytest.raises(InputError, match="names files that are no shards"):
        Clips.load(tmp_path)


def test_an_archive_gives_what_its_folder_gives(videos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "videos.tar", "w") as archive:
        for path in sorted(videos.iterdir()):
            archive.add(path, path.name)
    folder, archived = (
        data_make(source, tmp_path / name, **SMALL, clips=2, held_out=0.3)
        for name, source in {"a": videos, "b": tmp_path / "videos.tar"}.items()
    )
    assert [(c.recording, c.digest, c.cut, c.caption) for c in folder.clips] == [
        (c.recording, c.digest, c.cut, c.caption) for c in archived.clips
    ]
    assert torch.equal(folder.latents(range(4)), archived.latents(range(4)))


def test_a_codecs_digest_is_that_of_its_files_wherever_they_lie(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Kept(DCT):
        folder: str
        digest = Codec.digest

    for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(content)
    one, same, other = (Kept(folder=str(tmp_path / name)).digest for name in "abc")
    assert one == same != other


def test_a_name_that_stands_twice_in_an_archive_is_refused(videos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "videos.tar", "w") as archive:
        archive.add(videos / "clip0.mp4", "a.mp4")
        archive.add(videos / "clip1.mp4", "a.mp4")
    with pytest.raises(InputError, match=r"holds 'a.mp4' twice"):
        Files(path=str(tmp_path / "videos.tar")).recordings()


def test_captions_come_from_a_list_too_and_two_are_refused(videos: Path, tmp_path: Path) -> None:
    listed = tmp_path / "captions.csv"
    listed.write_text('file,caption\nclip2.mp4,"a third, short one"\n')
    source = Files(path=str(videos), captions=str(listed))
    assert [one.caption for one in source.recordings()] == ["a first clip", "a second clip", "a third, short one"]
    for text, problem in {
        "file,caption\nclip0.mp4,another\n": "'clip0.mp4' has two captions: clip0.txt and the list; leave out one",
        "file,caption\nclip2.mp4,a\nclip2.mp4,b\n": "has two captions of 'clip2.mp4'",
        "file,caption\nclip9.mp4,a\n": "has a caption of 'clip9.mp4', which is no video in",
        "name,text\n": "has no columns `file` and `caption`",
    }.items():
        listed.write_text(text)
        with pytest.raises(InputError, match=problem):
            source.recordings()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("shapes", "--frames", "32"), "clips of 32 frames; 1 + 4 k: one frame, and four for every "),
        (("shapes[count=0]",), "0 scenes of up to 2 shapes; 1 or more of each"),
        (("nothing.mp4",), "there is no 'nothing.mp4'; name a video, a folder, a tar archive, or a source"),
        (("shape",), "no source of clips is called 'shape'"),
        (("shapes[count=1]",), "there is one recording, and none beside it to hold out"),
        (("shapes", "--held-out", "1"), "1 of the recordings held out; 0 to below 1; correct it"),
        (("shapes", "--video", "100x64"), "the video size '100x64' does not divide into tokens of 16 pixels"),
        (("shapes", "--frames", "241", "--held-out", "0.5"), "no clip is left: '0-000000' has 240 frames"),
        ((".",), "no video is in '.'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_bad_input_is_one_line(s2search, words: tuple[str, ...], line: str) -> None:  # type: ignore[no-untyped-def]
    done = s2search("data", "make", *words, "--out", "set")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"s2search: {line}"), done.err
    assert len(done.err.splitlines()) == 1


def test_inspection_says_what_is_there_and_how_it_is_distributed(tmp_path: Path, s2search) -> None:  # type: ignore[no-untyped-def]
    made = data_make("shapes[count=6,most=1]", tmp_path / "set", **SMALL, clips=3, held_out=0.3)
    found = data_inspect(tmp_path / "set")
    assert (found.parts["train"].recordings, found.parts["held-out"].recordings) == (4, 2)
    assert (found.parts["train"].clips, found.parts["held-out"].clips) == (12, 6)
    latents = made.latents([clip.id for clip in made.of("train")]).double()
    assert found.channel_mean == pytest.approx(latents.mean((0, 2, 3, 4)).tolist(), abs=1e-9)
    assert found.channel_std == pytest.approx(latents.std((0, 2, 3, 4), correction=0).tolist(), abs=1e-9)
    shown = s2search("data", "inspect", str(tmp_path / "set"))
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= 80
    stated = json.loads(s2search("data", "inspect", str(tmp_path / "set"), "--json").out)
    assert (stated["schema"], stated["parts"]["train"]["clips"]) == ("s2search.data_inspection/1", 12)
    done = s2search("data", "verify", str(tmp_path / "set"))
    assert (done.code, done.out.split()[1:]) == (0, ["all", "files", "are", "as", "they", "were", "written"])


@pytest.mark.parametrize("frames", [1, 5, 12])
def test_frames_are_counted_without_decoding(tmp_path: Path, frames: int) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.append(np.zeros((frames, 32, 48, 3), np.uint8))
    assert count_frames(tmp_path / "a.mp4") == frames == len(list(iterate_video(tmp_path / "a.mp4")))


def test_a_strangers_source_is_held_to_its_word(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Still(Footage):
        def length(self) -> int:
            return 9

        def clips(self, cuts, geometry):  # type: ignore[no-untyped-def]
            for _ in cuts[: 1 if self.name == "short" else None]:
                yield np.zeros((geometry.frames, *geometry.size, 3), np.uint8)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Stills(ClipSource):
        names: tuple[str, ...]

        def recordings(self):  # type: ignore[no-untyped-def]
            return [Still(name=name, digest=digest_of(number), caption="") for number, name in enumerate(self.names)]

    with pytest.raises(InputError, match="names two recordings alike"):
        data_make(Stills(names=("a", "a")), tmp_path / "a", **SMALL, clips=1, held_out=0.5)
    made = data_make(Stills(names=("a", "b")), tmp_path / "b", **SMALL, clips=1, held_out=0.5)
    assert len(made.clips) == 2


def heading_of(geometry: Geometry, *, clips: int = 4, strides: tuple[int, ...] = (1,), seed: int = 0):  # type: ignore[no-untyped-def]
    from s2search.training.data.clips import Heading

    return Heading(
        codec="dct",
        codec_digest="",
        geometry=geometry,
        sources=(),
        seed=seed,
        clips=clips,
        strides=strides,
        held_out=0.1,
    )


@given(
    length=st.integers(1, 300),
    clips=st.integers(1, 20),
    frames=st.integers(0, 20).map(lambda k: 1 + 4 * k),
    strides=st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True).map(tuple),
    seed=st.integers(0, 99),
)
def test_cuts_lie_within_their_recording(
    length: int, clips: int, frames: int, strides: tuple[int, ...], seed: int
) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Long(Footage):
        def length(self) -> int:
            return length

        def clips(self, cuts, geometry):  # type: ignore[no-untyped-def]
            raise NotImplementedError

    recording = Long(name="a", digest="sha256:1", caption="")
    heading = heading_of(Geometry(video="64x32", frames=frames), clips=clips, strides=strides, seed=seed)
    if length < min(strides) * (frames - 1) + 1:
        with pytest.raises(InputError, match=rf"'a' has {length} frames, and a clip needs "):
            drawn_cuts(recording, heading)
        return
    cuts = drawn_cuts(recording, heading)
    assert 1 <= len(cuts) <= clips
    assert cuts == sorted(cuts, key=lambda cut: cut.start)
    assert cuts == drawn_cuts(recording, heading)
    for cut in cuts:
        assert 0 <= cut.start <= cut.last(frames) < length
        assert cut.stride in strides
        assert 0 <= cut.left <= 1
        assert 0 <= cut.top <= 1


def test_what_is_not_cached_is_encoded_when_it_is_read_and_is_the_same(videos: Path, tmp_path: Path) -> None:
    given = {**SMALL, "clips": 3, "stride": (1, 2), "held_out": 0.3}
    cached, fresh = (data_make(videos, tmp_path / name, **given, uncached=name == "b") for name in ("a", "b"))
    assert cached.clips == fresh.clips
    assert fresh.skipped == cached.skipped[:1] or fresh.skipped == cached.skipped
    assert not list((tmp_path / "b/shards").iterdir())
    ids = [clip.id for clip in fresh.clips]
    assert torch.equal(cached.latents(ids), fresh.latents(ids))
    assert data_verify(tmp_path / "b") == ()
    assert data_inspect(tmp_path / "b").channel_mean == data_inspect(tmp_path / "a").channel_mean


def test_a_recording_that_is_gone_or_changed_since_is_one_line(videos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "videos"
    copy.mkdir()
    for name in ("clip0.mp4", "clip1.mp4"):
        (copy / name).write_bytes((videos / name).read_bytes())
    data_make(copy, tmp_path / "set", **SMALL, clips=1, held_out=0.5, uncached=True)
    (copy / "clip0.mp4").write_bytes((videos / "clip1.mp4").read_bytes())
    clips = Clips.load(tmp_path / "set")
    changed = [clip for clip in clips.clips if clip.recording == "clip0.mp4"]
    with pytest.raises(InputError, match=r"the recording 'clip0\.mp4' of .* is changed; restore it"):
        clips.latents([clip.id for clip in changed])
    assert any("is changed" in line for line in data_verify(tmp_path / "set"))
    (copy / "clip0.mp4").unlink()
    with pytest.raises(InputError, match="is gone"):
        Clips.load(tmp_path / "set").latents([clip.id for clip in changed])


def test_another_codec_than_the_one_it_was_made_for_is_refused(videos: Path, tmp_path: Path) -> None:
    data_make(videos, tmp_path / "set", **SMALL, clips=1, held_out=0.3, uncached=True)
    lines = (tmp_path / "set/clips.jsonl").read_text()
    digest = json.loads(lines.splitlines()[0])["codec_digest"]
    (tmp_path / "set/clips.jsonl").write_text(lines.replace(digest, "sha256:0"))
    with pytest.raises(InputError, match="the codec dct is sha256:"):
        Clips.load(tmp_path / "set").latents([0])


def test_a_device_that_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    from s2search import data_make

    with pytest.raises(InputError, match="there is no device 'warp'; cpu, cuda"):
        data_make("shapes[count=3]", tmp_path / "set", video="32x32", frames=5, device="warp")
    assert not (tmp_path / "set").exists()

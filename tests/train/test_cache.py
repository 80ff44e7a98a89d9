"""A teacher's answers: which records there are, that they are its answers, kills, many writers, and harm."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.torch import load_file, save_file
from torch import Tensor

import s2search
from s2search import registry
from s2search.decibels import parity_db
from s2search.errors import CheckError, InputError
from s2search.journal import lock
from s2search.network.flow import guided, renoise, shift, unit_gaussian_gain, velocity
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.testing.teachers import check_teacher
from s2search.training.cache.documents import CacheHeading
from s2search.training.cache.levels import levels_of
from s2search.training.cache.make import heading_of, make
from s2search.training.cache.planned import pieces
from s2search.training.cache.records import TeacherCache, read_cache, stored_as
from s2search.training.data.clips import Clips
from s2search.training.teachers.base import Expert, Teacher, Velocity, check_experts
from s2search.training.teachers.local import Local
from tests.command import run_here
from tests.train.ranks import free_port

PACKAGE = Path(__file__).parents[1] / "plugin_package"
SIZES = Preset(name="nano", depth=2, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=6)


@pytest.fixture(autouse=True, scope="module")
def _installed(one_thread: None) -> Iterator[None]:
    with pytest.MonkeyPatch().context() as patch:
        patch.syspath_prepend(str(PACKAGE))
        entry = EntryPoint("gaussian", "s2search_example.gaussian:Gaussian", "s2search.teachers")
        patch.setitem(registry.installed("teachers"), "gaussian", entry)
        yield
    for module in [name for name in sys.modules if name.startswith("s2search_example")]:
        del sys.modules[module]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    s2search.data_make(
        "shapes[count=12]", folder / "clips", video="32x32", frames=9, clips=3, held_out=0.2, codec="dct[channels=4]"
    )
    model = S2DiT.from_preset(SIZES, "LS", velocity="plain", latent_channels=4)
    model.save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def clips(made: Path) -> Clips:
    return Clips.load(made / "clips")


@pytest.fixture(scope="module")
def teacher(made: Path) -> Local:
    return Local(folder=str(made / "model"))


def gaussian(**options: Any) -> Teacher:
    text = ",".join(f"{name}={value}" for name, value in {"channels": 4, **options}.items())
    found: Teacher = registry.create("teachers", f"gaussian[{text}]")
    return found


def asked(teacher: Teacher, clips: Clips, **changes: Any) -> CacheHeading:
    given = {"levels": 4, "shift": None, "seed": 0, "computed": "float32", "stored": "float32", "batch": 4}
    return replace(heading_of(teacher, clips, **{**given, **changes}), per_shard=8)


@pytest.fixture(scope="module")
def whole(made: Path, clips: Clips) -> Path:
    """A cache of two experts, in shards of eight."""
    one = gaussian()
    make(one, clips, asked(one, clips), made / "whole")
    return made / "whole"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


# Which records there are


@st.composite
def bands(draw: st.DrawFn) -> tuple[Expert, ...]:
    ends = sorted({0.0, 1.0, *draw(st.lists(st.floats(0.01, 0.99), max_size=3))})
    assume(all(high - low > 1e-3 for low, high in zip(ends, ends[1:])))  # noqa: B905, RUF007
    return tuple(
        Expert(name=str(number), low=low, high=high)
        for number, (low, high) in enumerate(zip(ends, ends[1:]))  # noqa: B905, RUF007
    )


def of_experts(clips: Clips, experts: tuple[Expert, ...], levels: int, a: float, seed: int) -> CacheHeading:
    heading = asked(gaussian(), clips, levels=16, shift=a, seed=seed)
    return replace(heading, teacher=replace(heading.teacher, experts=experts), levels=levels)


@pytest.mark.hypothesis
@given(experts=bands(), levels=st.integers(1, 16), a=st.floats(0.2, 20), seed=st.integers(0, 9))
def test_a_clips_levels_are_one_in_each_equal_part_of_each_experts_share(
    clips: Clips, experts: tuple[Expert, ...], levels: int, a: float, seed: int
) -> None:
    assume(levels >= len(experts))
    check_experts(experts)
    heading = of_experts(clips, experts, levels, a, seed)
    counts = levels_of(experts, levels, a)
    assert sum(counts) == levels
    assert min(counts) >= 1
    records = [record for piece in pieces(heading, clips) for record in piece]
    assert sorted(record.id for record in records) == [*range(levels * len(clips.clips))]
    assert len(pieces(heading, clips)) == heading.shards
    for piece in pieces(heading, clips):
        assert len({record.expert for record in piece}) == 1
        assert len(piece) <= heading.per_shard
    order = [record.expert.low for record in records]
    assert order == sorted(order, reverse=True)  # each expert is held once
    for clip in clips.clips[:3]:
        own = [record for record in records if record.clip is clip]
        for expert, count in zip(experts, counts, strict=True):
            low, high = shift(expert.low, 1 / a), shift(expert.high, 1 / a)
            places = sorted(
                (shift(record.s, 1 / a) - low) / (high - low) * count for record in own if record.expert is expert
            )
            assert len(places) == count
            for number, place in enumerate(places):
                assert number - 1e-3 <= place <= number + 1 + 1e-3
            assert all(expert.answers(record.s) for record in own if record.expert is expert)
            assert all(record.s == float(torch.tensor(record.s)) for record in own)  # exact in float32


def test_levels_of_all_clips_have_the_distribution_that_was_asked_for(clips: Clips) -> None:
    one = gaussian()
    drawn = torch.tensor(
        [
            shift(record.s, 1 / 12)
            for seed in range(12)
            for piece in pieces(asked(one, clips, levels=8, seed=seed), clips)
            for record in piece
        ]
    )
    counts = torch.histc(drawn, 8, 0, 1) / len(drawn)
    parts = levels_of(one.experts, 8, 12.0)
    edge = shift(0.875, 1 / 12)
    assert parts == (3, 5)
    assert float((drawn < edge).float().mean()) == pytest.approx(3 / 8)
    assert float(counts.std()) < 0.01


def test_records_count_so_that_their_levels_have_the_shares_of_the_shift(whole: Path, clips: Clips) -> None:
    cache = TeacherCache.load(whole, clips)
    batch = cache.batch(cache.of("train"))
    below = torch.tensor([record.expert == "low" for record in cache.of("train")])
    share = shift(0.875, 1 / 12)
    assert float(batch.weight_B.mean()) == pytest.approx(1)
    assert float(batch.weight_B[below].sum() / batch.weight_B.sum()) == pytest.approx(share)


def test_fewer_levels_than_experts_are_refused(clips: Clips) -> None:
    with pytest.raises(InputError, match=r"1 noise levels of each clip, and the teacher has 2 experts; 2 or more"):
        asked(gaussian(), clips, levels=1)


# What is kept is what the teacher says


def test_answers_are_guided_and_of_the_expert_that_the_level_asks_for(whole: Path, clips: Clips) -> None:
    cache, one = TeacherCache.load(whole, clips), gaussian()
    seen = Counter[str]()
    for split in ("train", "held-out"):
        assert {clips.clips[record.clip].split for record in cache.of(split)} == {split}
        for record in cache.of(split):
            z = clips.latents([record.clip])[0]
            eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(record.seed))
            x = renoise(z, record.s, eps)
            low = record.s < 0.875
            assert record.expert == ("low" if low else "high")
            gain = (0.9 if low else 1.0) * unit_gaussian_gain(torch.tensor(record.s))
            c, u = (gain * x + len(text) / 100 for text in (clips.clips[record.clip].caption, one.negative))
            wanted = c if low else guided(u, c, 2.0)
            assert torch.allclose(cache.answer(record), wanted, atol=1e-6)
            batch = cache.batch([record])
            assert torch.equal(batch.x_BCTYX[0], x)
            assert torch.equal(batch.v_BCTYX[0], velocity(z, eps))
            seen[record.expert] += 1
    assert min(seen.values()) > 20
    seeds = {record.seed for split in ("train", "held-out") for record in cache.of(split)}
    assert len(seeds) == sum(seen.values())


def test_the_local_teacher_keeps_its_contract_and_answers_as_its_model(
    made: Path, clips: Clips, teacher: Local, tmp_path: Path
) -> None:
    check_teacher(teacher)
    make(teacher, clips, asked(teacher, clips, batch=1), tmp_path / "cache")
    cache = TeacherCache.load(tmp_path / "cache", clips)
    model, text = S2DiT.from_pretrained(made / "model"), registry.create("texts", teacher.encoder)
    tokens = text.load(torch.device("cpu"), torch.float32)
    for record in cache.of("train")[:9]:
        batch = cache.batch([record])
        with torch.no_grad():
            wanted = model(batch.x_BCTYX, batch.s_B[:, None], tokens.encode(batch.captions))
        assert torch.equal(wanted, batch.answer_BCTYX)


def test_the_gaussian_teacher_of_the_example_keeps_its_contract() -> None:
    check_teacher(gaussian())


@pytest.mark.parametrize(("stored", "least"), [("bfloat16", 45.0), ("float8", 28.0)])
def test_shorter_numbers_keep_answers_to_so_many_decibels(
    clips: Clips, whole: Path, tmp_path: Path, stored: Any, least: float
) -> None:
    one = gaussian()
    make(one, clips, asked(one, clips, stored=stored), tmp_path / "cache")
    short, exact = TeacherCache.load(tmp_path / "cache", clips), TeacherCache.load(whole, clips)
    lowest = min(parity_db(exact.answer(record).numpy(), short.answer(record).numpy()) for record in exact.of("train"))
    assert least < lowest < 100


@given(st.floats(-30, 30), st.integers(0, 5))
@pytest.mark.hypothesis
def test_eight_bits_hold_answers_of_any_size(power: float, seed: int) -> None:
    answer = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 10**power
    answer[0] = 0
    kept = stored_as(answer, "float8", 7)
    again = kept["7"].float() * kept["7.scale"][:, None, None, None]
    assert again.isfinite().all()
    assert torch.allclose(again, answer, rtol=2**-4, atol=float(answer.abs().max()) * 2**-9)


def test_a_record_of_a_phones_video_is_small(clips: Clips, tmp_path: Path) -> None:
    size = (16, 21, 36, 64)  # 81 frames of 512x288
    for stored, most in (("bfloat16", 1.6e6), ("float8", 0.85e6)):
        heading = replace(asked(gaussian(), clips, stored=stored), latent_size=size)
        tensors = {}
        for id in range(4):
            tensors |= stored_as(torch.randn(size), stored, id)
        save_file(tensors, tmp_path / stored)
        assert heading.record_bytes <= most
        assert (tmp_path / stored).stat().st_size / 4 <= most


def test_prompts_are_kept_once_and_without_padding(whole: Path, clips: Clips) -> None:
    files = list((whole / "texts").glob("*/*.safetensors"))
    assert len(files) == len({clip.caption for clip in clips.clips} | {"blurred"})


# Kills, and many writers


def files_of(folder: Path) -> dict[str, tuple[str, Any]]:
    """The hash of each shard, and its records, whoever wrote them."""
    return {shard.file: (shard.sha256, shard.records) for shard in read_cache(folder)[1]}


@dataclass(frozen=True, kw_only=True)
class Slow(Local):
    """Takes its time, so that a kill comes somewhere in it."""

    def answering(self, expert: Expert, device: torch.device, dtype: torch.dtype) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def slowly() -> Iterator[Velocity]:
            with super(Slow, self).answering(expert, device, dtype) as answer:

                def velocity(x: Tensor, s: Tensor, texts: Sequence[Tensor]) -> Tensor:
                    time.sleep(0.02)
                    return answer(x, s, texts)

                yield velocity

        return slowly()


def writer(teacher: Teacher, clips: Clips, out: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    from s2search.training.parallel import processes
    from s2search.training.settings import EngineSettings

    with processes(EngineSettings()) as where:
        make(teacher, clips, asked(teacher, clips), out, where=where)


def writers(
    teacher: Teacher,
    clips: Clips,
    out: Path,
    count: int,
    kill_at: int | None = None,
    late_s: float = 0.0,
    last: bool = False,
) -> bool:
    """Let so many processes write; kill all, or the last alone, so long after so many shards are there.

    Returns whether all of them came to their end.
    """
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(count)}
    fork = multiprocessing.get_context("fork")
    started = [
        fork.Process(target=writer, args=(teacher, clips, out, {**environment, "RANK": rank, "LOCAL_RANK": rank}))
        for rank in map(str, range(count))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for process in started:
            process.start()
    if kill_at is not None:
        while len(list((out / "shards").glob("[0-9]*"))) < kill_at and any(process.is_alive() for process in started):
            time.sleep(0.003)
        time.sleep(late_s)
        for process in started[-1:] if last else started:
            process.kill()
    for process in started:
        process.join(60)
        process.kill()
        process.join()
    return all(process.exitcode == 0 for process in started)


def killed_often(made: Path, clips: Clips, out: Path, kills: int, rng: random.Random) -> None:
    """Kill two writers so often, wherever they are, and then let them end."""
    teacher = Slow(folder=str(made / "model"))
    shards = len(pieces(asked(teacher, clips), clips))
    for place in sorted(rng.sample(range(1, shards - 9), kills)):
        assert not writers(teacher, clips, out, 2, place, rng.uniform(0, 0.12), rng.random() < 0.3)
        assert files_of_partial(out).keys() <= {path.name for path in (out / "shards").glob("*")}
    assert writers(teacher, clips, out, 2)


def files_of_partial(out: Path) -> dict[str, Any]:
    try:
        return files_of(out)
    except InputError:  # its journal has no line yet
        return {}


def assert_like_one_writers(made: Path, clips: Clips, out: Path) -> None:
    teacher = Slow(folder=str(made / "model"))
    one = out.with_name("one")
    make(teacher, clips, asked(teacher, clips), one)
    assert files_of(out) == files_of(one)
    assert TeacherCache.load(out, clips).digest == TeacherCache.load(one, clips).digest
    assert not s2search.cache_verify(out, made / "clips")


def test_two_writers_that_are_killed_leave_what_one_leaves(made: Path, clips: Clips, tmp_path: Path) -> None:
    killed_often(made, clips, tmp_path / "two", 2, random.Random(0))
    assert_like_one_writers(made, clips, tmp_path / "two")


@pytest.mark.slow
def test_twenty_kills_of_two_writers_leave_the_same_ids_and_hashes(made: Path, clips: Clips, tmp_path: Path) -> None:
    for seed in range(4):
        out = tmp_path / str(seed) / "two"
        killed_often(made, clips, out, 5, random.Random(seed))
        assert_like_one_writers(made, clips, out)


def test_a_cache_goes_on_and_asks_again_about_nothing(made: Path, clips: Clips, tmp_path: Path) -> None:
    teacher, out = gaussian(), tmp_path / "cache"
    heading = asked(teacher, clips)

    class EnoughError(Exception):
        pass

    def stop(done: int, total: int, label: str) -> None:
        if done >= 40:
            raise EnoughError

    with pytest.raises(EnoughError):
        make(teacher, clips, heading, out, progress=stop)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    with pytest.raises(InputError, match=r"lacks \d+ of \d+ shards, number 5 first; repeat the command that began it"):
        TeacherCache.load(out, clips)
    make(teacher, clips, heading, out)
    assert {name: (out / "shards" / name).stat().st_mtime_ns for name in before} == before
    TeacherCache.load(out, clips)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"guidance": 3}, r"guidance"),
        ({"boundary": 0.9}, r"boundary=0\.9"),
        ({"shift": 5}, r"shift=5"),
        ({"negative": "ugly"}, r"negative"),
    ],
)
def test_another_question_does_not_go_on(copy: Path, clips: Clips, changes: dict[str, Any], problem: str) -> None:
    one = gaussian(**changes)
    with pytest.raises(InputError, match=f"belongs to another cache of a teacher: .*{problem}"):
        make(one, clips, asked(one, clips), copy)


def test_a_whole_number_is_one_however_it_is_given(copy: Path, clips: Clips) -> None:
    one = type(gaussian())(channels=4, shift=12, guidance=2)
    (copy / ".DS_Store").touch()
    make(one, clips, asked(one, clips), copy)


def test_a_writer_whose_rank_is_at_work_is_refused(copy: Path, clips: Clips) -> None:
    from io import FileIO

    one = gaussian()
    with FileIO(copy / "cache.jsonl", "a+") as file:
        lock(file, copy / "cache.jsonl")
        with pytest.raises(InputError, match="another process is writing to"):
            make(one, clips, asked(one, clips), copy)


def test_a_full_disk_is_one_line_and_what_was_written_stays(clips: Clips, tmp_path: Path) -> None:
    one, out = gaussian(), tmp_path / "cache"
    heading = replace(asked(one, clips), per_shard=4)
    make(one, clips, heading, tmp_path / "other")
    sizes = [path.stat().st_size for path in (tmp_path / "other/shards").iterdir()]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) - 40, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written: .*make room"):
            make(one, clips, heading, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list((out / "shards").glob(".*"))
    make(one, clips, heading, out)
    assert files_of(out) == files_of(tmp_path / "other")


def test_an_answer_that_is_not_finite_is_named(clips: Clips, tmp_path: Path) -> None:
    one = gaussian(less="inf")
    with pytest.raises(CheckError, match=r"answer to record \d+ \(clip \d+, noise level 0\.\d+\) is not finite"):
        make(one, clips, asked(one, clips), tmp_path / "cache")


def test_a_folder_of_something_else_is_left_alone(clips: Clips, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    one = gaussian()
    with pytest.raises(InputError, match=r"holds 'letter\.txt', which is of no cache"):
        make(one, clips, asked(one, clips), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


# Harm


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "cache.jsonl").read_text().splitlines()]


def write(folder: Path, lines: Sequence[dict[str, Any]]) -> None:
    (folder / "cache.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_whole_cache_has_nothing_to_say(whole: Path, made: Path) -> None:
    assert s2search.cache_verify(whole, made / "clips") == ()


def test_a_changed_shard_is_found(copy: Path, made: Path) -> None:
    path = copy / "shards/000003.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (copy / "shards/000004.safetensors").unlink()
    assert s2search.cache_verify(copy, made / "clips") == (
        "000003.safetensors was changed since it was written; delete it, and the command that made it makes it again",
        "000004.safetensors cannot be read: No such file or directory; the command that made the cache makes it again",
    )


FIELDS = ("id", "clip", "prompt", "seed", "crc", "s", "expert")


def test_a_file_that_is_gone_is_made_again_to_the_same_bytes(copy: Path, whole: Path, clips: Clips) -> None:
    one = gaussian()
    for name in ("000000.safetensors", "000004.safetensors"):
        (copy / "shards" / name).unlink()
    with pytest.raises(InputError, match=r"lacks 2 of \d+ shards, number 0 first; repeat the command"):
        TeacherCache.load(copy, clips)
    make(one, clips, asked(one, clips), copy)
    assert files_of(copy) == files_of(whole)
    for path in (whole / "shards").iterdir():
        assert path.read_bytes() == (copy / "shards" / path.name).read_bytes()


def test_a_writer_that_died_before_its_first_line_blocks_nobody(copy: Path, clips: Clips, made: Path) -> None:
    heading = (copy / "cache.jsonl").read_bytes().splitlines()[0]
    (copy / "cache.1.jsonl").touch()
    (copy / "cache.2.jsonl").write_bytes(heading[:40])
    TeacherCache.load(copy, clips)
    assert s2search.cache_verify(copy, made / "clips") == ()


def test_a_sample_of_records_is_of_all_levels(whole: Path, clips: Clips) -> None:
    cache = TeacherCache.load(whole, clips)
    records = cache.of("train")
    places = Counter(record.id % 4 for record in cache.sample("train", len(records) // 4))
    assert places.keys() == {0, 1, 2, 3}
    assert cache.sample("train", 8) == cache.sample("train", 20)[:8]
    assert sorted(record.id for record in cache.sample("train", 10**6)) == [record.id for record in records]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"levels": 5000}, "levels"),
        ({"levels": 2.5}, "levels"),
        ({"levels": "4"}, "levels"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": None}, "seed"),
        ({"batch": 0}, "batch"),
        ({"batch": 2.0}, "batch"),
        ({"shift": "3"}, "shift"),
        ({"shift": float("nan")}, "shift"),
    ],
    ids=str,
)
def test_what_could_not_be_read_again_is_not_begun(
    made: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        s2search.cache_make(gaussian(), made / "clips", tmp_path / "cache", **changes)
    assert not (tmp_path / "cache").exists()


def test_what_is_no_teacher_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the teacher is None; its name with its options, or the teacher itself"):
        s2search.cache_make(None, made / "clips", tmp_path / "cache")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "edit",
    [
        lambda heading: heading["teacher"]["experts"][0].update(high=1e5),
        lambda heading: heading["teacher"]["experts"][0].update(low=0.5, high=0.5),
        lambda heading: heading["teacher"].update(experts=[]),
        lambda heading: heading.update(shift=0.0),
        lambda heading: heading.update(noise="nothing"),
        lambda heading: heading.update(clips=[9 * 10**14, 4]),
        lambda heading: heading.update(levels=1),
        lambda heading: heading.update(per_shard=0),
    ],
    ids=["beyond 1", "no band", "no expert", "no shift", "other noise", "many clips", "few levels", "no records"],
)
def test_a_heading_that_cannot_be_is_refused(copy: Path, clips: Clips, edit: Any) -> None:
    lines = lines_of(copy)
    edit(lines[0])
    write(copy, lines)
    for read in (lambda: TeacherCache.load(copy, clips), lambda: s2search.cache_inspect(copy)):
        with pytest.raises(InputError) as error:
            read()
        assert "\n" not in str(error.value)


def test_a_shard_of_another_number_type_is_found(copy: Path, made: Path) -> None:
    import hashlib

    path = copy / "shards/000002.safetensors"
    save_file({name: tensor.double() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    lines = lines_of(copy)
    lines[3]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write(copy, lines)
    problems = s2search.cache_verify(copy, made / "clips")
    assert len(problems) == 8
    assert "in 000002.safetensors of the cache is float64 of the size" in problems[0]


def test_others_may_read_what_was_written(whole: Path) -> None:
    mode = whole.stat().st_mode & 0o666
    assert {path.stat().st_mode & 0o777 for path in whole.rglob("*.safetensors")} == {mode}


@pytest.mark.parametrize("field", FIELDS)
def test_a_record_that_says_something_else_is_found(copy: Path, made: Path, clips: Clips, field: str) -> None:
    lines = lines_of(copy)
    record = lines[2]["records"][1]
    other = {"prompt": "0" * 16, "s": record[5] + 1e-3, "expert": "low"}
    record[FIELDS.index(field)] = other.get(field, record[FIELDS.index(field)])
    if field not in other:
        record[FIELDS.index(field)] += 1
    write(copy, lines)
    problems = s2search.cache_verify(copy, made / "clips")
    assert len(problems) == 1
    if field == "crc":
        assert "the noise of record" in problems[0]
        cache = TeacherCache.load(copy, clips)
        with pytest.raises(InputError, match="is not what it was: this torch"):
            cache.batch([one for one in cache.of("train") if one.id == record[0]])
    else:
        assert "has other records in shard 1 than its heading implies" in problems[0]
        with pytest.raises(InputError, match="has other records in shard 1"):
            TeacherCache.load(copy, clips)


def test_an_answer_that_is_not_finite_is_found(copy: Path, made: Path) -> None:
    import hashlib

    path = copy / "shards/000002.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0, 0, 0, 0] = torch.nan
    save_file(tensors, path, {"format": "pt"})
    lines = lines_of(copy)
    lines[3]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write(copy, lines)
    (problem,) = s2search.cache_verify(copy, made / "clips")
    assert "in 000002.safetensors has numbers that are not finite" in problem


def test_a_shard_that_stands_twice_is_refused(copy: Path, made: Path) -> None:
    lines = lines_of(copy)
    write(copy, [*lines, {**lines[3], "sha256": "0"}])
    with pytest.raises(InputError, match=r"shard 2 of .* stands twice"):
        s2search.cache_verify(copy, made / "clips")


def test_a_missing_shard_is_told(copy: Path, made: Path) -> None:
    lines = lines_of(copy)
    write(copy, [*lines[:3], *lines[4:]])
    assert s2search.cache_verify(copy, made / "clips") == ("shard 2 is missing",)
    found = s2search.cache_inspect(copy)
    assert (found.missing, found.missing_first) == (1, (2,))


def test_a_file_name_that_leads_out_is_refused(copy: Path, clips: Clips) -> None:
    lines = lines_of(copy)
    lines[1]["file"] = "../../model/model.safetensors"
    write(copy, lines)
    with pytest.raises(InputError, match="has other records in shard 0"):
        TeacherCache.load(copy, clips)


def test_another_shift_does_not_go_on_either(copy: Path, clips: Clips) -> None:
    with pytest.raises(InputError, match=r"another cache of a teacher: shift is 12\.0 there and 5\.0 here"):
        make(gaussian(), clips, asked(gaussian(), clips, shift=5.0), copy)


def test_another_convention_of_guidance_is_refused(copy: Path, clips: Clips) -> None:
    lines = lines_of(copy)
    lines[0]["teacher"]["convention"] = "c + g (c - u)"
    write(copy, lines)
    with pytest.raises(InputError, match=r"convention"):
        TeacherCache.load(copy, clips)
    with pytest.raises(InputError, match=r"guidance of high is 0\.5; 1 or more: w of u \+ w \(c - u\); add 1"):
        asked(gaussian(guidance=0.5), clips)


def test_other_data_is_refused_with_every_key_and_both_values(whole: Path, tmp_path: Path) -> None:
    s2search.data_make("shapes[count=5]", tmp_path / "clips", video="64x32", frames=5, clips=1, held_out=0.2)
    with pytest.raises(InputError) as error:
        TeacherCache.load(whole, Clips.load(tmp_path / "clips"))
    text = str(error.value)
    assert "codec is dct[channels=4], not dct" in text
    assert "latent_size is (4, 3, 4, 4), not (16, 2, 4, 8)" in text
    for key in ("data is sha256:", "codec_digest is sha256:", "clips is (30, 6), not (4, 1)"):
        assert key in text
    assert "\n" not in text


def test_a_teacher_is_asked_again(copy: Path, made: Path) -> None:
    assert s2search.cache_verify(copy, made / "clips", recompute=8, teacher=gaussian()) == ()
    with pytest.raises(InputError, match=r"is of another teacher: teacher is .*guidance=3.*, not .*|guidance"):
        s2search.cache_verify(copy, made / "clips", recompute=8, teacher=gaussian(guidance=3))


def test_a_teacher_that_answers_otherwise_now_is_told(copy: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = gaussian()
    own = type(one).answering
    from contextlib import contextmanager

    @contextmanager
    def otherwise(self: Any, expert: Expert, device: Any, dtype: Any) -> Iterator[Velocity]:
        with own(self, expert, device, dtype) as answer:
            yield lambda x, s, texts: answer(x, s, texts) * (1.001 if expert.name == "high" else 1)

    monkeypatch.setattr(type(one), "answering", otherwise)
    problems = s2search.cache_verify(copy, made / "clips", recompute=8, teacher=one)
    assert problems
    assert all("dB from the one that is kept (allowed: 80 dB or more)" in problem for problem in problems)
    assert len(problems) < 8  # the other expert says what it said


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"folder": "no"}, "the teacher's folder 'no' has no config.json"),
        ({"folder": "no", "guidance": 0.5}, "the guidance of model is 0.5"),
        ({"folder": "no", "shift": 0}, "shift=0"),
    ],
)
def test_a_local_teacher_that_cannot_be_is_one_line(clips: Clips, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as error:
        asked(Local(**options), clips)
    assert problem in str(error.value)


def test_a_teacher_of_other_latents_or_of_another_text_width_is_refused(made: Path, clips: Clips) -> None:
    with pytest.raises(InputError, match="latents of 4 channels, and the model denoises 16"):
        asked(gaussian(channels=16), clips)
    with pytest.raises(InputError, match="have 9 channels, and the model reads 8"):
        asked(Local(folder=str(made / "model"), text="hashing[channels=9]"), clips)


def test_data_without_a_part_held_out_is_refused(tmp_path: Path) -> None:
    s2search.data_make("shapes[count=3]", tmp_path / "clips", video="32x32", frames=9, clips=1, held_out=0)
    with pytest.raises(InputError, match="holds no recording out"):
        asked(gaussian(channels=16), Clips.load(tmp_path / "clips"))


# The command


def test_the_command_makes_inspects_and_verifies(made: Path, tmp_path: Path) -> None:
    words = [f"local[folder={made / 'model'}]", "--data", str(made / "clips")]
    estimate = run_here(["cache", "make", *words, "--dry-run"], tmp_path)
    assert "144 records of 0.4 kB" in estimate.out
    assert list(tmp_path.iterdir()) == []
    done = run_here(["cache", "make", *words, "--out", "cache"], tmp_path)
    assert "144 answers of local, 120 to train on and 24 held out" in " ".join(done.out.split())
    shown = run_here(["cache", "inspect", "cache"], tmp_path)
    assert "144 records of 0.4 kB in 3 shards" in shown.out
    counts = json.loads(run_here(["cache", "inspect", "cache", "--json"], tmp_path).out)
    assert sum(counts["bands"]["model"].values()) == 144
    again = ["--recompute", "3", "--teacher", words[0]]
    assert "answers 3 of them as before" in " ".join(
        run_here(["cache", "verify", "cache", *words[1:], *again], tmp_path).out.split()
    )
    (tmp_path / "cache/shards/000001.safetensors").unlink()
    harmed = run_here(["cache", "verify", "cache", *words[1:]], tmp_path)
    assert (harmed.code, "000001.safetensors cannot be read" in harmed.out) == (1, True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["make", "nobody", "--data", "{clips}"], "no teacher is called 'nobody'"),
        (["make", "gaussian[channels=4]", "--data", "no"], "cannot be read"),
        (["make", "gaussian[channels=4]", "--data", "{clips}", "--dtype", "float16"], "dtype is 'float16'; float32"),
        (
            ["make", "gaussian[channels=4]", "--data", "{clips}", "--store", "int8"],
            "store is 'int8'; float32",
        ),
        (["make", "gaussian[channels=4]", "--data", "{clips}", "--shift", "0"], "the shift is 0"),
        (["make", "gaussian[channels=4]", "--data", "{clips}", "--json"], "--json is given without --dry-run"),
        (["make", "gaussian[channels=4]", "--data", "{clips}", "--device", "warp"], "there is no device 'warp'"),
        (["inspect", "no"], "cannot be read"),
        (["verify", "no", "--data", "{clips}"], "cannot be read"),
        (["verify", "{whole}", "--data", "{clips}", "--recompute", "3"], "recompute is given without teacher"),
        (["verify", "{whole}", "--data", "{clips}", "--teacher", "gaussian"], "teacher is given without recompute"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_words_are_one_line(made: Path, whole: Path, tmp_path: Path, words: list[str], problem: str) -> None:
    told = [word.format(clips=made / "clips", whole=whole) for word in words]
    done = run_here(["cache", *told], tmp_path)
    assert done.code == 2
    assert problem in done.err
    assert len(done.err.strip().splitlines()) == 1

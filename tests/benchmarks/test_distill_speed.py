"""What a cache costs who writes it and who reads it: ratios of processor time in the same run."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import s2search
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.training.base import TrainingRun
from s2search.training.cache.make import heading_of, make
from s2search.training.cache.planned import pieces
from s2search.training.cache.records import Answered, TeacherCache
from s2search.training.data.clips import Clips
from s2search.training.distill import Distill
from s2search.training.engine import Engine
from s2search.training.parallel import ALONE
from s2search.training.prepare import PreparedRun
from s2search.training.settings import RunSettings, overridden
from s2search.training.share import Share
from s2search.training.teachers.local import Local

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

STUDENT = Preset(name="student", depth=8, channels=48, heads=4, feed_forward=192, text_channels=32, text_tokens=8)


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 33 frames of 128x64, a teacher of twice the student's layers, and its answers."""
    folder = tmp_path_factory.mktemp("distill")
    s2search.data_make("shapes[count=20]", folder / "clips", video="128x64", frames=33, clips=4, held_out=0.2)
    names = ("name", "depth", "channels", "heads", "feed_forward", "text_channels", "text_tokens")
    (folder / "student.toml").write_text("".join(f"{name} = {json.dumps(getattr(STUDENT, name))}\n" for name in names))
    S2DiT.from_preset(replace(STUDENT, depth=16), "L4S8L4").save_pretrained(folder / "teacher")
    s2search.cache_make(f"local[folder={folder / 'teacher'}]", folder / "clips", folder / "cache")
    return folder


@dataclass(frozen=True, kw_only=True)
class Asking(Distill):
    """Asks the teacher at every step, all of its samples at once."""

    folder: str
    velocity: Any = None

    def answered(self, run: TrainingRun, share: Share) -> Answered:
        batch = super().answered(run, share)
        texts = list(run.captions.tokens(batch.captions).unbind(0))
        return replace(batch, answer_BCTYX=self.velocity(batch.x_BCTYX, batch.s_B, texts))


def stepper(made: Path, folder: Path, trainer: str, instead: Distill | None = None) -> Callable[[], Any]:
    given = {"data": str(made / "clips"), "model.preset": str(made / "student.toml"), "model.layout": "L2S4L2"}
    listed = [f"{key}={json.dumps(value)}" for key, value in (given | {"trainer": trainer}).items()]
    prepared = PreparedRun.of(RunSettings.of(overridden({}, listed)))
    folder.mkdir()
    engine = Engine(trainer=instead or prepared.trainer, run=prepared.run(folder, ALONE), folder=folder, where=ALONE)
    networks, moved = engine.started()
    number = itertools.count()
    return lambda: engine.step(networks, moved, next(number))


def process_s(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def ratio(one: Callable[[], Any], other: Callable[[], Any], rounds: int = 15) -> float:
    """The median of paired ratios, in turns."""
    one(), other()
    return statistics.median(process_s(one) / process_s(other) for _ in range(rounds))


def test_a_step_from_the_cache_takes_what_a_flow_step_takes(made: Path, tmp_path: Path) -> None:
    cached = stepper(made, tmp_path / "cached", f"distill[cache={made / 'cache'}]")
    found = ratio(cached, stepper(made, tmp_path / "flow", "flow[caption_drop=0]"))
    print(f"step from the cache / flow step: {found:.3f}")
    assert found <= 1.05


def test_a_step_from_the_cache_takes_far_less_than_asking_the_teacher(made: Path, tmp_path: Path) -> None:
    cache, teacher = f"distill[cache={made / 'cache'}]", Local(folder=str(made / "teacher"))
    with teacher.answering(teacher.experts[0], torch.device("cpu"), torch.float32) as velocity:
        asking = Asking(cache=str(made / "cache"), folder=str(made / "teacher"), velocity=velocity)
        online = stepper(made, tmp_path / "online", cache, asking)
        found = ratio(stepper(made, tmp_path / "cached", cache), online)
    print(f"step from the cache / step that asks a teacher of twice the layers: {found:.3f}")
    assert found <= 0.7


def test_writing_takes_little_beside_the_teacher(made: Path, tmp_path: Path) -> None:
    """A teacher of four times the student's width, which is little beside what is distilled from in earnest."""
    sizes = replace(STUDENT, channels=4 * STUDENT.channels, feed_forward=4 * STUDENT.feed_forward)
    S2DiT.from_preset(sizes, "L2S4L2").save_pretrained(tmp_path / "teacher")
    teacher, clips = Local(folder=str(tmp_path / "teacher")), Clips.load(made / "clips")
    heading = heading_of(teacher, clips, levels=4, shift=None, seed=0, computed="float32", stored="bfloat16")
    cache, number = TeacherCache.load(made / "cache", clips), itertools.count()
    every = {record.id: record for split in ("train", "held-out") for record in cache.of(split)}
    batches = [
        cache.batch([every[one.id] for one in piece[start : start + 8]])
        for piece in pieces(heading, clips)
        for start in range(0, len(piece), 8)
    ]
    with teacher.reading(torch.device("cpu")) as read:
        texts = [read(batch.captions) for batch in batches]

    def written() -> None:
        make(teacher, clips, heading, tmp_path / str(next(number)))

    def asked() -> None:
        with teacher.answering(teacher.experts[0], torch.device("cpu"), torch.float32) as velocity:
            for batch, text in zip(batches, texts, strict=True):
                velocity(batch.x_BCTYX, batch.s_B, text)

    found = ratio(asked, written, rounds=3)
    print(f"throughput of the writer / of the teacher alone: {found:.3f}")
    assert found >= 0.95


def test_a_step_hardly_waits_for_the_reader(made: Path, tmp_path: Path) -> None:
    clips = Clips.load(made / "clips")
    cache = TeacherCache.load(made / "cache", clips)
    records = cache.of("train")
    number = itertools.count()

    def read() -> None:
        place = next(number) * 8 % (len(records) - 8)
        for record in records[place : place + 8]:
            cache.answer(record)

    found = ratio(read, stepper(made, tmp_path / "run", f"distill[cache={made / 'cache'}]"))
    print(f"reading of answers / step: {found:.4f}")
    assert found <= 0.05

"""A stranger's trainer and source of clips, one file each: through train, kill, resume and stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import s2search
from s2search import registry
from s2search.testing.sources import check_source
from s2search.testing.trainers import check_trainer

PACKAGE = Path(__file__).parents[1] / "plugin_package"
PLUGINS = (("sources", "stripes", "Stripes"), ("trainers", "robust", "Robust"), ("teachers", "gaussian", "Gaussian"))


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PACKAGE))
    for family, name, value in PLUGINS:
        entry = EntryPoint(name, f"s2search_example.{name}:{value}", f"s2search.{family}")
        monkeypatch.setitem(registry.installed(family), name, entry)
    yield
    for module in [name for name in sys.modules if name.startswith("s2search_example")]:
        del sys.modules[module]


def test_the_source_keeps_its_contract() -> None:
    check_source(registry.create("sources", "stripes"))


def test_the_trainer_keeps_its_contract_killed_and_resumed(tmp_path: Path) -> None:
    check_trainer(registry.create("trainers", "robust[knee=0.5]"), tmp_path)


def test_a_model_of_both_streams(tmp_path: Path) -> None:
    clips = s2search.data_make("stripes[count=4]", tmp_path / "clips", video="32x32", frames=9, clips=2, held_out=0.25)
    assert {clip.caption for clip in clips.clips} <= {f"stripes {n} wide" for n in range(4, 8)}
    settings = {
        "trainer": "robust[knee=0.5]",
        "data": str(tmp_path / "clips"),
        "model.layout": "L2S4L2",
        "optimizer.steps": 2,
        "optimizer.batch": 2,
    }
    outcome = s2search.train(out=tmp_path / "run", settings=settings)
    assert (outcome.steps, outcome.judgement) == (2, None)
    report = s2search.stream(tmp_path / "video.mp4", tmp_path / "run/model", chunks=2, video="32x32", threads=1)
    assert (tmp_path / "video.mp4").stat().st_size
    assert report is not None


def test_a_teacher_is_cached_and_distilled_from(tmp_path: Path) -> None:
    s2search.data_make("stripes[count=4]", tmp_path / "clips", video="32x32", frames=9, clips=2, held_out=0.25)
    cache = s2search.cache_make("gaussian", tmp_path / "clips", tmp_path / "cache", levels=6)
    assert {record.expert for record in cache.of("train")} == {"low", "high"}
    assert s2search.cache_verify(tmp_path / "cache", tmp_path / "clips", recompute=8, teacher="gaussian") == ()
    settings = {
        "trainer": f"distill[cache={tmp_path / 'cache'},weight=1]",
        "data": str(tmp_path / "clips"),
        "model.layout": "L2S4L2",
        "optimizer.steps": 2,
        "optimizer.batch": 2,
        "judge.strips": 0,
    }
    found = s2search.train(out=tmp_path / "run", settings=settings).judgement
    assert found is not None
    assert found.parts[1].also.keys() == {"teacher", "1-cos", "blind 1-cos"}

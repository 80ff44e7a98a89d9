"""Distillation from a cache: the same step as with the teacher at hand, what is reported, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import s2search
from s2search.document import read_json
from s2search.errors import InputError
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.testing.trainers import check_trainer
from s2search.training.base import TrainingRun
from s2search.training.cache.records import Answered
from s2search.training.distill import Distill
from s2search.training.engine import Engine
from s2search.training.parallel import ALONE
from s2search.training.prepare import PreparedRun
from s2search.training.settings import RunSettings, overridden
from s2search.training.share import Share
from s2search.training.teachers.local import Local
from tests.command import run_here

SIZES = Preset(name="nano", depth=2, channels=16, heads=2, feed_forward=32, text_channels=8, text_tokens=6)
NANO = "\n".join(
    f"{name} = {json.dumps(getattr(SIZES, name))}"
    for name in ("name", "depth", "channels", "heads", "feed_forward", "text_channels", "text_tokens")
)


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, a teacher of random weights, and its answers in float32, asked for one by one."""
    folder = tmp_path_factory.mktemp("distill")
    s2search.data_make("shapes[count=10]", folder / "clips", video="32x32", frames=9, clips=2, held_out=0.2)
    (folder / "nano.toml").write_text(NANO)
    S2DiT.from_preset(SIZES, "LS", velocity="plain").save_pretrained(folder / "teacher")
    s2search.cache_make(
        f"local[folder={folder / 'teacher'}]", folder / "clips", folder / "cache", store="float32", batch=1
    )
    return folder


def asked(made: Path, **changes: Any) -> dict[str, Any]:
    given = {
        "data": str(made / "clips"),
        "trainer": f"distill[cache={made / 'cache'}]",
        "model.preset": str(made / "nano.toml"),
        "model.layout": "LS",
        "optimizer.steps": 4,
        "optimizer.batch": 4,
        "optimizer.warmup": 1,
        "engine.log_every": 1,
        "judge.samples": 16,
        "judge.strips": 0,
    }
    return given | {key.replace("__", "."): value for key, value in changes.items()}


def engine_of(made: Path, folder: Path, trainer: Distill, **changes: Any) -> Engine:
    listed = [f"{key}={json.dumps(value)}" for key, value in asked(made, **changes).items()]
    prepared = PreparedRun.of(RunSettings.of(overridden({}, listed)))
    folder.mkdir(exist_ok=True)
    return Engine(trainer=trainer, run=prepared.run(folder, ALONE), folder=folder, where=ALONE)


@dataclass(frozen=True, kw_only=True)
class Online(Distill):
    """Asks the teacher at every step instead of reading what it said."""

    folder: str

    def answered(self, run: TrainingRun, share: Share) -> Answered:
        import dataclasses

        batch, teacher = super().answered(run, share), Local(folder=self.folder)
        with teacher.reading(run.device) as read:
            texts = read(batch.captions)
        with teacher.answering(teacher.experts[0], run.device, torch.float32) as velocity:
            answers = [
                velocity(batch.x_BCTYX[n : n + 1], batch.s_B[n : n + 1], texts[n : n + 1]) for n in range(len(texts))
            ]
        return dataclasses.replace(batch, answer_BCTYX=torch.cat(answers))


def test_a_step_from_the_cache_is_the_step_with_the_teacher_to_the_bit(made: Path, tmp_path: Path) -> None:
    cached = Distill(cache=str(made / "cache"))
    online = Online(cache=str(made / "cache"), folder=str(made / "teacher"))
    engine_of(made, tmp_path / "cached", cached).train()
    engine_of(made, tmp_path / "online", online).train()
    one, other = (load_file(tmp_path / name / "model/model.safetensors") for name in ("cached", "online"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    metrics = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("cached", "online")]
    for mine, theirs in zip(*metrics, strict=True):
        assert mine == theirs or ",seconds," in mine


def test_the_trainer_keeps_its_contract_killed_and_resumed(tmp_path: Path) -> None:
    s2search.data_make("shapes[count=8]", tmp_path / "clips", video="32x32", frames=9, clips=2, held_out=0.25)
    S2DiT.from_preset(SIZES, "LS", velocity="plain").save_pretrained(tmp_path / "teacher")
    s2search.cache_make(f"local[folder={tmp_path / 'teacher'}]", tmp_path / "clips", tmp_path / "cache")
    check_trainer(Distill(cache=str(tmp_path / "cache")), tmp_path)


def loss_of(made: Path, folder: Path, weight: float) -> Mapping[str, float]:
    trainer = Distill(cache=str(made / "cache"), weight=weight)
    engine = engine_of(made, folder, trainer)
    networks, _ = engine.started()
    share = Share(seed=0, step=0, batch=4, numbers=range(4))
    return {name: float(value.detach()) for name, value in trainer.step(engine.run, networks, share).items()}


def test_the_loss_is_the_mean_of_both_by_the_weight(made: Path, tmp_path: Path) -> None:
    at = {weight: loss_of(made, tmp_path / str(weight), weight) for weight in (0.0, 0.3, 1.0)}
    assert at[0.0]["model"] == pytest.approx(at[0.0]["flow"])
    assert at[1.0]["model"] == pytest.approx(at[1.0]["teacher"])
    assert at[0.3]["model"] == pytest.approx(0.7 * at[0.3]["flow"] + 0.3 * at[0.3]["teacher"])
    assert at[0.3]["flow"] == at[1.0]["flow"] != at[1.0]["teacher"]


def test_a_student_with_its_teachers_weights_loses_nothing_and_is_told_so(made: Path, tmp_path: Path) -> None:
    trainer = Distill(cache=str(made / "cache"), weight=1.0)
    changes = {"model__weights": str(made / "teacher"), "model__layout": "", "model__preset": "", "optimizer__lr": 1e-9}
    told: list[str] = []
    found = engine_of(made, tmp_path / "run", trainer, **changes).train(tell=told.append).judgement
    assert len(told) == 1
    assert "from a teacher that is not 5% better there is little to learn" in told[0]
    assert found is not None
    for part in found.parts:
        assert part.also["teacher"] == pytest.approx(part.loss, rel=1e-5)
        assert part.also["1-cos"] < 1e-6 < part.also["blind 1-cos"]
        assert sum(band.samples for band in part.bands) == part.samples == 16
        for band in part.bands:
            assert band.also["1-cos"] < 1e-6


def test_what_is_judged_is_a_naive_computation(made: Path, tmp_path: Path) -> None:
    trainer = Distill(cache=str(made / "cache"))
    engine = engine_of(made, tmp_path / "run", trainer, judge__samples=12)
    found = engine.train().judgement
    assert found is not None
    model, cache = S2DiT.from_pretrained(tmp_path / "run/model"), trainer._records(engine.run.clips)
    chosen = cache.sample("held-out", 12)
    losses, teachers, off = [], [], []
    for record in chosen:
        batch = cache.batch([record])
        with torch.no_grad():
            v = model(batch.x_BCTYX, batch.s_B[:, None], engine.run.captions.tokens(batch.captions))
        losses.append(float((v - batch.v_BCTYX).square().mean()))
        teachers.append(float((batch.answer_BCTYX - batch.v_BCTYX).square().mean()))
        one, other = v.flatten().double(), batch.answer_BCTYX.flatten().double()
        off.append(1 - float(one @ other / (one.norm() * other.norm())))
    (part,) = (part for part in found.parts if part.name == "held-out")
    assert part.loss == pytest.approx(sum(losses) / 12, rel=1e-5)
    assert part.also["teacher"] == pytest.approx(sum(teachers) / 12, rel=1e-5)
    assert part.also["1-cos"] == pytest.approx(sum(off) / 12, rel=1e-4)


def test_fewer_records_than_samples_are_judged_once_each(made: Path, tmp_path: Path) -> None:
    found = engine_of(made, tmp_path / "run", Distill(cache=str(made / "cache")), judge__samples=300).train().judgement
    assert found is not None
    assert {part.name: part.samples for part in found.parts} == {"train": 64, "held-out": 16}


def test_learning_from_the_teacher_brings_the_student_towards_it(made: Path, tmp_path: Path) -> None:
    changes = {"optimizer__steps": 60, "optimizer__lr": 1e-2, "optimizer__ema": 0.5}
    far = {}
    for weight in (0.0, 1.0):
        trainer = Distill(cache=str(made / "cache"), weight=weight)
        found = engine_of(made, tmp_path / str(weight), trainer, **changes).train().judgement
        assert found is not None
        far[weight] = found.parts[0].also["1-cos"]
    assert far[1.0] < 0.7 * far[0.0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"trainer": "distill"}, "cache"),
        ({"trainer": "distill[cache=no]"}, "cannot be read"),
        ({"trainer": "distill[cache=no,weight=2]"}, "weight=2; 0 to 1"),
    ],
)
def test_bad_settings_are_one_line_before_anything_is_made(
    made: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    words = [word for key, value in asked(made, **changes).items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = run_here(["train", "--out", "run", *words], tmp_path)
    assert done.code == 2
    assert problem in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_cache_of_other_data_is_refused(made: Path, tmp_path: Path) -> None:
    s2search.data_make("shapes[count=5]", tmp_path / "clips", video="32x32", frames=9, clips=1, held_out=0.2)
    with pytest.raises(InputError, match=r"is of other data than .*: data is .*; clips is \(16, 4\), not \(4, 1\)"):
        s2search.train(out=tmp_path / "run", settings=asked(made, data=str(tmp_path / "clips")))


def test_another_cache_does_not_go_on_with_a_run(made: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    shutil.copytree(made / "cache", place)
    given = asked(made, trainer=f"distill[cache={place}]", optimizer__steps=1)
    s2search.train(out=tmp_path / "run", settings=given)
    shutil.rmtree(place)
    s2search.cache_make(f"local[folder={made / 'teacher'}]", made / "clips", place, seed=1)
    with pytest.raises(InputError, match="holds another run: the digest of cache is"):
        s2search.train(out=tmp_path / "run", settings=given)


def test_a_run_prints_its_bands_and_its_page_has_them(made: Path, tmp_path: Path) -> None:
    words = [word for key, value in asked(made).items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = run_here(["train", "--out", "run", *words], tmp_path)
    assert done.code == 0
    assert "held-out, s  samples    loss   blind  teacher   1-cos  blind 1-cos" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    page = (tmp_path / "run/report.html").read_text()
    assert "<th>blind 1-cos</th>" in page
    from s2search.reporting.training import training_html
    from s2search.training.run_folder import Record

    record = read_json(tmp_path / "run/run.json", Record, what="run")
    rows = [(1, "loss", 0.1), (1, "flow", 0.4), (2, "loss", 0.2), (2, "flow", 0.5)]
    drawn = [training_html(record, some, None, {}) for some in (rows, [row for row in rows if row[1] == "flow"])]
    assert drawn[0] == drawn[1]  # beside the baseline stands what is of its kind


def test_the_warning_counts_no_sample_that_is_not_there(made: Path, tmp_path: Path) -> None:
    trainer = Distill(cache=str(made / "cache"))
    table = torch.tensor([[0.5, 1.0, 2.0, 0.97, 0.0, 0.0], [torch.nan] * 6])
    assert list(trainer.before({"held-out": table}))
    table[0, 3] = 0.9
    assert not list(trainer.before({"held-out": table}))

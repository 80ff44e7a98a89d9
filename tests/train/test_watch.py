"""Watching: what a model makes is looked at while it is trained, the best average is left, and a fault ends the run."""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import s2search
from s2search.api.run import _learning
from s2search.errors import InputError
from s2search.network.config import CausalForm, ModelConfig
from s2search.network.network import S2DiT
from s2search.network.random_weights import RandomS2DiT
from s2search.preset import Preset
from s2search.reporting.run import _learning as learning_html
from s2search.reporting.shown import plain
from s2search.reporting.training import outcome_text
from s2search.testing.trainers import _engine, _Killed, _killed_after
from s2search.training.checkpoint import save
from s2search.training.distance.held_out import HeldOutDistance
from s2search.training.distance.watched import WatchedDistance
from s2search.training.draw import streams
from s2search.training.engine import Engine
from s2search.training.flow import Flow
from s2search.training.parallel import processes
from s2search.training.prepare import PreparedRun
from s2search.training.run_folder import read_metrics
from s2search.training.self_forcing import SelfForcing
from s2search.training.watch import Look, SampleWatch, Watched
from tests.train.ranks import ranks

_PRESET: dict[str, Any] = {"name": "nano", "depth": 2, "channels": 16, "heads": 2, "feed_forward": 32}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _look(step: int, mmd: float, *, std: float = 1.0, motion: float = 1.0, error: float = 1.0) -> Look:
    seen = WatchedDistance(mmd={"random": mmd}, mmd_error={"random": error}, std_ratio=std, motion_ratio=motion)
    return Look(step=step, seen=seen)


def _watched(*looks: Look) -> Watched:
    return Watched(looks=looks)


def test_the_nearest_sound_look_behind_the_first_step_is_the_best() -> None:
    assert _watched(_look(0, 0.1)).best is None
    assert _watched(_look(0, 0.1), _look(5, 3.0), _look(10, 2.0), _look(15, 4.0)).best.step == 10
    for fault, word in (({"std": 1.4}, "saturated"), ({"motion": 0.4}, "frozen")):
        assert _watched(_look(0, 0.1), _look(5, 3.0, **fault)).said(0).endswith(f"what this one makes is {word}")
    faulty = _watched(_look(0, 9.0), _look(5, 3.0), _look(10, 1.0, std=1.4), _look(15, 1.0, motion=0.4))
    assert faulty.best.step == 5
    assert _watched(_look(0, 9.0), _look(5, 3.0, motion=0.2), _look(10, 2.0, motion=0.1)).best.step == 10
    assert _watched(_look(0, 9.0), _look(5, -0.2), _look(10, 0.1)).best.step == 5  # unbiased: below 0 is nearer


def test_networks_weigh_by_what_each_can_tell() -> None:
    def seen(step: int, one: float, other: float) -> Look:
        mmd, error = {"random": one, "trained": other}, {"random": 0.01, "trained": 1.0}
        return Look(step=step, seen=WatchedDistance(mmd=mmd, mmd_error=error, std_ratio=1.0, motion_ratio=1.0))

    watched = _watched(seen(0, 1, 9), seen(1, 0.9, 8.0), seen(2, 0.5, 9.0))
    assert watched.best.step == 2  # 40 errors nearer by one, one farther by the other
    assert watched.apart(watched.looks[2]) == pytest.approx((50 + 9) / 2)
    later = _look(1, 1.0, error=5.0)
    assert _watched(_look(0, 3.0, error=0.5), later).apart(later) == pytest.approx(2)  # in errors of the first look


@pytest.mark.parametrize("word", ["saturated", "frozen"])
def test_a_fault_that_stays_and_is_worse_than_at_first_ends_a_run(word: str) -> None:
    def look(step: int, bad: float | None) -> Look:
        return (
            _look(step, 1.0) if bad is None else _look(step, 1.0, **{"std" if word == "saturated" else "motion": bad})
        )

    worse, better = (1.5, 1.35) if word == "saturated" else (0.2, 0.4)
    assert word in _watched(look(0, None), look(1, worse), look(2, worse)).fault(2)
    assert not _watched(look(0, None), look(1, worse), look(2, worse)).fault(3)
    assert not _watched(look(0, None), look(1, worse), look(2, worse)).fault(0)
    assert not _watched(look(0, None), look(1, worse), look(2, None)).fault(2)
    assert not _watched(look(0, worse), look(1, better), look(2, better)).fault(2)  # bad, but getting better
    assert not _watched(look(0, worse), look(1, worse), look(2, worse)).fault(2)
    assert word in _watched(look(0, better), look(1, worse), look(2, worse)).fault(2)


def test_other_faults_one_after_the_other_are_not_one_that_stays() -> None:
    assert not _watched(_look(0, 1.0), _look(1, 1.0, std=1.5), _look(2, 1.0, motion=0.2)).fault(2)


def test_looks_come_back_from_metrics_without_a_torn_one() -> None:
    looks = (_look(0, 0.123456789), _look(5, -1e-9, std=1.1, motion=0.9))
    rows = [(look.step, name, value) for look in looks for name, value in look.values.items()]
    assert Watched.of([(3, "loss", 1.0), *rows]) == Watched(looks=looks)
    for cut in range(1, len(looks[1].values)):
        assert Watched.of(rows[:-cut]) == Watched(looks=looks[:1])
    torn = [*rows[:2], *rows]  # the look before the first step was torn, and taken again
    assert Watched.of(torn) == Watched(looks=looks)


@dataclass(frozen=True, kw_only=True)
class Drawn(Flow):
    """Flow, watched by what a script says of each look; what is told apart is the average's own numbers."""

    script: tuple[tuple[float, float], ...] = ()
    patience: int = 2

    def watch(self, run: Any) -> SampleWatch:
        count = iter(range(1000))
        given = {look.step for look in Watched.of(read_metrics(run.folder, 10**9)).looks}
        for _ in given:
            next(count)

        def seen(latents_NCTYX: Tensor) -> WatchedDistance:
            mmd, std = self.script[next(count)]
            assert latents_NCTYX.shape[0] == 8
            return WatchedDistance(mmd={"random": mmd}, mmd_error={"random": 1.0}, std_ratio=std, motion_ratio=1.0)

        def made(network: nn.Module, numbers: range) -> Tensor:
            return torch.tensor([[float(number)] for number in numbers])

        return SampleWatch(every=2, samples=8, patience=self.patience, made=made, distance=seen)  # type: ignore[arg-type]


_SETTINGS = {
    "optimizer": {"steps": 8, "batch": 4, "warmup": 1},
    "engine": {"save_every": 3, "log_every": 1, "keep": 1},
    "judge": {"samples": 4, "strips": 0},
}


def _weights(folder: Path) -> dict[str, Tensor]:
    return S2DiT.from_pretrained(folder / "model").state_dict()


def test_the_average_of_the_best_look_is_left(tmp_path: Path) -> None:
    script = ((5.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (4.0, 1.0))
    outcome = _engine(Drawn(script=script), tmp_path, "best", _SETTINGS).train()
    assert outcome.steps == 8
    assert outcome.left == "model/ is the average after step 2, of 4 looks the nearest to held-out clips"
    assert sorted(path.name for path in (tmp_path / "best" / "checkpoints").iterdir()) == ["00000002", "00000008"]
    for steps, name in ((2, "two"), (8, "eight")):
        part = _SETTINGS | {"optimizer": {"steps": steps, "batch": 4, "warmup": 1, "schedule": "constant"}}
        _engine(Flow(), tmp_path, name, part).train()
    constant = _SETTINGS | {"optimizer": {"steps": 8, "batch": 4, "warmup": 1, "schedule": "constant"}}
    _engine(Drawn(script=script), tmp_path, "again", constant).train()
    best, two, eight = (_weights(tmp_path / name) for name in ("again", "two", "eight"))
    assert all(torch.equal(best[key], two[key]) for key in best)
    assert any(not torch.equal(best[key], eight[key]) for key in best)


def test_what_is_judged_and_drawn_is_the_average_that_is_left(tmp_path: Path) -> None:
    script = ((5.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (4.0, 1.0))
    outcomes = []
    for trainer, steps in ((Drawn(script=script), 8), (Flow(), 2), (Flow(), 8)):
        settings = _SETTINGS | {
            "optimizer": {"steps": steps, "batch": 4, "warmup": 1, "schedule": "constant", "lr": 0.01},
            "judge": {"samples": 4, "strips": 1},
        }
        name = f"{trainer.name} {type(trainer).__name__} {steps}"
        outcomes.append(_engine(trainer, tmp_path, name, settings).train())
    best, two, eight = outcomes
    assert best.drawn.keys() == two.drawn.keys() != set()
    assert all(torch.equal(latents, two.drawn[caption]) for caption, latents in best.drawn.items())
    assert any(not torch.equal(latents, eight.drawn[caption]) for caption, latents in best.drawn.items())
    assert best.judgement is not None
    assert best.judgement.parts == two.judgement.parts != eight.judgement.parts  # type: ignore[union-attr]


def test_a_best_checkpoint_that_was_harmed_is_not_left_as_the_model(tmp_path: Path) -> None:
    script = ((5.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (4.0, 1.0))
    _engine(Drawn(script=script), tmp_path, "run", _SETTINGS).train()
    (file,) = (tmp_path / "run/checkpoints/00000002").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"is not as it was written; restore it: the best average is in it"):
        _engine(Drawn(script=script), tmp_path, "run", _SETTINGS).train()


def test_a_fault_ends_the_run_and_the_same_command_changes_nothing(tmp_path: Path) -> None:
    script = ((5.0, 1.0), (2.0, 1.0), (1.0, 1.5), (1.0, 1.6))
    outcome = _engine(Drawn(script=script), tmp_path, "run", _SETTINGS).train()
    assert (outcome.steps, outcome.interrupted) == (6, False)
    assert "ended at step 6: saturated: standard deviation 1.60 times" in outcome.left
    before = _weights(tmp_path / "run")
    again = _engine(Drawn(script=script), tmp_path, "run", _SETTINGS).train()
    assert (again.steps, again.resumed_at, again.left) == (6, 6, outcome.left)
    assert all(torch.equal(before[key], tensor) for key, tensor in _weights(tmp_path / "run").items())
    patient = _engine(Drawn(script=(*script, (1.0, 1.0)), patience=0), tmp_path, "patient", _SETTINGS).train()
    assert patient.steps == 8


def test_no_nearer_than_at_first_is_said(tmp_path: Path) -> None:
    script = ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (4.0, 1.0))
    outcome = _engine(Drawn(script=script), tmp_path, "run", _SETTINGS).train()
    assert outcome.left.endswith("it is no nearer than what the run began with")


@dataclass(frozen=True, kw_only=True)
class Rounded(Drawn):
    """On every processor but the first one another look is the best."""

    def watch(self, run: Any) -> SampleWatch:
        from torch import distributed

        other = distributed.is_initialized() and distributed.get_rank()
        return Drawn(script=self.script[::-1] if other else self.script).watch(run)


def test_where_processors_disagree_the_first_one_decides(tmp_path: Path) -> None:
    script = ((5.0, 1.0), (2.0, 1.0), (3.0, 1.0), (1.5, 1.0), (4.0, 1.0))
    alone = _engine(Rounded(script=script), tmp_path, "one", _SETTINGS)
    alone.train()
    (tmp_path / "two").mkdir()

    def train() -> None:
        prepared = PreparedRun.of(alone.run.settings, Rounded(script=script))
        with processes(prepared.settings.engine) as where:
            run = prepared.run(tmp_path / "two", where)
            Engine(trainer=prepared.trainer, run=run, folder=tmp_path / "two", where=where).train()

    ranks(2, train)
    one, two = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    assert max(float((one[key] - two[key]).abs().max()) for key in one) < 2e-5
    looks = Watched.of(read_metrics(tmp_path / "two")).looks
    assert [look.seen.mmd["random"] for look in looks] == [mmd for mmd, _ in script]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that follow the flow, and such as were trained to stream."""
    folder = tmp_path_factory.mktemp("weights")
    preset = Preset(**_PRESET, text_channels=8, text_tokens=6, layout="LS")
    RandomS2DiT(ModelConfig.new(preset, ("lcha", "ssa"), velocity="residual"), seed=1).save_pretrained(folder / "flow")
    form = CausalForm(commit="clean_pass", level=0.0)
    config = ModelConfig.new(preset, ("lcha", "ssa"), velocity="residual", causal=form)
    RandomS2DiT(config, seed=1).save_pretrained(folder / "causal")
    s2search.data_make(["shapes[count=16]"], folder / "clips", video="32x32", frames=9, clips=2, held_out=0.3)
    return folder


def _self_forcing(weights: Path, **options: Any) -> SelfForcing:
    flow = weights / "flow"
    asked = {"watch_every": 2, "watched": 8, "ratio": 2, "patience": 0} | options
    return SelfForcing(critic=str(flow), teacher=f"local[folder={flow}]", **asked)


def _asked(weights: Path, **more: Any) -> dict[str, Any]:
    return {**_SETTINGS, "data": str(weights / "clips"), "model": {"weights": str(weights / "causal")}, **more}


def _rows(folder: Path) -> list[list[str]]:
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.reader(file) if row[1] != "seconds"]


@pytest.mark.parametrize(("patience", "killed"), [*((0, killed) for killed in (1, 2, 3, 4, 5, 7, 8)), (2, 3), (2, 4)])
def test_a_watched_run_that_was_killed_ends_with_the_same_files(
    weights: Path, tmp_path: Path, patience: int, killed: int
) -> None:
    trainer = _self_forcing(weights, patience=patience)
    _engine(trainer, tmp_path, "whole", _asked(weights)).train()
    with pytest.raises(_Killed):
        _engine(trainer, tmp_path, "killed", _asked(weights)).train(_killed_after(killed))
    outcome = _engine(trainer, tmp_path, "killed", _asked(weights)).train()
    # These weights know nothing, and freeze.
    assert [look.step for look in outcome.watched.looks] == ([0, 2, 4] if patience else [0, 2, 4, 6, 8])
    assert _rows(tmp_path / "whole") == _rows(tmp_path / "killed")
    whole, other = _weights(tmp_path / "whole"), _weights(tmp_path / "killed")
    assert all(torch.equal(whole[key], other[key]) for key in whole)


def test_the_last_weights_are_looked_at(weights: Path, tmp_path: Path) -> None:
    outcome = _engine(_self_forcing(weights, watch_every=3), tmp_path, "run", _asked(weights)).train()
    assert [look.step for look in outcome.watched.looks] == [0, 3, 6, 8]


def test_a_kill_between_a_look_and_its_checkpoint_leaves_no_second_look(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _engine(_self_forcing(weights), tmp_path, "whole", _asked(weights)).train()

    def killed(folder: Path, steps: int, *asked: Any, **more: Any) -> None:
        if steps == 6:
            raise _Killed
        save(folder, steps, *asked, **more)

    monkeypatch.setattr("s2search.training.engine.save", killed)
    with pytest.raises(_Killed):
        _engine(_self_forcing(weights), tmp_path, "killed", _asked(weights)).train()
    assert Watched.of(read_metrics(tmp_path / "killed")).looks[-1].step == 6
    monkeypatch.undo()
    outcome = _engine(_self_forcing(weights), tmp_path, "killed", _asked(weights)).train()
    assert [look.step for look in outcome.watched.looks] == [0, 2, 4, 6, 8]
    assert _rows(tmp_path / "whole") == _rows(tmp_path / "killed")


def test_a_look_is_of_the_averaged_weights_and_moves_nothing(weights: Path, tmp_path: Path) -> None:
    engine = _engine(_self_forcing(weights), tmp_path, "run", _asked(weights))
    outcome = engine.train()
    blind = _engine(_self_forcing(weights, watch_every=0), tmp_path, "blind", _asked(weights))
    assert not blind.train().watched.looks
    state, other = (
        load_file(next((tmp_path / name / "checkpoints" / "00000008").glob("*.safetensors")))
        for name in ("run", "blind")
    )
    assert state.keys() == other.keys()
    assert all(torch.equal(state[key], other[key]) for key in state)
    model = S2DiT.from_pretrained(tmp_path / "blind" / "model").requires_grad_(False)
    held_out = HeldOutDistance.of(engine.run.clips, engine.trainer._networks(engine.run.clips), 8)  # type: ignore[attr-defined]
    seen = held_out(streams(engine.run, model, held_out.captions(8), seed=0, first=0))
    last = outcome.watched.looks[-1].seen
    assert seen.mmd["random"] == pytest.approx(last.mmd["random"], rel=1e-4)
    assert seen.motion_ratio == pytest.approx(last.motion_ratio, rel=1e-5)


def test_each_sample_of_a_look_has_the_runs_noise_and_a_caption_of_its_own(weights: Path, tmp_path: Path) -> None:
    engine = _engine(_self_forcing(weights), tmp_path, "run", _asked(weights, seed=5))
    watch, model = engine.trainer.watch(engine.run), S2DiT.from_pretrained(weights / "causal").requires_grad_(False)
    assert watch is not None
    captions = watch.distance.captions(8)
    assert len(set(captions)) > 2
    whole = streams(engine.run, model, captions, seed=5, first=0)
    for numbers in (range(8), range(3, 6), range(6, 9)):  # the last is cut later: it has the first caption
        asked = torch.stack([whole[number % 8] for number in numbers if number < 8])
        torch.testing.assert_close(watch.made(model, numbers)[: len(asked)], asked, rtol=1e-4, atol=1e-5)
    assert (streams(engine.run, model, captions, seed=0, first=0) - whole).abs().max() > 0.1


def test_a_run_names_the_networks_that_look_and_is_another_run_by_others(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "networks.safetensors"
    trainer = _self_forcing(weights, distance=str(file))
    blind = _self_forcing(weights, distance=str(file), watch_every=0)
    read = []
    for seed in (0, 1):
        made = s2search.distance_train(weights / "clips", file, features=2, steps=1, seed=seed)
        engine = _engine(trainer, tmp_path, f"run {seed}", _asked(weights))
        watch = engine.trainer.watch(engine.run)
        assert watch is not None
        assert [one.digest for one in watch.distance.networks] == [one.digest for one in made.both]
        read.append(trainer.inputs(engine.run.clips, engine.run.config, None))
        assert "distance" not in blind.inputs(engine.run.clips, engine.run.config, None)
    assert {name for name, digest in read[0].items() if digest != read[1][name]} == {"distance"}
    s2search.data_make(["shapes[count=16]"], tmp_path / "other", video="32x32", frames=9, clips=2, held_out=0.7)
    with pytest.raises(InputError, match="were trained on"):
        _engine(trainer, tmp_path, "other run", _asked(weights, data=str(tmp_path / "other")))


def test_two_processes_see_what_one_does(weights: Path, tmp_path: Path) -> None:
    flow = weights / "flow"
    settings = {
        "trainer": f"self_forcing[critic={flow},teacher=local[folder={flow}],watch_every=2,watched=9,patience=0]",
        "model.weights": str(weights / "causal"),
        **{"optimizer.steps": 4, "optimizer.batch": 4, "optimizer.warmup": 0, "judge.strips": 0},
    }

    def train(out: str) -> None:
        s2search.train(out=tmp_path / out, data=weights / "clips", settings=settings)

    train("one")
    ranks(2, lambda: train("two"))
    one, two = (Watched.of(read_metrics(tmp_path / name)) for name in ("one", "two"))
    assert [look.step for look in one.looks] == [look.step for look in two.looks] == [0, 2, 4]
    for mine, other in zip(one.looks, two.looks, strict=True):
        assert mine.values == pytest.approx(other.values, rel=1e-3)
    page = (tmp_path / "two" / "report.html").read_text()
    assert "What it made, beside held-out clips" in page
    assert ", the best" in page


def test_the_page_of_the_whole_way_shows_what_a_stage_learnt(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flow = weights / "flow"
    options = f"critic={flow},teacher=local[folder={flow}],ratio=2,watch_every=2,watched=8,patience=0"
    settings = {"optimizer.steps": 6, "optimizer.batch": 4, "optimizer.warmup": 0, "judge.samples": 4}
    own = {"trainer": f"self_forcing[{options}]", "model.weights": str(weights / "causal"), "judge.strips": 1}
    outcome = s2search.train(out="watched", data=weights / "clips", settings=settings | own)
    own = {"trainer": "flow", "model.weights": str(flow), "judge.strips": 0}
    s2search.train(out="judged", data=weights / "clips", settings=settings | own)
    watched, judged = ("".join(learning_html(_learning(name))) for name in ("watched", "judged"))
    best = outcome.watched.best
    assert best is not None
    told = {look.step: f"{look.step}{', the best' * (look is best)}" for look in outcome.watched.looks}
    assert re.findall("<tr><td>(.*?)</td>", watched) == [*told.values()]
    shown = [line for line in plain(outcome_text(outcome)).splitlines() if re.match(r"\d", line)]
    assert [re.split("  +", line)[0] for line in shown] == [told[step] for step in sorted({0, best.step, 6})]
    strip = base64.b64encode(Path("watched/strip.png").read_bytes()).decode()
    assert re.findall(r"base64,([^\"]*)", watched) == [strip]
    assert [page.count("<svg") for page in (watched, judged)] == [1, 1]
    assert ["blind baseline" in page for page in (watched, judged)] == [False, True]
    assert "<table" not in judged
    assert "<img" not in judged


def test_what_cannot_be_watched_is_said_before_anything_is_made(weights: Path, tmp_path: Path) -> None:
    s2search.data_make(["shapes[count=8]"], tmp_path / "few", video="32x32", frames=9, clips=2, held_out=0.25)
    with pytest.raises(InputError, match=r"held-out clips of 2 recordings.*or watch_every=0"):
        _engine(_self_forcing(weights), tmp_path, "run", _asked(weights, data=str(tmp_path / "few")))
    with pytest.raises(InputError, match="watched=7; 8 or more"):
        _self_forcing(weights, watched=7)
    with pytest.raises(InputError, match="cannot be read"):
        _engine(_self_forcing(weights, distance=str(tmp_path / "none")), tmp_path, "run", _asked(weights))

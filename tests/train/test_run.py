"""Training runs: what is left is the same however a run was stopped, divided or spread, and bad input loses nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import s2search
from s2search.errors import CheckError, InputError
from s2search.network.flow import shift, unit_gaussian_gain
from s2search.network.network import S2DiT
from s2search.testing.trainers import check_trainer
from s2search.training import share as share_module
from s2search.training.base import TrainingRun
from s2search.training.data.clips import Clips
from s2search.training.engine import Engine
from s2search.training.flow import Flow
from s2search.training.judge import Blind, parts
from s2search.training.noisy import judged_by, levels
from s2search.training.parallel import Processes, processes
from s2search.training.prepare import PreparedRun
from s2search.training.run_folder import read_metrics
from s2search.training.settings import EngineSettings, RunSettings, overridden
from s2search.training.share import Share
from s2search.training.trained_network import TrainedNetwork
from tests.command import run_here
from tests.train.ranks import ranks

NANO = """
name = "nano"
depth = 4
channels = 16
heads = 2
feed_forward = 32
text_channels = 8
text_tokens = 6
"""


ALONE = Processes(rank=0, count=1, device=torch.device("cpu"), sharded=False)


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    s2search.data_make("shapes[count=10]", folder / "clips", video="32x32", frames=9, clips=2, held_out=0.2)
    (folder / "nano.toml").write_text(NANO)
    return folder


def asked(made: Path, **changes: Any) -> dict[str, Any]:
    given = {
        "data": str(made / "clips"),
        "model.preset": str(made / "nano.toml"),
        "model.layout": "LSSL",
        "optimizer.steps": 8,
        "optimizer.batch": 4,
        "optimizer.warmup": 2,
        "engine.save_every": 3,
        "engine.log_every": 1,
        "judge.samples": 8,
        "judge.strips": 1,
    }
    return given | {key.replace("__", "."): value for key, value in changes.items()}


def engine_of(made: Path, folder: Path, trainer: Any = None, where: Processes = ALONE, **changes: Any) -> Engine:
    """An engine in this process, without the report."""
    listed = [f"{key}={json.dumps(value)}" for key, value in asked(made, **changes).items()]
    prepared = PreparedRun.of(RunSettings.of(overridden({}, listed)))
    folder.mkdir(exist_ok=True)
    return Engine(trainer=trainer or prepared.trainer, run=prepared.run(folder, where), folder=folder, where=where)


def model_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], within: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert float((tensor - other[name]).abs().max()) <= within, name


@pytest.fixture(scope="module")
def whole(made: Path) -> Path:
    """A run from the first step to the last."""
    s2search.train(out=made / "whole", settings=asked(made))
    return made / "whole"


class Killed(BaseException):
    """In place of a kill: nothing catches it."""


def killed_after(steps: int) -> Any:
    def progress(done: int, total: int, label: str) -> None:
        if done == steps:
            raise Killed

    return progress


def losses(folder: Path) -> list[tuple[int, str, float]]:
    return [row for row in read_metrics(folder) if row[1] != "seconds"]


def test_a_run_leaves_what_its_folder_says(whole: Path) -> None:
    assert {path.name for path in whole.iterdir() if not path.name.startswith(".")} >= {
        *("run.toml", "run.json", "start", "checkpoints", "metrics.csv", "model", "judgement.json", "report.html")
    }
    assert [path.name for path in sorted((whole / "checkpoints").iterdir())] == ["00000006", "00000008"]
    assert {step for step, name, _ in read_metrics(whole) if name == "loss"} == set(range(1, 9))
    found = json.loads((whole / "judgement.json").read_text())
    assert [part["name"] for part in found["parts"]] == ["train", "held-out"]
    page = (whole / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "UNTRAINED" in page or found["parts"][0]["ratio"] < 1
    assert "http" not in page.replace("http-equiv", "")


def test_a_strip_has_eight_frames_apart_and_a_row_for_each_caption(made: Path, whole: Path, tmp_path: Path) -> None:
    from PIL import Image

    s2search.train(out=tmp_path / "two", settings=asked(made, judge__strips=2, optimizer__steps=1))
    for folder, rows in ((whole, 1), (tmp_path / "two", 2)):
        picture = np.asarray(Image.open(folder / "strip.png"))
        assert picture.shape == (32 * rows + 2 * (rows - 1), 32 * 8 + 2 * 7, 3)
        frames = np.ones(picture.shape[:2], dtype=bool)
        for gap in range(1, 8):
            frames[:, 34 * gap - 2 : 34 * gap] = False
        frames[32:34] = False
        assert (picture[~frames[: len(picture)]] == 128).all()
        assert (picture[frames] != 128).any()
    s2search.train(out=tmp_path / "none", settings=asked(made, judge__strips=0, optimizer__steps=1))
    assert not (tmp_path / "none/strip.png").exists()


def test_nothing_in_a_run_would_be_unpickled(whole: Path) -> None:
    kinds = {path.suffix for path in whole.rglob("*") if path.is_file()}
    assert kinds <= {".toml", ".json", ".safetensors", ".csv", ".html", ".md", ".png", ""} | {
        path.suffix for path in (whole / "tensorboard").glob("*")
    }
    for path in whole.rglob("*"):
        if path.is_file():
            head = path.read_bytes()[:2]
            assert head != b"PK"
            assert not (head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), path


def test_a_run_killed_at_three_steps_ends_like_one_that_was_not(made: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    for steps in (1, 4, 7):
        with pytest.raises(Killed):
            engine_of(made, folder).train(killed_after(steps))
    outcome = engine_of(made, folder).train()
    assert outcome.resumed_at == 6
    assert_same(model_of(whole), model_of(folder))
    assert losses(whole) == losses(folder)
    assert (whole / "judgement.json").read_text() == (folder / "judgement.json").read_text()


@pytest.mark.slow
def test_an_average_that_no_checkpoint_holds_is_noticed(
    made: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = TrainedNetwork.tensors
    monkeypatch.setattr(
        TrainedNetwork,
        "tensors",
        lambda self, name: {k: v for k, v in own(self, name).items() if not k.startswith("average")},
    )
    with pytest.raises(Killed):
        engine_of(made, tmp_path / "stopped").train(killed_after(7))
    engine_of(made, tmp_path / "stopped").train()
    with pytest.raises(AssertionError):
        assert_same(model_of(whole), model_of(tmp_path / "stopped"))


def test_the_average_is_what_its_definition_says(made: Path, tmp_path: Path) -> None:
    """a <- k a + (1 - k) w, where k is n / (n + 10) at the n-th step, until it reaches `ema`."""
    engine = engine_of(made, tmp_path / "run", optimizer__ema=0.2)
    networks, moved = engine.started()
    weights = networks["model"].state_dict()
    expected = {name: tensor.clone() for name, tensor in weights.items()}
    for step in range(5):
        engine.step(networks, moved, step)
        keep = min(0.2, (step + 1) / (step + 11))
        expected = {name: keep * tensor + (1 - keep) * weights[name] for name, tensor in expected.items()}
    assert_same(expected, dict(moved["model"].average()), 1e-6)
    with moved["model"].averaged() as network:
        assert_same(expected, dict(network.state_dict()), 1e-6)
    assert any(not torch.equal(tensor, weights[name]) for name, tensor in expected.items())


def command(made: Path, out: Path, **changes: Any) -> list[str]:
    words = [sys.executable, "-m", "s2search", "train", "--out", str(out)]
    for key, value in asked(made, **changes).items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return words


def wait_for(path: Path, lines: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not path.exists() or path.read_text().count("\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["kill -9", "SIGTERM"]
)
def test_the_command_goes_on_where_its_process_was_ended(made: Path, tmp_path: Path, how: signal.Signals) -> None:
    steps = {"optimizer__steps": 40, "engine__save_every": 4}
    out = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(made, out, **steps), stderr=subprocess.PIPE, text=True, env=environment)
    wait_for(out / "metrics.csv", 36, process)  # some 9 steps
    process.send_signal(how)
    _, error = process.communicate(timeout=60)
    kept = [int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdecimal()]
    if how is signal.SIGTERM:
        assert process.returncode == 130
        assert error.splitlines()[-1].startswith("s2search: interrupted; the steps so far are kept")
        assert max(kept) == max(step for step, _, _ in read_metrics(out))
    again = engine_of(made, out, **steps).train()
    assert again.resumed_at == max(kept)
    engine_of(made, tmp_path / "whole", **steps).train()
    assert_same(model_of(tmp_path / "whole"), model_of(out))


@pytest.mark.parametrize("change", [{"optimizer__accumulate": 2}, {"engine__recompute": True}], ids=str)
def test_a_step_is_the_same_in_parts_and_where_layers_are_computed_twice(
    made: Path, whole: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    engine_of(made, tmp_path / "run", **change).train()
    assert_same(model_of(whole), model_of(tmp_path / "run"), 2e-5)


def test_a_residual_begins_as_the_velocity_of_unit_gaussian_latents(whole: Path) -> None:
    model = S2DiT.from_pretrained(whole / "start")
    x, s = torch.randn(2, 16, 3, 4, 4), torch.tensor([[0.3], [0.9]])
    gain = unit_gaussian_gain(s)[:, :, None, None, None]
    assert torch.equal(model(x, s, torch.randn(2, 6, 8)), gain * x)


def test_the_noise_level_reaches_the_stem_in_float32_under_bfloat16(made: Path, tmp_path: Path) -> None:
    engine = engine_of(made, tmp_path / "run", engine__dtype="bfloat16")
    with processes(engine.run.settings.engine) as where:
        engine = dataclasses.replace(engine, where=where)
        networks, moved = engine.started()
        seen: list[Tensor] = []
        networks["model"].stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
        engine.step(networks, moved, 0)
    latents, s = seen[0]
    assert latents.dtype == torch.bfloat16
    share = Share(seed=0, step=0, batch=4, numbers=range(4))
    assert torch.equal(s[:, 0], levels(share, 3.0))
    assert not torch.equal(s, s.bfloat16().float())


def test_layers_computed_twice_keep_less_for_the_backward_pass(made: Path) -> None:
    def kept(recompute: bool) -> int:
        settings = asked(made, model__layout="LSSL", engine__recompute=recompute)
        return s2search.train_dry(settings=settings).memory_bytes["kept for backward"]

    assert kept(True) < 0.5 * kept(False)


def test_the_blind_baseline_is_the_best_linear_answer(made: Path) -> None:
    """Of latents with these means and variances, least squares on x_s finds what the formula says."""
    generator = torch.Generator().manual_seed(0)
    mean, deviation = torch.tensor([0.7, -2.0], dtype=torch.float64), torch.tensor([0.5, 3.0], dtype=torch.float64)
    z = mean + deviation * torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    eps = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    blind = Blind(mean_C111=mean[:, None, None, None], variance_C111=deviation.square()[:, None, None, None])
    for s in (0.05, 0.4, 0.95):
        x, v = (1 - s) * z + s * eps, eps - z
        for channel in range(2):
            design = torch.stack((x[:, channel], torch.ones(len(x), dtype=torch.float64)), 1)
            slope, offset = torch.linalg.lstsq(design, v[:, channel, None]).solution.flatten()
            probe = torch.zeros(2, 2, 1, 1, 1, dtype=torch.float64)
            probe[1, channel] = 1.0
            at_0, at_1 = blind.velocity(probe, torch.full((2,), s, dtype=torch.float64))[:, channel].flatten()
            assert float(at_1 - at_0) == pytest.approx(float(slope), abs=0.02)
            assert float(at_0) == pytest.approx(float(offset), abs=0.05)


def test_a_model_is_judged_at_levels_spread_evenly_on_different_clips_and_noise(made: Path) -> None:
    clips = Clips.load(made / "clips")
    sample = judged_by(clips, "train", range(12), 12, 3.0)
    even = (torch.arange(12, dtype=torch.float64) + 0.5) / 12
    assert torch.allclose(sample.s_B.sort().values, shift(even, 3.0).float())
    assert len({row.flatten().tolist()[0] for row in sample.x_BCTYX}) == 12
    part = judged_by(clips, "train", [7, 3], 12, 3.0)
    assert torch.equal(part.x_BCTYX, sample.x_BCTYX[[7, 3]])
    assert torch.equal(part.v_BCTYX, sample.v_BCTYX[[7, 3]])


def test_the_blind_baseline_takes_its_figures_from_the_training_clips(made: Path) -> None:
    clips = Clips.load(made / "clips")
    blind = Blind.fitted(clips)
    z = clips.latents([clip.id for clip in clips.of("train")]).double()
    assert torch.allclose(blind.mean_C111.flatten(), z.mean((0, 2, 3, 4)))
    assert torch.allclose(blind.variance_C111.flatten(), z.var((0, 2, 3, 4), correction=0))


def test_a_model_no_better_than_the_baseline_is_called_untrained() -> None:
    s, blind = torch.linspace(0, 1, 100), torch.rand(100) + 1
    better, worse = parts({"a": torch.stack((s, 0.9 * blind, blind), 1), "b": torch.stack((s, 1.01 * blind, blind), 1)})
    assert (better.trained, worse.trained) == (True, False)
    assert better.ratio == pytest.approx(0.9)
    assert better.ratio_error == pytest.approx(0.0, abs=1e-7)
    assert sum(band.samples for band in better.bands) == 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Committed(Flow):
    """Reads the last frame after the ones before it were committed, with a gradient through the state."""

    def step(self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share) -> Mapping[str, Tensor]:
        model: Any = networks["model"]
        clips = run.clips.of("train")
        chosen = [clips[place] for place in share.clips(len(clips))]
        z = run.clips.latents([clip.id for clip in chosen])
        eps, s = share.normal("noise", z.shape[1:]), share.uniform("s").float()[:, None]
        x = (1 - s[:, :, None, None, None]) * z + s[:, :, None, None, None] * eps
        text = run.captions.tokens([clip.caption for clip in chosen])
        state = model.initial_state(len(z), (2, 2), dtype=torch.float32)
        state = model.commit(z[:, :, :1], torch.zeros_like(s), text, state)
        one, state = model.advance(x[:, :, 1:2], s, text, state)
        two = model(x[:, :, 2:], s, text, state)
        off = torch.cat((one, two), 2) - (eps - z)[:, :, 1:]
        return {"model": off.square().mean()}


def two_ranks(made: Path, out: Path, mutate: str = "") -> None:
    """Train as two processes."""

    def rank() -> None:
        if mutate == "shared noise":
            own = Share.generators
            pytest.MonkeyPatch().setattr(
                Share,
                "generators",
                lambda self, purpose: own(dataclasses.replace(self, numbers=range(len(self.numbers))), purpose),
            )
        with processes(EngineSettings()) as where:
            engine_of(made, out, Committed(), where, optimizer__steps=3, engine__save_every=3).train()

    ranks(2, rank)


def test_two_processes_compute_what_one_does_and_one_goes_on_from_their_checkpoint(made: Path, tmp_path: Path) -> None:
    changes = {"optimizer__steps": 3, "engine__save_every": 3}
    one = engine_of(made, tmp_path / "one", Committed(), **changes)
    one.train()
    two_ranks(made, tmp_path / "two")
    assert_same(model_of(tmp_path / "one"), model_of(tmp_path / "two"), 1e-6)
    files = sorted((tmp_path / "two/checkpoints/00000003").glob("*.safetensors"))
    assert len(files) == 2
    engine = engine_of(made, tmp_path / "two", Committed(), **changes)
    _, moved = engine.started()
    from s2search.training.checkpoint import resume

    assert resume(tmp_path / "two", moved, engine.run.config.digest, engine.where) == 3
    assert_same(dict(moved["model"].average()), model_of(tmp_path / "two"))


@pytest.mark.slow
def test_noise_that_two_processes_share_is_noticed(made: Path, tmp_path: Path) -> None:
    one = engine_of(made, tmp_path / "one", Committed(), optimizer__steps=3, engine__save_every=3)
    one.train()
    two_ranks(made, tmp_path / "mutant", "shared noise")
    with pytest.raises(AssertionError):
        assert_same(model_of(tmp_path / "one"), model_of(tmp_path / "mutant"), 1e-6)


def test_a_trainer_is_held_against_the_contract(tmp_path: Path) -> None:
    check_trainer(Flow(), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forgetful(Flow):
    """Draws from torch's own generator."""

    def step(self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share) -> Mapping[str, Tensor]:
        (loss,) = super().step(run, networks, share).values()
        return {"model": loss * (1 + 0.01 * torch.rand(()))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summed(Flow):
    """Adds where it should average."""

    def step(self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share) -> Mapping[str, Tensor]:
        (loss,) = super().step(run, networks, share).values()
        return {"model": loss * len(share.numbers)}


@pytest.mark.parametrize("trainer", [Forgetful(), Summed()], ids=lambda trainer: trainer.name)
def test_one_that_breaks_it_is_caught(tmp_path: Path, trainer: Flow) -> None:
    with pytest.raises(AssertionError):
        check_trainer(trainer, tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diverging(Flow):
    """Is not finite at its fifth step."""

    def step(self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share) -> Mapping[str, Tensor]:
        (loss,) = super().step(run, networks, share).values()
        return {"model": loss / (share.step != 4)}


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(made: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckError, match=r"'model' is inf at step 5: clips \d+, .* at noise levels from 0\.\d+ to"
    ) as error:
        engine_of(made, tmp_path / "run", Diverging()).train()
    assert error.value.step == 5
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["00000003"]
    assert_finite(tmp_path / "run/checkpoints/00000003")


def assert_finite(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data": ""}, "there is no data to train on"),
        ({"trainer": "flw"}, "no trainer is called 'flw' (did you mean 'flow'?)"),
        ({"trainer": "flow[shift=-1]"}, "shift=-1"),
        ({"optimizer__step": 5}, "no setting of a run is called 'optimizer.step' (did you mean 'optimizer.steps'?)"),
        ({"lr": 1e-4}, "no setting of a run is called 'lr' (did you mean 'optimizer.lr'?)"),
        ({"optimizer": 3}, "optimizer is 3; a table"),
        (
            {"optimizer__batch": 5, "optimizer__accumulate": 2},
            "optimizer.batch is 5, which does not divide into 2 parts",
        ),
        ({"optimizer__lr": -1.0}, "optimizer.lr is -1.0"),
        ({"optimizer__steps": "many"}, "the setting optimizer.steps: Expected `int`, got `str`"),
        ({"model__layout": "LSS"}, "3"),
        ({"model__plan": "p.json"}, "model.layout is given beside model.plan"),
        ({"model__velocity": "both"}, "the setting model.velocity: Invalid enum value 'both'; plain, residual"),
        ({"text": "hashing[channels=9]"}, "have 9 channels, and the model reads 8"),
        ({"optimizer__steps": 10**20}, "optimizer.steps is 100000000000000000000; 1 to 1,000,000,000"),
        ({"engine__device": "warp"}, "there is no device 'warp'"),
        ({"judge__codec": "dtc"}, "no codec is called 'dtc'"),
        ({"judge__samples": 1}, "judge.samples is 1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_settings_are_one_line(made: Path, tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    given = asked(made, **changes)
    if "optimizer" in given:
        given = {key: value for key, value in given.items() if not key.startswith("optimizer.")}
    with pytest.raises(InputError) as error:
        s2search.train(out=tmp_path / "run", settings=given)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_is_not_gone_on_with_by_another_question(made: Path, whole: Path) -> None:
    with pytest.raises(InputError, match=r"holds another run: optimizer\.lr is 0\.001 there and 0\.002 here"):
        s2search.train(out=whole, settings=asked(made, optimizer__lr=0.002))


def test_other_data_of_the_same_name_is_another_run(made: Path, tmp_path: Path) -> None:
    s2search.data_make("shapes[count=4]", tmp_path / "clips", video="32x32", frames=9, clips=1, held_out=0.25)
    changes = {"data": str(tmp_path / "clips"), "optimizer__steps": 1}
    s2search.train(out=tmp_path / "run", settings=asked(made, **changes))
    shutil.rmtree(tmp_path / "clips")
    s2search.data_make("shapes[count=5]", tmp_path / "clips", video="32x32", frames=9, clips=1, held_out=0.25)
    with pytest.raises(InputError, match="holds another run: the digest of data is"):
        s2search.train(out=tmp_path / "run", settings=asked(made, **changes))


def test_a_data_set_beside_must_be_alike(made: Path, tmp_path: Path) -> None:
    s2search.data_make("shapes[count=3]", tmp_path / "clips", video="64x32", frames=9, clips=1, held_out=0)
    with pytest.raises(InputError, match="the geometry of"):
        s2search.train(out=tmp_path / "run", settings=asked(made, judge__beside=[str(tmp_path / "clips")]))


def test_without_held_out_recordings_nothing_is_trained(made: Path, tmp_path: Path) -> None:
    s2search.data_make("shapes[count=3]", tmp_path / "clips", video="32x32", frames=9, clips=1, held_out=0)
    with pytest.raises(InputError, match="holds no recording out"):
        s2search.train(out=tmp_path / "run", settings=asked(made, data=str(tmp_path / "clips")))


def test_a_folder_of_something_else_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"is not empty, and no training run: it has 'letter\.txt'"):
        s2search.train(out=tmp_path, settings=asked(made))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_two_processes_do_not_train_in_one_folder(made: Path, whole: Path) -> None:
    from io import FileIO

    from s2search.journal import lock

    with FileIO(whole / ".lock", "a+") as file:
        lock(file, whole)
        with pytest.raises(InputError, match="another process is writing to"):
            s2search.train(out=whole, settings=asked(made))


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_a_harmed_checkpoint_is_noticed_and_the_one_before_serves(made: Path, whole: Path, copy: Path) -> None:
    last = copy / "checkpoints/00000008"
    (file,) = last.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"is not as it was written; delete that checkpoint"):
        engine_of(made, copy).train()
    shutil.rmtree(last)
    assert engine_of(made, copy).train().resumed_at == 6
    assert_same(model_of(whole), model_of(copy))


def test_a_model_learns_latents_of_fewer_channels_and_no_others(made: Path, tmp_path: Path) -> None:
    four = tmp_path / "clips"
    s2search.data_make(
        "shapes[count=10]", four, video="32x32", frames=9, clips=2, held_out=0.2, codec="dct[channels=4]"
    )
    s2search.train(out=tmp_path / "run", settings=asked(made, data=str(four), optimizer__steps=2))
    model = S2DiT.from_pretrained(tmp_path / "run/model")
    assert model.config.latent_channels == 4
    with pytest.raises(InputError, match="the codec dct decodes latents of 16 channels, and the model makes 4"):
        s2search.stream(tmp_path / "x.mp4", tmp_path / "run/model", video="32x32", prompt="red", chunks=1)
    s2search.stream(
        tmp_path / "y.mp4", tmp_path / "run/model", video="32x32", prompt="red", chunks=1, codec="dct[channels=4]"
    )
    changes = {"model__weights": str(tmp_path / "run/model"), "model__preset": "", "model__layout": ""}
    with pytest.raises(InputError, match="has latents of 16 channels, and the model denoises 4"):
        s2search.train(out=tmp_path / "more", settings=asked(made, **changes))


def test_a_checkpoint_of_another_model_is_refused(made: Path, copy: Path) -> None:
    with pytest.raises(InputError, match=r"start' are of another model: sha256:"):
        engine_of(made, copy, model__layout="SLLL")
    shutil.rmtree(copy / "start")
    with pytest.raises(InputError, match=r"the checkpoint .* is of another model: sha256:"):
        engine_of(made, copy, model__layout="SLLL").train()


def test_a_full_disk_is_one_line_and_keeps_the_checkpoint_before(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s2search.training import checkpoint

    own = checkpoint.saved

    def full(tensors: Any, folder: Path, where: Any) -> None:
        if "00000006" in folder.name:
            raise OSError(28, "No space left on device")
        own(tensors, folder, where)

    monkeypatch.setattr(checkpoint, "saved", full)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device; make room"):
        engine_of(made, tmp_path / "run").train()
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["00000003"]


def test_a_run_begins_with_weights_that_were_trained(made: Path, whole: Path, tmp_path: Path) -> None:
    given = asked(made, model__weights=str(whole / "model"), optimizer__steps=1, optimizer__lr=1e-12)
    for name in ("model.layout", "model.preset"):
        del given[name]
    s2search.train(out=tmp_path / "run", settings=given)
    assert_same(model_of(whole), model_of(tmp_path / "run"), 1e-6)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["digests"]["weights"].startswith("sha256:")


def test_every_sample_of_a_step_has_numbers_of_its_own() -> None:
    share = Share(seed=3, step=5, batch=8, numbers=range(8))
    noise = share.normal("noise", (4,))
    assert len({tuple(row) for row in noise.tolist()}) == 8
    assert torch.equal(noise[4:], dataclasses.replace(share, numbers=range(4, 8)).normal("noise", (4,)))
    assert not torch.equal(noise, share.normal("another", (4,)))
    assert not torch.equal(noise, dataclasses.replace(share, step=6).normal("noise", (4,)))
    seen = [place for step in range(5) for place in dataclasses.replace(share, step=step).clips(10)]
    assert sorted(seen) == sorted([*range(10)] * 4)
    assert share_module.generator(1, 2).initial_seed() != share_module.generator(2, 1).initial_seed()


def test_a_dry_run_keeps_nothing_and_says_what_a_run_takes(made: Path, tmp_path: Path) -> None:
    words = [word for key, value in asked(made).items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = run_here(["train", "--dry-run", *words], tmp_path)
    assert "parameters" in done.out
    assert "a step " in done.out
    assert list(tmp_path.iterdir()) == []

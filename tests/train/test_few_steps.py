"""Causal training, consistency and self-forcing: laws of what a step computes, and runs that are killed and go on."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

import s2search
from s2search.cost import COMMIT_POLICIES
from s2search.errors import CheckError, InputError
from s2search.network.config import CausalForm, ModelConfig
from s2search.network.flow import few_step_schedule, renoise, velocity
from s2search.network.network import S2DiT
from s2search.network.random_weights import RandomS2DiT
from s2search.preset import Preset
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from s2search.testing.trainers import _engine, check_trainer
from s2search.text.base import LoadedText
from s2search.text.hashing import Hashing
from s2search.training.captions import Captions
from s2search.training.causal import Causal
from s2search.training.causal_consistency import CausalConsistency
from s2search.training.dmd import matching_gradient, matching_loss
from s2search.training.noisy import drawn_clips
from s2search.training.parallel import recomputed
from s2search.training.rollout import rolled_out
from s2search.training.run_folder import read_metrics
from s2search.training.scan import chunks_of, levels_of_chunks, scanned
from s2search.training.self_forcing import SelfForcing
from s2search.training.settings import OptimizerSettings
from s2search.training.share import Share
from s2search.training.teachers.base import Expert, Reader, Teacher, Velocity
from s2search.training.teachers.held import HeldTeacher
from s2search.training.trained_network import TrainedNetwork
from tests.stream.conftest import Maker
from tests.stream.naive_network import teacher_forced
from tests.train.ranks import ranks

_WINDOWS = [(1, 0), (2, 0), (3, 0), (2, 1), (1, 1), (9, 0)]
_PRESET = {"name": "nano", "depth": 2, "channels": 16, "heads": 2, "feed_forward": 32, "text_channels": 8}


def _grads(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize(("window", "sink"), _WINDOWS)
@pytest.mark.parametrize("chunk_frames", [1, 2])
def test_the_scan_is_the_masked_forward_in_outputs_and_gradients(window: int, sink: int, chunk_frames: int) -> None:
    make, chunks = Maker(), 5
    model = make.model("SLLS", chunk_frames=chunk_frames, window_chunks=window, sink_chunks=sink)
    x, past, text = make.latents(chunks * chunk_frames), make.latents(chunks * chunk_frames, seed=7), make.text()
    s_BN = torch.linspace(0.9, 0.1, chunks, dtype=torch.float64)[None]
    weights = torch.randn_like(x)
    scan = torch.cat(list(scanned(model, x, s_BN, past, 0.3, text, detach=False)), dim=2)
    (scan * weights).sum().backward()
    found = _grads(model)
    model.zero_grad()
    s_T = s_BN[0].repeat_interleave(chunk_frames)
    masked = teacher_forced(
        model, past, torch.full_like(s_T, 0.3), x, s_T, text, chunk_frames=chunk_frames, window=window, sink=sink
    )
    (masked * weights).sum().backward()
    assert (scan - masked).abs().max() <= 1e-12 * masked.abs().max()
    assert (found - _grads(model)).abs().max() <= 1e-12 * found.abs().max()


def test_without_gradients_through_commits_each_chunk_has_a_graph_of_its_own() -> None:
    make = Maker()
    model = make.model("LS")
    x, text, s_BN = make.latents(6), make.text(), torch.full((1, 3), 0.5, dtype=torch.float64)
    for part in scanned(model, x, s_BN, x, 0.0, text, detach=True):
        part.sum().backward()  # a second time through what is shared would raise
    detached = _grads(model)
    model.zero_grad()
    torch.stack([part.sum() for part in scanned(model, x, s_BN, x, 0.0, text, detach=False)]).sum().backward()
    assert not torch.equal(detached, _grads(model))


@pytest.mark.parametrize("commit", COMMIT_POLICIES)
@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
def test_a_replayed_backward_is_the_full_one(commit: str, again: bool) -> None:
    make = Maker()
    model = make.model("SLLS")
    text, sampler = make.text(batch=2), FewStepSampler(commit=commit)
    state = StreamState.start(model, (3, 5), seed=4, batch=2)
    rolled = list(rolled_out(model, sampler, text, 4, 2, state))
    if again:
        for layer in model.layers:
            recomputed(layer)
    wanted = [torch.randn_like(chunk.z_BCTYX) for chunk in rolled]
    whole = [(chunk.replayed(model, text, torch.float64) * w).sum() for chunk, w in zip(rolled, wanted, strict=True)]
    torch.stack(whole).sum().backward()
    full = _grads(model)
    model.zero_grad()
    for chunk, w in zip(rolled, wanted, strict=True):
        z = chunk.replayed(model, text, torch.float64)
        assert torch.equal(z.detach(), chunk.z_BCTYX)
        (z * w).sum().backward()
    assert (full - _grads(model)).abs().max() <= 1e-15 * full.abs().max() * len(rolled)


@pytest.mark.parametrize("commit", COMMIT_POLICIES)
def test_a_rollout_has_the_states_and_chunks_of_a_stream(commit: str) -> None:
    make = Maker()
    model, text, sampler = make.model("SLLS"), make.text(batch=2), FewStepSampler(commit=commit)
    start = StreamState.start(model, (3, 5), seed=4, batch=2, first=3)
    last = list(rolled_out(model, sampler, text, 3, 3, start))
    early = list(rolled_out(model, sampler, text, 3, 1, start))
    state = start
    for number in range(3):
        for chunk in (last[number], early[number]):  # the exit step does not matter to what is committed
            for mine, own in zip(_leaves(chunk.state), _leaves(state.layers), strict=True):
                assert torch.equal(mine, own)
        z, state = sampler.next_chunk(model, text, state)
        assert torch.equal(z, last[number].z_BCTYX)
    alone = StreamState.start(model, (3, 5), seed=4, first=4)
    (z, _) = sampler.next_chunk(model, text[1:], alone)
    torch.testing.assert_close(z[0], last[0].z_BCTYX[1], rtol=1e-9, atol=1e-9)


def _leaves(tree):
    from s2search.streaming.replay import leaves

    return leaves(tree)


def test_a_rollout_that_is_not_finite_names_chunk_and_step() -> None:
    make = Maker()
    model = make.model("LS")
    with torch.no_grad():
        next(model.head.parameters()).mul_(torch.nan)
    state = StreamState.start(model, (3, 5))
    with pytest.raises(CheckError, match="chunk 0 of the rollout is not finite at step 1 of 4"):
        list(rolled_out(model, FewStepSampler(), make.text(), 2, 0, state))


def test_equal_critic_and_teacher_move_nothing() -> None:
    z, z_real = torch.randn(2, 3, 4).requires_grad_(), torch.randn(2, 3, 4)
    loss = matching_loss(z, matching_gradient(z.detach(), z_real, z_real), z.numel())
    loss.backward()
    assert loss.item() == 0
    assert z.grad.abs().max() == 0


def test_the_gradient_is_g_over_numbers_and_has_no_scale() -> None:
    z, fake, real = (torch.randn(3, 4, 5, dtype=torch.float64) for _ in range(3))
    g = matching_gradient(z, fake, real)
    by_hand = torch.stack([(f - r) / (a - r).abs().mean() for a, f, r in zip(z, fake, real, strict=True)])
    torch.testing.assert_close(g, by_hand, rtol=1e-14, atol=0)
    torch.testing.assert_close(matching_gradient(10 * z, 10 * fake, 10 * real), g, rtol=1e-13, atol=0)
    moved = z.clone().requires_grad_()
    matching_loss(moved, g, z.numel()).backward()
    torch.testing.assert_close(moved.grad, g / z.numel(), rtol=1e-14, atol=0)


def test_a_sample_that_is_not_finite_moves_nothing_and_others_as_before() -> None:
    z, fake, real = (torch.randn(3, 4) for _ in range(3))
    g = matching_gradient(z, fake, real)
    fake[1, 2] = torch.nan
    harmed = matching_gradient(z, fake, real)
    assert harmed[1].abs().max() == 0
    assert torch.equal(harmed[[0, 2]], g[[0, 2]])


def test_a_gaussian_is_matched_in_mean_and_covariance() -> None:
    """A generator of two numbers, its critic and an exact teacher: DMD alone, as `self_forcing` does it."""
    torch.manual_seed(0)
    mean = torch.tensor([1.0, -2.0])
    root = torch.tensor([[1.0, 0.0], [0.6, 0.5]])
    covariance = root @ root.T

    def mlp(inputs: int) -> torch.nn.Sequential:
        sizes = [inputs, 64, 64, 2]
        layers = [part for a, b in itertools.pairwise(sizes) for part in (torch.nn.Linear(a, b), torch.nn.SiLU())]
        return torch.nn.Sequential(*layers[:-1])

    generator, critic = mlp(2), mlp(3)
    moves = [torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.0, 0.999)) for net in (generator, critic)]

    def teacher(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        keep = 1 - s
        noisy = keep[..., None] ** 2 * covariance + s[..., None] ** 2 * torch.eye(2)
        off = (x - keep * mean)[..., None]
        return mean + (keep[..., None] * covariance @ torch.linalg.solve(noisy, off))[..., 0]

    from s2search.network.flow import clean, shift

    average = None
    for step in range(6000):
        z = generator(torch.randn(256, 2))
        s = shift(torch.rand(256, 1), 5.0)
        if step % 5 == 4:
            s = s.clamp(0.02, 0.98)
            x = renoise(z.detach(), s, torch.randn_like(z))
            with torch.no_grad():
                fake = clean(x, s, critic(torch.cat((x, s), 1)))
            loss = matching_loss(z, matching_gradient(z.detach(), fake, teacher(x, s)), z.numel())
            which = 0
        else:
            eps = torch.randn_like(z)
            x = renoise(z.detach(), s, eps)
            loss = (critic(torch.cat((x, s), 1)) - velocity(z.detach(), eps)).square().mean()
            which = 1
        moves[which].zero_grad()
        loss.backward()
        moves[which].step()
        if which == 0 and step > 1000:
            now = [p.detach().clone() for p in generator.parameters()]
            average = now if average is None else [a.lerp(b, 0.01) for a, b in zip(average, now, strict=True)]
    with torch.no_grad():
        for p, a in zip(generator.parameters(), average, strict=True):
            p.copy_(a)
        made = generator(torch.randn(200_000, 2))
    assert ((made.mean(0) - mean) / covariance.diagonal().sqrt()).abs().max() < 0.02
    assert torch.linalg.norm(torch.cov(made.T) - covariance) < 0.05 * torch.linalg.norm(covariance)


@dataclass(frozen=True, kw_only=True)
class TwoExperts(Teacher):
    """Answers with its expert's number, and with how many tokens of the prompt are not 0, so that all can be told."""

    statement = "two experts"
    shift = 5.0
    negative = "ugly"
    latent_channels = 2
    files: ClassVar[dict[str, str]] = {}
    encoder = "letters"

    @property
    def experts(self) -> tuple[Expert, ...]:
        return (Expert(name="low", high=0.875, guidance=3.0), Expert(name="high", low=0.875, guidance=4.0))

    def sizes(self) -> dict[str, int]:
        return {}

    @contextmanager
    def reading(self, device: torch.device) -> Iterator[Reader]:
        yield lambda prompts: [torch.full((1,), float(len(prompt))) for prompt in prompts]

    @contextmanager
    def answering(self, expert: Expert, device: torch.device, dtype: torch.dtype) -> Iterator[Velocity]:
        number = 100.0 if expert.name == "high" else 10.0
        yield lambda x, s_B, texts: torch.stack([x_one * 0 + number + t for x_one, t in zip(x, texts, strict=True)])


def test_a_held_teacher_asks_the_expert_of_the_level_and_guides_by_its_own_weight() -> None:
    held = HeldTeacher(TwoExperts(), torch.device("cpu"), torch.float32)
    s_B = torch.tensor([0.5, 0.9, 0.875])
    found = held.velocity(torch.zeros(3, 2, 1, 2, 2), s_B, ["abcdef", "abc", "abcdefgh"])
    # u + w (c - u), with u of four letters.
    wanted = torch.tensor([14 + 3 * (16 - 14), 104 + 4 * (103 - 104), 104 + 4 * (108 - 104)])
    assert torch.equal(found[:, 0, 0, 0, 0], wanted.float())


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_a_network_moves_at_its_own_rate(rate: float) -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    before = float(network.weight.detach())
    moved = TrainedNetwork(network, OptimizerSettings(lr=0.01, warmup=0, weight_decay=0.0), rate=rate)
    network(torch.ones(1, 1)).sum().backward()
    moved.update(0)
    assert before - float(network.weight.detach()) == pytest.approx(0.01 * rate, rel=1e-3)  # Adam's first step


# --- runs


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bidirectional weights, and such as were trained to stream: folders `flow` and `causal`."""
    folder = tmp_path_factory.mktemp("weights")
    preset = Preset(**_PRESET, text_tokens=6, layout="LS")
    config = ModelConfig.new(preset, ("lcha", "ssa"), velocity="residual")
    RandomS2DiT(config, seed=1).save_pretrained(folder / "flow")
    for commit, level in (("reuse_last", few_step_schedule()[-1]), ("clean_pass", 0.0)):
        form = CausalForm(commit=commit, level=level)
        one = ModelConfig.new(preset, ("lcha", "ssa"), velocity="residual", causal=form)
        RandomS2DiT(one, seed=1).save_pretrained(folder / commit)
    return folder


def _asked(weights: Path, name: str) -> dict:
    return {"model": {"weights": str(weights / name)}}


@pytest.mark.parametrize("commit", COMMIT_POLICIES)
@pytest.mark.parametrize("detach", [False, True])
def test_causal_keeps_the_contract(weights: Path, tmp_path: Path, commit: str, detach: bool) -> None:
    trainer = Causal(commit=commit, chunk=1, window=2, detach_commits=detach)
    check_trainer(trainer, tmp_path, settings=_asked(weights, "flow"))


@pytest.mark.parametrize("commit", COMMIT_POLICIES)
def test_consistency_keeps_the_contract(weights: Path, tmp_path: Path, commit: str) -> None:
    check_trainer(CausalConsistency(), tmp_path, settings=_asked(weights, commit))


@pytest.mark.parametrize("commit", COMMIT_POLICIES)
def test_consistency_is_the_masked_networks_answers_one_level_apart(weights: Path, tmp_path: Path, commit: str) -> None:
    levels = 6
    form = S2DiT.from_pretrained(weights / commit).config.causal
    preset = Preset(**_PRESET, text_tokens=6, layout="LS", chunk_frames=1)
    config = ModelConfig.new(preset, ("lcha", "ssa"), velocity="residual", causal=form)
    RandomS2DiT(config, seed=1).save_pretrained(tmp_path / "begun")
    engine = _engine(CausalConsistency(levels=levels), tmp_path, "run", _asked(tmp_path, "begun"))
    networks, moved = engine.started()
    with torch.no_grad():  # three that differ
        for number, name in enumerate(("average", "teacher")):
            for weight in networks[name].parameters():
                weight.add_(0.05 * (number + 1) * torch.randn_like(weight))
    run, share = engine.run, Share(seed=5, step=2, batch=4, numbers=range(4))
    found = engine.trainer.step(run, networks, share)["model"]

    exact = {name: copy.deepcopy(network).double() for name, network in networks.items()}
    z, captions = drawn_clips(run.clips, share)
    ladder = torch.tensor([*few_step_schedule(levels), 0.0])
    place = (levels_of_chunks(share.generators("s"), 3) * levels).long()
    past = renoise(z, form.level, share.normal("commit", z.shape[1:])) if form.level else z
    eps, text, losses = share.normal("noise", z.shape[1:]), run.captions.tokens(captions), []
    ladder, past, z, eps, text = (one.double() for one in (ladder, past, z, eps, text))
    for n in range(4):
        one = slice(n, n + 1)
        s, below = ladder[place[n]], ladder[place[n] + 1]

        def answer(name: str, x: torch.Tensor, s_T: torch.Tensor, one: slice = one) -> torch.Tensor:
            level_T = torch.full((3,), form.level, dtype=torch.float64)
            return teacher_forced(exact[name], past[one], level_T, x, s_T, text[one], chunk_frames=1, window=2, sink=0)

        def at(s_T: torch.Tensor) -> torch.Tensor:
            return s_T[None, None, :, None, None]

        x = (1 - at(s)) * z[one] + at(s) * eps[one]
        led = x - (at(s) - at(below)) * answer("teacher", x, s)
        wanted = led - at(below) * answer("average", led, below)
        losses.append((x - at(s) * answer("model", x, s) - wanted).square().mean())
    torch.testing.assert_close(found.double(), torch.stack(losses).mean(), rtol=1e-4, atol=1e-7)

    engine.step(networks, moved, 0)
    for (name, own), mine in zip(moved["model"].average(), networks["average"].state_dict().values(), strict=True):
        assert torch.equal(own, mine), name


@pytest.mark.parametrize("commit", COMMIT_POLICIES)
def test_self_forcing_keeps_the_contract(weights: Path, tmp_path: Path, commit: str) -> None:
    flow = str(weights / "flow")
    trainer = SelfForcing(critic=flow, teacher=f"local[folder={flow}]", ratio=2, rollout=3, watch_every=0)
    check_trainer(trainer, tmp_path, settings=_asked(weights, commit))


@pytest.mark.parametrize("name", ["causal", "causal_consistency", "self_forcing"])
def test_two_processes_compute_what_one_does(weights: Path, tmp_path: Path, name: str) -> None:
    """Exit step, window and noise are the same in both, and so many chunks are replayed in both."""
    flow = weights / "flow"
    options = {
        "causal": "[chunk=1,detach_commits=true]",
        "causal_consistency": "",
        "self_forcing": f"[critic={flow},teacher=local[folder={flow}],ratio=2,rollout=2,watch_every=0]",
    }
    s2search.data_make(["shapes[count=8]"], tmp_path / "clips", video="32x32", frames=9, clips=2, held_out=0.25)
    settings = {
        "trainer": name + options[name],
        "model.weights": str(flow if name == "causal" else weights / "clean_pass"),
        "optimizer.steps": 4,
        "optimizer.batch": 4,
        "optimizer.warmup": 0,
        "judge.samples": 4,
        "judge.strips": 0,
    }

    def train(out: str) -> None:
        s2search.train(out=tmp_path / out, data=tmp_path / "clips", settings=settings)

    train("one")
    ranks(2, lambda: train("two"))
    one, two = (S2DiT.from_pretrained(tmp_path / out / "model").state_dict() for out in ("one", "two"))
    start = S2DiT.from_pretrained(str(settings["model.weights"])).state_dict()
    settings["engine.dtype"] = "bfloat16"
    ranks(1, lambda: train("short"))  # in a process of its own: what has sharded networks is not to be copied
    assert S2DiT.from_pretrained(tmp_path / "short" / "model").config.causal
    assert max(float((one[key] - start[key]).abs().max()) for key in one) > 1e-4
    for key, tensor in one.items():
        # Sums of another order, which Adam divides by gradients that may be as small as they.
        assert float((tensor - two[key]).abs().max()) <= 2e-5, key


def test_a_dry_run_counts_weights_that_answer_and_do_not_move(weights: Path, tmp_path: Path) -> None:
    flow = str(weights / "flow")
    size = sum(4 * weight.numel() for weight in S2DiT.from_pretrained(weights / "flow").parameters())
    s2search.data_make(["shapes[count=8]"], tmp_path / "clips", video="32x32", frames=9, clips=2, held_out=0.25)

    def still(trainer: str, start: str) -> int:
        settings = {"trainer": trainer, "model.weights": str(weights / start), "optimizer.batch": 2}
        found = s2search.train_dry(data=tmp_path / "clips", settings=settings)
        assert found.memory_bytes["weights"] == 4 * found.parameters
        return found.memory_bytes["weights that do not move"]

    assert still("causal", "flow") == 0
    assert still("causal_consistency", "clean_pass") == size  # the frozen teacher; the target is the average
    assert still(f"self_forcing[critic={flow},teacher=local[folder={flow}],watch_every=0]", "clean_pass") == size


def test_what_causal_leaves_says_how_it_streams(weights: Path, tmp_path: Path) -> None:
    settings = _asked(weights, "flow") | {"optimizer": {"steps": 4, "batch": 4, "warmup": 1}}
    check_trainer(Causal(chunk=1, window=3, sink=1, steps=2), tmp_path, settings=settings)
    (folder,) = {path.parent for path in tmp_path.rglob("model/config.json")} - {tmp_path / "stopped" / "model"}
    model = S2DiT.from_pretrained(folder)
    level = few_step_schedule(2)[-1]
    assert model.config.causal == CausalForm(commit="reuse_last", level=level)
    assert (model.config.preset.chunk_frames, model.config.preset.window.frames) == (1, 3)
    assert json.loads((folder / "config.json").read_text())["causal"]["level"] == level


def test_the_critic_moves_five_times_as_often_as_the_model(weights: Path, tmp_path: Path) -> None:
    flow = str(weights / "flow")
    trainer = SelfForcing(critic=flow, teacher=f"local[folder={flow}]", watch_every=0)
    settings = _asked(weights, "clean_pass") | {
        "optimizer": {"steps": 10, "batch": 2, "warmup": 1},
        "engine": {"save_every": 10, "log_every": 1},
        "judge": {"samples": 2, "strips": 0},
    }
    _engine(trainer, tmp_path, "run", settings).train()
    state = json.loads(next(tmp_path.glob("run/checkpoints/*/state.json")).read_text())
    assert state["updates"] == {"model": 2, "critic": 10}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_how_far_the_teacher_points_elsewhere_is_a_mean_over_numbers(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    def given(z: torch.Tensor, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        return torch.cat((torch.full_like(z[..., :1], -2.0), torch.zeros_like(z[..., 1:])), dim=-1)

    monkeypatch.setattr("s2search.training.dmd.matching_gradient", given)
    flow = str(weights / "flow")
    trainer = SelfForcing(critic=flow, teacher=f"local[folder={flow}]", ratio=2, watch_every=0)
    engine = _engine(
        trainer,
        tmp_path,
        "run",
        _asked(weights, "clean_pass") | {"optimizer": {"steps": 4, "batch": 4, "warmup": 1, "accumulate": accumulate}},
    )
    engine.train()
    columns = engine.run.clips.heading.latent_size[-1]
    found = {step: value for step, name, value in read_metrics(tmp_path / "run") if name == "direction"}
    assert found == pytest.approx({2: 2 / columns, 4: 2 / columns})


def _refused(trainer, weights: Path, tmp_path: Path, name: str) -> str:
    with pytest.raises(InputError) as caught:
        check_trainer(trainer, tmp_path, settings=_asked(weights, name))
    return str(caught.value)


_NINE: Any = SimpleNamespace(heading=SimpleNamespace(latent_size=(16, 9, 4, 4)))  # clips of nine latent frames


def _few(schedule: tuple[float, ...], commit: str) -> ModelConfig:
    form = CausalForm(commit=commit, level=0.0 if commit == "clean_pass" else schedule[-1], schedule=schedule)
    return ModelConfig.new(Preset(**_PRESET, text_tokens=6), ("lcha", "ssa"), causal=form)


def test_bad_input_is_one_clear_line(weights: Path, tmp_path: Path) -> None:
    flow = str(weights / "flow")
    local = f"local[folder={flow}]"
    assert "were not trained to stream" in _refused(CausalConsistency(), weights, tmp_path, "flow")
    line = _refused(CausalConsistency(steps=2), weights, tmp_path, "reuse_last")
    assert "0.625" in line
    assert "0.833333" in line
    assert "do not divide into chunks of 2" in _refused(Causal(chunk=2), weights, tmp_path, "flow")
    line = _refused(SelfForcing(critic=str(weights / "clean_pass"), teacher=local), weights, tmp_path, "clean_pass")
    assert "was trained to stream" in line
    kept = SelfForcing(critic=flow, teacher=local).leaves(_few((1.0, 0.75), "clean_pass"), _NINE)
    assert kept.causal.schedule == (1.0, 0.75)  # what weights were trained for is not replaced
    asked = SelfForcing(critic=flow, teacher=local, steps=1).leaves(_few((1.0, 0.75), "clean_pass"), _NINE)
    assert asked.causal.schedule == (1.0,)
    shifted = SelfForcing(critic=flow, teacher=local, schedule_shift=5.0).leaves(_few((1.0, 0.75), "clean_pass"), _NINE)
    assert shifted.causal.schedule == few_step_schedule(2, 5.0)
    with pytest.raises(InputError, match="with the same schedule_shift"):
        SelfForcing(critic=flow, teacher=local, schedule_shift=5.0).leaves(_few((1.0, 0.75), "reuse_last"), _NINE)
    streams = SelfForcing(critic=flow, teacher=f"local[folder={weights / 'clean_pass'}]")
    assert "was trained to stream, and would be asked about whole clips" in _refused(
        streams, weights, tmp_path, "clean_pass"
    )
    with pytest.raises(InputError, match="below 1"):
        Causal(steps=1)
    with pytest.raises(InputError, match="a window of 3 of 2 chunks"):
        SelfForcing(critic=flow, teacher=local, rollout=2, window=3)


@dataclass(frozen=True, kw_only=True)
class Ragged(Hashing):
    """As many tokens as the longest prompt has words: another process may have others."""

    def load(self, device: torch.device, dtype: torch.dtype) -> LoadedText:
        whole = super().load(device, dtype)

        class Loaded(LoadedText):
            def encode(self, prompts):
                return whole.encode(prompts)[:, : max(len(prompt.split()) for prompt in prompts)]

        return Loaded()


def test_text_of_another_length_is_refused_in_whichever_process_it_is_read() -> None:
    captions = Captions(Ragged(channels=8, tokens=6), torch.device("cpu"), torch.float32)
    assert captions.tokens(["one of exactly as many words"]).shape == (1, 6, 8)
    with pytest.raises(InputError, match="makes 2 tokens of a prompt, and says that it makes 6"):
        captions.tokens(["two words"])


def test_chunks_are_whole() -> None:
    config = ModelConfig.new(Preset(**_PRESET, text_tokens=6), ("lcha", "ssa"))
    parts = [one.shape[2] for (one,) in chunks_of(config, torch.zeros(1, 16, 9, 2, 2))]
    assert parts == [3, 3, 3]

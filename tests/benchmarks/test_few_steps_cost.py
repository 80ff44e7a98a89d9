"""What few-step training costs beside what it is made of: memory and processor time, as ratios in the same run.

Sizes at which arithmetic rules. Where a chunk is so small that starting operations does, the scan takes three times a
bidirectional step and more.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

import s2search
from s2search.network.config import CausalForm, ModelConfig
from s2search.network.flow import few_step_schedule
from s2search.network.random_weights import RandomS2DiT
from s2search.preset import PATCH, Preset
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState
from s2search.training.engine import Engine
from s2search.training.estimate import _kept
from s2search.training.parallel import ALONE
from s2search.training.prepare import PreparedRun
from s2search.training.rollout import rolled_out
from s2search.training.settings import RunSettings, overridden
from s2search.training.share import Share

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

CHUNKS, BATCH = 7, 2
SIZES = Preset(name="w96", depth=6, channels=96, heads=4, feed_forward=384, text_channels=32, text_tokens=8)
LAYOUT = "L2S3L"


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of seven chunks, bidirectional weights, and such as stream: `clips`, `flow` and `causal`."""
    folder = tmp_path_factory.mktemp("few")
    s2search.data_make("shapes[count=8]", folder / "clips", video="256x128", frames=81, clips=1, held_out=0.25)
    names = ("name", "depth", "channels", "heads", "feed_forward", "text_channels", "text_tokens")
    (folder / "w96.toml").write_text("".join(f"{name} = {json.dumps(getattr(SIZES, name))}\n" for name in names))
    form = CausalForm(commit="reuse_last", level=few_step_schedule()[-1])
    blocks = ("lcha",) * 2 + ("ssa",) * 3 + ("lcha",)
    for name, causal in (("flow", None), ("causal", form)):
        config = ModelConfig.new(SIZES, blocks, velocity="residual", causal=causal)
        RandomS2DiT(config, seed=1).save_pretrained(folder / name)
    return folder


def engine_of(made: Path, folder: Path, trainer: str, weights: str) -> Engine:
    given = {"data": str(made / "clips"), "trainer": trainer, "model.weights": str(made / weights)}
    listed = [f"{key}={json.dumps(value)}" for key, value in (given | {"optimizer.batch": BATCH}).items()]
    prepared = PreparedRun.of(RunSettings.of(overridden({}, listed)))
    folder.mkdir()
    return Engine(trainer=prepared.trainer, run=prepared.run(folder, ALONE), folder=folder, where=ALONE)


def self_forcing(made: Path, **options: int) -> str:
    told = "".join(f",{name}={value}" for name, value in {"ratio": 1, "watch_every": 0, **options}.items())
    return f"self_forcing[critic={made / 'flow'},teacher=local[folder={made / 'flow'}]{told}]"


def share(step: int) -> Share:
    return Share(seed=0, step=step, batch=BATCH, numbers=range(BATCH))


def process_s(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


# --- memory


def one_by_one(parts: Iterable[torch.Tensor]) -> None:
    """As the engine does."""
    for part in parts:
        part.backward()


def all_at_once(parts: Iterable[torch.Tensor]) -> None:
    torch.stack([*parts]).sum().backward()


def test_seven_replayed_chunks_keep_what_one_does(made: Path, tmp_path: Path) -> None:
    """Bytes that graphs keep for the backward pass, at their most."""

    def most(name: str, backward: Callable[[Iterable[torch.Tensor]], None], **options: int) -> int:
        engine = engine_of(made, tmp_path / name, self_forcing(made, **options), "causal")
        networks, _ = engine.started()
        weights = {p.untyped_storage().data_ptr() for network in networks.values() for p in network.parameters()}
        found = []
        for step in range(3):
            with _kept(weights) as kept:
                backward(engine.trainer.step(engine.run, networks, share(step))["model"])
            found.append(kept[0])
        return max(found)

    one = most("one", one_by_one, rollout=CHUNKS, window=1)
    replayed, full = most("replayed", one_by_one) / one, most("full", all_at_once) / one
    print(f"kept by 7 chunks / by one: replayed {replayed:.2f}, all graphs at once {full:.2f}")
    assert full > 4
    assert replayed <= 1.3


# --- time


def test_teacher_forcing_by_scan_takes_little_more_than_twice_a_bidirectional_step(made: Path, tmp_path: Path) -> None:
    """Forward and backward of the same clips, 7 chunks."""

    def stepper(name: str) -> Callable[[], None]:
        engine = engine_of(made, tmp_path / name, name, "flow")
        networks, _ = engine.started()

        def step() -> None:
            loss = engine.trainer.step(engine.run, networks, share(0))["model"]
            assert isinstance(loss, torch.Tensor)
            loss.backward()

        return step

    causal, flow = stepper("causal"), stepper("flow")
    causal(), flow()
    found = [process_s(causal) / process_s(flow) for _ in range(9)]
    print(f"scan / bidirectional: {statistics.median(found):.3f}")
    assert statistics.median(found) <= 2.2


def test_a_step_of_self_forcing_takes_what_its_passes_take(made: Path, tmp_path: Path) -> None:
    """Of model and critic, without the optimizer; the passes are run by themselves, each for all chunks."""
    engine = engine_of(made, tmp_path / "run", self_forcing(made), "causal")
    networks, _ = engine.started()
    model: Any = networks["model"]
    critic: Any = networks["critic"]
    teacher = RandomS2DiT.from_pretrained(made / "flow").requires_grad_(False)
    clips = engine.run.clips.of("train")[:BATCH]
    text = engine.run.captions.tokens([clip.caption for clip in clips])
    rows, columns = engine.run.clips.heading.latent_size[2:]
    start = StreamState.start(model, (rows // PATCH[1], columns // PATCH[2]), batch=BATCH)
    sampler = FewStepSampler()
    rolled = list(rolled_out(model, sampler, text, CHUNKS, 2, start))
    clip = torch.cat([chunk.z_BCTYX for chunk in rolled], dim=2)
    level = torch.full((BATCH, 1), 0.5)

    def step() -> None:
        losses = engine.trainer.step(engine.run, networks, share(0))
        for name in ("model", "critic"):
            one_by_one(losses[name])

    def rollout() -> None:
        state = start
        for _ in range(CHUNKS):
            _, state = sampler.next_chunk(model, text, state)

    @torch.no_grad()
    def asked(network: Any) -> None:
        network(clip, level, text)

    def replay() -> None:
        for chunk in rolled:
            model(chunk.x_BCTYX, torch.full((BATCH, 1), chunk.s), text, chunk.state).square().mean().backward()

    def critic_learns() -> None:
        critic(clip, level, text).square().mean().backward()

    passes: dict[str, Callable[[], None]] = {
        "the model's rollout": rollout,
        "critic, asked": lambda: asked(critic),
        "teacher": lambda: asked(teacher),
        "replay": replay,
        "the critic's rollout": rollout,
        "critic, learning": critic_learns,
    }

    def apart() -> dict[str, float]:
        return {name: process_s(one) for name, one in passes.items()}

    step(), apart()
    found, parts = [], []
    for _ in range(5):
        parts.append(apart())
        found.append(process_s(step) / sum(parts[-1].values()))
    for name in passes:
        print(f"{name:24s}{1000 * statistics.median(part[name] for part in parts):8.0f} ms")
    print(f"a step / its passes: {statistics.median(found):.3f}")
    assert statistics.median(found) <= 1.1

"""What the engine, one pass for two, and common inputs are worth: ratios of processor time in the same run."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import s2search
from s2search import registry
from s2search.network.flow import renoise, velocity
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.text.hashing import Hashing
from s2search.training.captions import Captions
from s2search.training.data.clips import Clips
from s2search.training.data.make import drawn_cuts
from s2search.training.engine import Engine
from s2search.training.parallel import Processes
from s2search.training.prepare import PreparedRun
from s2search.training.scores import FrozenModel, Question, measure
from s2search.training.settings import RunSettings, overridden

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]

SIZES = 'name = "w48"\ndepth = 8\nchannels = 48\nheads = 4\nfeed_forward = 192\ntext_channels = 32\ntext_tokens = 8\n'
ALONE = Processes(rank=0, count=1, device=torch.device("cpu"), sharded=False)


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread: None) -> None:
    """Every test here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    s2search.data_make("shapes[count=20]", folder / "clips", video="128x64", frames=33, clips=4, held_out=0.2)
    (folder / "w48.toml").write_text(SIZES)
    return folder


def process_s(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def ratio(one: Callable[[], Any], other: Callable[[], Any], rounds: int = 9) -> float:
    """The median of paired ratios, in turns."""
    one(), other()
    return statistics.median(process_s(one) / process_s(other) for _ in range(rounds))


def engine_of(made: Path, folder: Path, **changes: Any) -> Engine:
    given = {"data": str(made / "clips"), "model.preset": str(made / "w48.toml"), "model.layout": "L2S4L2"}
    listed = [f"{key}={json.dumps(value)}" for key, value in (given | changes).items()]
    prepared = PreparedRun.of(RunSettings.of(overridden({}, listed)))
    return Engine(trainer=prepared.trainer, run=prepared.run(folder, ALONE), folder=folder, where=ALONE)


def test_a_step_of_the_engine_takes_little_more_than_a_bare_loop(made: Path, tmp_path: Path) -> None:
    engine = engine_of(made, tmp_path)
    networks, moved = engine.started()
    model = S2DiT.from_pretrained(tmp_path / "start").train().requires_grad_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    clips = engine.run.clips.of("train")
    z = engine.run.clips.latents([clip.id for clip in clips[:8]])
    text = engine.run.captions.tokens([clip.caption for clip in clips[:8]])
    number = iter(range(10_000))

    def bare() -> None:
        eps, s = torch.randn(z.shape), torch.rand(8, 1)
        x = renoise(z, s[:, :, None, None, None], eps)
        (model(x, s, text) - velocity(z, eps)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    found = ratio(lambda: engine.step(networks, moved, next(number)), bare)
    print(f"engine's step / bare loop: {found:.3f}")
    assert found <= 1.10


@pytest.mark.parametrize(("block", "bound"), [("lcha", 0.85), ("ssa", 0.92)])
def test_advance_takes_less_than_read_and_commit(block: str, bound: float) -> None:
    """Forward and backward, width 128, a window of two chunks."""
    sizes = Preset(name="w", depth=1, channels=128, heads=4, feed_forward=512, text_channels=64, text_tokens=16)
    shape = sizes.shape("256x144", "stream")
    spec = registry.create("blocks", block)
    layer = spec.build(shape)
    grid = (9, 16) if block == "lcha" else (5, 8)
    with torch.no_grad():
        state = layer.initial_state(2, grid, sizes.window, torch.device("cpu"), torch.float32)
        x, modulation = torch.randn(2, 3, *grid, 128), torch.randn(2, 1, 6, 128)
        text = torch.randn(2, 16, 64)
        for _ in range(2):
            state = layer.commit(x, modulation, state)

    def summed(*leaves: Any) -> torch.Tensor:
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        return torch.stack([tensor.float().square().mean() for tensor in tensors]).sum()

    def of(new: Any) -> list[Any]:
        return [getattr(new, name) for name in new.__dataclass_fields__]

    def joined() -> None:
        y, new = layer.advance(x, modulation, text, state)
        summed(y, *of(new)).backward()

    def apart() -> None:
        y, new = layer(x, modulation, text, state), layer.commit(x, modulation, state)
        summed(y, *of(new)).backward()

    found = ratio(joined, apart, rounds=25)
    print(f"{block}: advance / read + commit: {found:.3f}")
    assert found <= bound


def test_layers_computed_twice_keep_less_than_half(made: Path) -> None:
    given = {"data": str(made / "clips"), "model.preset": str(made / "w48.toml"), "model.layout": "L8"}
    kept = {
        recompute: s2search.train_dry(settings=given | {"engine.recompute": recompute}).memory_bytes[
            "kept for backward"
        ]
        for recompute in (False, True)
    }
    print(f"kept for the backward pass, recomputed / not: {kept[True] / kept[False]:.3f}")
    assert kept[True] <= 0.5 * kept[False]


def test_candidates_side_by_side_take_less_than_one_after_another(made: Path, tmp_path: Path) -> None:
    model = S2DiT.from_preset(Preset.named(str(made / "w48.toml")), "F8").eval().requires_grad_(False)
    clips = Clips.load(made / "clips")
    captions = Captions(Hashing(channels=32, tokens=8), torch.device("cpu"), torch.float32)
    teacher = FrozenModel(model=model, clips=clips, captions=captions)
    number = iter(range(100))

    def measured(*candidates: str) -> None:
        question = Question(
            model="",
            config="",
            data="",
            text="",
            candidates=candidates,
            steps=(5, 10),
            samples=16,
        )
        measure(teacher, question, tmp_path / str(next(number)))

    several = ("lcha", "lcha[local_only=true]", "kv_compressed", "ssa")

    def apart() -> None:
        for candidate in several:
            measured(candidate)

    found = process_s(lambda: measured(*several)) / process_s(apart)
    print(f"all candidates together / one after another: {found:.3f}")
    assert found <= 0.6


def test_latents_from_shards_are_read_far_faster_than_encoded(made: Path) -> None:
    clips = Clips.load(made / "clips")
    chosen = clips.of("train")[:16]
    source = registry.create("sources", "shapes[count=20]")
    recordings = {one.name: one for one in source.recordings()}
    codec = registry.create("codecs", "dct").load()

    def read() -> None:
        for _ in range(20):
            clips.latents([clip.id for clip in chosen])

    def encoded() -> None:
        from s2search.codec.pixels import video_from_frames

        for clip in chosen:
            recording = recordings[clip.recording]
            assert clip.cut in drawn_cuts(recording, clips.heading)
            for frames in recording.clips([clip.cut], clips.heading.geometry):
                codec.encode(video_from_frames(frames))

    read()
    found = 20 * process_s(encoded) / process_s(read)
    print(f"encoding / reading shards: {found:.0f}")
    assert found >= 20

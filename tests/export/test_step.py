from __future__ import annotations

import pytest
import torch

from s2search.block import Window
from s2search.exporters.step import FUNCTIONS, Steps, StepShape
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.streaming.sampler import FewStepSampler
from s2search.streaming.state import StreamState

SIZES = {"channels": 24, "heads": 4, "feed_forward": 32, "text_channels": 7, "text_tokens": 5}
MIXED = "lcha ssa ssa lcha full kv_compressed ssa"


def make_model(labels: str = MIXED, frames: int = 2, **rest: int) -> S2DiT:
    torch.manual_seed(0)
    words = labels.split()
    preset = Preset(name="test", depth=len(words), chunk_frames=frames, **SIZES)
    model = S2DiT.from_preset(preset, ",".join(words), velocity="residual", **rest)
    model.double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return model


class StepsModel:
    """Streams through step functions as if they were the model."""

    def __init__(self, model: S2DiT, steps: Steps) -> None:
        self.config, self.parameters, self.steps = model.config, model.parameters, steps
        self.modules = {name: steps.function(name) for name in FUNCTIONS}

    def initial_state(self, *_, **__):
        return tuple(self.steps.state.values())

    def __call__(self, latents, s, text, state):
        if (state[0] == self.steps.state["past_bias"]).all():
            (velocity,) = self.modules["first"](latents, s, text)
            assert (velocity - self.modules["denoise"](latents, s, text, *state)[0]).abs().max() < 1e-10
            return velocity
        return self.modules["denoise"](latents, s, text, *state)[0]

    def commit(self, latents, s, text, state):
        return self.modules["commit"](latents, s, text, *state)

    def advance(self, latents, s, text, state):
        velocity, *state = self.modules["advance"](latents, s, text, *state)
        return velocity, tuple(state)


def streamed(model, shape: StepShape, commit: str, chunks: int = 8):
    sampler, text = FewStepSampler(commit=commit), torch.randn(1, 5, 7, dtype=torch.float64)
    state = StreamState.start(model, shape.grid, window=shape.window)
    for _ in range(chunks):
        latents, state = sampler.next_chunk(model, text, state, frames=shape.frames)
        yield latents


@pytest.mark.parametrize("commit", ["reuse_last", "clean_pass"])
@pytest.mark.parametrize(
    ("labels", "grid", "frames", "window", "sink"),
    [
        (MIXED, (3, 5), 2, 2, 0),
        (MIXED, (3, 5), 2, 4, 0),
        (MIXED, (2, 2), 2, 3, 0),
        (MIXED, (3, 4), 2, 1, 0),
        (MIXED, (3, 5), 2, 4, 2),
        (MIXED, (1, 1), 1, 2, 1),
        ("lcha ssa", (9, 16), 3, 6, 0),
        ("lcha[memory=window] ssa lcha[memory=decay]", (3, 5), 2, 3, 0),
        ("lcha[memory=window] ssa lcha[local_only=true]", (3, 5), 2, 4, 2),
        ("lcha[rope_order=post] ssa lcha[linear_only=true]", (3, 5), 2, 4, 0),
        ("ssa lcha[feature_map=relu]", (3, 5), 2, 2, 0),
        ("full", (3, 5), 2, 4, 0),
    ],
)
def test_step_functions_stream_what_the_module_streams(labels, grid, frames, window, sink, commit):
    model = make_model(labels, frames, latent_channels=4 if grid == (2, 2) else 16)
    shape = StepShape(grid=grid, frames=frames, window=Window(frames=window, sink_frames=sink))
    assert Steps(model, shape).example("first")["latents"].shape[1] == model.config.latent_channels
    chunks = 2 if grid == (9, 16) else 5
    torch.manual_seed(1)
    expected = list(streamed(model, shape, commit, chunks))
    torch.manual_seed(1)
    for chunk, latents in enumerate(streamed(StepsModel(model, Steps(model, shape)), shape, commit, chunks)):
        assert (latents - expected[chunk]).abs().max() <= 1e-10, f"chunk {chunk}"

"""A step whose state the host keeps, against the model's own stream: functions, the host's arithmetic, and padding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from s2search_blocks.pieces.channels_first import norms

from s2search.block import Window
from s2search.exporters.coreml.packed import PackedSteps
from s2search.exporters.host import WIDTH
from s2search.exporters.step import StepShape
from tests.export.coreml.test_channels_first import BLOCKS
from tests.export.test_step import MIXED, make_model

TEXT_TOKENS = 5


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread):
    """Every test here."""


@pytest.fixture(autouse=True, scope="module")
def _undivided():
    """Divide no token of a norm: that moves its epsilon, by which tests/blocks/test_channels_first.py holds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "limit", lambda channels: math.inf)
        yield


class Loop:
    """What an application does: the host's arithmetic around the functions, in the model's own precision."""

    def __init__(self, model, shape: StepShape, keeper="host", change=lambda function, inputs: inputs) -> None:
        self.steps, self.change = PackedSteps(model, shape, keeper=keeper), change
        self.host = self.steps.host
        self.state = self.host.start()

    def run(self, function, latents, s, text, *, state=True):
        inputs = self.host.inputs(latents, s, text, self.state if state else None)
        assert inputs.keys() == set(self.steps.inputs(function))
        inputs = self.change(function, inputs)
        with torch.no_grad():
            outputs = self.steps.function(function)(*(torch.from_numpy(x) for x in inputs.values()))
        found = dict(zip(self.steps.outputs(function), (x.numpy() for x in outputs), strict=True))
        for name, array in (inputs | found).items():
            assert array.shape == self.steps.shapes()[name], name
            assert array.shape[-1] % WIDTH == 0, name
        return found


def furthest(model, shape: StepShape, chunks: int, keeper="host", change=lambda function, inputs: inputs) -> float:
    """Return the largest difference of any velocity from the model's own stream."""
    loop, apart = Loop(model, shape, keeper, change), 0.0
    state = model.initial_state(1, shape.grid, window=shape.window)
    generator = np.random.default_rng(0)
    config, (rows, columns) = model.config, shape.grid
    text = generator.normal(size=(config.preset.text_tokens, config.preset.text_channels))
    for chunk in range(chunks):
        latents = generator.normal(size=(config.latent_channels, shape.frames, 2 * rows, 2 * columns))
        s = float(generator.uniform())
        tensors = (
            torch.from_numpy(latents)[None],
            torch.tensor([[s]], dtype=torch.float64),
            torch.from_numpy(text)[None],
        )
        with torch.no_grad():
            wanted, later = model.advance(*tensors, state)
        commits = chunk % 2
        asked = {"denoise": loop.run("denoise", latents, s, text)}
        if chunk == 0:
            asked["first"] = loop.run("first", latents, s, text, state=False)
        new = asked["advance"] = loop.run("advance", latents, s, text)
        if commits:
            new = loop.run("commit", latents, s, text)
        for outputs in asked.values():
            velocity = loop.host.velocity(outputs, latents, s)
            scale = 1 + wanted.abs().max().item()
            apart = max(apart, np.abs(velocity - wanted[0].numpy()).max() / scale)
        before = {name: array.copy() for name, array in loop.state.items()}
        kept, loop.state = loop.state, loop.host.after(loop.state, new)
        assert all(np.array_equal(kept[name], array) for name, array in before.items()), "a state was changed"
        state = later
    return apart


@pytest.mark.parametrize("keeper", ["host", "core_ml"])
@pytest.mark.parametrize("block", [*BLOCKS, MIXED])
@pytest.mark.parametrize("sink", [0, 2])
def test_a_stream_is_the_models_own_for_every_block(block, sink, keeper):
    shape = StepShape(grid=(3, 5), frames=2, window=Window(frames=4, sink_frames=sink))
    assert furthest(make_model(block, 2), shape, 6, keeper) < 1e-10

"""A step whose state the host keeps, against the model's own stream: functions, the host's arithmetic, and padding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from s2search.block import Precision, Window
from s2search.errors import InputError
from s2search.exporters.coreml.packed import PackedSteps
from s2search.exporters.host import WIDTH, Host
from s2search.exporters.packed_source import noise_level_of
from s2search.exporters.step import FUNCTIONS, Steps, StepShape
from tests.export.coreml.test_channels_first import BLOCKS, WITHOUT_A_TWIN
from tests.export.test_step import MIXED, make_model

pytestmark = pytest.mark.usefixtures("one_thread", "undivided")


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


@given(
    labels=some.lists(some.sampled_from(BLOCKS), min_size=1, max_size=3),
    grid=some.tuples(some.integers(1, 4), some.integers(1, 5)),
    frames=some.integers(1, 3),
    window=some.integers(1, 3),
    sink=some.integers(0, 1),
    odd=some.integers(0, 1),
    keeper=some.sampled_from(["host", "core_ml"]),
)
@settings(max_examples=15, deadline=None)
def test_every_layout_streams_on_every_grid_and_window(labels, grid, frames, window, sink, odd, keeper):
    window_frames = window * frames + (odd if not sink else 0)
    shape = StepShape(grid=grid, frames=frames, window=Window(frames=window_frames, sink_frames=sink * frames))
    assert furthest(make_model(" ".join(labels), frames), shape, window + sink + 3, keeper) < 1e-10


@pytest.mark.parametrize("keeper", ["host", "core_ml"])
@pytest.mark.parametrize("window", [1, 3])
def test_a_window_that_is_shorter_than_a_chunk_or_no_whole_number_of_them(window, keeper):
    shape = StepShape(grid=(3, 4), frames=2, window=Window(frames=window))
    assert furthest(make_model(MIXED, 2), shape, 5, keeper) < 1e-10


def test_the_sums_of_a_hundred_chunks_are_no_further_off_than_those_of_one():
    shape = StepShape(grid=(2, 3), frames=2, window=Window(frames=4))
    assert furthest(make_model("lcha ssa", 2), shape, 100) < 1e-10


@pytest.mark.parametrize("keeper", ["host", "core_ml"])
def test_whatever_stands_in_the_padding_nothing_changes(keeper):
    model, shape = make_model(MIXED, 2), StepShape(grid=(3, 5), frames=2, window=Window(frames=4, sink_frames=2))
    changed = set()

    def with_garbage(function, inputs):
        """Fill what is beyond a tensor's own numbers, as the form says where they end."""
        form, found = PackedSteps(model, shape, keeper=keeper).form, {}
        sizes = {"latents": form.latents[3], "time": form.time_channels, "text": form.text[0]}
        for name, array in inputs.items():
            array = array.copy()
            for row, size in enumerate(sizes_of(form, name, len(array)) if name not in sizes else [sizes[name]]):
                changed.update([name] if size < array.shape[-1] else [])
                array[row, ..., size:] = np.nan
            found[name] = array
        return found

    assert furthest(model, shape, 4, keeper, with_garbage) < 1e-10
    assert changed == {*(("past",) if keeper == "core_ml" else ("keys", "values", "tails")), *ALWAYS_PADDED}


ALWAYS_PADDED = {"latents", "text", "past_bias", "sums"}


def sizes_of(form, name, rows):
    """Return how many numbers every row of a tensor of the past has."""
    rings = [form.slots * ring.frame_tokens for ring in form.rings]
    tails = [tail.frames * tail.frame_tokens for tail in form.tails]
    biases = [(form.slots + form.frames) * tokens for tokens in form.grids]
    sums = [form.head_channels(one) for one in form.sums]
    found = {"keys": rings, "values": rings, "tails": tails, "past": [*rings, *rings, *tails]}
    found |= {"past_bias": biases, "sums": sums}
    assert len(found[name]) == rows
    return found[name]


def test_a_block_without_a_twin_keeps_its_layout_and_its_ring_is_the_hosts():
    model = make_model("lcha ssa lcha kv_compressed", 2)
    model.parts["layers.1"] = WITHOUT_A_TWIN["ssa"]
    for sink in (0, 2):
        shape = StepShape(grid=(3, 5), frames=2, window=Window(frames=4, sink_frames=sink))
        assert PackedSteps(model, shape).own_layout == (1,)
        assert furthest(model, shape, 5) < 1e-10
        assert furthest(model, shape, 5, "core_ml") < 1e-10


def test_a_block_without_a_twin_that_keeps_a_tail_streams_and_one_that_keeps_sums_is_refused():
    shape = StepShape(grid=(3, 5), frames=2, window=Window(frames=4))
    model = make_model("lcha[local_only=true] ssa", 2)
    model.parts["layers.0"] = type(WITHOUT_A_TWIN["lcha"])(local_only=True)
    assert furthest(model, shape, 4) < 1e-10
    model = make_model("ssa lcha", 2)
    model.parts["layers.1"] = WITHOUT_A_TWIN["lcha"]
    with pytest.raises(InputError, match=r"layer 1 keeps sums, .*; export with state=plain"):
        PackedSteps(model, shape)


def test_the_host_adds_sums_in_float32_and_its_share_is_a_power_of_2_that_float16_holds():
    steps = PackedSteps(make_model("lcha lcha[linear_head_dim=12] lcha[memory=decay]", 2).float(), SHAPE)
    host, generator = Host(steps.form), np.random.default_rng(0)
    state, wanted = host.start(), 0.0
    for _ in range(1000):
        new = generator.uniform(0, 6, steps.form.shapes()["new_sums"]).astype(np.float16)
        wanted = wanted + new.astype(np.float64)
        state = host.after(state, {"new_sums": new, "new_tails": np.zeros(steps.shapes()["new_tails"], np.float16)})
    first = steps.form.sums[0]
    size, width = steps.form.channels + first.heads, steps.form.head_channels(first)
    kept = state["sums"][0, 0, :size, :width]
    assert state["sums"].dtype == np.float32
    assert np.abs(kept / wanted[0, 0, :size, :width] - 1).max() < 1e-4
    given_ = host.past(state)["sums"][0, 0, : steps.form.channels + 2 * first.heads, :width]
    rows = given_.reshape(first.heads, width + 2, width).astype(np.float64)
    share = rows[:, -1]
    assert (np.exp2(np.round(np.log2(share))) == share).all()
    assert (share == share[:, :1]).all()
    assert (np.abs(rows[:, :-1] - share[:, None] * kept.reshape(first.heads, width + 1, width)) < 2**-11).all()
    assert 0.5 < rows[:, -2].max() <= 1


def test_every_head_has_the_largest_share_that_keeps_its_own_sums_in_float16():
    steps = PackedSteps(make_model("lcha ssa", 2).float(), SHAPE)
    (one,), host = steps.form.sums, Host(steps.form)
    width, state = steps.form.head_channels(one), host.start()
    sums_AXK = state["sums"][0, 0, : steps.form.channels + one.heads, :width].reshape(one.heads, width + 1, width)
    sums_AXK[:] = np.array([3.0, 50.0, 70.0, 9000.0])[: one.heads, None, None]
    state["sums"][0, 0, : steps.form.channels + one.heads, :width] = sums_AXK.reshape(-1, width)
    given_ = host.past(state)["sums"][0, 0, : steps.form.channels + 2 * one.heads, :width]
    share = given_.reshape(one.heads, width + 2, width)[:, -1, 0]
    assert share.tolist() == [1 / 8, 1 / 64, 1 / 128, 1 / 16384][: one.heads]


SHAPE = StepShape(grid=(3, 5), frames=2, window=Window(frames=4))


def test_a_state_is_as_large_as_the_formulas_of_the_blocks_say():
    for labels in (
        "lcha ssa",
        "lcha[memory=window] full lcha[linear_only=true]",
        "kv_compressed lcha[local_only=true]",
    ):
        model = make_model(labels, 2)
        steps = PackedSteps(model, SHAPE)
        shape = model.config.preset.shape("80x48", "stream", frames=2)
        shape = dataclasses.replace(shape, context_frames=SHAPE.slots)
        wanted = sum(block.state_bytes(shape, Precision.named("float16")) for block in model.blocks)
        assert steps.form.state_bytes == wanted


@pytest.mark.parametrize("s", [0.0, 0.001, 0.625, 0.8333, 1.0])
def test_sinusoids_say_the_noise_level(s):
    host = PackedSteps(make_model("lcha", 2), SHAPE).host
    assert noise_level_of(host.sinusoids(s)) == pytest.approx(s, abs=1e-12)
    assert noise_level_of(host.sinusoids(s).astype(np.float16)) == pytest.approx(s, abs=2e-6)


@pytest.mark.parametrize("keeper", ["host", "core_ml"])
@pytest.mark.parametrize("labels", [MIXED, "lcha[memory=window] ssa lcha[memory=decay] full lcha[linear_head_dim=12]"])
@pytest.mark.parametrize("window", [4, 1])
def test_inputs_and_outputs_are_those_of_a_step_in_another_form(labels, keeper, window):
    shape = StepShape(grid=(3, 5), frames=2, window=Window(frames=window))
    steps, model = PackedSteps(make_model(labels, 2), shape, keeper=keeper), make_model(labels, 2)
    theirs = Steps(model, shape)
    for function in FUNCTIONS:
        inputs = steps.example(function, seed=5)
        given_ = steps.to_source({name: x.numpy() for name, x in inputs.items()})
        with torch.no_grad():
            ours = steps.function(function)(*inputs.values())
            outputs = theirs.function(function)(*(torch.from_numpy(given_[one]) for one in theirs.inputs(function)))
        wanted = steps.from_source(
            {name: x.numpy() for name, x in zip(theirs.outputs(function), outputs, strict=True)}, given_
        )
        assert wanted.keys() == set(steps.outputs(function))
        for name, tensor in zip(steps.outputs(function), ours, strict=True):
            assert np.abs(tensor.numpy() - wanted[name]).max() < 1e-9, name

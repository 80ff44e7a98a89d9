"""A step with channels before tokens, against the step of the blocks, for every block, function and state."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from s2search_blocks.ends.spec import Stem
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.pieces.channels_first import norms
from s2search_blocks.softmax.ssa import SSA

from s2search.block import Block, Window
from s2search.errors import InputError
from s2search.exporters.coreml.channels_first import ChannelsFirstSteps
from s2search.exporters.step import FUNCTIONS, Steps, StepShape
from s2search.network.network import S2DiT
from s2search.preset import Preset
from tests.export.test_step import MIXED, make_model

BLOCKS = (
    "lcha",
    "lcha[rope_order=post]",
    "lcha[linear_only=true]",
    "lcha[local_only=true]",
    "lcha[feature_map=relu]",
    "lcha[linear_head_dim=12]",
    "lcha[gate=false]",
    "lcha[memory=window]",
    "lcha[memory=decay]",
    "ssa",
    "full",
    "kv_compressed",
)


class OneForm:
    """What has no form but the one that it is built in."""

    channels_first = Block.channels_first


class PlainLCHA(OneForm, LCHA):
    """LCHA with one form."""


class PlainSSA(OneForm, SSA):
    """SSA with one form."""


WITHOUT_A_TWIN = {"lcha": PlainLCHA(), "ssa": PlainSSA()}


pytestmark = pytest.mark.usefixtures("one_thread", "undivided")


def furthest(model, shape: StepShape, chunks: int = 3) -> tuple[float, ChannelsFirstSteps]:
    """Return the largest difference of any output of any function, with states that such chunks left."""
    ours, theirs = ChannelsFirstSteps(model, shape), Steps(model, shape)
    assert tuple(ours.state) == tuple(theirs.state)
    apart, state = 0.0, dict(theirs.state)
    for chunk in range(chunks):
        example = theirs.example("first", seed=chunk)
        wanted, arrays = {}, {name: tensor.numpy() for name, tensor in state.items()}
        for function in FUNCTIONS:
            taken = state if function != "first" else {}
            given_ = {
                name: torch.from_numpy(array) for name, array in ours.from_source(arrays, {}).items() if name in taken
            }
            with torch.no_grad():
                wanted = named(theirs, function, example | taken)
                got = named(ours, function, example | given_)
            assert got.keys() == wanted.keys()
            back = ours.to_source({name: tensor.numpy() for name, tensor in got.items()})
            for name, tensor in wanted.items():
                assert back[name].shape == tuple(tensor.shape)
                scale = 1 + tensor.abs().max().item()
                apart = max(apart, np.abs(back[name] - tensor.numpy()).max() / scale)
        state = {name: wanted[f"new_{name}"] for name in state}
    return apart, ours


def named(steps: Steps, function, inputs) -> dict[str, torch.Tensor]:
    outputs = steps.function(function)(*(inputs[name] for name in steps.inputs(function)))
    return dict(zip(steps.outputs(function), outputs, strict=True))


@pytest.mark.parametrize("block", [*BLOCKS, MIXED])
def test_a_block_computes_the_same_with_channels_first(block):
    model = make_model(block, 2)
    apart, steps = furthest(model, StepShape(grid=(3, 5), frames=2, window=Window(frames=4, sink_frames=2)))
    assert apart < 1e-10
    assert steps.network.state_dict().keys() == model.state_dict().keys()
    assert not steps.own_layout


def test_with_large_tokens_divided_only_the_epsilon_of_the_norms_is_another(monkeypatch):
    monkeypatch.setattr(norms, "limit", lambda channels: 1.0)
    apart, _ = furthest(make_model(MIXED, 2), StepShape(grid=(3, 5), frames=2, window=Window(frames=4)))
    assert 1e-10 < apart < 1e-5


@given(
    labels=some.lists(some.sampled_from(BLOCKS), min_size=1, max_size=3),
    grid=some.tuples(some.integers(1, 4), some.integers(1, 5)),
    frames=some.integers(1, 3),
    window=some.integers(1, 3),
    sink=some.integers(0, 1),
    odd=some.integers(0, 1),
)
@settings(max_examples=10, deadline=None)
def test_every_layout_computes_the_same_on_every_grid_and_window(labels, grid, frames, window, sink, odd):
    window_frames = window * frames + (odd if not sink else 0)
    shape = StepShape(grid=grid, frames=frames, window=Window(frames=window_frames, sink_frames=sink * frames))
    assert furthest(make_model(" ".join(labels), frames), shape)[0] < 1e-10


def test_in_float32_the_twin_errs_no_more_than_the_module():
    model = make_model(MIXED, 2)
    shape = StepShape(grid=(3, 5), frames=2, window=Window(frames=4))
    exact, rounded = Steps(model, shape), make_model(MIXED, 2).float()
    example = exact.example("advance", seed=3)
    with torch.no_grad():
        wanted = named(exact, "advance", example)
        short = {name: tensor.float() for name, tensor in example.items()}
        theirs = named(Steps(rounded, shape), "advance", short)
        twin = ChannelsFirstSteps(rounded, shape)
        arrays = {name: tensor.numpy() for name, tensor in short.items()}
        turned = {name: torch.from_numpy(array) for name, array in twin.from_source(arrays, {}).items()}
        ours = twin.to_source({name: x.numpy() for name, x in named(twin, "advance", turned).items()})
    for name, tensor in wanted.items():
        scale = 1 + tensor.abs().max().item()
        mine = np.abs(ours[name] - tensor.numpy()).max() / scale
        its = (theirs[name] - tensor).abs().max().item() / scale
        assert mine <= 4 * its + 1e-6, name


def test_a_block_without_a_twin_keeps_its_layout_and_its_state():
    model = make_model("lcha ssa lcha kv_compressed", 2)
    for number in (1, 2):
        model.parts[f"layers.{number}"] = WITHOUT_A_TWIN[model.blocks[number].name]
    apart, steps = furthest(model, StepShape(grid=(3, 5), frames=2, window=Window(frames=4)))
    assert apart < 1e-10
    assert steps.own_layout == (1, 2)
    assert steps.state["keys_01"].shape == (1, 4, 6, 24)
    assert steps.state["keys_03"].shape == (1, 24, 4, 6)
    assert steps.network.state_dict().keys() == model.state_dict().keys()


def test_a_layer_that_somebody_put_something_around_keeps_its_layout():
    model = make_model("lcha lcha", 2)
    model.layers[1] = Stranger(model.layers[1])
    apart, steps = furthest(model, StepShape(grid=(3, 5), frames=2, window=Window(frames=4)))
    assert apart < 1e-10
    assert steps.own_layout == (1,)


class Stranger(torch.nn.Module):
    """A layer with what the contract of blocks asks for, and no more."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.initial_state, self.commit = layer.initial_state, layer.commit

    def forward(self, *inputs):
        return self.layer(*inputs)


def test_a_part_without_a_twin_is_refused():
    model = make_model("lcha", 2)
    model.parts["stem"] = dataclasses.make_dataclass("Strange", [], bases=(OneForm, Stem), frozen=True)()
    with pytest.raises(
        InputError, match=r"'strange' has no layout with channels first; .* export with layout=blocks,state=plain"
    ):
        ChannelsFirstSteps(model, StepShape(grid=(3, 5), frames=2, window=Window(frames=4)))


def test_weights_are_shared_and_the_model_is_left_as_it_was():
    preset = Preset(name="test", depth=2, channels=24, heads=4, feed_forward=32, text_channels=7, text_tokens=5)
    model = S2DiT.from_preset(preset, "LS").eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    steps = ChannelsFirstSteps(model, StepShape(grid=(3, 5), frames=2, window=Window(frames=4)))
    twin = steps.stored.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert twin[name].numel() == tensor.numel()
    shared = [name for name, x in model.state_dict().items() if x.data_ptr() == twin[name].data_ptr()]
    copied = {name for name in twin if name not in shared}
    assert copied == {
        *(
            "stem.patch.weight",
            "head.patch.weight",
            "head.patch.bias",
            "down.mix.weight",
            "up.mix.weight",
            "up.mix.bias",
        ),
        "layers.0.attention.linear.feature_map.weight_AKK",
    }

"""What a kit and the Core ML profiler time is what an exporter writes: the same form, and the block's own numbers."""

import dataclasses
from typing import get_args

import pytest
import torch
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.softmax.ssa import SSA

from s2search.block import Precision
from s2search.errors import CheckError, InputError
from s2search.exporters.coreml.form import Layout
from s2search.measurement import coreml_item
from s2search.measurement.base import Item
from s2search.measurement.step_call import step_call
from s2search.space import parse_blocks
from s2search.testing.profilers import miniature_items
from tests.export.coreml.test_channels_first import Stranger

ITEMS = miniature_items()
OPTIONS = (
    "lcha[rope_order=post],lcha[linear_only=true],lcha[local_only=true],lcha[feature_map=relu],"
    "lcha[linear_head_dim=4],lcha[gate=false],lcha[memory=window],lcha[memory=decay]"
)


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread):
    """Every test here."""


def furthest(call):
    """Return the largest difference of what the form returns and what the block does, over the largest number."""
    with torch.no_grad():
        found = call.module(*call.inputs)
    assert len(found) == len(call.expected) == len(call.outputs)
    return max(
        ((ours - theirs).abs().max() / (1 + theirs.abs().max())).item()
        for ours, theirs in zip(found, call.expected, strict=True)
    )


def with_block(item, block):
    return dataclasses.replace(item, part=block)


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.key)
def test_every_item_computes_in_float64_what_the_block_does(item, layout):
    assert furthest(step_call(item, layout, torch.float64)) < 1e-13


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("block", parse_blocks(OPTIONS), ids=lambda block: block.label)
def test_every_option_of_a_block_computes_the_same(block, layout):
    for item in ITEMS:
        if item.part.name == "lcha":
            assert furthest(step_call(with_block(item, block), layout, torch.float64)) < 1e-13


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_window_that_is_no_whole_number_of_chunks_is_full_all_the_same(frames):
    for item in ITEMS:
        if item.role in ("block", "commit") and item.scenario == "stream":
            shape = dataclasses.replace(item.shape, frames=frames, context_frames=5)
            call = step_call(dataclasses.replace(item, shape=shape), "bc1s", torch.float64)
            assert furthest(call) < 1e-13
            assert all(call.arguments[name].abs().min() > 0 for name in call.state), item.key


@pytest.mark.parametrize("item", [item for item in ITEMS if item.scenario == "stream"], ids=lambda item: item.key)
def test_tokens_stand_on_the_last_of_four_axes(item):
    call, blocks = step_call(item, "bc1s"), step_call(item, "blocks")
    assert all(x.ndim <= (5 if name == "latents" else 4) for name, x in call.arguments.items())
    assert call.arguments.keys() == blocks.arguments.keys()
    for name, x in call.arguments.items():
        assert x.numel() == blocks.arguments[name].numel()
        assert x.is_contiguous()
        if name in ("x", "keys_00", "values_00", "tail_00"):
            assert x.shape[:2] == (1, item.shape.channels)
            assert blocks.arguments[name].shape[-1] == item.shape.channels


@pytest.mark.parametrize("layout", get_args(Layout))
def test_the_state_has_the_bytes_that_the_block_declares(layout):
    """Rings, sums and tails have as many numbers in every form: what a table and a plan count stays right."""
    blocks = [item.part for item in ITEMS if item.role == "block" and item.scenario == "stream"]
    for block in (*blocks, *parse_blocks(OPTIONS)):
        for item in ITEMS:
            if item.role in ("block", "commit") and item.scenario == "stream" and item.part.name == block.name:
                call = step_call(with_block(item, block), layout)
                assert call.float16_state_bytes == block.state_bytes(item.shape, Precision.named("float16")), (
                    block.label
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strange(SSA):
    """Somebody else's block, which knows no twins."""

    name = "strange"

    def build(self, shape):
        return Stranger(super().build(shape))


class Forgetful(Strange):
    """One that remembers what no exporter can keep."""

    def build(self, shape):
        layer = super().build(shape)
        layer.initial_state = lambda *_: {"seen": torch.zeros(1)}
        layer.commit = lambda x, modulation, state: state
        layer.forward = lambda x, modulation, text, state=None: x
        return layer


@pytest.mark.parametrize("layout", get_args(Layout))
def test_a_block_of_somebody_else_is_timed_between_transpositions_as_it_is_exported(layout):
    for item in ITEMS:
        if item.part.name == "ssa":
            call = step_call(with_block(item, Strange()), layout, torch.float64)
            assert furthest(call) < 1e-13
            assert (call.arguments["x"].ndim == 4) == (layout == "bc1s")
            if call.state:
                assert call.arguments["keys_00"].shape[-1] == item.shape.channels  # its own layout
            if item.role == "block":
                assert call.arguments["text"].shape == (1, item.shape.text_tokens, item.shape.text_channels)


@pytest.mark.parametrize("layout", get_args(Layout))
def test_a_state_that_no_exporter_keeps_is_refused_in_one_line(layout):
    item = next(item for item in ITEMS if item.part.name == "ssa" and item.scenario == "stream")
    with pytest.raises(InputError, match=r"^layer 0 remembers a dict; RingState, LinearState: exporters know no other"):
        step_call(with_block(item, Forgetful()), layout)


def test_a_graph_that_does_not_give_what_the_part_gives_is_refused(monkeypatch):
    item = next(item for item in ITEMS if item.key == "stream down 1x3x3")
    call = step_call(item, "bc1s")
    wrong = dataclasses.replace(call, expected=tuple(1.001 * x for x in call.expected))
    monkeypatch.setattr(coreml_item, "step_call", lambda *_: wrong)
    with pytest.raises(CheckError, match=r"^the traced stream down 1x3x3 comes within 60.0 dB of .*; at least 90 dB"):
        coreml_item.convert_item(item, "bc1s")


def test_a_wrong_number_in_a_twin_is_seen():
    """The gate can fail: one weight of many off by 1 % is seen in what the form returns."""
    item = Item(role="block", part=LCHA(), scenario="stream", shape=ITEMS[0].shape)
    call = step_call(item, "bc1s", torch.float64)
    with torch.no_grad():
        call.module.layer.attention.output.weight.view(-1)[7] *= 1.01
    assert furthest(call) > 1e-8

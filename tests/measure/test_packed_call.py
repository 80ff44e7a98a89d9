"""What is timed alone is what a package does by default: packed as the host packs it, with the block's own numbers."""

import dataclasses

import numpy as np
import pytest
import torch

from s2search.block import Precision
from s2search.errors import InputError
from s2search.exporters.host import Host
from s2search.measurement.packed_call import packed_call
from s2search.measurement.step_call import step_call
from s2search.space import parse_blocks
from s2search.testing.profilers import miniature_items
from tests.measure.test_step_call import ITEMS, OPTIONS, Forgetful, Strange, furthest, with_block

REMEMBERING = [item for item in miniature_items() if item.scenario == "stream" and item.role in ("block", "commit")]


@pytest.fixture(autouse=True, scope="module")
def _alone(one_thread):
    """Every test here."""


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.key)
def test_every_item_computes_in_float64_what_the_block_does(item):
    call = packed_call(item, torch.float64)
    # The source makes its sinusoids in float32, the host in float64.
    assert furthest(call) < (1e-5 if item.part.name == "stem" else 1e-13)


@pytest.mark.parametrize("block", parse_blocks(OPTIONS), ids=lambda block: block.label)
def test_every_option_of_a_block_computes_the_same(block):
    for item in REMEMBERING:
        if item.part.name == "lcha":
            assert furthest(packed_call(with_block(item, block), torch.float64)) < 1e-13


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_window_that_is_no_whole_number_of_chunks_is_full_all_the_same(frames):
    for item in REMEMBERING:
        shape = dataclasses.replace(item.shape, frames=frames, context_frames=5)
        assert furthest(packed_call(dataclasses.replace(item, shape=shape), torch.float64)) < 1e-13


@pytest.mark.parametrize("item", REMEMBERING, ids=lambda item: item.key)
def test_nothing_of_the_state_is_exact_and_last_axes_are_padded(item):
    call = packed_call(item)
    assert call.exact == ()
    packed = {"keys", "values", "tails", "sums", "past_bias"}
    for name, x in call.arguments.items():
        assert x.ndim == 4
        assert name not in packed or x.shape[-1] % 32 == 0
    if item.role == "commit":
        assert call.state == ()
        assert not packed & call.arguments.keys()
        assert all(x.shape[-1] % 32 == 0 for x in call.expected)


def test_the_state_has_the_bytes_that_the_block_declares():
    for block in (*(item.part for item in REMEMBERING), *parse_blocks(OPTIONS)):
        for item in REMEMBERING:
            if item.part.name == block.name:
                packed, plain = packed_call(with_block(item, block)), step_call(with_block(item, block), "bc1s")
                declared = block.state_bytes(item.shape, Precision.named("float16"))
                assert packed.float16_state_bytes == declared == plain.float16_state_bytes


@pytest.mark.parametrize("name", ["keys", "values"])
def test_what_a_commit_returns_the_host_puts_at_the_end_of_the_ring_that_a_read_is_given(name):
    for item in REMEMBERING:
        if item.role == "block" and name in (read := packed_call(item, torch.float64)).arguments:
            commit = next(one for one in REMEMBERING if one.role == "commit" and one.part == item.part)
            new, form = packed_call(commit, torch.float64), read.module._packed._form
            host = Host(form, np.float64, np.float64)
            kept = {"frames": np.full(1, form.slots, np.float64)}
            kept |= {key: read.arguments[key].numpy() for key in ("keys", "values")}
            outputs = {key: x.numpy() for key, x in zip(new.outputs, new.expected, strict=True)}
            end, added = (count * form.rings[0].frame_tokens for count in (form.slots, form.ring_frames))
            later = host.after(kept, outputs)[name]
            assert np.array_equal(later[..., end - added : end], outputs[f"new_{name}"][..., :added])
            assert np.array_equal(later[..., : end - added], kept[name][..., added:end])


def test_a_block_of_somebody_else_is_timed_between_transpositions_as_it_is_exported():
    for item in REMEMBERING:
        if item.part.name == "ssa":
            call = packed_call(with_block(item, Strange()), torch.float64)
            assert furthest(call) < 1e-13
            if item.role == "block":
                assert call.arguments["text"].shape == (1, item.shape.text_tokens, item.shape.text_channels)
                assert call.arguments["keys"].shape[1] == item.shape.channels


def test_a_clip_remembers_nothing_and_has_the_form_of_before():
    for item in ITEMS:
        if item.scenario == "clip" and item.role == "block":
            assert packed_call(item).arguments.keys() == step_call(item, "bc1s").arguments.keys()


def test_a_wrong_ring_is_seen():
    """The gate can fail: keys that are another chunk's are seen in what the form returns."""
    item = next(item for item in REMEMBERING if item.key == "stream ssa 1x3x3")
    call = packed_call(item, torch.float64)
    moved = {name: x.roll(1, dims=-1) if name == "keys" else x for name, x in call.arguments.items()}
    assert furthest(dataclasses.replace(call, arguments=moved)) > 1e-4


def test_a_state_that_no_exporter_keeps_is_refused_in_one_line():
    item = next(item for item in REMEMBERING if item.part.name == "ssa")
    with pytest.raises(InputError, match=r"^layer 0 remembers a dict; RingState, LinearState"):
        packed_call(with_block(item, Forgetful()))

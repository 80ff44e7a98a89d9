import dataclasses

import pytest
import torch
from s2search_blocks.softmax.full import FullAttention
from s2search_blocks.softmax.kv_compressed import KVCompressedAttention
from s2search_blocks.softmax.ssa import SSA

from s2search.block import Precision


def tensors(state):
    return {key: value for key, value in vars(state).items() if isinstance(value, torch.Tensor)}


def test_a_read_is_idempotent_and_leaves_the_state_untouched(make, block):
    shape = make.shape(context_frames=4)
    layer = make.layer(block, shape)
    inputs = make.inputs(block, shape)
    with torch.no_grad():
        _, state = make.stream(layer, inputs, shape.frames)
        before = {key: value.clone() for key, value in tensors(state).items()}
        first, second = layer(*inputs, state), layer(*inputs, state)
    assert torch.equal(first, second)
    assert all(torch.equal(before[key], value) for key, value in tensors(state).items())


def test_a_commit_shares_no_memory_with_the_older_state_or_the_chunk(make, block):
    shape = make.shape(context_frames=4)
    layer = make.layer(block, shape)
    x_BTHWD, modulation_BT6D, text_BSE = make.inputs(block, shape, frames=6)
    with torch.no_grad():
        _, old = make.stream(layer, (x_BTHWD, modulation_BT6D, text_BSE), shape.frames)
        new = layer.commit(x_BTHWD[:, :2], modulation_BT6D, old)
        kept = {key: value.clone() for key, value in tensors(new).items()}
        for tensor in (*tensors(old).values(), x_BTHWD):
            tensor.fill_(torch.nan)
    assert all(torch.equal(kept[key], value) for key, value in tensors(new).items())


def test_changing_a_later_chunk_changes_earlier_outputs_by_exactly_zero(make, block):
    shape = make.shape(context_frames=4)
    layer = make.layer(block, shape)
    x_BTHWD, *rest = make.inputs(block, shape, frames=8)
    changed_BTHWD = x_BTHWD.clone()
    changed_BTHWD[:, 4:] += 1
    with torch.no_grad():
        (y, _), (changed, _) = (make.stream(layer, (x, *rest), 2) for x in (x_BTHWD, changed_BTHWD))
    assert torch.equal(y[:, :4], changed[:, :4])
    assert not torch.equal(y[:, 4:], changed[:, 4:])


def test_one_chunk_that_holds_the_clip_equals_attention_without_a_state(make, block):
    shape = make.shape(frames=3, context_frames=3)
    layer, inputs = make.layer(block, shape), make.inputs(block, shape)
    with torch.no_grad():
        streamed, _ = make.stream(layer, inputs, 3)
        torch.testing.assert_close(streamed, layer(*inputs), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_state_bytes_are_those_of_a_full_window_and_stay_so(make, block, dtype):
    shape = make.shape(frames=2, height=3, width=5, context_frames=4)
    layer = make.layer(block, shape, dtype)
    inputs = make.inputs(block, shape, frames=4, dtype=dtype)
    precision = Precision.named(str(dtype).removeprefix("torch."))
    with torch.no_grad():
        _, state = make.stream(layer, inputs, 2)
        for _ in range(3):
            stored = sum(tensor.untyped_storage().nbytes() for tensor in tensors(state).values())
            assert stored == block.state_bytes(shape, precision)
            _, state = make.stream(layer, inputs, 2, state)


def test_a_clip_keeps_no_state(block, make):
    assert block.state_bytes(make.shape(), Precision.named("float32")) == 0


@pytest.mark.parametrize("softmax", [SSA(), FullAttention(), KVCompressedAttention()], ids=lambda block: block.label)
def test_softmax_attention_without_a_window_forgets_everything(make, softmax):
    shape = make.shape(context_frames=0)
    layer, inputs = make.layer(softmax, shape), make.inputs(softmax, shape, frames=4)
    with torch.no_grad():
        streamed, state = make.stream(layer, inputs, 2, window=0)
        alone = torch.cat([layer(chunk, *inputs[1:]) for chunk in inputs[0].split(2, dim=1)], dim=1)
    assert state.keys_BTHWAK.shape[1] == 0
    torch.testing.assert_close(streamed, alone, rtol=0, atol=1e-13)


def test_a_state_is_a_frozen_value(make, block):
    layer, (x_BTHWD, *_) = make.layer(block, make.shape()), make.inputs(block, make.shape())
    state = make.start(layer, x_BTHWD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.window = None

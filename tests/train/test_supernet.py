import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from s2search.errors import InputError
from s2search.preset import Preset
from s2search.training.supernet import Supernet, sample_mask

PRESET = Preset(name="test", depth=6, channels=16, heads=2, feed_forward=24, text_channels=5, text_tokens=3)


def supernet(group_size=1):
    torch.manual_seed(0)
    return Supernet(PRESET, group_size=group_size).double()


def inputs(grid=(3, 5)):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 16, 2, 2 * grid[0], 2 * grid[1], generator=generator, dtype=torch.float64)
    return latents, torch.full((1, 1), 0.5), torch.randn(1, 3, 5, generator=generator, dtype=torch.float64)


@given(mask=st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_hard_mask_equals_the_static_network(mask):
    net, mask_M = supernet(), torch.tensor([float(m) for m in mask], dtype=torch.float64)
    with torch.no_grad():
        expected = net.extract(mask_M)(*inputs())
        torch.testing.assert_close(net(*inputs(), mask_M), expected, rtol=0, atol=1e-12)


def test_groups_share_a_mask_and_the_saved_network_is_the_same(tmp_path):
    net, mask_M = supernet(group_size=2), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    static = net.extract(mask_M)
    assert static.config.layout == ("lcha", "lcha", "ssa", "ssa", "lcha", "lcha")
    static.save_pretrained(tmp_path)
    loaded = type(static).from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs()), net(*inputs(), mask_M), rtol=0, atol=1e-12)


def test_what_is_trained_is_stored_once(tmp_path):
    net = supernet()
    save_file(net.state_dict(), tmp_path / "supernet.safetensors")  # refuses tensors that share memory
    again = supernet()
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict(load_file(tmp_path / "supernet.safetensors"))
    mask_M = torch.tensor([1.0, 0.3, 0.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(again(*inputs(), mask_M), net(*inputs(), mask_M))


@given(
    logits=st.lists(st.floats(-20, 20), min_size=1, max_size=30),
    share=st.floats(0, 1),
    temperature=st.floats(0.01, 10),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=200, deadline=None)
def test_a_sampled_mask_is_hard_and_keeps_the_count(logits, share, temperature, seed):
    logits_M, high = torch.tensor(logits, requires_grad=True), round(share * len(logits))
    mask_M = sample_mask(logits_M, high, temperature=temperature, generator=torch.Generator().manual_seed(seed))
    assert set(mask_M.detach().round(decimals=5).tolist()) <= {0.0, 1.0}
    assert round(mask_M.sum().item()) == high
    if 0 < high < len(logits):
        mask_M.sum().backward()
        assert logits_M.grad.isfinite().all()


def test_likely_groups_are_sampled_more_often():
    logits_M = torch.tensor([2.0, 0.0, -2.0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([sample_mask(logits_M, 1, temperature=1.0, generator=generator) for _ in range(500)]).mean(0)
    assert drawn[0] > drawn[1] > drawn[2] > 0


def test_the_loss_reaches_the_logits_through_a_hard_mask():
    net, logits_M = supernet(), torch.zeros(6, dtype=torch.float64, requires_grad=True)
    mask_M = sample_mask(logits_M, 3, temperature=1.0, generator=torch.Generator().manual_seed(0))
    net(*inputs(), mask_M).square().sum().backward()
    assert logits_M.grad.isfinite().all()
    assert logits_M.grad.abs().min() > 0


def test_a_soft_mask_cannot_be_extracted():
    with pytest.raises(InputError, match="is not one 0 or 1 for each of 6 groups"):
        supernet().extract(torch.full((6,), 0.5))


def test_candidates_of_the_wrong_stream_are_refused():
    with pytest.raises(InputError, match="'full' runs in the high stream"):
        Supernet(PRESET, low="full")

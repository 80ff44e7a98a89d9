"""Fake quantisation against its definition; against exported packages in test_coreml_compression.py."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2search.block import Window
from s2search.errors import InputError
from s2search.exporters.calibration import RangeStreams, calibrate
from s2search.exporters.prompt_tokens import PromptTokens
from s2search.exporters.quantised import (
    InputRange,
    matrices,
    part_bytes,
    quantised,
    record,
    rest_bytes,
    rounded_weight,
)
from s2search.exporters.step import StepShape
from s2search.network.network import S2DiT
from s2search.precision.part import PartPrecision, parts_in_order
from s2search.preset import Preset

FOUR = PartPrecision.parse("w4a16")


def small(layout="LS"):
    """Return a random model as narrow as the narrowest whose matrices are compressed, and the shape of its step."""
    preset = dataclasses.replace(Preset.named("s2dit-tiny"), depth=len(layout), feed_forward=64, window_chunks=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = S2DiT.from_preset(preset, layout).eval().requires_grad_(False)
    return model, StepShape(grid=(2, 2), frames=1, window=Window(frames=1))


@pytest.mark.parametrize("label", ["w4a16", "w6a16", "w8a16", "w4g16a16"])
@pytest.mark.parametrize("palette", ["kmeans", "uniform"])
def test_a_matrix_has_as_many_values_per_group_as_its_bits_allow(label, palette):
    precision = PartPrecision.parse(label)
    weight_OI = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    rounded_OI = rounded_weight(weight_OI, precision, palette)
    groups = rounded_OI.split(precision.group or 64)
    values = 2**precision.weight_bits
    assert all(values / 2 < len(group.unique()) <= values for group in groups)  # even values may find no taker
    assert len(rounded_OI.unique()) > values / 2 * len(groups)
    assert torch.equal(rounded_OI, rounded_OI.half().float())
    step = (weight_OI.max() - weight_OI.min()) / (2**precision.weight_bits - 1)
    if palette == "uniform" and not precision.group:
        assert (rounded_OI - weight_OI).abs().max() <= 0.8 * step


def test_more_bits_err_less_and_even_values_more_than_those_of_k_means():
    weight_OI = torch.randn(128, 96, generator=torch.Generator().manual_seed(0))

    def error(label, palette="kmeans"):
        return (rounded_weight(weight_OI, PartPrecision.parse(label), palette) - weight_OI).square().mean()

    assert error("w4a16") > 8 * error("w6a16") > 64 * error("w8a16") > 640 * error("float16")
    assert error("w4a16", "uniform") > 1.5 * error("w4a16")
    assert 10 * torch.log10(weight_OI.square().mean() / error("w4a16")) == pytest.approx(20.22, abs=0.2)  # Max (1960)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.integers(0, 99))
def test_inputs_are_rounded_to_the_nearest_of_256_values_with_0_exact(a, b, seed):
    span = InputRange(low=min(a, b), high=max(a, b))
    scale, zero = span.scale_and_zero
    assert scale == np.float16(scale)
    assert -128 <= zero <= 127
    x = torch.from_numpy(np.random.default_rng(seed).uniform(min(a, b, 0), max(a, b, 0), 64)).float()
    assert span.rounded(torch.zeros(1)).item() == 0
    apart = (span.rounded(x) - x).abs()
    assert (apart <= scale * (0.5 + 0.2)).all()  # float16 rounds the scale, which moves the ends
    inside = (x / scale + zero).abs() < 126
    assert (apart[inside] <= scale * 0.501).all()


def test_what_lies_outside_of_a_range_is_clipped_to_its_ends():
    span = InputRange(low=-1.0, high=3.0)
    low, high = span.rounded(torch.tensor([-9.0, 9.0])).tolist()
    assert (low, high) == (pytest.approx(-1, abs=0.02), pytest.approx(3, abs=0.02))


def test_a_model_is_afterwards_what_it_was():
    model, shape = small()
    prompts = PromptTokens.hashed(model.config.preset)
    ranges = calibrate(model, RangeStreams(shape=shape, prompts=prompts, chunks=1))
    recording = record(model, shape, chunks=1, seed=0)
    before = {name: (x, x.data_ptr(), x.clone()) for name, x in model.named_parameters()}
    parts = dict.fromkeys(parts_in_order(matrices(model)), PartPrecision.parse("w4a8"))
    with pytest.raises(RuntimeError, match="in between"), quantised(model, parts, "uniform", ranges, {}):
        raise RuntimeError(f"in between: {recording.noise(model)}")
    for name, x in model.named_parameters():
        assert (x is before[name][0], x.data_ptr()) == (True, before[name][1])
        assert torch.equal(x, before[name][2])
    assert recording.noise(model) == 0


def test_only_the_part_that_is_named_is_quantised():
    model, _ = small()
    before = {name: linear.weight.clone() for name, linear in matrices(model).items()}
    with quantised(model, {"layers.1": FOUR}, "uniform", {}, {}):
        changed = {name for name, linear in matrices(model).items() if not torch.equal(linear.weight, before[name])}
    expected = {name for name in before if name.startswith("layers.1.") and ".cross_attention.k" not in name}
    assert changed == {name for name in expected if ".cross_attention.v" not in name}
    assert changed


def test_the_state_is_the_pupils_own():
    """An error in what is remembered reaches the next chunk."""
    model, shape = small("SS")
    recording = record(model, shape, chunks=2, seed=0)
    assert recording.noise(model) == 0
    value = model.get_submodule("layers.0.attention.value")
    first = recording.passes[: len(recording.passes) // 2]
    alone = dataclasses.replace(recording, passes=first, velocities=recording.velocities[: len(first)])
    with torch.no_grad():
        value.bias += 0.1
    assert recording.noise(model) > 0
    assert recording.noise(model) != alone.noise(model)


def test_a_model_that_gives_no_numbers_is_refused():
    model, shape = small()
    recording = record(model, shape, chunks=1, seed=0)
    with torch.no_grad():
        model.head.patch.bias[0] = torch.nan
    with pytest.raises(InputError, match="check the weights"):
        recording.noise(model)


def test_bytes_of_parts_and_of_the_rest_are_those_of_all_weights():
    model, _ = small()
    parts = parts_in_order(matrices(model))
    float16 = rest_bytes(model, 3) + sum(part_bytes(model, part, PartPrecision()) for part in parts)
    plain = 2 * model.parameter_count
    band = sum(2 * 4 * x.numel() for name, x in model.named_parameters() if name.endswith("depthwise.weight"))
    assert plain + band <= float16 <= 1.15 * (plain + band) + 64 * 2 * len(list(model.parameters()))
    assert sum(part_bytes(model, part, FOUR) for part in parts) < 0.3 * 2 * model.parameter_count

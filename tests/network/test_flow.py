"""The laws of the flow's path, of shifts and of guidance."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2search.errors import InputError
from s2search.network.flow import (
    clean,
    few_step_schedule,
    guided,
    network_time,
    noise,
    renoise,
    shift,
    unit_gaussian_gain,
    velocity,
)

levels = st.floats(0.0, 1.0)
shifts = st.floats(0.05, 20.0)


def latents(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_the_four_steps_are_those_of_the_paper() -> None:
    assert few_step_schedule() == pytest.approx((1.0, 15 / 16, 5 / 6, 5 / 8), abs=1e-15)


@given(st.integers(1, 200), shifts)
def test_a_schedule_starts_at_noise_and_falls(steps: int, a: float) -> None:
    schedule = few_step_schedule(steps, shift=a)
    assert len(schedule) == steps
    assert schedule[0] == 1.0
    assert all(later < sooner for sooner, later in itertools.pairwise(schedule))
    assert schedule[-1] > 0


@given(st.integers(1, 200))
def test_an_unshifted_schedule_is_evenly_spaced(steps: int) -> None:
    schedule = [*few_step_schedule(steps, shift=1.0), 0.0]
    for sooner, later in itertools.pairwise(schedule):
        assert sooner - later == pytest.approx(1 / steps, abs=1e-12)


@pytest.mark.parametrize("steps", [0, -3])
def test_a_schedule_without_steps_is_refused(steps: int) -> None:
    with pytest.raises(InputError, match=f"a schedule of {steps} steps; at least 1; correct the number of steps"):
        few_step_schedule(steps)


@pytest.mark.parametrize("a", [0.0, -5.0, math.nan, math.inf])
def test_a_shift_that_is_not_positive_is_refused(a: float) -> None:
    with pytest.raises(InputError, match=r"the shift is .*; finite and above 0"):
        shift(0.5, a)
    with pytest.raises(InputError, match=r"the shift is .*; finite and above 0"):
        few_step_schedule(4, shift=a)


@given(levels, shifts)
def test_a_shift_is_the_published_formula(s: float, a: float) -> None:
    assert shift(s, a) == pytest.approx(a * s / (1 + (a - 1) * s), abs=1e-12)


@given(levels, shifts, shifts)
def test_shifts_multiply(s: float, a: float, b: float) -> None:
    assert shift(shift(s, a), b) == pytest.approx(shift(s, a * b), abs=1e-12)


@given(levels, shifts)
def test_the_inverse_shift_takes_a_shift_back(s: float, a: float) -> None:
    assert shift(shift(s, a), 1 / a) == pytest.approx(s, abs=1e-12)


@given(levels)
def test_a_shift_of_one_changes_nothing(s: float) -> None:
    assert shift(s, 1.0) == pytest.approx(s, abs=1e-15)


@given(shifts)
def test_a_shift_keeps_clean_and_noise_exactly(a: float) -> None:
    assert (shift(0.0, a), shift(1.0, a)) == (0.0, 1.0)
    assert shift(torch.tensor([0.0, 1.0]), a).tolist() == [0.0, 1.0]


@given(levels, levels, shifts)
def test_a_shift_keeps_the_order(s: float, other: float, a: float) -> None:
    low, high = sorted((s, other))
    assert shift(low, a) <= shift(high, a) + 1e-15
    if high - low > 1e-6:
        assert shift(low, a) < shift(high, a)


@given(levels, shifts)
def test_a_tensor_is_shifted_like_a_float(s: float, a: float) -> None:
    assert shift(torch.tensor(s, dtype=torch.float64), a).item() == pytest.approx(shift(s, a), abs=1e-15)


@given(levels, st.integers(0, 1000))
def test_clean_latents_and_noise_come_back_from_any_point_of_the_path(s: float, seed: int) -> None:
    z, eps = latents(seed), latents(seed + 1)
    x, v = renoise(z, s, eps), velocity(z, eps)
    torch.testing.assert_close(clean(x, s, v), z, rtol=0, atol=1e-12)
    torch.testing.assert_close(noise(x, s, v), eps, rtol=0, atol=1e-12)


def test_the_path_ends_at_the_latents_and_at_the_noise_exactly() -> None:
    z, eps = latents(0), latents(1)
    assert torch.equal(renoise(z, 0.0, eps), z)
    assert torch.equal(renoise(z, 1.0, eps), eps)


@given(st.floats(0.01, 0.99))
def test_the_velocity_is_the_slope_of_the_path(s: float) -> None:
    z, eps = latents(0), latents(1)
    slope = (renoise(z, s + 1e-3, eps) - renoise(z, s - 1e-3, eps)) / 2e-3
    torch.testing.assert_close(slope, velocity(z, eps), rtol=0, atol=1e-9)


def test_every_frame_may_have_a_noise_level_of_its_own() -> None:
    z, eps, s_BT = latents(0), latents(1), torch.tensor([[0.0, 1.0], [0.25, 0.5]], dtype=torch.float64)
    x = renoise(z, s_BT[:, None, :, None, None], eps)
    for sample in range(2):
        for frame in range(2):
            alone = renoise(z[sample, :, frame], s_BT[sample, frame].item(), eps[sample, :, frame])
            assert torch.equal(x[sample, :, frame], alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_are_computed_in_float32(dtype: torch.dtype) -> None:
    z, eps = latents(0, dtype), latents(1, dtype)
    s = torch.tensor(0.3)
    x = renoise(z, s, eps)
    v = velocity(z, eps)
    for short, long in (
        (x, renoise(z.float(), s, eps.float())),
        (v, velocity(z.float(), eps.float())),
        (clean(z, s, eps), clean(z.float(), s, eps.float())),
        (noise(z, s, eps), noise(z.float(), s, eps.float())),
        (guided(z, eps, 5.0), guided(z.float(), eps.float(), 5.0)),
        (shift(s.to(dtype), 5.0), shift(s.to(dtype).float(), 5.0)),
        (network_time(s.to(dtype)), network_time(s.to(dtype).float())),
    ):
        assert short.dtype == torch.float32
        assert torch.equal(short, long)


def test_doubles_stay_doubles() -> None:
    z, eps, s = latents(0), latents(1), torch.tensor(0.3, dtype=torch.float64)
    results = (
        renoise(z, s, eps),
        velocity(z, eps),
        clean(z, s, eps),
        noise(z, s, eps),
        guided(z, eps, 2.0),
        shift(s, 5.0),
    )
    assert {result.dtype for result in results} == {torch.float64}


def test_the_network_sees_a_thousand_times_the_level() -> None:
    assert [network_time(s) for s in few_step_schedule()] == pytest.approx([1000, 937.5, 2500 / 3, 625], abs=1e-9)


@given(st.floats(-2.0, 12.0))
def test_guidance_extrapolates_from_without_to_with_the_prompt(w: float) -> None:
    u, c = latents(0), latents(1)
    torch.testing.assert_close(guided(u, c, w), (1 - w) * u + w * c, rtol=0, atol=1e-12)
    torch.testing.assert_close(guided(u, c, w), c + (w - 1) * (c - u), rtol=0, atol=1e-12)


def test_guidance_of_nought_is_unconditional_exactly() -> None:
    assert torch.equal(guided(latents(0), latents(1), 0.0), latents(0))


@given(st.floats(0.0, 1.0))
@settings(max_examples=10)
def test_no_multiple_of_the_latents_predicts_the_velocity_of_unit_gaussians_better_than_the_gain(s: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z, eps = (torch.randn(100_000, generator=generator, dtype=torch.float64) for _ in "ze")
    x, v = renoise(z, s, eps), velocity(z, eps)
    least_squares = ((x @ v) / (x @ x)).item()
    assert unit_gaussian_gain(torch.tensor(s, dtype=torch.float64)).item() == pytest.approx(least_squares, abs=0.02)

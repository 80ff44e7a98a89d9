"""Both solvers reach solutions that are known in closed form, and are told the noise levels which they step from."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s2search.errors import InputError, MissingExtraError
from s2search.streaming.full_steps import FullStepSampler

pytest.importorskip("diffusers", reason="the extra video is not installed")

SOLVERS = ("unipc", "euler")
TEXT_BSE = torch.zeros(2, 3, 4)


def noise(seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed)).to(dtype)


def gaussian(mean: float, std: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The exact velocity E[eps - z | x_s] of data with independent normal values.

    x_s is normal with mean (1 - s) mean and variance (1 - s)^2 std^2 + s^2, and the flow keeps every value's place in
    units of that deviation: noise eps leads to mean + std eps.
    """

    def velocity(x_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor) -> Tensor:
        s = s_BT[:, None, :, None, None].double()
        centred = x_BCTYX.double() - (1 - s) * mean
        return ((s - (1 - s) * std**2) / ((1 - s) ** 2 * std**2 + s**2) * centred - mean).to(x_BCTYX.dtype)

    return velocity


def error(sampler: FullStepSampler, mean: float, std: float) -> float:
    reached = sampler.sample(gaussian(mean, std), noise(), TEXT_BSE)
    return (reached - (mean + std * noise())).abs().max().item()


def unguided(solver: str, steps: int, shift: float = 1.0) -> FullStepSampler:
    return FullStepSampler(solver=solver, steps=steps, shift=shift, guidance=1.0)  # type: ignore[arg-type]


@settings(max_examples=30)
@given(st.sampled_from(SOLVERS), st.integers(1, 60), st.floats(0.5, 12.0), st.floats(-3.0, 3.0))
def test_data_of_a_single_point_is_reached_exactly_in_any_number_of_steps(
    solver: str, steps: int, shift: float, mean: float
) -> None:
    assert error(unguided(solver, steps, shift), mean, 0.0) < 2e-6 * max(1.0, abs(mean))


@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize(("mean", "std"), [(0.7, 0.5), (-0.3, 2.0)])
def test_eulers_error_halves_when_its_steps_double(mean: float, std: float, shift: float) -> None:
    coarse, fine = (error(unguided("euler", steps, shift), mean, std) for steps in (128, 256))
    assert coarse / fine == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(("mean", "std"), [(0.7, 0.5), (-0.3, 2.0)])
def test_unipcs_error_falls_fourfold_when_its_steps_double(mean: float, std: float) -> None:
    coarse, fine = (error(unguided("unipc", steps), mean, std) for steps in (64, 128))
    assert coarse / fine == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize(("mean", "std"), [(0.7, 0.5), (-0.3, 2.0)])
def test_unipc_needs_a_fifth_of_eulers_steps(mean: float, std: float, shift: float) -> None:
    assert error(unguided("unipc", 50, shift), mean, std) < error(unguided("euler", 250, shift), mean, std)


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_euler_is_the_plain_rule_in_double_precision(shift: float) -> None:
    steps, x, velocity = 20, noise().double(), gaussian(0.7, 0.5)
    levels = [shift * s / (1 + (shift - 1) * s) for s in ((steps - step) / steps for step in range(steps + 1))]
    for s, s_next in itertools.pairwise(levels):
        x = x + (s_next - s) * velocity(x, torch.full((2, 4), s, dtype=torch.float64), TEXT_BSE)
    reached = unguided("euler", steps, shift).sample(velocity, noise(), TEXT_BSE)
    torch.testing.assert_close(reached.double(), x, rtol=0, atol=5e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("steps", "shift"), [(1, 5.0), (4, 5.0), (50, 3.0), (50, 5.0), (400, 12.0)])
def test_the_network_is_asked_at_the_schedules_levels(solver: str, steps: int, shift: float) -> None:
    asked: list[Tensor] = []

    def velocity(x_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor) -> Tensor:
        asked.append(s_BT)
        return gaussian(0.0, 1.0)(x_BCTYX, s_BT, text_BSE)

    sampler = unguided(solver, steps, shift)
    sampler.sample(velocity, noise(), TEXT_BSE)
    wanted = [shift * s / (1 + (shift - 1) * s) for s in ((steps - step) / steps for step in range(steps))]
    assert {(s_BT.shape, s_BT.dtype) for s_BT in asked} == {((2, 4), torch.float32)}
    assert all((s_BT == s_BT[0, 0]).all() for s_BT in asked)
    assert [s_BT[0, 0].item() for s_BT in asked] == pytest.approx(wanted, abs=1.1e-6)
    assert [s_BT[0, 0].item() for s_BT in asked] == sampler.levels[:-1].tolist()
    assert sampler.levels[-1] == 0


def test_diffusers_own_timesteps_are_cut_to_whole_numbers() -> None:
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    scheduler.set_timesteps(50)
    below = scheduler.sigmas[:-1] - scheduler.timesteps / 1000
    assert 9e-4 < below.max() <= 1e-3
    assert below.min() >= 0


def test_diffusers_own_euler_levels_are_shifted_twice_at_their_end() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    scheduler.set_timesteps(50)
    once = 5 * 0.001 / (1 + 4 * 0.001)
    assert scheduler.sigmas[-2].item() == pytest.approx(5 * once / (1 + 4 * once), abs=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_levels_that_share_a_whole_number_are_not_skipped(solver: str) -> None:
    count: list[int] = []
    sampler = unguided(solver, 500, 8.0)
    reached = sampler.sample(
        gaussian(0.7, 0.0), noise(), TEXT_BSE, on_step=lambda done, total: count.append(done * 1000 + total)
    )
    assert count == [step * 1000 + 500 for step in range(1, 501)]
    torch.testing.assert_close(reached, torch.full_like(reached, 0.7), rtol=0, atol=2e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_noise_leads_to_the_same_latents_and_other_noise_to_others(solver: str) -> None:
    sampler = unguided(solver, 6, 5.0)
    torch.manual_seed(1)
    first = sampler.sample(gaussian(0.7, 0.5), noise(3), TEXT_BSE)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = sampler.sample(gaussian(0.7, 0.5), noise(3), TEXT_BSE)
    assert torch.equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(first, sampler.sample(gaussian(0.7, 0.5), noise(4), TEXT_BSE))


@pytest.mark.parametrize("solver", SOLVERS)
def test_guidance_of_one_asks_once_a_step_and_only_with_the_prompt(solver: str) -> None:
    asked: list[Tensor] = []

    def velocity(x_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor) -> Tensor:
        asked.append(text_BSE)
        return gaussian(0.7, 0.5)(x_BCTYX, s_BT, text_BSE)

    unconditional = torch.ones_like(TEXT_BSE)
    reached = unguided(solver, 7).sample(velocity, noise(), TEXT_BSE, unconditional_BSE=unconditional)
    assert len(asked) == 7
    assert all(text is TEXT_BSE for text in asked)
    assert torch.equal(reached, unguided(solver, 7).sample(gaussian(0.7, 0.5), noise(), TEXT_BSE))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("clips", [1, 2])
def test_guidance_extrapolates_from_the_empty_prompt_to_the_prompt(solver: str, clips: int) -> None:
    def velocity(x_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor) -> Tensor:
        assert text_BSE.shape == TEXT_BSE.shape
        mean_B1111 = text_BSE[:, 0, 0, None, None, None, None]
        return (x_BCTYX - mean_B1111) / s_BT[:, None, :, None, None]

    sampler = FullStepSampler(solver=solver, steps=5, shift=5.0, guidance=3.0)  # type: ignore[arg-type]
    reached = sampler.sample(velocity, noise(), TEXT_BSE + 0.7, unconditional_BSE=TEXT_BSE[:clips] + 0.2)
    # (x - u) / s + w ((x - c) - (x - u)) / s points to the single point u + w (c - u).
    torch.testing.assert_close(reached, torch.full_like(reached, 0.2 + 3.0 * 0.5), rtol=0, atol=5e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_short_float_is_sampled_in_float32_between_the_networks_answers(solver: str) -> None:
    seen: list[torch.dtype] = []

    def velocity(x_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor) -> Tensor:
        seen.append(x_BCTYX.dtype)
        return torch.full_like(x_BCTYX, 2**-8)

    ones = torch.ones(2, 3, 4, 5, 6, dtype=torch.bfloat16)
    reached = unguided(solver, 64).sample(velocity, ones, TEXT_BSE)
    assert seen == [torch.bfloat16] * 64
    assert reached.dtype == torch.bfloat16
    # Each step is 2^-14, which bfloat16 rounds away beside 1; all of them are 2^-8, its spacing there.
    assert (reached == 1 - 2**-8).all()


def test_no_gradient_is_kept() -> None:
    weight = torch.ones((), requires_grad=True)
    reached = unguided("unipc", 3).sample(lambda x, s, text: weight * x, noise(), TEXT_BSE)
    assert not reached.requires_grad


def test_guidance_without_unconditional_text_is_refused() -> None:
    with pytest.raises(
        InputError, match="guidance 5 without unconditional text; guidance 1 needs none; give the empty"
    ):
        FullStepSampler().sample(gaussian(0.0, 1.0), noise(), TEXT_BSE)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"solver": "heun"}, "the solver is 'heun'; one of unipc, euler; correct it"),
        ({"steps": 0}, "a schedule of 0 steps; at least 1; correct the number of steps"),
        ({"shift": -1.0}, "the shift is -1; finite and above 0; .*"),
        ({"guidance": math.nan}, "the guidance is nan; a finite number; correct it"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_when_built(options: dict[str, float], line: str) -> None:
    with pytest.raises(InputError, match=line):
        FullStepSampler(**options)  # type: ignore[arg-type]


def test_without_diffusers_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"^diffusers is not installed; .* 's2search\[video\]'$"):
        unguided("unipc", 4).sample(gaussian(0.0, 1.0), noise(), TEXT_BSE)

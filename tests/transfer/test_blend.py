"""A blend of known devices: which items to time, what their timings foretell, and how sure that is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from s2search.errors import InputError
from s2search.transfer.blend import (
    MOST_UNEXPLAINED,
    Belief,
    Items,
    choose_probes,
    fit_blend,
    fit_combination,
    fit_weights,
)
from s2search.transfer.trust import MOST_ERROR, Calibration, Verdict, calibrate, expected, judge, left_out_errors

Array = NDArray[np.float64]
BELIEF = Belief(misfit=0.03, noise=0.02)


def made_items(rng: np.random.Generator, *, items: int = 120, devices: int = 3, layers: int = 6) -> Items:
    """Layouts of four blocks per layer on devices whose effects have nothing in common."""
    layout_NL = rng.integers(0, 4, (items, layers))
    trait_NF = (layout_NL[:, :, None] == np.arange(4)).reshape(items, -1) / np.sqrt(layers)
    effect_FD = rng.exponential(1.0, (layers * 4, devices))
    return Items(known_ms_ND=10 + 10 * trait_NF @ effect_FD, trait_NF=trait_NF)


def variance_left(items: Items, probes: list[int], belief: Belief) -> float:
    """Return the sum of all variances once the probes are timed, by the formula of Gaussian conditioning."""
    share_ND = items.known_ms_ND / items.known_ms_ND.mean(axis=0)
    share_ND = share_ND / share_ND.mean(axis=1, keepdims=True) - 1
    prior_NN = 1 + 0.25 * share_ND @ share_ND.T + belief.misfit**2 * items.trait_NF @ items.trait_NF.T
    timed_PP = prior_NN[np.ix_(probes, probes)] + belief.noise**2 * np.eye(len(probes))
    return float(np.trace(prior_NN - prior_NN[:, probes] @ np.linalg.inv(timed_PP) @ prior_NN[probes]))


@pytest.mark.parametrize("seed", range(3))
def test_every_probe_is_the_one_that_leaves_the_least_variance(seed: int) -> None:
    items = made_items(np.random.default_rng(seed), items=25)
    chosen: list[int] = choose_probes(items, 6, BELIEF).tolist()
    assert len(set(chosen)) == 6
    for count, probe in enumerate(chosen):
        left = {n: variance_left(items, [*chosen[:count], n], BELIEF) for n in range(25) if n not in chosen[:count]}
        assert left[probe] == pytest.approx(min(left.values()))


@pytest.mark.parametrize("timed", [[3], [0, 7, 11, 24]])
def test_what_is_timed_in_any_case_is_not_chosen_and_counts(timed: list[int]) -> None:
    items = made_items(np.random.default_rng(5), items=25)
    chosen: list[int] = choose_probes(items, 3, BELIEF, timed).tolist()
    assert len({*timed, *chosen}) == len(timed) + 3
    for count, probe in enumerate(chosen):
        before = [*timed, *chosen[:count]]
        left = {n: variance_left(items, [*before, n], BELIEF) for n in range(25) if n not in before}
        assert left[probe] == pytest.approx(min(left.values()))


def test_chosen_probes_leave_less_variance_than_random_ones() -> None:
    rng = np.random.default_rng(0)
    items = made_items(rng)
    chosen = variance_left(items, choose_probes(items, 8, BELIEF).tolist(), BELIEF)
    assert all(chosen < variance_left(items, rng.permutation(120)[:8].tolist(), BELIEF) for _ in range(50))


@pytest.mark.parametrize("shots", [0, 3, 25, 26])
def test_too_few_timings_or_nothing_left_to_foretell_is_refused(shots: int) -> None:
    items = made_items(np.random.default_rng(0), items=25)
    with pytest.raises(InputError, match=rf"^{shots} timings of 25 candidates; 4 timings or more"):
        choose_probes(items, shots, BELIEF)


@hypothesis_settings(max_examples=25)
@given(seed=st.integers(0, 1000), unit=st.sampled_from([1e-3, 1.0, 1e4]))
def test_a_combination_without_noise_is_found_whatever_the_unit(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    items, weight_D = made_items(rng), rng.uniform(0.2, 2.0, 3)
    truth_ms_N = unit * items.known_ms_ND @ weight_D
    probes = choose_probes(items, 8, BELIEF)
    blend = fit_blend(items.take(probes), truth_ms_N[probes], BELIEF)
    assert blend.weight_K[:-1] == pytest.approx(unit * weight_D, rel=1e-3)
    assert blend.predict(items).latency_ms_N == pytest.approx(truth_ms_N, rel=1e-3)
    assert blend.unexplained < 0.01


@hypothesis_settings(max_examples=25)
@given(seed=st.integers(0, 1000))
def test_no_weight_is_negative_and_every_latency_is_positive(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = made_items(rng)
    truth_ms_N = rng.exponential(10.0, 120)
    blend = fit_blend(items.take(np.arange(8)), truth_ms_N[:8], BELIEF)
    found = blend.predict(items)
    assert (blend.weight_K >= 0).all()
    assert (found.latency_ms_N > 0).all()
    assert (found.std_ms_N >= 0).all()


def test_the_order_of_timings_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    items = made_items(rng)
    timed_ms_N = items.known_ms_ND[:, 0] * rng.normal(1, 0.05, 120)
    probes = choose_probes(items, 10, BELIEF)
    one, other = (fit_blend(items.take(p), timed_ms_N[p], BELIEF).predict(items) for p in (probes, probes[::-1]))
    assert one.latency_ms_N == pytest.approx(other.latency_ms_N, rel=1e-6)
    assert one.std_ms_N == pytest.approx(other.std_ms_N, rel=1e-4)


@pytest.mark.parametrize("slow", range(10))
def test_one_timing_twice_as_slow_moves_no_prediction_far(slow: int) -> None:
    rng = np.random.default_rng(1)
    items = made_items(rng)
    timed_ms_N = items.known_ms_ND @ np.array([0.7, 0.3, 0.0]) * rng.normal(1, 0.01, 120)
    probes = choose_probes(items, 10, BELIEF)
    before = fit_blend(items.take(probes), timed_ms_N[probes], BELIEF).predict(items).latency_ms_N
    timed_ms_N[probes[slow]] *= 2
    after = fit_blend(items.take(probes), timed_ms_N[probes], BELIEF).predict(items).latency_ms_N
    assert np.abs(after / before - 1).mean() < 0.05


@pytest.mark.parametrize("slow", [0, 1, 3, 4, 6, 7, 9, 10])
def test_a_device_with_two_speeds_is_foretold_at_the_one_it_mostly_runs_at(slow: int) -> None:
    known_ms_PD = np.linspace(10, 40, 10)[:, None]
    probes = Items(known_ms_ND=known_ms_PD, trait_NF=np.zeros((10, 1)))
    slowed_P = np.random.default_rng(0).permutation(np.where(np.arange(10) < slow, 1.3, 1.0))
    foretold_ms_P = fit_blend(probes, 2 * known_ms_PD[:, 0] * slowed_P, BELIEF).predict(probes).latency_ms_N
    usual = 1.3 if slow > 5 else 1.0
    assert np.median(foretold_ms_P / (2 * known_ms_PD[:, 0])) == pytest.approx(usual, rel=0.03)


def test_a_constant_helps_known_devices_that_explain_too_little() -> None:
    items = made_items(np.random.default_rng(0))
    probes = choose_probes(items, 10, BELIEF)
    mostly_ms_N = items.known_ms_ND[:, 0] / 20 + 30
    blend = fit_blend(items.take(probes), mostly_ms_N[probes], BELIEF)
    assert blend.unexplained > MOST_UNEXPLAINED
    assert blend.weight_K[-1] > 20
    assert blend.predict(items).latency_ms_N == pytest.approx(mostly_ms_N, rel=0.01)
    alike = fit_blend(items.take(probes), 2 * items.known_ms_ND[probes, 0], BELIEF)
    assert alike.weight_K[-1] == 0


def test_weights_count_a_far_timing_no_harder_than_a_near_one() -> None:
    found = [fit_weights(np.ones((9, 1)), np.array([10.0] * 8 + [far]))[0] for far in (15.0, 100.0, 2.0)]
    assert found == pytest.approx([10, 10, 10], rel=0.03)


def test_corrections_leave_the_common_scale_to_the_robust_weights() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        items = made_items(rng, layers=3)
        truth_ms_N = items.known_ms_ND[:, 0] * (1 + 0.1 * items.trait_NF @ rng.standard_normal(12))
        probes = items.take(chosen := choose_probes(items, 10, BELIEF))
        blend = fit_blend(probes, truth_ms_N[chosen], BELIEF)
        robust_ms_P = truth_ms_N[chosen] / (1 + blend.residual_P)
        corrected_P = blend.predict(probes).latency_ms_N / robust_ms_P
        assert np.average(corrected_P, weights=1 / blend.doubt_P) == pytest.approx(1, abs=1e-9)
        assert np.ptp(corrected_P) > 0.005


def test_a_misfit_that_shows_in_the_timings_is_corrected() -> None:
    corrected, plain = 0.0, 0.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        items = made_items(rng, layers=3)
        truth_ms_N = items.known_ms_ND[:, 0] * (1 + 0.1 * items.trait_NF @ rng.standard_normal(12))
        probes = choose_probes(items, 10, BELIEF)
        blend = fit_blend(items.take(probes), truth_ms_N[probes], BELIEF)
        corrected += np.abs(blend.predict(items).latency_ms_N / truth_ms_N - 1).mean()
        plain += np.abs(items.known_ms_ND @ fit_weights(*timed(items, truth_ms_N, probes)) / truth_ms_N - 1).mean()
    assert corrected < 0.9 * plain


def timed(items: Items, latency_ms_N: Array, probes: NDArray[np.int64]) -> tuple[Array, Array]:
    return items.known_ms_ND[probes], latency_ms_N[probes]


def test_the_stated_uncertainty_is_of_the_size_of_the_errors() -> None:
    scores: list[Array] = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        items = made_items(rng)
        misfit_N = 0.04 * items.trait_NF @ rng.standard_normal(24)
        truth_ms_N = items.known_ms_ND @ rng.dirichlet(np.ones(3)) * (1 + misfit_N)
        probes = choose_probes(items, 10, BELIEF)
        timed_ms_P = truth_ms_N[probes] * rng.normal(1, 0.02, 10)
        found = fit_blend(items.take(probes), timed_ms_P, BELIEF).predict(items)
        scores.append((found.latency_ms_N - truth_ms_N) / found.std_ms_N)
    assert 0.8 < (np.abs(np.concatenate(scores)) < 1.96).mean() < 0.995
    assert 0.6 < np.sqrt((np.concatenate(scores) ** 2).mean()) < 1.5


def test_a_timed_item_is_surer_than_the_others() -> None:
    rng = np.random.default_rng(3)
    items = made_items(rng)
    probes = choose_probes(items, 10, BELIEF)
    timed_ms_P = items.known_ms_ND[probes, 0] * rng.normal(1, 0.01, 10)
    found = fit_blend(items.take(probes), timed_ms_P, BELIEF).predict(items)
    relative_N = found.std_ms_N / found.latency_ms_N
    assert relative_N[probes].mean() < np.delete(relative_N, probes).mean()


def test_expectations_are_those_of_the_known_devices() -> None:
    rng = np.random.default_rng(4)
    base = made_items(rng, devices=1)
    known_ms_ND = base.known_ms_ND * np.array([1.0, 2.0, 5.0]) * rng.normal(1, 0.05, (120, 3))
    noise_DQ = np.exp(np.quantile(rng.normal(0, 0.02, 10_000), np.linspace(0.01, 0.99, 99)) * np.ones((3, 1)))
    belief = expected(Items(known_ms_ND=known_ms_ND, trait_NF=base.trait_NF), noise_DQ)
    assert belief.misfit == pytest.approx(0.06, rel=0.25)
    assert belief.noise == pytest.approx(0.02, rel=0.1)


def test_calibration_only_ever_raises_the_error_and_raises_it_where_devices_are_unlike() -> None:
    noise_DQ = np.ones((3, 5))
    alike = made_items(np.random.default_rng(5), items=300, devices=1)
    alike = Items(known_ms_ND=alike.known_ms_ND * np.array([1.0, 2.0, 3.0]), trait_NF=alike.trait_NF)
    # Both errors are of rounding, which differs by processor; a correction matters from a hundredth on.
    assert calibrate(alike, noise_DQ, 8, np.random.default_rng(0)).correction == pytest.approx(1, abs=1e-6)
    unlike = made_items(np.random.default_rng(6), items=300)
    blind = Items(known_ms_ND=unlike.known_ms_ND, trait_NF=np.zeros((300, 1)))
    assert 1.1 < calibrate(blind, noise_DQ, 8, np.random.default_rng(0)).correction < 3
    assert calibrate(unlike.without(0).without(0), noise_DQ[:1], 8, np.random.default_rng(0)).correction == 1


def test_a_left_out_timing_is_foretold_from_the_others_alone() -> None:
    rng = np.random.default_rng(8)
    items = made_items(rng)
    timed_ms_P = items.known_ms_ND[:10] @ np.array([0.5, 0.2, 0.1]) * rng.normal(1, 0.05, 10)
    found_P = left_out_errors(fit_blend(items.take(np.arange(10)), timed_ms_P, BELIEF))
    for probe in range(10):
        others = np.delete(np.arange(10), probe)
        weight_K, _ = fit_combination(items.combined_NK[others], timed_ms_P[others])
        alone_ms = items.combined_NK[probe] @ weight_K
        assert found_P[probe] == pytest.approx(abs(alone_ms / timed_ms_P[probe] - 1))


def test_left_out_errors_are_as_large_as_those_on_other_items_and_fitted_ones_are_smaller() -> None:
    left_out, fitted, made = 0.0, 0.0, 0.0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        items = made_items(rng)
        timed_ms_N = items.known_ms_ND @ rng.dirichlet(np.ones(3)) * rng.normal(1, 0.05, 120)
        blend = fit_blend(items.take(np.arange(10)), timed_ms_N[:10], BELIEF)
        left_out += left_out_errors(blend).mean() / 60
        weight_D = fit_weights(*timed(items, timed_ms_N, np.arange(10)))
        fitted += np.abs(items.known_ms_ND[:10] @ weight_D / timed_ms_N[:10] - 1).mean() / 60
        made += np.abs(blend.predict(items).latency_ms_N / timed_ms_N - 1)[10:].mean() / 60
    assert left_out == pytest.approx(made, rel=0.15)
    assert fitted < 0.9 * made


def test_a_verdict_corrects_the_left_out_error_and_bounds_it() -> None:
    items = made_items(np.random.default_rng(7))
    timed_ms_P = items.known_ms_ND[:10, 0] * np.random.default_rng(7).normal(1, 0.05, 10)
    blend = fit_blend(items.take(np.arange(10)), timed_ms_P, BELIEF)
    error_P = left_out_errors(blend)
    one, half_more = (judge(blend, Calibration(belief=BELIEF, correction=factor)) for factor in (1.0, 1.5))
    assert one.predicted_error == pytest.approx(error_P.mean())
    assert one.error_bound == pytest.approx(
        1.17 * (error_P.mean() + 2.2622 * np.std(error_P, ddof=1) / np.sqrt(10)), rel=1e-4
    )
    assert half_more.predicted_error == pytest.approx(1.5 * one.predicted_error)
    assert half_more.error_bound == pytest.approx(1.5 * one.error_bound)


def test_about_nine_bounds_in_ten_hold() -> None:
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        items = made_items(rng)
        timed_ms_N = items.known_ms_ND @ rng.dirichlet(np.ones(3)) * rng.normal(1, 0.05, 120)
        blend = fit_blend(items.take(np.arange(10)), timed_ms_N[:10], BELIEF)
        made = np.abs(blend.predict(items).latency_ms_N / timed_ms_N - 1)[10:].mean()
        held += made <= judge(blend, Calibration(belief=BELIEF, correction=1.0)).error_bound
    assert held > 0.85 * 60


def test_a_verdict_flags_what_is_too_large() -> None:
    assert not Verdict(predicted_error=MOST_ERROR, error_bound=0.2, unexplained=MOST_UNEXPLAINED).flagged
    assert Verdict(predicted_error=MOST_ERROR + 0.001, error_bound=0.2, unexplained=0.1).flagged
    assert Verdict(predicted_error=0.01, error_bound=0.02, unexplained=MOST_UNEXPLAINED + 0.01).flagged

"""Drift of a run: found where there is some, left alone where there is none, never learned from held-out rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from s2search.transfer.additive import additive_latency_ms, indicators_TF
from s2search.transfer.drift import SMOOTHNESSES, fit_drift, fit_smooth
from s2search.transfer.evaluate import evaluate, predictions
from s2search.transfer.runs import MeasuredLayouts, read_layouts

DATA = Path(__file__).parents[1] / "data/fbnet_layouts"


def synthetic(drift_T: NDArray[np.float64], *, noise: float = 0.01, seed: int = 0) -> MeasuredLayouts:
    """Six layers of four blocks, 20 to 40 ms, times the drift and a noise."""
    rng = np.random.default_rng(seed)
    layout_TL = rng.integers(0, 4, (len(drift_T), 6))
    effect_ms_LC = rng.uniform(2, 8, (6, 4))
    latency_ms_T = effect_ms_LC[np.arange(6), layout_TL].sum(axis=1) * drift_T
    return MeasuredLayouts(
        layout_TL=layout_TL, latency_ms_T=latency_ms_T * np.exp(noise * rng.standard_normal(len(drift_T)))
    )


def throttling(rows: int) -> NDArray[np.float64]:
    """Creep by a tenth, and every 50 rows a jump by a quarter or back."""
    row_T = np.arange(rows)
    return (1 + 0.1 * row_T / rows) * np.where(row_T // 50 % 2, 1.25, 1.0)


def first_rows(device: str, rows: int) -> MeasuredLayouts:
    run = read_layouts(DATA / f"{device}.csv")
    return MeasuredLayouts(layout_TL=run.layout_TL[:rows], latency_ms_T=run.latency_ms_T[:rows])


@pytest.mark.parametrize(
    ("device", "target", "additive"),
    [("pixel2", 0.044, 0.05), pytest.param("samsung_a50", 0.024, 0.035, marks=pytest.mark.slow)],
)
def test_the_error_on_held_out_layouts_of_a_phone_keeps_its_target(device: str, target: float, additive: float) -> None:
    found = evaluate(first_rows(device, 2000 if device == "pixel2" else 5000))
    assert found.drift
    assert found.mape_drift_aware <= target < additive < found.mape_additive
    assert found.within_5 > 0.9
    assert found.residual_autocorrelation > 0.6


def test_a_device_without_drift_is_left_no_worse() -> None:
    found = evaluate(first_rows("1080ti_1", 2000))
    assert found.mape_drift_aware <= found.mape_additive < 0.018
    assert found.residual_autocorrelation < -0.2


def test_creep_and_jumps_are_recovered() -> None:
    truth_T = throttling(1000)
    layouts = synthetic(truth_T)
    found_T = fit_smooth(indicators_TF(layouts.layout_TL), layouts.latency_ms_T, SMOOTHNESSES[0]).drift_T
    assert np.corrcoef(found_T, truth_T)[0, 1] > 0.95
    found = evaluate(layouts)
    assert found.drift
    assert found.mape_drift_aware < 0.02 < 0.08 < found.mape_additive


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_drifts_the_additive_model_stands(seed: int) -> None:
    layouts = synthetic(np.ones(400), seed=seed)
    additive_ms_T, drifting_ms_T, drift = predictions(layouts, np.arange(0, 400, 5), np.random.default_rng(seed))
    assert not drift
    assert (additive_ms_T == drifting_ms_T).all()


def test_the_latency_of_a_held_out_row_changes_no_prediction() -> None:
    layouts = synthetic(throttling(400))
    held_out = np.random.default_rng(1).permutation(400)[:80]
    changed_ms_T = layouts.latency_ms_T.copy()
    changed_ms_T[held_out] *= 7
    changed = MeasuredLayouts(layout_TL=layouts.layout_TL, latency_ms_T=changed_ms_T)
    before, after = (predictions(one, held_out, np.random.default_rng(0)) for one in (layouts, changed))
    assert before[2]
    assert (before[0] == after[0]).all()
    assert (before[1] == after[1]).all()


def test_a_row_is_predicted_as_if_its_own_latency_were_unknown() -> None:
    layouts = synthetic(throttling(400))
    feature_TF, outlier_ms_T = indicators_TF(layouts.layout_TL), layouts.latency_ms_T.copy()
    outlier_ms_T[200] *= 3
    drift_T = fit_smooth(feature_TF, outlier_ms_T, SMOOTHNESSES[0]).drift_T
    assert drift_T[200] == pytest.approx(np.median(drift_T[202:240]), rel=0.05)


def test_the_same_seed_gives_the_same_evaluation_and_another_seed_another() -> None:
    layouts = synthetic(throttling(150))
    assert evaluate(layouts, seed=3) == evaluate(layouts, seed=3)
    assert evaluate(layouts, seed=3).mape_additive != evaluate(layouts, seed=4).mape_additive


def test_the_rank_correlation_is_that_of_scipy_where_latencies_tie() -> None:
    layouts = synthetic(throttling(300))
    whole = MeasuredLayouts(layout_TL=layouts.layout_TL, latency_ms_T=np.round(layouts.latency_ms_T / 4) * 4)
    held_out = np.random.default_rng(0).permutation(300)[:60]
    rng = np.random.default_rng(0)
    rng.permutation(300)
    drifting_ms_T = predictions(whole, held_out, rng)[1]
    expected = spearmanr(drifting_ms_T[held_out], whole.latency_ms_T[held_out]).statistic
    assert evaluate(whole, seed=0).spearman == pytest.approx(expected)


@hypothesis_settings(max_examples=4)
@given(unit=st.sampled_from([1e-3, 1e4]), rows=st.integers(100, 140), seed=st.integers(0, 9))
def test_errors_do_not_depend_on_the_unit_of_the_latency(unit: float, rows: int, seed: int) -> None:
    layouts = synthetic(throttling(rows), seed=seed)
    scaled = MeasuredLayouts(layout_TL=layouts.layout_TL, latency_ms_T=unit * layouts.latency_ms_T)
    one, other = evaluate(layouts), evaluate(scaled)
    assert one.mape_drift_aware == pytest.approx(other.mape_drift_aware, rel=1e-5)
    assert one.drift == other.drift


@pytest.mark.parametrize("spike", [1.0, 1e9])
def test_a_run_of_equal_latencies_is_foretold_even_with_one_absurd_row(spike: float) -> None:
    layouts = MeasuredLayouts(
        layout_TL=np.random.default_rng(0).integers(0, 3, (200, 4)), latency_ms_T=np.full(200, 12.0)
    )
    layouts.latency_ms_T[50] *= spike
    found = fit_smooth(indicators_TF(layouts.layout_TL), layouts.latency_ms_T, SMOOTHNESSES[0]).latency_ms_T
    assert np.isfinite(found).all()
    assert found.min() > 0
    if spike == 1:
        assert found == pytest.approx(12.0, rel=1e-3)


def test_a_block_that_no_row_has_counts_as_an_average_one() -> None:
    layout_TL = np.array([[row % 2, row // 2 % 2] for row in range(400)])
    latency_ms_T = 10.0 + 2 * layout_TL[:, 0] + 4 * layout_TL[:, 1]
    layout_TL, latency_ms_T = np.vstack([layout_TL, [[2, 0]]]), np.append(latency_ms_T, np.nan)
    assert additive_latency_ms(indicators_TF(layout_TL), latency_ms_T)[-1] == pytest.approx(11.0, rel=0.01)


def test_drift_is_fitted_to_known_rows_only_and_given_for_all() -> None:
    layouts = synthetic(throttling(300))
    latency_ms_T = layouts.latency_ms_T.copy()
    latency_ms_T[::5] = np.nan
    model = fit_drift(indicators_TF(layouts.layout_TL), latency_ms_T, np.random.default_rng(0))
    assert model.smoothness in SMOOTHNESSES
    assert np.isfinite(model.latency_ms_T).all()
    assert (np.abs(model.latency_ms_T / layouts.latency_ms_T - 1)[::5]).mean() < 0.03


@pytest.mark.parametrize("factor", [1000, 0.001, 1e6])
def test_rows_in_another_unit_change_no_evaluation(factor: float) -> None:
    layouts = synthetic(throttling(300))
    odd_ms_T = layouts.latency_ms_T.copy()
    odd_ms_T[[0, 40, 299]] *= factor
    before, after = evaluate(layouts), evaluate(MeasuredLayouts(layout_TL=layouts.layout_TL, latency_ms_T=odd_ms_T))
    assert (after.rows, after.held_out, after.drift) == (300, 59, True)
    assert after.mape_drift_aware == pytest.approx(before.mape_drift_aware, rel=0.3)
    assert after.mape_additive == pytest.approx(before.mape_additive, rel=0.3)
    assert after.residual_autocorrelation == pytest.approx(before.residual_autocorrelation, abs=0.1)


@pytest.mark.parametrize("factor", [3, 10, 1000, 0.001])
def test_a_row_far_out_moves_no_additive_prediction_far(factor: float) -> None:
    layouts = synthetic(np.ones(300))
    feature_TF, odd_ms_T = indicators_TF(layouts.layout_TL), layouts.latency_ms_T.copy()
    odd_ms_T[7] *= factor
    before_T, after_T = (additive_latency_ms(feature_TF, each_T) for each_T in (layouts.latency_ms_T, odd_ms_T))
    assert np.abs(after_T / before_T - 1).max() < 0.005


def test_sums_are_foretold_exactly() -> None:
    layouts = synthetic(np.ones(200), noise=0.0)
    found = evaluate(layouts)
    assert not found.drift
    assert max(found.mape_additive, found.mape_drift_aware) < 1e-9


def test_half_a_file_in_another_unit_leaves_the_larger_half() -> None:
    layouts = synthetic(np.ones(300))
    odd_ms_T = layouts.latency_ms_T * np.where(np.arange(300) % 5 < 2, 1000, 1)
    kept = MeasuredLayouts(layout_TL=layouts.layout_TL, latency_ms_T=odd_ms_T).in_unit()
    assert (kept.latency_ms_T == layouts.latency_ms_T[np.arange(300) % 5 >= 2]).all()


def test_sparse_indicators_fit_as_dense_ones_do() -> None:
    layouts = synthetic(throttling(200))
    feature_TF = indicators_TF(layouts.layout_TL)
    both = [additive_latency_ms(one_TF, layouts.latency_ms_T) for one_TF in (feature_TF, feature_TF.toarray())]
    assert both[0] == pytest.approx(both[1], rel=1e-9)
    other_layout_TL = np.where(layouts.layout_TL == 3, 9, layouts.layout_TL)  # a block that has no indicator
    blocks = [np.arange(4)] * 6
    dense_TF = np.hstack([other_layout_TL[:, layer, None] == np.arange(4) for layer in range(6)])
    assert (indicators_TF(other_layout_TL, blocks).toarray()[:, :-1] == dense_TF).all()


@pytest.mark.parametrize("mark", [";", "\t"])
def test_layouts_are_read_whatever_separates_their_cells(tmp_path: Path, mark: str) -> None:
    lines = (DATA / "pixel2.csv").read_text().splitlines()[:201]
    for name, text in (("a.csv", "\n".join(lines)), ("b.csv", "\ufeff" + "\r\n".join(lines).replace(",", mark))):
        (tmp_path / name).write_text(text, encoding="utf-8")
    ours, theirs = read_layouts(tmp_path / "a.csv"), read_layouts(tmp_path / "b.csv")
    assert (ours.layout_TL == theirs.layout_TL).all()
    assert (ours.latency_ms_T == theirs.latency_ms_T).all()

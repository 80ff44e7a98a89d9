"""A new phone in ten timings: HELP's five devices, each foretold from others, and devices unlike all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s2search.errors import InputError, TableError
from s2search.transfer.evaluate_transfer import TransferEvaluation, evaluate_transfer, fit_known
from s2search.transfer.known_device import KnownDevice, layout_items
from s2search.transfer.runs import MeasuredLayouts, read_layouts
from tests.conftest import Outcome

DATA = Path(__file__).parents[1] / "data/fbnet_layouts"
GPUS, PHONES = ("1080ti_1", "2080ti_1"), ("pixel2", "samsung_a50")
DEVICES = (*GPUS, *PHONES, "silver_4114")


def run_of(device: str) -> MeasuredLayouts:
    return read_layouts(DATA / f"{device}.csv")


def rows_of(layouts: MeasuredLayouts, rows: np.ndarray) -> MeasuredLayouts:
    return MeasuredLayouts(layout_TL=layouts.layout_TL[rows], latency_ms_T=layouts.latency_ms_T[rows])


def few_rows(folder: Path, device: str) -> Path:
    """Write the first 400 rows of a run under its own name, for what does not depend on their number."""
    path = folder / f"{device}.csv"
    path.write_text("".join((DATA / path.name).read_text().splitlines(keepends=True)[:401]))
    return path


@pytest.fixture(scope="module")
def models() -> dict[str, KnownDevice]:
    return {name: KnownDevice.fit(run_of(name), name=name) for name in DEVICES}


def others(models: dict[str, KnownDevice], target: str) -> list[KnownDevice]:
    return [model for name, model in models.items() if name != target]


@pytest.mark.parametrize(
    ("target", "mean", "worst"),
    [("pixel2", 0.080, 0.125), pytest.param("samsung_a50", 0.051, 0.07, marks=pytest.mark.slow)],
)
def test_ten_chosen_timings_of_a_phone_keep_the_target(
    models: dict[str, KnownDevice], target: str, mean: float, worst: float
) -> None:
    found = evaluate_transfer(others(models, target), run_of(target))
    assert found.mape_mean <= mean
    assert found.mape_worst <= worst
    assert found.mape_mean < 0.9 * found.mape_random_nnls
    assert found.predicted_error == pytest.approx(found.mape_mean, rel=0.35)
    assert found.predicted_error < found.error_bound < 2.5 * found.mape_mean
    assert found.bound_held >= 0.8
    assert not found.flagged
    assert found.spearman > 0.8


@pytest.mark.parametrize(
    ("target", "mean", "worst"),
    [("samsung_a50", 0.051, 0.07), ("pixel2", 0.082, 0.125)],
)
@pytest.mark.slow
def test_the_target_is_kept_where_known_devices_never_ran_the_layouts_that_are_foretold(
    target: str, mean: float, worst: float
) -> None:
    half = np.random.default_rng(0).permutation(5000)
    seen, unseen = half[:2500], half[2500:]  # in random order: neither time nor position is shared
    known = [KnownDevice.fit(rows_of(run_of(name), seen), name=name) for name in DEVICES if name != target]
    found = evaluate_transfer(known, rows_of(run_of(target), unseen), draws=15)
    assert found.mape_mean <= mean
    assert found.mape_worst <= worst
    assert not found.flagged


def test_only_models_of_known_devices_enter(models: dict[str, KnownDevice]) -> None:
    layouts, model = run_of("2080ti_1"), models["2080ti_1"]
    foretold_ms_T = model.latency_ms(layouts.layout_TL)
    assert np.unique(foretold_ms_T - layouts.latency_ms_T).size > 4000  # no timing is returned
    assert sum(np.size(value) for value in (model.effect_F, model.noise_Q, *model.blocks)) < 1000
    alone_ms = np.array([model.latency_ms(layout_L[None])[0] for layout_L in layouts.layout_TL[:20]])
    assert alone_ms == pytest.approx(foretold_ms_T[:20])


UNLIKE = [
    ("silver_4114", GPUS),
    ("silver_4114", PHONES),
    ("samsung_a50", GPUS),
    ("pixel2", GPUS[:1]),
    ("2080ti_1", PHONES),
    ("2080ti_1", (*PHONES, "silver_4114")),
    ("pixel2", (*GPUS, "silver_4114")),
    ("pixel2", GPUS),
]


@pytest.mark.parametrize(
    ("target", "known"), [UNLIKE[-1], *(pytest.param(*case, marks=pytest.mark.slow) for case in UNLIKE)]
)
def test_a_transfer_from_unlike_devices_is_flagged(
    models: dict[str, KnownDevice], target: str, known: tuple[str, ...]
) -> None:
    found = evaluate_transfer([models[name] for name in known], run_of(target), draws=15)
    assert found.flagged
    assert found.flagged_draws > 0.5
    assert 0.85 * found.mape_mean < found.predicted_error < 1.7 * found.mape_mean
    assert found.bound_held >= 0.85


@pytest.mark.parametrize("target", ["silver_4114", *(pytest.param(name, marks=pytest.mark.slow) for name in GPUS)])
def test_a_transfer_from_like_devices_is_trusted_and_its_error_foreseen(
    models: dict[str, KnownDevice], target: str
) -> None:
    found = evaluate_transfer(others(models, target), run_of(target), draws=15)
    assert found.mape_mean < 0.05
    assert found.predicted_error == pytest.approx(found.mape_mean, rel=0.5)
    assert not found.flagged


STRANGERS = [(like, kind) for kind in ("other blocks", "other effects", "independent") for like in DEVICES]


@pytest.mark.parametrize(
    ("like", "kind"),
    [
        ("samsung_a50", "other effects"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in STRANGERS),
    ],
)
def test_a_made_device_unlike_all_five_is_flagged(models: dict[str, KnownDevice], like: str, kind: str) -> None:
    found = evaluate_transfer(list(models.values()), stranger(models[like], run_of(like), kind), draws=5)
    assert found.flagged
    assert found.mape_mean > 0.05


def stranger(model: KnownDevice, layouts: MeasuredLayouts, kind: str) -> MeasuredLayouts:
    """Return a run with a device's noise and drift, but with effects that have nothing to do with it."""
    rng, mean_ms = np.random.default_rng(0), layouts.latency_ms_T.mean()
    effect_LC = model.effect_F[:-1].reshape(22, 9)
    if kind == "other blocks":
        effect_LC = effect_LC[:, rng.permutation(9)]
    elif kind == "other effects":
        effect_LC = rng.permutation(effect_LC.ravel()).reshape(22, 9)
    else:
        effect_LC = rng.exponential(mean_ms / 22, (22, 9))
    steady_ms_T = effect_LC[np.arange(22), layouts.layout_TL].sum(axis=1)
    steady_ms_T = np.maximum(steady_ms_T + mean_ms - steady_ms_T.mean(), 0.3 * mean_ms)
    noise_T = layouts.latency_ms_T / model.latency_ms(layouts.layout_TL)
    return MeasuredLayouts(layout_TL=layouts.layout_TL, latency_ms_T=steady_ms_T * noise_T)


def test_of_the_target_only_chosen_rows_are_seen(models: dict[str, KnownDevice]) -> None:
    """Every tenth row is made three times as slow; a draw that chose none of them foresees what it did before."""
    known, run = [models["pixel2"]], rows_of(run_of("samsung_a50"), np.arange(300))
    slowed = MeasuredLayouts(
        layout_TL=run.layout_TL, latency_ms_T=run.latency_ms_T * np.where(np.arange(300) % 10, 1, 3)
    )
    same = 0
    for seed in range(6):
        before, after = (evaluate_transfer(known, one, shots=5, draws=1, seed=seed) for one in (run, slowed))
        assert before.mape_mean != after.mape_mean
        same += before.predicted_error == after.predicted_error
    assert 0 < same < 6


def test_the_same_seed_gives_the_same_evaluation_and_another_seed_another(models: dict[str, KnownDevice]) -> None:
    known, run = [models["pixel2"]], rows_of(run_of("samsung_a50"), np.arange(500))
    one = evaluate_transfer(known, run, draws=2, seed=1)
    assert one == evaluate_transfer(known, run, draws=2, seed=1)
    assert one.mape_mean != evaluate_transfer(known, run, draws=2, seed=2).mape_mean


def test_layouts_that_share_blocks_misfit_alike_and_neighbouring_layers_count(models: dict[str, KnownDevice]) -> None:
    layout_NL = np.zeros((4, 22), np.int64)
    layout_NL[1, 5], layout_NL[2, 6], layout_NL[3, 20] = 1, 1, 1
    alike_NN = (lambda trait_NF: trait_NF @ trait_NF.T)(layout_items([models["pixel2"]], layout_NL).trait_NF)
    assert alike_NN[0, 0] > alike_NN[0, 1]
    assert alike_NN[1, 2] > alike_NN[1, 3]


def test_a_layout_that_a_known_device_cannot_tell_is_named(models: dict[str, KnownDevice]) -> None:
    with pytest.raises(TableError, match=r"'pixel2' has layouts of 22 layers, not 3"):
        models["pixel2"].latency_ms(np.zeros((1, 3), np.int64))
    with pytest.raises(TableError, match=r"'pixel2' never ran the block 9 at layer 21; there it ran 0, 1"):
        models["pixel2"].latency_ms(np.array([[0] * 21 + [9]]))


def test_shots_that_leave_nothing_to_foretell_are_refused(models: dict[str, KnownDevice]) -> None:
    run = rows_of(run_of("pixel2"), np.arange(100))
    with pytest.raises(InputError, match="3 timings of 30 candidates"):
        evaluate_transfer([models["samsung_a50"]], run, shots=3)


KEYS = {"mape_mean", "mape_worst", "mape_random_nnls", "predicted_error", "flagged"}


def test_the_command_prints_what_the_function_finds(s2search: Callable[..., Outcome], tmp_path: Path) -> None:
    known, target = (few_rows(tmp_path, device) for device in PHONES)
    words = ["--known", str(known), "--target", str(target), "--draws", "2"]
    done = s2search("table", "transfer", *words, "--shots", "12", "--seed", "3", "--json")
    models = fit_known([known], target)
    found: TransferEvaluation = evaluate_transfer(models, read_layouts(target), shots=12, draws=2, seed=3)
    assert done.code == 0, done.err
    printed = json.loads(done.out)
    assert set(printed) >= KEYS
    assert printed["mape_mean"] == pytest.approx(found.mape_mean)
    assert (printed["known"], printed["shots"], printed["flagged"]) == (["pixel2"], 12, False)
    text = s2search("table", "transfer", *words).out
    assert "10 of 120 candidates, 2 draws" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_file_given_twice_or_as_the_target_too_gets_one_line(
    s2search: Callable[..., Outcome], tmp_path: Path
) -> None:
    one, other = (str(few_rows(tmp_path, device)) for device in PHONES)
    for words, message in (
        (["--known", one, "--target", one], "is given as the target and as a known device"),
        (["--known", one, "--known", one, "--target", other], "is given twice"),
        (["--known", "none.csv", "--target", other], "No such file"),
    ):
        done = s2search("table", "transfer", *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert done.err.count("\n") == 1


def test_devices_of_equal_file_names_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "phone.csv").write_bytes((DATA / "pixel2.csv").read_bytes()[:40_000].rpartition(b"\n")[0])
    found = fit_known([tmp_path / "a/phone.csv", tmp_path / "b/phone.csv"], tmp_path / "target.csv")
    assert len({device.name for device in found}) == 2


def test_a_row_in_another_unit_ruins_neither_a_known_device_nor_a_target(models: dict[str, KnownDevice]) -> None:
    run = rows_of(run_of("2080ti_1"), np.arange(400))
    odd_ms_T = run.latency_ms_T.copy()
    odd_ms_T[[3, 200]] *= 1000, 0.001
    odd = MeasuredLayouts(layout_TL=run.layout_TL, latency_ms_T=odd_ms_T)
    before, after = (KnownDevice.fit(one, name="gpu").latency_ms(run.layout_TL) for one in (run, odd))
    assert np.abs(after / before - 1).max() < 0.02
    found = evaluate_transfer([models["1080ti_1"]], odd, draws=2)
    assert found.rows == 400
    assert found.mape_mean < 0.03
    assert found.within_10 > 0.99

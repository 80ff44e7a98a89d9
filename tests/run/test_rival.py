"""What was promised, what was measured, and the score between them."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import InputError
from s2search.pipeline.rival import RivalResult, corrected, most_different, promised
from s2search.score.measured import MeasuredScore, RunValue, Value

VALUES = st.floats(-1, 1).map(lambda value: round(value, 3))


def score(values: dict[str, list[float]], error: float = 0.01) -> MeasuredScore:
    return MeasuredScore(
        name="s",
        statement="measured",
        depth=len(next(iter(values.values()))),
        channels=16,
        values={label: [Value(value=one, error=error, earlier=one) for one in row] for label, row in values.items()},
        samples=8,
        steps=(1, 2),
    )


def result(**changes: float) -> RivalResult:
    found = RivalResult(
        score="", planned="LS", rival="SL", chosen="named", promised=0.1, promised_error=0.01, measured=0.05,
        measured_error=0.01, seeds=(0, 1), steps=10, samples=64,
    )  # fmt: skip
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def test_a_promise_counts_the_layers_that_differ_with_their_errors() -> None:
    of = score({"lcha": [-0.1, -0.2, -0.3], "ssa": [-0.5, -0.25, -0.3]})
    lead, error = promised(of, ["lcha", "ssa", "ssa"], ["ssa", "lcha", "ssa"])
    assert lead == pytest.approx((-0.1 - 0.25) - (-0.5 - 0.2))
    assert error == pytest.approx(0.01 * math.sqrt(4))
    assert promised(of, ["lcha"] * 3, ["lcha"] * 3) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), VALUES, VALUES, VALUES), min_size=2, max_size=6))
def test_the_most_different_order_is_that_of_all_orders(rows: list[tuple[str, float, float, float]]) -> None:
    layout = [label for label, *_ in rows]
    of = score({label: [row[1 + k] for row in rows] for k, label in enumerate("abc")})
    if len({*layout}) < 2:
        with pytest.raises(InputError, match="all layers of the plan are"):
            most_different(of, layout)
        return

    def rank(order: tuple[str, ...]) -> tuple[int, float]:
        same = sum(here == other for here, other in zip(layout, order, strict=True))
        return same, round(math.fsum(of.values[label][layer].value for layer, label in enumerate(order)), 9)

    found = most_different(of, layout)
    assert sorted(found) == sorted(layout)
    assert rank(found) == min(map(rank, itertools.permutations(layout)))


def test_the_factor_is_the_mean_of_its_posterior() -> None:
    one = result()
    factor_K = np.linspace(-6, 8, 200_001)
    variance = one.promised_error**2 + one.measured_error**2
    log_K = -((one.measured - factor_K * one.promised) ** 2) / (2 * variance) - (factor_K - 1) ** 2 / 2
    weight_K = np.exp(log_K - log_K.max())
    mean = float((weight_K * factor_K).sum() / weight_K.sum())
    std = math.sqrt(float((weight_K * (factor_K - mean) ** 2).sum() / weight_K.sum()))
    assert one.factor == pytest.approx(mean, abs=1e-6)
    assert one.factor_error == pytest.approx(std, abs=1e-6)


def test_what_is_not_known_moves_nothing_and_what_is_known_well_decides() -> None:
    assert result(measured_error=1e6).factor == pytest.approx(1)
    assert result(promised=0).factor == 1
    assert result(promised=0).factor_error == 1
    assert result(promised_error=0, measured_error=0).factor == pytest.approx(0.5)
    assert 0.5 < result(measured_error=0.05).factor < 1


def test_a_corrected_score_is_multiplied_and_says_by_what() -> None:
    of = dataclasses.replace(
        score({"lcha": [-0.1, -0.2], "ssa": [-0.5, -0.25]}),
        runs=[RunValue(candidate="ssa", first=0, layers=2, value=Value(value=-0.6, error=0.02))],
    )
    by = result(score=of.digest)  # type: ignore[arg-type]
    new = corrected(of, by)
    for label in of.values:
        for before, after in zip(of.values[label], new.values[label], strict=True):
            assert after.value == pytest.approx(by.factor * before.value)
            assert after.error == pytest.approx(by.factor * before.error)
    assert new.runs[0].value.value == pytest.approx(by.factor * -0.6)
    assert new.provenance["recalibrated_from"] == of.digest
    assert "+0.1000 +- 0.0100 promised, +0.0500 +- 0.0100 measured" in new.provenance["recalibrated_by"]
    assert new.digest != of.digest
    with pytest.raises(InputError, match="the rival's result is of the score"):
        corrected(new, by)


def test_the_opposite_of_a_promise_corrects_nothing() -> None:
    of = score({"lcha": [-0.1], "ssa": [-0.5]})
    with pytest.raises(InputError, match="training measured the opposite of what the score promised"):
        corrected(of, result(score=of.digest, measured=-0.1))  # type: ignore[arg-type]

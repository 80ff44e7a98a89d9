"""What an hour more would buy is read off a run, and is not said where nothing can be read off."""

from __future__ import annotations

import math

import numpy as np
import pytest

from s2search.pipeline.more_time import HOUR_S, one_hour_more

STEPS = 200


def metrics(slope: float, noise: float = 0.0, seconds: float = 10.0) -> list[tuple[int, str, float]]:
    random = np.random.default_rng(0)
    rows = []
    for step in range(1, STEPS + 1):
        rows.append((step, "loss", 1 + slope * math.log(step) + noise * random.standard_normal()))
        rows.append((step, "seconds", seconds * (1 if step % 7 else 50)))  # a busy machine now and then
    return rows


def test_a_straight_line_is_drawn_on() -> None:
    found = one_hour_more("flow", metrics(-0.1), "loss")
    assert found is not None
    assert (found.step_s, found.steps, found.more_steps) == (10, STEPS, HOUR_S / 10)
    assert found.drawn_to == STEPS + 360
    assert found.loss == pytest.approx(1 - 0.1 * math.log(STEPS))
    assert found.loss_then == pytest.approx(1 - 0.1 * math.log(STEPS + 360))
    assert found.error == pytest.approx(0, abs=1e-9)
    assert found.clear


def test_it_is_drawn_to_four_times_the_steps_at_most() -> None:
    found = one_hour_more("flow", metrics(-0.1, seconds=0.01), "loss")
    assert found is not None
    assert (found.more_steps, found.drawn_to) == (360_000, 4 * STEPS)
    assert found.loss_then == pytest.approx(1 - 0.1 * math.log(4 * STEPS))


def test_noise_is_no_trend_and_its_error_covers_the_truth() -> None:
    flat = one_hour_more("flow", metrics(0, noise=0.3), "loss")
    assert flat is not None
    assert not flat.clear
    steep = one_hour_more("flow", metrics(-0.2, noise=0.05), "loss")
    assert steep is not None
    assert steep.loss is not None
    assert steep.loss_then is not None
    assert steep.error is not None
    assert steep.clear
    truth = -0.2 * math.log(steep.drawn_to / STEPS)
    assert abs(steep.loss_then - steep.loss - truth) < 3 * steep.error


def test_without_a_loss_that_means_something_there_are_steps_alone() -> None:
    found = one_hour_more("self_forcing", metrics(-0.1), None)
    assert found is not None
    assert (found.loss, found.loss_then, found.error, found.clear) == (None, None, None, False)
    assert one_hour_more("flow", [(1, "loss", 1.0)], "loss") is None

"""The lint of axes: what a function returns may have five, what it computes on the way may not."""

from __future__ import annotations

import numpy as np

from s2search.mil.rules.operations import lint
from tests.mil.programs import builder, load

X = np.zeros((1, 2, 6), np.float32)


def on_the_way(x):
    mb = builder()
    return mb.reduce_sum(x=mb.reshape(x=x, shape=(1, 1, 2, 3, 2)), axes=[0], keep_dims=False)


def at_the_border(x):
    mb = builder()
    return mb.reshape(x=mb.exp(x=x), shape=(1, 1, 2, 3, 2))


def test_five_axes_are_found_on_the_way_and_allowed_in_what_a_function_returns(tmp_path):
    assert [finding.rule for finding in lint(load(tmp_path / "way", on_the_way, [X]).function())] == ["rank_above_4"]
    assert not lint(load(tmp_path / "border", at_the_border, [X]).function())

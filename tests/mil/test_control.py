"""Loops and conditions: blocks of operations within operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s2search.errors import InputError
from s2search.mil import evaluator as evaluators
from s2search.mil.evaluator import Evaluator
from s2search.mil.rules.operations import lint
from s2search.mil.watch import Peaks
from tests.mil.programs import builder, load, named

mb = builder()
X = np.array([1, 2, 3], np.float32)
GAIN = np.array([0.5, -1, 2], np.float32)


def doubles_until(x, limit):
    """Double x until its sum reaches a limit; count the turns. It reads a value from outside of the loop."""
    step = mb.mul(x=GAIN, y=0.0)

    def small(x, turns):
        return mb.less(x=mb.reduce_sum(x=x), y=limit)

    def body(x, turns):
        return mb.add(x=mb.add(x=x, y=x), y=step), mb.add(x=turns, y=np.int32(1))

    y, turns = mb.while_loop(_cond=small, _body=body, loop_vars=(mb.identity(x=x), np.int32(0)))
    return y, mb.cast(x=turns, dtype="fp32")


@pytest.mark.parametrize(("limit", "turns"), [(5.0, 0), (6.0, 0), (7.0, 1), (100.0, 5)])
def test_a_loop_turns_as_often_as_its_condition_says(limit, turns, tmp_path):
    inputs = (X, np.float32([limit]))

    def build(x, limit):
        return doubles_until(x, mb.squeeze(x=limit))

    y, count = Evaluator(load(tmp_path, build, inputs)).run(named(build, inputs)).outputs.values()
    assert count == turns
    np.testing.assert_array_equal(y, X * 2**turns)


def branches(x):
    total = mb.reduce_sum(x=x)
    return mb.cond(
        pred=mb.greater(x=total, y=0.0),
        _true_fn=lambda: mb.mul(x=x, y=GAIN),
        _false_fn=lambda: mb.cond(
            pred=mb.less(x=total, y=-10.0), _true_fn=lambda: mb.identity(x=x), _false_fn=lambda: mb.add(x=x, y=GAIN)
        ),
    )


@pytest.mark.parametrize(("x", "expected"), [(X, X * GAIN), (-X, GAIN - X), (-9 * X, -9 * X)])
def test_a_condition_runs_one_of_its_blocks(x, expected, tmp_path):
    (y,) = Evaluator(load(tmp_path, branches, (x,))).run(named(branches, (x,))).outputs.values()
    np.testing.assert_array_equal(y, expected)


def test_peaks_and_lint_see_such_operations(tmp_path):
    program, peaks = load(tmp_path, branches, (X,)), Peaks()
    Evaluator(program).run(named(branches, (X,)), watch=[peaks])
    assert peaks.peaks[-1].operation.type == "cond"
    assert peaks.largest.largest == 6.0
    assert lint(program.function(), peaks) == ()


def test_what_has_no_cover_inside_is_named(tmp_path):
    def build(x):
        return mb.cond(
            pred=mb.greater(x=mb.reduce_sum(x=x), y=0.0),
            _true_fn=lambda: mb.random_normal(shape=[3]),
            _false_fn=lambda: mb.identity(x=x),
        )

    program = load(tmp_path, build, (X,))
    with pytest.raises(InputError, match="computes 2 operations of 'main': cond, random_normal"):
        Evaluator(program)
    assert {finding.problem for finding in lint(program.function()) if finding.rule == "no_cover"} == {
        "cond: the evaluator cannot compute it",
        "random_normal: the evaluator cannot compute it",
    }


def test_a_loop_that_never_ends_is_left(tmp_path, monkeypatch):
    def build(x):
        return mb.while_loop(
            _cond=lambda x: mb.less(x=mb.reduce_sum(x=x), y=1e30), _body=lambda x: mb.mul(x=x, y=1.0), loop_vars=(x,)
        )

    monkeypatch.setattr(evaluators, "_MOST_TURNS", 20)
    with pytest.raises(InputError, match="is not covered: more than 20 turns"):
        Evaluator(load(tmp_path, build, (X,))).run(named(build, (X,)))


def test_a_value_that_only_a_block_reads_is_kept_until_then(tmp_path):
    def build(x):
        early = mb.mul(x=x, y=3.0)
        total = mb.reduce_sum(x=mb.square(x=mb.add(x=x, y=1.0)))
        return mb.cond(
            pred=mb.greater(x=total, y=0.0), _true_fn=lambda: mb.identity(x=early), _false_fn=lambda: mb.identity(x=x)
        )

    (y,) = Evaluator(load(tmp_path, build, (X,))).run({"x": torch.from_numpy(X)}).outputs.values()
    np.testing.assert_array_equal(y, 3 * X)

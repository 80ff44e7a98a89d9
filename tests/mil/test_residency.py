"""What an operation costs by the model, and what of a function may run on the Neural Engine by rule."""

from __future__ import annotations

import numpy as np
import pytest

from s2search.mil.program import Program
from s2search.mil.residency import residency
from s2search.mil.work import MULTIPLICATIONS_PER_BYTE, OperationWork, work_of
from tests.mil.programs import builder, load
from tests.package.packages import CLEAN, X, half, in_float32, one_state, palette, plain_ring

mb = builder()


def work(tmp_path, build, inputs, kind):
    function = load(tmp_path, build, inputs).function()
    (name,) = [one.name for one in function.operations if one.type == kind]
    return work_of(function)[name]


CASES = {
    "conv": (lambda x: mb.conv(x=x, weight=half(16, 8, 3, 5), groups=4, pad_type="same"), [X], 16 * 8 * 64 * 8 * 3 * 5),
    "conv_transpose": (lambda x: mb.conv_transpose(x=x, weight=half(32, 6, 3, 5), strides=[2, 2]), [X],
                       X.size * 6 * 3 * 5),
    "linear": (lambda x: mb.linear(x=x, weight=half(24, 64)), [X], 32 * 8 * 24 * 64),
    "matmul": (lambda x, y: mb.matmul(x=x, y=y, transpose_x=True), [half(2, 5, 3), half(2, 5, 7)], 2 * 3 * 5 * 7),
    "einsum": (lambda x, y: mb.einsum(values=(x, y), equation="bnhk,bkhm->bnhm"),
               [half(1, 3, 4, 5), half(1, 5, 4, 6)], 3 * 4 * 5 * 6),
    "scaled_dot_product_attention": (
        lambda x, y: mb.scaled_dot_product_attention(query=x, key=y, value=y),
        [half(2, 4, 6, 8), half(2, 4, 9, 8)], 2 * 4 * 6 * 9 * (8 + 8)),
    "add": (lambda x, y: mb.add(x=x, y=y), [X, X], 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_multiplications_are_those_of_the_definition(kind, tmp_path):
    build, inputs, expected = CASES[kind]
    assert work(tmp_path, build, inputs, kind).multiplications == expected


def test_bytes_are_what_is_read_and_given_and_weights_count_as_they_are_stored(tmp_path):
    assert work(tmp_path / "a", lambda x, y: mb.add(x=x, y=y), [X, X], "add").bytes_moved == 3 * X.nbytes
    kernel = 32 * 32 // 2 + 16 * 2  # four bits each, and a table
    assert work(tmp_path / "b", palette, [X], "conv").bytes_moved == pytest.approx(2 * X.nbytes + kernel, abs=64)
    assert work(tmp_path / "c", lambda x: mb.reshape(x=mb.relu(x=x), shape=[64, -1]), [X], "reshape").bytes_moved == 0


def test_time_is_the_larger_of_both():
    assert OperationWork(multiplications=MULTIPLICATIONS_PER_BYTE * 7, bytes_moved=6).time == 7
    assert OperationWork(multiplications=MULTIPLICATIONS_PER_BYTE * 7, bytes_moved=8).time == 8


def test_a_run_of_float32_stays_elsewhere_with_its_share_of_time(tmp_path):
    found = residency(load(tmp_path, in_float32, [X]).function())
    (run,) = found.elsewhere
    assert (found.operations, run.operations, run.why) == (5, 4, ("float32",))
    assert run.kinds == ("cast", "exp", "sqrt")
    assert found.operations_percent == 20
    # Casts read and give 6 bytes a number, both operations in float32 8, and relu 4.
    assert found.time_percent == pytest.approx(100 * 4 / 32)
    assert run.time_percent == pytest.approx(100 * 28 / 32)


def test_all_of_a_float16_program_may_run_there_and_states_are_no_operations(tmp_path):
    found = residency(load(tmp_path / "a", one_state, [X], [X.shape]).function())
    assert (found.operations, found.operations_percent, found.time_percent) == (2, 100, 100)
    assert residency(load(tmp_path / "b", plain_ring, [X, half(1, 32, 16, 64)]).function()).elsewhere == ()


@pytest.mark.parametrize(
    ("build", "inputs", "why"),
    [
        (lambda x: mb.reduce_argmax(x=mb.relu(x=x), axis=1), [X], "no float16"),
        (lambda x: mb.conv(x=x, weight=half(2, 2, 2, 1, 1), pad_type="valid"), [half(1, 2, 3, 4, 5)], "3-D"),
        (
            lambda x: mb.while_loop(
                _cond=lambda y: mb.squeeze(x=mb.less(x=mb.reduce_max(x=y, keep_dims=False), y=np.float16(99))),
                _body=lambda y: (mb.add(x=y, y=np.float16(1)),),
                loop_vars=(x,),
            ),
            [half(8, 32)],
            "control flow",
        ),
    ],
)
def test_what_keeps_an_operation_elsewhere_is_said(build, inputs, why, tmp_path):
    found = residency(load(tmp_path, build, inputs).function())
    assert any(why in reason for run in found.elsewhere for reason in run.why)
    assert found.operations_percent < 100


def test_shares_add_up_to_all(tmp_path):
    for name, make in CLEAN.items():
        found = residency(Program.load(make(tmp_path / f"{name}.mlpackage")).function())
        assert found.time_percent + sum(run.time_percent for run in found.elsewhere) == pytest.approx(100)
        assert len(found.elsewhere) == {"float32 at the border": 2, "torch": 1}.get(name, 0)  # casts of its border

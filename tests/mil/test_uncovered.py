"""What the evaluator cannot compute it says, and does not blame the package."""

from __future__ import annotations

import numpy as np
import pytest

from s2search.errors import InputError
from s2search.mil.evaluator import Evaluator
from tests.mil.programs import builder, load, named
from tests.verify.case import X, normal

mb = builder()
HALVES = np.array([[7, -7]], np.int32)
WEIGHTS = {"weight_ih": normal(8, 3), "weight_hh": normal(8, 2)}
GATES = {"weight_ih": normal(6, 3), "weight_hh": normal(6, 2)}
START = normal(2, 2)


def numbers(*values):
    return (np.array(values, np.float32),)


@pytest.mark.parametrize(
    ("build", "inputs", "problem"),
    [
        (lambda x: mb.cast(x=mb.cast(x=x, dtype="int8"), dtype="int32"), numbers(1, 128), "128 has no place in int8"),
        (lambda x: mb.cast(x=mb.cast(x=x, dtype="uint8"), dtype="int32"), numbers(-1), "-1 has no place in uint8"),
        (lambda x: mb.cast(x=x, dtype="int32"), numbers(3e9), r"3e\+09 has no place in int32"),
        (lambda x: mb.cast(x=x, dtype="int32"), numbers(np.nan), "nan has no place in int32"),
        (lambda x: mb.real_div(x=x, y=np.int32(2)), (HALVES,), "does not say how it rounds"),
        (lambda x: mb.real_div(x=x, y=np.int32(0)), (HALVES,), "does not say how it rounds"),
        (
            lambda x: mb.upsample_bilinear(
                x=x, scale_factor_height=2, scale_factor_width=2, align_corners=True, half_pixel_centers=True
            ),
            (X,),
            "align_corners with half_pixel_centers",
        ),
        (
            lambda x: mb.resize(
                x=x,
                shape=[9, 9],
                resized_dims=np.uint32(2),
                interpolation_mode="NEAREST_NEIGHBOR",
                sampling_mode="UNALIGN_CORNERS",
            ),
            (X,),
            "the nearest number with UNALIGN_CORNERS",
        ),
        (
            lambda x: mb.lstm(x=x, initial_h=START, initial_c=START, clip=np.float32(1), **WEIGHTS)[0],
            (normal(4, 2, 3),),
            "clip: Core ML does not say",
        ),
        (
            lambda x: mb.lstm(x=x, initial_h=START, initial_c=START, activation="hard_sigmoid", **WEIGHTS)[0],
            (normal(4, 2, 3),),
            "the activation hard_sigmoid",
        ),
        (
            lambda x: mb.gru(x=x, initial_h=START, reset_after=True, **GATES)[0],
            (normal(4, 2, 3),),
            "reset_after",
        ),
        (
            lambda x: mb.scatter(data=mb.cast(x=x, dtype="int32"), indices=[0], updates=np.ones((1, 3, 5, 7), np.int32),
                                 mode="div"),
            (X,),
            "the mode div of torch.int32",
        ),
    ],
)  # fmt: skip
def test_a_mode_without_cover_is_told_so(build, inputs, problem, tmp_path):
    with pytest.raises(InputError, match=problem) as refused:
        Evaluator(load(tmp_path, build, inputs)).run(named(build, inputs))
    assert "is not covered" in str(refused.value)
    assert "report it" in str(refused.value)
    assert "export" not in str(refused.value)


def test_a_number_that_its_type_does_not_have_is_refused(tmp_path):
    def build(x):
        return mb.cast(x=mb.cast(x=x, dtype="uint8"), dtype="int32")

    program = load(tmp_path, build, (HALVES,))
    operation = program.function().operations[0]
    constant = operation.inputs["dtype"][0]
    object.__setattr__(constant, "read", lambda: "int16")  # as a damaged package would have it
    with pytest.raises(InputError, match="has numbers from -7 to 7, not of uint8"):
        Evaluator(program).run(named(build, (HALVES,)))

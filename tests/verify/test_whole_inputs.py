"""A program without the rounding of what matrices are multiplied with: its graph alone can be compared."""

from __future__ import annotations

import numpy as np
import torch

from s2search.mil.evaluator import Evaluator
from s2search.mil.program import Program
from s2search.verification.inspectors.coreml_program import without_rounding
from tests.mil.programs import builder, save

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def build(x):
    mb = builder()
    settings = {"scale": np.float32(0.25), "zero_point": np.int8(0)}
    stored = mb.quantize(input=mb.relu(x=x), output_dtype="int8", **settings)
    return mb.add(x=mb.dequantize(input=stored, **settings), y=np.float32(1), name="sum")


def test_what_is_quantised_and_restored_at_once_is_left_as_it_is(tmp_path):
    program = Program.load(save(tmp_path / "small.mlpackage", build, [X]))
    whole = without_rounding(program)
    kinds = {operation.type for operation in whole.function().operations}
    assert "dequantize" not in kinds
    (name,) = [one.name for one in program.function().inputs]
    given = {name: torch.from_numpy(X)}
    (rounded,), (got,) = (Evaluator(one).run(given).outputs.values() for one in (program, whole))
    assert torch.equal(got, torch.from_numpy(X).relu() + 1)
    assert not torch.equal(rounded, got)
    assert without_rounding(whole).function().operations == whole.function().operations

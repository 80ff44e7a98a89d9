import numpy as np
import pytest
import torch

from s2search.mil.constants import CONSTANTS
from s2search.mil.evaluator import Evaluator
from s2search.mil.operations import OPERATIONS
from tests.mil.operation_cases import cases
from tests.mil.programs import builder, load, named

CASES = cases(builder())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_an_operation_gives_what_numpy_gives(case, tmp_path):
    program = load(tmp_path, case.build, case.inputs)
    assert case.type in {operation.type for operation in program.function().operations}
    (got,) = Evaluator(program).run(named(case.build, case.inputs)).outputs.values()
    expected = np.asarray(case.expected(*case.inputs))
    assert tuple(got.shape) == expected.shape
    assert (got.dtype == torch.float32) == (expected.dtype.kind == "f")
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-5, atol=2e-5)


def test_every_operation_with_cover_has_a_case():
    assert set(OPERATIONS) - set(CONSTANTS) == {case.type for case in CASES}

"""Whether the constants of an operation fit float16, found without copies of the weights.

coremltools asks it of every operation, and lists the place of every number to answer: 33 bytes each, which is the peak
of a conversion's memory where one matrix is large, and a third of its time. The answers here are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from s2search.mil.library import load_coremltools

_LARGEST_HALF = 65504.0
_FEW = 400  # numbers; coremltools looks for small ones that become 0 in fewer only


@contextmanager
def quick_questions() -> Iterator[None]:
    """Let coremltools find largest and smallest numbers first, and look closer only where they do not fit float16."""
    questions = load_coremltools().transform.FP16ComputePrecision
    overflow, underflow = questions.fp16_overflow, questions._check_underflow_to_zero

    def quick_overflow(op: Any) -> bool:
        return not all(_fits(value) for value in _constants(op)) and bool(overflow(op))

    def quick_underflow(self: Any, new_var: Any, var: Any) -> None:
        if var.val is not None and var.val.size < _FEW:
            underflow(self, new_var, var)

    questions.fp16_overflow = staticmethod(quick_overflow)
    questions._check_underflow_to_zero = quick_underflow
    try:
        yield
    finally:
        questions.fp16_overflow = staticmethod(overflow)
        questions._check_underflow_to_zero = underflow


def _constants(op: Any) -> list[Any]:
    given = [x for value in op.inputs.values() for x in (value if isinstance(value, (list, tuple)) else (value,))]
    constants = [x for x in given if x.op is not None and x.op.op_type == "const"]
    return [x.val for x in constants if x.is_tensor_or_scalar_of(dtype="fp32")]


def _fits(value: Any) -> bool:
    """Return whether no number is too large; that some are not numbers says no more than that one must look closer."""
    return not value.size or bool(value.min() >= -_LARGEST_HALF and value.max() <= _LARGEST_HALF)

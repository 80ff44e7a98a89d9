"""From a graph of ATen operators to a Core ML program in float16, where what float16 cannot hold stays float32.

Exporter, profiler and phone kit all convert by this, so that what is timed is what is shipped. It converts what it is
given: the graph's own parity is its maker's to see to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from torch.export import ExportedProgram

from s2search.exporters.coreml.half_range import quick_questions
from s2search.exporters.coreml.operators import right_operators
from s2search.exporters.package import NumberType
from s2search.mil.library import load_coremltools, quiet_coremltools

if TYPE_CHECKING:
    from coremltools.models import MLModel

#: What may be computed between an exact input and the first product: the rest of the network is float16.
_EXACT_OPERATIONS = {
    *("add", "sub", "mul", "real_div", "cos", "sin"),
    *("reduce_max", "maximum", "clip"),
    *("concat", "split", "select", "slice_by_index", "stack"),
    *("reshape", "squeeze", "expand_dims", "transpose", "tile", "identity"),
}


def convert_program(
    program: ExportedProgram,
    *,
    inputs: Mapping[str, NumberType],
    outputs: Mapping[str, NumberType],
    exact: Collection[str] = (),
    pipeline: Any = None,
) -> MLModel:
    """Make a Core ML program for iOS 18. Weights and activations are float16.

    Args:
        program: The graph.
        inputs: Types of its inputs by the names that they shall have, in their order.
        outputs: The same of its outputs.
        exact: Inputs that stay float32, and with them what is computed of them before the first product.
        pipeline: Passes of coremltools; by default its own.
    """
    coremltools = load_coremltools()
    import numpy as np

    def features(types: Mapping[str, str]) -> list[Any]:
        return [coremltools.TensorType(name=name, dtype=np.dtype(kind).type) for name, kind in types.items()]

    with quiet_coremltools(), quick_questions(), right_operators():
        return coremltools.convert(
            program,
            inputs=features(inputs),
            outputs=features(outputs),
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS18,
            compute_precision=coremltools.transform.FP16ComputePrecision(op_selector=_Halved(exact)),
            pass_pipeline=coremltools.PassPipeline() if pipeline is None else pipeline,
            skip_model_load=True,
        )


class _Halved:
    """Says which operations are float16: all but those between an exact input and the first product."""

    def __init__(self, exact: Collection[str]) -> None:
        self._exact = {*exact}

    def __call__(self, operation: Any) -> bool:
        given = (value if isinstance(value, (list, tuple)) else (value,) for value in operation.inputs.values())
        names = {value.name for values in given for value in values if value is not None}
        exact = operation.op_type in _EXACT_OPERATIONS and not names.isdisjoint(self._exact)
        if exact:
            self._exact |= {value.name for value in operation.outputs}
        return not exact

"""Compressed weights and 8-bit activations in a Core ML program: each linear layer at the precision of its part.

coremltools' own calibration of activations runs Core ML, which takes a Mac. Ranges come from the source instead
(`calibration.calibrate`), and a pass of ours puts `quantize` and `dequantize` of iOS 17 before every product that reads
an 8-bit input: one scale per tensor, fixed.

What was measured: docs/decisions/export.md, "Precision is chosen part by part".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.precision.documents import Palette
from s2search.precision.part import LEAST_NUMBERS, PartPrecision

if TYPE_CHECKING:
    from coremltools.models import MLModel

    from s2search.exporters.quantised import InputRange

_PASS = "s2search::round_inputs"
_PRODUCTS = ("linear", "conv")
_HALF_BITS, _HALVED = 16, "_to_fp16"


def stored_name(linear: str) -> str:
    """Return how the converter's name of a linear layer's matrix begins.

    >>> stored_name("layers.0.attention.query")
    'p_model_layers_0_attention_query_weight'
    """
    return f"p_model_{linear}.weight".replace(".", "_").lower()


def rounding_pipeline(ranges: Mapping[str, InputRange]) -> Any:
    """Return coremltools' passes and one more, which rounds the inputs of some linear layers to 8 bits.

    Args:
        ranges: Of inputs, by linear layer; those that are left out stay as they are.
    """
    coremltools = load_coremltools()
    _register()
    pipeline = coremltools.PassPipeline()
    if ranges:
        pipeline.append_pass(_PASS)
        pipeline.set_options(_PASS, {"ranges": {stored_name(name): found for name, found in ranges.items()}})
    return pipeline


def compress(model: MLModel, linears: Mapping[str, tuple[PartPrecision, int]], palette: Palette) -> MLModel:
    """Store the matrices of linear layers as indices into tables of 2^bits float16 values.

    Args:
        model: A float16 program.
        linears: Precision, and rows of the matrix, by linear layer; those that are left out stay float16. A program may
            lack some.
        palette: How the values of a table are found.
    """
    with quiet_coremltools():
        import coremltools.optimize.coreml as optimize

        # coremltools' own list of weights fails where a large constant is joined to a tensor: names are known anyhow.
        configurations = {
            f"{stored_name(name)}{_HALVED}": optimize.OpPalettizerConfig(
                mode=palette,
                nbits=precision.weight_bits,
                granularity="per_grouped_channel" if precision.tables(rows) > 1 else "per_tensor",
                group_size=precision.group or 32,
                channel_axis=0 if precision.tables(rows) > 1 else None,
                weight_threshold=LEAST_NUMBERS,
            )
            for name, (precision, rows) in linears.items()
            if precision.weight_bits < _HALF_BITS
        }
        if not configurations:
            return model
        return optimize.palettize_weights(model, optimize.OptimizationConfig(op_name_configs=configurations))


def _plain(name: str) -> str:
    """Return a constant's name without what the converter put behind."""
    return name.partition("_weight")[0] + "_weight" if "_weight" in name else name


def _register() -> None:
    """Make the pass known to coremltools, once."""
    load_coremltools()
    import numpy as np
    from coremltools.converters.mil.mil import Builder
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.helper import block_context_manager
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, register_pass

    if _PASS in PASS_REGISTRY:
        return

    @register_pass(namespace="s2search", name="round_inputs")
    class RoundInputs(AbstractGraphPass):  # type: ignore[misc]
        """Puts `quantize` and `dequantize` before the products whose matrix has a range."""

        ranges: ClassVar[Mapping[str, InputRange]] = {}

        def apply(self, prog: Any) -> None:
            for function in prog.functions.values():
                self._apply_block(function)

        @block_context_manager  # type: ignore[untyped-decorator]
        def _apply_block(self, block: Any) -> None:
            rounded: dict[tuple[Any, float, int], Any] = {}
            before = None
            for operation in list(block.operations):
                found = self._range(operation)
                if found is not None:
                    x, (scale, zero) = operation.inputs["x"], found.scale_and_zero
                    if (x, scale, zero) not in rounded:
                        kind = np.float16 if x.dtype.__name__ == "fp16" else np.float32
                        settings = {"scale": kind(scale), "zero_point": np.int8(zero), "before_op": operation}
                        stored = Builder.quantize(input=x, output_dtype="int8", **settings)
                        rounded[x, scale, zero] = Builder.dequantize(input=stored, **settings)
                        before = rounded[x, scale, zero].op
                    block.replace_uses_of_var_after_op(
                        anchor_op=before, old_var=x, new_var=rounded[x, scale, zero], end_op=operation
                    )
                before = operation

        def _range(self, operation: Any) -> InputRange | None:
            if operation.op_type not in _PRODUCTS:
                return None
            return self.ranges.get(_plain(operation.inputs["weight"].name))

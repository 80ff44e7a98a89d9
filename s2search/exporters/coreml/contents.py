"""What a Core ML program holds, and its matrices as palettes.

Nothing here runs a Core ML program: that takes a Mac.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from s2search.mil.library import quiet_coremltools

if TYPE_CHECKING:
    from coremltools.models import MLModel

_LEAST_PALETTIZED = 2048  # numbers; coremltools' own default
_EVEN_BITS = 8
_CELLS = ((1, 1), (2, 2))  # kernels of linear maps of tokens, and of cells of them
_GROUPED = ("depthwise", "feature_map")  # kernels that do not mix all channels


def palettize(
    model: MLModel, bits_of: Mapping[str, int], default_bits: int = 4, mode: Literal["uniform", "kmeans"] = "uniform"
) -> MLModel:
    """Store the matrices of linear layers as indices into tables of 2^bits float16 values.

    Convolutions that are linear layers, of tokens or of cells of them, are taken for such.
    Values spaced evenly are quicker to find than those of k-means, which err less; package size and work on the phone
    are the same. All else stays float16: vectors, feature maps, convolution kernels, and the tables of rotary
    embeddings, which are constants like weights and would lose all sense of position in 16 values.

    Args:
        model: A float16 program.
        bits_of: Bits of weights whose name contains a key.
        default_bits: Bits of all other matrices.
        mode: How the values of a table are found. Tables of 8 bits are spaced evenly: their values are near enough.
    """
    with quiet_coremltools():
        import coremltools.optimize.coreml as optimize

        configurations = {}
        for name, weight in optimize.get_weights_metadata(model, weight_threshold=_LEAST_PALETTIZED).items():
            if _is_matrix(name, weight):
                bits = next((bits for key, bits in bits_of.items() if key in name), default_bits)
                configurations[name] = optimize.OpPalettizerConfig(
                    mode=mode if bits < _EVEN_BITS else "uniform", nbits=bits, weight_threshold=_LEAST_PALETTIZED
                )
        return optimize.palettize_weights(model, optimize.OptimizationConfig(op_name_configs=configurations))


def _is_matrix(name: str, weight: Any) -> bool:
    """Whether tokens are multiplied by a stored matrix: by `linear`, or by a convolution that is no more than that."""
    kinds = {child.op_type for child in weight.child_ops}
    if kinds == {"conv"} and weight.val.ndim == 4:
        return weight.val.shape[2:] in _CELLS and not any(part in name for part in _GROUPED)
    return kinds == {"linear"} and weight.val.ndim == 2


@dataclass(frozen=True, kw_only=True)
class Feature:
    """An input or output of a package: its name, shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a package holds: operations by type, the most axes of a value, inputs and outputs."""

    operations: dict[str, int]
    most_axes: int
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]


def read_contents(spec: Any) -> Contents:
    """Read a program's specification (the protobuf of a package's model.mlmodel)."""
    operations: dict[str, int] = {}
    most_axes = 0
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                if operation.type == "const":
                    continue
                operations[operation.type] = operations.get(operation.type, 0) + 1
                ranks = [output.type.tensorType.rank for output in operation.outputs]
                most_axes = max([most_axes, *ranks])
    description = spec.description
    return Contents(
        operations=dict(sorted(operations.items())),
        most_axes=most_axes,
        inputs=tuple(_feature(feature) for feature in description.input),
        outputs=tuple(_feature(feature) for feature in description.output),
    )


def _feature(feature: Any) -> Feature:
    array = feature.type.multiArrayType
    name = array.ArrayDataType.Name(array.dataType).lower()
    return Feature(name=feature.name, shape=tuple(array.shape), dtype=name)

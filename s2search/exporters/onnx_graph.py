"""A program as an ONNX graph, whose weights lie one after another in a file that several graphs share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

WEIGHTS = "weights.bin"
_ALIGNMENT = 4096  # pages: so that a runtime can map the file
_LEAST_EXTERNAL_BYTES = 1024


def onnx_graph(program: Any, *, opset: int = 20) -> Any:
    """Return a program as a graph of ONNX; of its weights those under `model.` are kept as they are.

    Args:
        program: The function.
        opset: Version of ONNX's default operator set.
    """
    import torch
    from onnxscript import optimizer

    exported = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=opset, optimize=False)
    assert exported is not None
    model = exported.model
    optimizer.fold_constants(
        model, onnx_shape_inference=False, should_fold=lambda node: False if _reads_weights(node) else None
    )
    optimizer.remove_unused_nodes(model)
    return model


def with_outputs(model: Any, first: int, count: int) -> Any:
    """Return a graph with some of another's outputs, and without what only the others need. They share weights."""
    from onnxscript import optimizer

    part = model.clone()
    part.graph.outputs[:] = part.graph.outputs[first : first + count]
    optimizer.remove_unused_nodes(part)
    return part


def write_graph(
    model: Any,
    weights: StoredWeights,
    file: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """Write one graph beside the file of weights.

    Args:
        model: The graph.
        weights: Where its weights go.
        file: Name of the graph.
        inputs: What its inputs are called, in their order.
        outputs: The same of its outputs.
        metadata: What the graph says of itself.
    """
    import onnx_ir

    for values, names in ((model.graph.inputs, inputs), (model.graph.outputs, outputs)):
        for value, name in zip(values, names, strict=True):
            value.name = name
    for value in model.graph.initializers.values():
        value.const_value = weights.stored(value.const_value)
    for node in model.graph:  # where in the code it came from: paths of this machine
        node.metadata_props.clear()
    model.producer_name = "s2search"
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    onnx_ir.save(model, weights.folder / file)


class StoredWeights:
    """The file of weights: what several graphs hold is written once."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file, self.folder = file, folder
        self._places: dict[Any, int] = {}

    def stored(self, tensor: Any) -> Any:
        """Return a tensor that lies in the file, or the tensor itself where it is small."""
        import onnx_ir

        if tensor.nbytes < _LEAST_EXTERNAL_BYTES:
            return tensor
        array = tensor.numpy()
        named = tensor.name.startswith("model.")  # is the same in all graphs
        key = (tensor.name if named else hashlib.sha256(array.tobytes()).digest(), array.shape, str(array.dtype))
        if key not in self._places:
            self._file.seek(-(-self._file.tell() // _ALIGNMENT) * _ALIGNMENT)
            self._places[key] = self._file.tell()
            self._file.write(memoryview(array.reshape(-1)).cast("B"))
        return onnx_ir.ExternalTensor(
            WEIGHTS,
            self._places[key],
            tensor.nbytes,
            tensor.dtype,
            shape=tensor.shape,
            name=tensor.name,
            base_dir=self.folder,
        )


def _reads_weights(node: Any) -> bool:
    return any(value is not None and (value.name or "").startswith("model.") for value in node.inputs)

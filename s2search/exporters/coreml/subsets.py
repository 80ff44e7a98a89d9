"""More functions of a saved Core ML program: parts of one that it has, with the same weights.

Converting is slow, and `denoise` and `commit` are `advance` with fewer outputs: what they need of its operations is
copied within the specification. Constants are offsets into the file of weights, so nothing is stored twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def add_parts(specification: Any, whole: str, parts: Mapping[str, Sequence[str]]) -> None:
    """Add functions to a specification (the protobuf of a package's model.mlmodel), in place.

    Args:
        specification: Of a program of several functions.
        whole: The function that they are parts of.
        parts: The outputs that each returns. All take the inputs of the whole.
    """
    described = next(one for one in specification.description.functions if one.name == whole)
    functions = specification.mlProgram.functions
    for name, outputs in parts.items():
        function = functions[name]
        function.CopyFrom(functions[whole])
        for block in function.block_specializations.values():
            _keep(block, outputs)
        description = specification.description.functions.add()
        description.CopyFrom(described)
        description.name = name
        kept = [feature for feature in described.output if feature.name in outputs]
        del description.output[:]
        description.output.extend(kept)


def _keep(block: Any, outputs: Sequence[str]) -> None:
    """Leave a block these outputs, and the operations that they need."""
    needed = set(outputs)
    kept = []
    for operation in reversed(block.operations):
        if needed.isdisjoint(output.name for output in operation.outputs):
            continue
        kept.append(operation)
        for argument in operation.inputs.values():
            needed |= {binding.name for binding in argument.arguments if binding.WhichOneof("binding") == "name"}
    names = [name for name in block.outputs if name in outputs]
    del block.outputs[:]
    block.outputs.extend(names)
    copies = [type(operation).FromString(operation.SerializeToString()) for operation in reversed(kept)]
    del block.operations[:]
    block.operations.extend(copies)

"""Core ML's own states (StateType): tensors that Core ML keeps from call to call instead of taking and returning them.

A converted program takes `keys_00` and returns `new_keys_00`. Here the input becomes a state that is read once, before
everything else, and the output a write, after everything else: so a function computes what it computed before. A
function that returned no new value writes none, and one that took no value reads none: it begins a stream on whatever
state it is given. coremltools 9 writes states in the same form (`read_state`,
`write_state`, the type and the description), which tests hold this against.

Core ML makes a state of zeros, and takes float16 only. So what else a function takes of the past stays plain: sums, and
`past_bias`, whose zeros would say that all frames of an empty ring are there.

Several functions of a package may use one state: they declare the same states. Source: coremltools' guide "Stateful
models"; ANEMLL (tests/chat.py), which makes a state by the function `prefill` and hands it to `infer` as well.

Why states: docs/decisions/export.md, "Core ML's own states".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s2search.exporters.package import NEW


def hold_states(specification: Any, names: Sequence[str]) -> None:
    """Turn inputs and outputs of a program into states, in place.

    Args:
        specification: The protobuf of a package; it may have several functions.
        names: What functions take, and return under the same names with `new_` before; in the order of the states. A
            function that takes or returns any does so with all; all are float16.
    """
    several = {told.name: told for told in specification.description.functions}
    for function_name, told in (several or {"main": specification.description}).items():
        function = specification.mlProgram.functions[function_name]
        taken = {value.name for value in function.inputs} | {feature.name for feature in told.output}
        held = [name for name in names if not taken.isdisjoint((name, NEW + name))]
        if held:
            _hold(function, held)
            _describe(told, held)


def _hold(function: Any, names: Sequence[str]) -> None:
    """Change the function itself: its inputs, its operations, its outputs."""
    (block,) = function.block_specializations.values()
    values = [*function.inputs, *(value for operation in block.operations for value in operation.outputs)]
    types = {value.name.removeprefix(NEW): value.type.tensorType for value in reversed(values)}
    read = [value.name for value in function.inputs if value.name in names]
    plain = [value for value in function.inputs if value.name not in names]
    del function.inputs[:]
    function.inputs.extend(plain)
    for name in names:
        function.inputs.add(name=name).type.stateType.wrappedType.tensorType.CopyFrom(types[name])
    operations = list(block.operations)
    for operation in operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name in names:
                    binding.name = _read(binding.name)
    written = [name for name in names if NEW + name in block.outputs]
    outputs = [name for name in block.outputs if name.removeprefix(NEW) not in written]
    del block.operations[:], block.outputs[:]
    for name in read:
        operation = _operation(block, "read_state", f"{name}_read_state", name)
        operation.outputs.add(name=_read(name)).type.tensorType.CopyFrom(types[name])
    block.operations.extend(operations)
    for name in written:
        operation = _operation(block, "write_state", f"{name}_write_state", name)
        operation.inputs["data"].arguments.add(name=NEW + name)
    block.outputs.extend(outputs)


def _describe(told: Any, names: Sequence[str]) -> None:
    """Change what applications are told of the function."""
    features = {feature.name.removeprefix(NEW): feature for feature in (*told.output, *told.input)}
    plain = [feature for feature in told.input if feature.name not in names]
    outputs = [feature for feature in told.output if feature.name.removeprefix(NEW) not in names]
    for name in names:
        told.state.add(name=name).type.stateType.arrayType.CopyFrom(features[name].type.multiArrayType)
    del told.input[:], told.output[:]
    told.input.extend(plain)
    told.output.extend(outputs)


def _operation(block: Any, kind: str, name: str, state: str) -> Any:
    """Add an operation on a state."""
    from coremltools.proto import MIL_pb2

    operation = block.operations.add(type=kind)
    operation.inputs["input"].arguments.add(name=state)
    label = operation.attributes["name"]
    label.type.tensorType.dataType = MIL_pb2.STRING
    label.immediateValue.tensor.strings.values.append(name)
    return operation


def _read(name: str) -> str:
    """Return the name of what was read of a state."""
    return f"{name}_read"

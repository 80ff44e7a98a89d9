"""Core ML's states: put into a program after its conversion, as coremltools would have written them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from s2search.exporters.coreml.exporter import LoadedCoreML
from s2search.exporters.coreml.state import hold_states
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.mil.program import Program
from s2search.verification.inspectors.coreml import CoreMLInspector
from s2search.verification.inspectors.coreml_emulated import EmulatedCoreML
from tests.export.held_program import FILE, FUNCTIONS, HELD, SHAPES, edit, make_package, taken
from tests.mil.programs import builder, save

STATE = ("keys_00", "tail_01", "sum_01")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("held"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("plain"), held=())


@pytest.fixture
def broken(tmp_path):
    return make_package(tmp_path)


def inputs(function, seed):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=SHAPES[name]).astype(np.float16) for name in taken(function)}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_program_with_states_computes_what_it_computed_with_plain_inputs(package, plain, function):
    given_ = inputs(function, 0)
    wanted, got = (EmulatedCoreML(one).run(function, given_) for one in (plain, package))
    assert wanted.keys() == got.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array)


def test_states_are_declared_and_described_in_one_order_and_no_longer_as_inputs_or_outputs(package):
    specification = load_coremltools().utils.load_spec(str(package.folder / FILE))
    told = {function.name: function for function in specification.description.functions}
    assert [state.name for state in told["denoise"].state] == [state.name for state in told["advance"].state] == [*HELD]
    assert not told["first"].state
    assert [one.name for one in told["advance"].input] == ["x", "sum_01"]
    assert [one.name for one in told["advance"].output] == ["velocity", "new_sum_01"]
    states = Program.load(package.folder / FILE).function("advance").states
    assert [(state.name, str(state.type)) for state in states] == [
        ("keys_00", "float16 1x4"),
        ("tail_01", "float16 1x2"),
    ]


def test_the_form_is_that_of_coremltools(package, tmp_path):
    def counts(x, keys_00):
        mb = builder()
        new = mb.add(x=mb.read_state(input=keys_00), y=x, name="new")
        mb.coreml_update_state(state=keys_00, value=new)
        return mb.identity(x=x, name="velocity")

    save(tmp_path / FILE, counts, [np.zeros((1, 4), np.float16)], [(1, 4)])
    load_spec = load_coremltools().utils.load_spec
    theirs, ours = load_spec(str(tmp_path / FILE)), load_spec(str(package.folder / FILE))
    told = next(one for one in ours.description.functions if one.name == "advance")
    assert told.state[0] == theirs.description.state[0]
    function, other = ours.mlProgram.functions["advance"], theirs.mlProgram.functions["main"]
    assert next(one for one in function.inputs if one.name == "keys_00") == other.inputs[-1]
    for kind in ("read_state", "write_state"):
        mine, its = (next(one for one in block_of(f).operations if one.type == kind) for f in (function, other))
        for one in (mine, its):
            one.attributes["name"].immediateValue.tensor.strings.values[0] = ""
            for output in one.outputs:
                output.name = ""
            if kind == "write_state":
                one.inputs["data"].arguments[0].name = ""
        assert mine == its


def test_coremltools_reads_the_program(package):
    coremltools = load_coremltools()
    from coremltools.converters.mil.frontend.milproto.load import load

    specification = coremltools.utils.load_spec(str(package.folder / FILE))
    weights = str(package.folder / FILE / "Data/com.apple.CoreML/weights")
    functions = load(specification, specification.specificationVersion, weights).functions
    kinds = [operation.op_type for operation in functions["advance"].operations]
    assert (kinds.count("read_state"), kinds.count("coreml_update_state")) == (2, 2)
    assert [operation.op_type for operation in functions["denoise"].operations].count("coreml_update_state") == 0


def block_of(function):
    (block,) = function.block_specializations.values()
    return block


class MLState:
    """As coremltools' own: float16 buffers of zeros, which a prediction may change."""

    def __init__(self, states):
        self.values = {state.name: np.zeros(state.type.shape, np.float16) for state in states}

    def read_state(self, name):
        return self.values[name].copy()

    def write_state(self, name, value):
        assert value.shape == self.values[name].shape
        self.values[name] = value.astype(np.float16)


@pytest.fixture
def mac(monkeypatch):
    """A Mac whose Core ML is the evaluator, behind what coremltools 9 shows of it."""
    made = []

    class MLModel:
        def __init__(self, model, function_name=None):
            self.function = Program.load(Path(model)).function(function_name)
            self.evaluator = Evaluator(Program.load(Path(model)), function_name, "float16")
            made.append(function_name)

        def make_state(self):
            return MLState(self.function.states)

        def predict(self, data, state=None):
            assert set(data) == {value.name for value in self.function.inputs}
            assert (state is None) == (not self.function.states), (
                "The input feature must be an MLState, but it was not."
            )
            for name, x in data.items():
                data[name] = x.astype(np.float32)  # coremltools writes into its argument
            values = state and {name: torch.from_numpy(x.astype(np.float32)) for name, x in state.values.items()}
            result = self.evaluator.run({name: torch.from_numpy(x) for name, x in data.items()}, values)
            if state is not None:
                state.values = {name: x.numpy().astype(np.float16) for name, x in result.state.items()}
            return {name: x.numpy() for name, x in result.outputs.items()}

    monkeypatch.setattr(load_coremltools().models, "MLModel", MLModel)
    return made


@pytest.mark.parametrize("function", FUNCTIONS)
def test_on_a_mac_the_runtime_gives_what_the_evaluator_gives_and_changes_no_input(package, mac, function):
    given_, runtime = inputs(function, 1), LoadedCoreML(package)
    kept = {name: array.copy() for name, array in given_.items()}
    got = runtime.run(function, given_)
    wanted = EmulatedCoreML(package).run(function, given_)
    assert {name: str(x.dtype) for name, x in got.items()} == {name: str(x.dtype) for name, x in wanted.items()}
    for name, array in wanted.items():
        np.testing.assert_array_equal(got[name], array)
    for name, array in kept.items():
        assert given_[name].dtype == np.float16
        np.testing.assert_array_equal(given_[name], array)
    plain = {name: array for name, array in given_.items() if name not in HELD}
    runtime.call(function, plain, runtime.make_state(function) if len(plain) < len(given_) else None)
    assert {str(array.dtype) for array in plain.values()} == {"float16"}
    assert mac == [function]


@given(calls=some.lists(some.sampled_from(["denoise", "advance"]), max_size=6), fork=some.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_a_state_that_stays_is_a_state_that_is_copied_and_can_be_forked(package, calls, fork):
    runtime = EmulatedCoreML(package)
    held, copied, forked = (
        runtime.make_state("denoise"),
        {name: np.zeros(SHAPES[name], np.float16) for name in STATE},
        None,
    )
    for number, function in enumerate(calls):
        x = inputs(function, number)["x"]
        if number == fork:
            forked = {name: array.copy() for name, array in copied.items()}
        before = {name: array.copy() for name, array in copied.items()}
        wanted = runtime.run(function, {"x": x} | copied)
        got = runtime.call(function, {"x": x, "sum_01": copied["sum_01"]}, held)
        for name, array in before.items():
            np.testing.assert_array_equal(copied[name], array)
        copied = {name: wanted.get(f"new_{name}", copied[name]) for name in STATE}
        np.testing.assert_array_equal(got["velocity"], wanted["velocity"])
        for name in HELD:
            np.testing.assert_array_equal(held.read_state(name), copied[name])
    if forked is not None:
        again = forked
        for number, function in enumerate(calls[fork:], start=fork):
            outputs = runtime.run(function, {"x": inputs(function, number)["x"]} | again)
            again = {name: outputs.get(f"new_{name}", again[name]) for name in STATE}
        for name in STATE:
            np.testing.assert_array_equal(again[name], copied[name])


def faults(package):
    return CoreMLInspector().state_faults(package)


def test_a_whole_program_has_no_faults(package, plain):
    assert faults(package) == faults(plain) == []


def write_of(specification, function, state):
    return next(
        one
        for one in block_of(specification.mlProgram.functions[function]).operations
        if one.type == "write_state" and one.inputs["input"].arguments[0].name == state
    )


def test_a_write_in_denoise_is_named(broken):
    def change(specification):
        block = block_of(specification.mlProgram.functions["denoise"])
        write = block.operations.add()
        write.CopyFrom(write_of(specification, "advance", "tail_01"))
        write.inputs["data"].arguments[0].name = "velocity"

    edit(broken.folder, change)
    assert faults(broken) == ["denoise writes tail_01"]


def test_a_state_that_is_not_written_is_named(broken):
    def change(specification):
        write_of(specification, "advance", "tail_01").type = "identity_of_no_output"
        block = block_of(specification.mlProgram.functions["advance"])
        kept = [one for one in block.operations if one.type != "identity_of_no_output"]
        del block.operations[:]
        block.operations.extend(kept)

    edit(broken.folder, change)
    assert faults(broken) == ["advance does not write tail_01"]


def test_a_state_that_is_written_before_it_is_read_is_named(broken):
    def change(specification):
        block = block_of(specification.mlProgram.functions["advance"])
        operations = list(block.operations)
        reads = [one for one in operations if one.type == "read_state"]
        again = type(reads[0]).FromString(reads[0].SerializeToString())
        again.outputs[0].name = "again"
        block.operations.append(again)

    edit(broken.folder, change)
    assert faults(broken) == ["advance reads a state after it wrote one"]


def test_states_in_another_order_are_named(broken):
    def change(specification):
        function = specification.mlProgram.functions["advance"]
        values = list(function.inputs)[::-1]
        del function.inputs[:]
        function.inputs.extend(values)

    edit(broken.folder, change)
    (fault,) = faults(broken)
    assert fault.startswith("advance declares [('tail_01', 'float16 1x2'), ('keys_00', 'float16 1x4')], and not")


def test_a_function_that_returns_a_state_it_never_took_writes_it_and_reads_none(tmp_path):
    """As a decoder's first chunk does: whatever the state holds, a stream begins."""

    def begin(x):
        return builder().concat(values=[x, x], axis=1, name="new_keys_00")

    def go_on(x, keys_00):
        return builder().add(x=keys_00, y=np.float16(1), name="new_keys_00")

    coremltools = load_coremltools()
    descriptor = coremltools.utils.MultiFunctionDescriptor()
    for function, shapes in ((begin, ((1, 2),)), (go_on, ((1, 2), (1, 4)))):
        arrays = [np.zeros(shape, np.float16) for shape in shapes]
        saved = save(tmp_path / f"{function.__name__}.mlpackage", function, arrays)
        descriptor.add_function(str(saved), "main", function.__name__)
    descriptor.default_function_name = "begin"
    with quiet_coremltools():
        coremltools.utils.save_multifunction(descriptor, str(tmp_path / FILE))
    edit(tmp_path, lambda specification: hold_states(specification, ("keys_00",)))
    program = Program.load(tmp_path / FILE)
    evaluator = Evaluator(program, "begin")
    used = {"keys_00": torch.full((1, 4), 7.0)}
    after = evaluator.run({"x": torch.tensor([[1.0, 2.0]])}, used)
    assert after.outputs == {}
    assert after.state["keys_00"].tolist() == [[1, 2, 1, 2]]
    assert [one.type for one in evaluator.function.operations if "state" in one.type] == ["write_state"]
    later = Evaluator(program, "go_on").run({"x": torch.zeros(1, 2)}, after.state)
    assert later.state["keys_00"].tolist() == [[2, 3, 2, 3]]

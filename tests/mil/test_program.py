import json
import shutil

import numpy as np
import pytest
import torch

from s2search.errors import InputError, UnknownNameError
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.mil.program import Program
from tests.mil.programs import builder, few_objects, load, save

X = np.arange(6, dtype=np.float16).reshape(2, 3)
WEIGHT = np.linspace(-1, 1, 3 * 40, dtype=np.float32).reshape(40, 3)
GAIN = np.array([1, 2, 3], np.float32)


def counts_up(x, total):
    """Add x to the state, and return the sum and what was there before."""
    mb = builder()
    before = mb.read_state(input=total)
    after = mb.add(x=before, y=x, name="after")
    return mb.coreml_update_state(state=total, value=after), mb.identity(x=before, name="before")


def doubles(x, total):
    """Double the state, and return it with x added."""
    mb = builder()
    twice = mb.mul(x=mb.read_state(input=total), y=np.float16(2), name="twice")
    mb.coreml_update_state(state=total, value=twice)
    return mb.add(x=twice, y=x, name="doubled")


def projects(x):
    mb = builder()
    return mb.linear(x=mb.mul(x=x, y=GAIN), weight=WEIGHT, name="projected")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return save(tmp_path_factory.mktemp("one") / "one.mlpackage", projects, [X.astype(np.float32)])


def test_a_state_remembers_between_calls_and_the_one_given_is_left_as_it_was(tmp_path):
    evaluator = Evaluator(load(tmp_path, counts_up, [X], [X.shape]))
    states = [evaluator.initial_state()]
    for call in range(4):
        result = evaluator.run({"x": torch.from_numpy(X)}, states[-1])
        states.append(result.state)
        np.testing.assert_array_equal(result.outputs["before"], call * X)
        (after,) = (x for name, x in result.outputs.items() if name != "before")
        np.testing.assert_array_equal(after, (call + 1) * X)
    for call, state in enumerate(states):
        np.testing.assert_array_equal(state["total"], call * X)


def test_a_program_of_two_functions_runs_both_on_one_state(tmp_path):
    coremltools = load_coremltools()
    descriptor = coremltools.utils.MultiFunctionDescriptor()
    for name, build in [("count", counts_up), ("double", doubles)]:
        source = save(tmp_path / f"{name}.mlpackage", build, [X], [X.shape])
        descriptor.add_function(str(source), "main", name)
    descriptor.default_function_name = "double"
    with quiet_coremltools(), few_objects():
        coremltools.utils.save_multifunction(descriptor, str(tmp_path / "two.mlpackage"))
    program = Program.load(tmp_path / "two.mlpackage")
    assert sorted(program.functions) == ["count", "double"]
    assert program.default == "double"
    count, double = Evaluator(program, "count"), Evaluator(program)
    inputs = {"x": torch.from_numpy(X)}
    state = double.run(inputs, count.run(inputs, count.run(inputs).state).state).state
    np.testing.assert_array_equal(state["total"], 4 * X)
    np.testing.assert_array_equal(double.run(inputs, state).outputs["doubled"], 9 * X)


def test_two_functions_share_the_weights_of_one_file(tmp_path, package):
    coremltools = load_coremltools()
    descriptor = coremltools.utils.MultiFunctionDescriptor()
    for name in ("read", "commit"):
        descriptor.add_function(str(package), "main", name)
    descriptor.default_function_name = "read"
    with quiet_coremltools(), few_objects():
        coremltools.utils.save_multifunction(descriptor, str(tmp_path / "two.mlpackage"))
    program = Program.load(tmp_path / "two.mlpackage")
    for name in program.functions:
        weight = next(x for _, x in Evaluator(program, name).weights() if x.ndim == 2)
        np.testing.assert_array_equal(weight, WEIGHT)


def test_large_weights_come_from_the_file_and_small_ones_from_the_protobuf(tmp_path, package):
    constants = Program.load(package).function().constants.values()
    assert [constant.type.shape for constant in constants if constant.in_file] == [(40, 3), (40,)]
    assert [constant.type.shape for constant in constants if not constant.in_file] == [(3,)]


def test_what_the_exporter_noted_is_read(package):
    assert Program.load(package).metadata["com.github.apple.coremltools.version"] == "9.0"


def test_an_unknown_function_is_named_with_those_there_are(package):
    with pytest.raises(UnknownNameError, match=r"is called 'man' \(did you mean 'main'\?\); its functions: main"):
        Evaluator(Program.load(package), "man")


def weights_cut(package):
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    file.write_bytes(file.read_bytes()[:-1])


def weights_gone(package):
    (package / "Data/com.apple.CoreML/weights/weight.bin").unlink()


def weights_empty(package):
    (package / "Data/com.apple.CoreML/weights/weight.bin").write_bytes(b"")


def sentinel_lost(package):
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    content = bytearray(file.read_bytes())
    content[64] ^= 1
    file.write_bytes(content)


def kind_changed(package):
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    content = bytearray(file.read_bytes())
    content[68] = 1
    file.write_bytes(content)


def manifest_gone(package):
    (package / "Manifest.json").unlink()


def manifest_wrong(package):
    (package / "Manifest.json").write_text('{"itemInfoEntries": {}, "rootModelIdentifier": "a"}')


def manifest_outside(package):
    document = json.loads((package / "Manifest.json").read_bytes())
    document["itemInfoEntries"][document["rootModelIdentifier"]]["path"] = "../../../etc/passwd"
    (package / "Manifest.json").write_text(json.dumps(document))


def model_cut(package):
    file = package / "Data/com.apple.CoreML/model.mlmodel"
    file.write_bytes(file.read_bytes()[:-7])


def edited(change):
    def harm(package):
        from coremltools.proto import Model_pb2

        file = package / "Data/com.apple.CoreML/model.mlmodel"
        model = Model_pb2.Model.FromString(file.read_bytes())
        change(model, model.mlProgram.functions["main"].block_specializations["CoreML8"])
        file.write_bytes(model.SerializeToString())

    return harm


def other_kind(model, block):
    model.neuralNetwork.SetInParent()


def lost_value(model, block):
    block.operations[-1].inputs["x"].arguments[0].name = "y"


def defined_twice(model, block):
    block.operations.append(block.operations[-1])


def other_output(model, block):
    model.description.output[0].name = "other"


def other_opset(model, block):
    model.mlProgram.functions["main"].opset = "CoreML9"


def other_shape(model, block):
    block.operations[-1].outputs[0].type.tensorType.dimensions[0].constant.size = 3


def huge(model, block):
    block.operations[0].attributes["val"].type.tensorType.dimensions[0].constant.size = 2**60


def unknown_operation(model, block):
    block.operations[-1].type = "convolve_everything"


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (weights_cut, "end behind the file's end"),
        (weights_gone, "weight.bin' cannot be read: .*No such file"),
        (weights_empty, "lie behind its end at 0"),
        (sentinel_lost, "begin with 0xdeadbeee; 0xdeadbeef"),
        (kind_changed, "480 bytes of kind 1; 480 bytes of kind 2 for float32 40x3"),
        (manifest_gone, "is not a Core ML package: No such file"),
        (manifest_wrong, "names no model: 'a'"),
        (manifest_outside, "names the file '../../../etc/passwd' outside itself"),
        (model_cut, "is not a Core ML model"),
        (edited(other_kind), "is of the kind neuralNetwork; only mlProgram is read here; convert it with"),
        (edited(lost_value), "the value 'y', 'x' of 'projected', is not defined before"),
        (edited(defined_twice), "the value 'projected' is defined twice"),
        (edited(other_output), r"describes the outputs of 'main' as \['other'\]; the function has \['projected'\]"),
        (edited(other_opset), "has no block for 'CoreML9'; CoreML8"),
        (edited(other_shape), r"'projected' \(linear\) cannot be computed: .* the shape \(2, 40\)"),
        (edited(huge), "has 1 axes of sizes float32 1152921504606846976"),
        (edited(unknown_operation), "nothing here computes 1 operation of 'main': convolve_everything"),
    ],
    ids=lambda value: None if isinstance(value, str) else value.__name__,
)
def test_a_damaged_package_is_refused_in_one_line(tmp_path, package, harm, problem):
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(package, copy)
    harm(copy)
    with pytest.raises(InputError, match=problem) as refused:
        Evaluator(Program.load(copy)).run({"x": torch.from_numpy(X).float()})
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({}, "the inputs given are none; the function 'main' has x"),
        ({"x": torch.zeros(3, 2)}, r"the input 'x' is torch.float32 of \(3, 2\); float32 2x3"),
        ({"x": torch.zeros(2, 3, dtype=torch.int32)}, r"the input 'x' is torch.int32 of \(2, 3\); float32 2x3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(package, inputs, problem):
    with pytest.raises(InputError, match=problem):
        Evaluator(Program.load(package)).run(inputs)


def test_an_unknown_mode_is_refused(package):
    with pytest.raises(InputError, match="the mode is 'float64'; float32, float16, pessimistic"):
        Evaluator(Program.load(package), mode="float64")

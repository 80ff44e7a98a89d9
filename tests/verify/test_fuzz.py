import shutil

import numpy as np
import pytest
import torch

from s2search.errors import S2SearchError
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools
from s2search.mil.residency import residency
from s2search.mil.rules.every import lint_package
from s2search.mil.watch import Peaks
from tests import mutations
from tests.mil.programs import builder, save

FILES = ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin")
X = np.linspace(-1, 1, 48, dtype=np.float16).reshape(1, 3, 4, 4)


def varied(x, past):
    """Do a little of everything that a file can get wrong: settings, shapes, palettes, states, text."""
    load_coremltools()
    from coremltools.converters.mil.mil import types

    mb = builder()
    both = mb.concat(values=(mb.read_state(input=past), x), axis=1)
    new = mb.slice_by_index(x=both, begin=[0, 3, 0, 0], end=[1, 6, 4, 4], end_mask=[True, False, True, True])
    held = mb.coreml_update_state(state=past, value=new)
    kernel = np.linspace(-1, 1, 2 * 3 * 9, dtype=np.float16).reshape(2, 3, 3, 3)
    seen = mb.conv(x=held, weight=kernel, pad_type="custom", pad=[1, 1, 1, 1])
    flat = mb.reshape(x=mb.gelu(x=seen, mode="EXACT"), shape=[2, 16])
    indices = (np.arange(16 * 5) % 16).reshape(5, 16).astype(types.nptype_from_builtin(types.uint4))
    weight = mb.constexpr_lut_to_dense(indices=indices, lut=np.arange(16, dtype=np.float16).reshape(1, 1, 16, 1))
    scores = mb.softmax(x=mb.linear(x=flat, weight=weight), axis=-1)
    padded = mb.pad(x=scores, pad=[0, 1, 2, 0])
    taken = mb.gather(x=mb.tile(x=padded, reps=[1, 2]), indices=np.array([2, 0, 1], np.int32), axis=0)
    first, second = mb.split(x=mb.transpose(x=taken, perm=[1, 0]), split_sizes=[10, 4], axis=0)
    return mb.reduce_mean(x=mb.cast(x=first, dtype="fp32"), axes=[-1]), mb.expand_dims(x=second, axes=[0])


def branching(x, past):
    """Do a little of what has operations inside, or takes its sizes from settings."""
    mb = builder()
    x = mb.cast(x=mb.add(x=x, y=mb.read_state(input=past)), dtype="fp32")
    kernel = np.linspace(-1, 1, 3 * 2 * 4, dtype=np.float32).reshape(3, 2, 2, 2)
    spread = mb.conv_transpose(x=x, weight=kernel, strides=[2, 2], pad_type="custom", pad=[1, 0, 0, 1])
    sized = mb.resize_bilinear(x=spread, target_size_height=5, target_size_width=3, sampling_mode="DEFAULT")
    seen = mb.max_pool(x=sized, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", ceil_mode=True)
    padded = mb.pad(x=seen, pad=[0, 0, 0, 0, 1, 2, 1, 1], mode="reflect")
    put = mb.scatter(data=padded, indices=[1, 0], updates=mb.slice_by_size(
        x=padded, begin=[0, 0, 0, 0], size=[1, 2, 2, 4]), axis=2, mode="add")  # fmt: skip
    steps = mb.squeeze(x=mb.slice_by_size(x=put, begin=[0, 0, 0, 0], size=[1, 2, 1, 4]), axes=[0])
    weight, start = np.linspace(-1, 1, 8 * 4, dtype=np.float32).reshape(8, 4), np.zeros((1, 2), np.float32)
    y, *_ = mb.lstm(x=steps, initial_h=start, initial_c=start, weight_ih=weight, weight_hh=weight[:, :2].copy())
    grown = mb.while_loop(
        _cond=lambda z: mb.less(x=mb.reduce_sum(x=mb.abs(x=z)), y=2.0),
        _body=lambda z: mb.add(x=z, y=mb.add(x=z, y=0.1)),
        loop_vars=(y,),
    )
    return mb.cond(
        pred=mb.greater(x=mb.reduce_sum(x=grown), y=0.0),
        _true_fn=lambda: mb.mul(x=grown, y=2.0),
        _false_fn=lambda: mb.cast(x=mb.cast(x=grown, dtype="int8"), dtype="fp32"),
    )


@pytest.fixture(scope="module", params=[varied, pytest.param(branching, marks=pytest.mark.slow)])
def package(tmp_path_factory, request):
    return save(tmp_path_factory.mktemp("fuzz") / "one.mlpackage", request.param, [X], [X.shape])


def reader(package, name, folder):
    copy = folder / "harmed.mlpackage"
    shutil.copytree(package, copy)

    def run(content):
        (copy / name).write_bytes(content)
        program, _ = lint_package(copy)
        for function in program.functions:
            residency(program.function(function))
            for mode in ("float16", "pessimistic"):
                evaluator, peaks = Evaluator(program, function, mode), Peaks()
                result = evaluator.run({"x": torch.from_numpy(X)}, watch=[peaks])
                evaluator.run({"x": torch.from_numpy(X)}, result.state)
                assert peaks.largest is not None
            dict(evaluator.weights())

    return run


def test_the_sample_itself_runs(package, tmp_path):
    reader(package, FILES[0], tmp_path)((package / FILES[0]).read_bytes())


@pytest.mark.parametrize("name", FILES)
def test_a_harmed_file_is_refused_in_one_line_or_read(package, name, tmp_path):
    content = (package / name).read_bytes()
    mutations.survives(reader(package, name, tmp_path), mutations.harmed(content), 75)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_ten_thousand_harmed_files_are_refused_in_one_line_or_read(package, name, tmp_path):
    content = (package / name).read_bytes()
    mutations.survives(reader(package, name, tmp_path), mutations.harmed(content), 10_000)


def refused_in_one_line_or_read(run, content):
    message = ""
    try:
        run(content)
    except S2SearchError as error:
        message = str(error)
    assert len(message.splitlines()) == bool(message)
    return message


def test_every_cut_of_the_model_is_refused_in_one_line_or_read(package, tmp_path):
    content = (package / FILES[1]).read_bytes()
    run = reader(package, FILES[1], tmp_path)
    refused = [refused_in_one_line_or_read(run, content[:length]) for length in range(0, len(content), 61)]
    assert all(refused)


def numbers_of(message, path=()):
    """Yield every number of a protobuf message as a function that changes it."""
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            for key in list(value):
                if hasattr(value[key], "ListFields"):
                    yield from numbers_of(value[key], (*path, key))
        elif hasattr(value, "add"):
            for item in value:
                yield from numbers_of(item, path)
        else:
            yield from numbers_of(value, path)
    for descriptor, value in message.ListFields():
        if descriptor.name == "values" and not isinstance(value, bytes) and len(value) and isinstance(value[0], int):
            for place in range(len(value)):
                yield message, "values", place
        elif isinstance(value, int) and descriptor.name in ("size", "rank", "dataType", "offset"):
            yield message, descriptor.name, None


def change_numbers(package, tmp_path, other, numbers):
    """Set one number after another, and return how many packages were tried and how many refused."""
    from coremltools.proto import Model_pb2

    content = (package / FILES[1]).read_bytes()
    run = reader(package, FILES[1], tmp_path)
    tried = refused = 0
    for number in range(*numbers.indices(len(list(numbers_of(Model_pb2.Model.FromString(content).mlProgram))))):
        model = Model_pb2.Model.FromString(content)
        message, name, place = list(numbers_of(model.mlProgram))[number]
        try:
            if place is None:
                setattr(message, name, other)
            else:
                message.values[place] = other
        except ValueError:  # no number that this field can hold
            continue
        tried += 1
        refused += bool(refused_in_one_line_or_read(run, model.SerializeToString()))
    return tried, refused


@pytest.mark.parametrize(("first", "other"), list(enumerate([-1, 0, 7, 2**31 - 1, -(2**31)])))
def test_any_whole_number_of_the_model_may_be_wrong(package, first, other, tmp_path):
    tried, refused = change_numbers(package, tmp_path, other, slice(first, None, 8))
    assert tried > 10
    assert refused > tried / 4


@pytest.mark.slow
@pytest.mark.parametrize("other", [-1, 0, 1, 2, 7, 2**20, 2**31 - 1, -(2**31)])
def test_every_whole_number_of_the_model_may_be_wrong(package, other, tmp_path):
    tried, refused = change_numbers(package, tmp_path, other, slice(None))
    assert tried > 80
    assert refused > tried / 3  # many a 1 says what was said

"""What a process takes that loads a program and runs it: a real one, of ONNX Runtime."""

import sys

import pytest

from s2search.errors import InputError
from s2search.exporters import resident
from s2search.exporters.counters import kernel_bytes, process_bytes, why_no_counters
from s2search.exporters.resident import OnnxJob, Resident, told

MB = 1_000_000
linux = pytest.mark.skipif(why_no_counters() is not None, reason=why_no_counters() or "")


def product(rows, columns):
    """An ONNX graph of one product with a matrix, and its input: everything about it is known."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    matrix = numpy_helper.from_array(np.ones((rows, columns), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, columns])],
        [matrix],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    assert onnx.checker.check_model(model) is None
    return model.SerializeToString(), {"x": np.ones((1, rows), np.float32)}


@linux
def test_twice_the_weights_take_so_much_more_and_the_difference_holds_no_runtime():
    one, two = (OnnxJob(graphs=[product(2000, columns)]).run() for columns in (2000, 4000))
    assert 15 * MB < two.load_bytes - one.load_bytes < 4 * 16 * MB  # 16 MB, kept once, or again in another order
    assert one.counter == two.counter == "rss+vm_hwm"
    assert one.load_bytes <= one.peak_bytes == one.most_bytes


@linux
def test_graphs_that_are_loaded_together_take_more_than_each():
    graph = product(1500, 1500)
    assert OnnxJob(graphs=[graph, graph]).run().most_bytes > OnnxJob(graphs=[graph]).run().most_bytes + 9 * MB


@linux
def test_it_is_a_process_of_its_own_whatever_this_one_holds():
    graph = product(1000, 1000)
    before = OnnxJob(graphs=[graph]).run().most_bytes
    ballast = bytearray(200 * MB)
    after = OnnxJob(graphs=[graph]).run().most_bytes
    assert len(ballast) == 200 * MB
    assert after == pytest.approx(before, abs=3 * MB)


@linux
def test_a_program_that_cannot_be_loaded_is_an_error_in_one_line():
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="the process that measures what a program takes ended with exit code 1") as no:
        OnnxJob(graphs=[(b"no graph", {})]).run()
    assert "\n" not in str(no.value)


def test_a_process_that_is_killed_is_told_by_its_signal(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(InputError, match="ended with signal 9: it said nothing; give it more memory"):
        resident._child("anything", tmp_path)


def test_a_system_that_does_not_tell_gives_nothing(monkeypatch):
    monkeypatch.setattr(resident, "why_no_counters", lambda: "this is a Mac")
    assert OnnxJob(graphs=[]).run() is None


def test_a_peak_before_anything_was_loaded_is_not_the_programs():
    moments = [{"rss": n, "peak": 100} for n in (10, 40, 50, 45)]
    assert told(moments) == Resident(counter="rss+vm_hwm", load_bytes=30, first_bytes=40, steady_bytes=35)
    assert told(moments).most_bytes == 40


@linux
def test_figures_of_this_process_are_plausible():
    found = process_bytes()
    assert 0 < found["rss"] <= found["peak"]
    with pytest.raises(LookupError):
        kernel_bytes("VmHWM: 1 MB", "VmHWM")

import dataclasses
import sys

import onnxruntime
import pytest
import torch

from s2search.measurement.onnxruntime import OnnxRuntime
from s2search.measurement.torch_call import torch_call
from s2search.registry import create
from s2search.testing.profilers import check_profiler, miniature_items
from tests.measure.test_tensor_call import first, snr_db

ITEMS = miniature_items()
STREAM = tuple(item for item in ITEMS if item.scenario == "stream")
QUICK = ("stream ssa commit 1x3x3",)
CLIP = next(item for item in ITEMS if item.scenario == "clip" and item.part.name == "lcha")


@pytest.mark.parametrize(
    "item",
    [pytest.param(item, id=item.key, marks=() if item.key in QUICK else pytest.mark.slow) for item in (*STREAM, CLIP)],
)
def test_onnx_runtime_computes_what_torch_does(item):
    session = OnnxRuntime(pin=False).prepare(item)
    expected = first(torch_call(item, torch.device("cpu"), torch.float32)())
    assert snr_db(expected, session.output()) > 120
    placement = session.placement()
    assert set(placement) == {"CPUExecutionProvider"}
    assert sum(placement.values()) > 0
    assert session.unit_work() == {"cpu": sum(placement.values())}


@pytest.mark.slow
def test_it_keeps_the_contract_of_profilers():
    check_profiler(OnnxRuntime(), STREAM[:1])


def test_its_threads_do_not_spin_and_are_as_many_as_asked():
    session = OnnxRuntime(threads=2, pin=False).prepare(STREAM[-1])
    assert session._options.intra_op_num_threads == 2
    assert session._options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_weights_are_those_of_the_graph():
    item = next(item for item in STREAM if item.role == "switch")
    memory = OnnxRuntime(pin=False).prepare(item).memory()
    parameters = 4 * item.part.parameters(item.shape).count
    assert parameters <= memory.weight_bytes < 1.5 * parameters


def test_it_comes_by_name_and_options():
    assert create("profilers", "onnxruntime[threads=2,pin=false]") == OnnxRuntime(threads=2, pin=False)


def test_without_the_extra_it_says_which_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    line = "onnxscript is not installed; install its extra: pip install 's2search[onnxruntime]'"
    assert OnnxRuntime().why_not() == line


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is CUDA")
def test_without_the_cuda_provider_it_says_what_it_needs():
    assert "onnxruntime-gpu" in OnnxRuntime(provider="cuda").why_not()


def test_more_threads_than_cores_are_refused():
    assert "999 threads need as many cores" in OnnxRuntime(threads=999).why_not()


def test_what_it_measures_is_what_it_says():
    assert OnnxRuntime.measures == ("latency", "placement", "resident")
    assert dataclasses.asdict(OnnxRuntime()) == {"provider": "cpu", "threads": 1, "pin": True}

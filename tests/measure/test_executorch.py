import sys
import time

import pytest
import torch

from s2search.measurement import executorch as executorch_xnnpack
from s2search.measurement.executorch import ExecuTorch
from s2search.measurement.items import campaign_items
from s2search.measurement.torch_call import torch_call
from s2search.preset import Preset
from s2search.testing.profilers import check_profiler, miniature_items
from tests.measure.test_tensor_call import first, snr_db

STREAM = tuple(item for item in miniature_items() if item.scenario == "stream")


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(
            item,
            marks=() if item.key == "stream ssa commit 1x3x3" else pytest.mark.slow,
        )
        for item in STREAM
    ],
    ids=lambda item: item.key,
)
def test_executorch_computes_what_torch_does(item):
    program = ExecuTorch(pin=False).prepare(item)
    expected = first(torch_call(item, torch.device("cpu"), torch.float32)())
    assert snr_db(expected, program.output()) > 90
    assert program.placement()["xnnpack"] > 0
    assert program.placement().get("portable", 0) < program.placement()["xnnpack"]


@pytest.mark.slow
def test_it_keeps_the_contract_of_profilers():
    check_profiler(ExecuTorch(), [item for item in STREAM if item.part.name == "ssa"])


def test_without_the_extra_it_says_which_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch", None)
    line = "executorch is not installed; install its extra: pip install 's2search[executorch]'"
    assert ExecuTorch().why_not() == line


def test_the_pool_has_the_threads_that_the_session_asks_for():
    pool = executorch_xnnpack._portable_lib()
    before = pool._threadpool_get_thread_count()
    with ExecuTorch(threads=1).session():
        assert pool._threadpool_get_thread_count() == 1
    assert pool._threadpool_get_thread_count() == before


def test_with_one_thread_no_other_thread_works():
    """Two threads on one core wait for each other's time slices, which once made samples six times too slow."""
    items = campaign_items(Preset.named("s2dit-small"), "256x144", scenarios=["stream"])
    with ExecuTorch(threads=1).session():
        program = ExecuTorch(threads=1).prepare(next(item for item in items if item.part.name == "down"))
        program.time_ms(5)
        process_s, thread_s = time.process_time(), time.thread_time()
        program.time_ms(50)
        process_s, thread_s = time.process_time() - process_s, time.thread_time() - thread_s
    assert process_s < 1.2 * thread_s

import contextlib
import os

import pytest
import torch

from s2search.block import Precision
from s2search.errors import InputError
from s2search.measurement.campaign import measure
from s2search.measurement.items import campaign_items
from s2search.measurement.samples import Protocol
from s2search.measurement.torch_call import torch_call
from s2search.measurement.torch_cpu import TorchCpu
from s2search.measurement.torch_cuda import TorchCuda
from s2search.preset import Preset
from s2search.registry import create
from s2search.testing.profilers import check_profiler, miniature_items

CORES = os.sched_getaffinity(0)  # before any session
TINY_ITEMS = campaign_items(Preset.named("s2dit-tiny"), "256x144", clip_frames=2)


@pytest.mark.parametrize("profiler", [TorchCpu(), TorchCpu(dtype="bfloat16", pin=False), TorchCuda()], ids=repr)
def test_the_built_in_profilers_keep_their_contract(profiler):
    check_profiler(profiler)


def test_profilers_come_by_name_and_options():
    assert create("profilers", "torch_cpu[threads=2,pin=false]") == TorchCpu(threads=2, pin=False)
    assert create("profilers", "torch_cuda[graph=false]") == TorchCuda(graph=False)


@pytest.mark.parametrize("item", TINY_ITEMS, ids=lambda item: item.key)
def test_measured_bytes_are_those_of_the_formulas(item):
    with TorchCpu().session():
        memory = TorchCpu().prepare(item).memory()
    exact = Precision.named("float32")
    assert memory.weight_bytes == exact.weight_bytes(item.part.parameters(item.shape))
    formula_bytes = item.part.peak_bytes(item.shape, exact)
    assert memory.peak_bytes <= formula_bytes if item.role == "commit" else memory.peak_bytes == formula_bytes
    if item.role in ("block", "commit"):
        assert memory.state_bytes == item.part.state_bytes(item.shape, exact)


@pytest.mark.parametrize("item", [i for i in miniature_items() if i.role == "block"], ids=lambda item: item.key)
def test_a_stream_reads_a_full_window_and_a_clip_none(item):
    call = torch_call(item, torch.device("cpu"), torch.float32)
    if item.scenario == "clip":
        assert call.state is None
    elif item.part.name == "lcha":
        assert call.state.norm_BCAK.abs().min() > 0
    else:
        assert call.state.keys_BTHWAK.shape[1] == item.shape.context_frames == 2


def test_an_item_is_the_same_every_time_and_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    one, two = (torch_call(miniature_items()[0], torch.device("cpu"), torch.float32) for _ in range(2))
    assert torch.equal(one(), two())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_session_pins_the_process_and_gives_its_cores_and_threads_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with contextlib.suppress(ZeroDivisionError), TorchCpu().session():
        assert len(os.sched_getaffinity(0)) == torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == (CORES, 2)
    torch.set_num_threads(threads)


def test_more_threads_than_cores_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot run here: 999 threads need as many cores"):
        measure(TorchCpu(threads=999), miniature_items(), tmp_path / "t", preset="miniature")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_torch_cuda_without_a_gpu_says_what_it_needs():
    assert "NVIDIA GPU" in TorchCuda().why_not()
    assert "\n" not in TorchCuda().why_not()


def test_a_protocol_without_rounds_is_refused():
    with pytest.raises(InputError, match="rounds is 0; at least 1"):
        Protocol(rounds=0)

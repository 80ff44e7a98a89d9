"""Public architectures, converted as most people do, run as torch runs them: neither knows of the evaluator."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from s2search.decibels import snr_db
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools
from s2search.mil.program import Program
from s2search.mil.work import work_of
from tests.mil.architectures import ARCHITECTURES
from tests.package.packages import convert_torch

LEAST_DB = 100.0
QUICK = ("BERT-Mini",)


def _made(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return an architecture with random weights; the averages of batch norms are not the neutral ones."""
    torch.manual_seed(0)
    module, x = ARCHITECTURES[name]()
    for norm in (one for one in module.modules() if isinstance(one, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 1.5)
    return module.eval().requires_grad_(False), x


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in ARCHITECTURES]
)
def test_a_public_architecture_gives_what_torch_gives_and_does_the_work_that_torch_counts(name, tmp_path):
    module, x = _made(name)
    # Written out: torch does not count what attention fused for a processor multiplies.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        wanted = module(x)
    precision = load_coremltools().precision.FLOAT32
    program = Program.load(convert_torch(tmp_path / "one.mlpackage", module, x, compute_precision=precision))
    function = program.function()
    (given,) = (one.name for one in function.inputs)
    (got,) = Evaluator(program).run({given: x}).outputs.values()
    assert snr_db(wanted, got) >= LEAST_DB
    counted = sum(work.multiplications for work in work_of(function).values())
    assert counted == pytest.approx(counter.get_total_flops() / 2, rel=1e-3)

"""What the specifications say about the published model, without building it."""

import subprocess
import sys

import pytest
from s2search_blocks.ends.spec import Head, Stem
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.softmax.ssa import SSA
from s2search_blocks.switches.spec import Down, Up

from s2search.block import Precision
from s2search.preset import Preset

SHAPE = Preset.named("s2dit-1.8b").shape("512x288", "stream")
SANDWICH = [LCHA()] * 12 + [SSA()] * 16


def test_twelve_lcha_and_sixteen_ssa_make_the_published_1_8_billion_parameters():
    parts = [*SANDWICH, Stem(), Head(), Down(), Up()]
    assert sum(part.parameters(SHAPE).count for part in parts) == pytest.approx(1.82e9, rel=0.03)


def test_the_streaming_state_of_the_published_model_is_182_6_megabytes():
    state_bytes = sum(block.state_bytes(SHAPE, Precision.named("bfloat16")) for block in SANDWICH)
    ring = 2 * 6 * 144 * 2048 * 2
    sums = 16 * 128 * 128 * 4 + 16 * 128 * 4 + 2 * 576 * 2048 * 2
    assert state_bytes == 16 * ring + 12 * sums
    assert state_bytes == pytest.approx(182.6e6, rel=1e-3)


def test_specifications_do_not_load_torch():
    specifications = "lcha.spec softmax.ssa softmax.full softmax.kv_compressed ends.spec switches.spec layer.spec"
    imports = "; ".join(f"import s2search_blocks.{name}" for name in specifications.split())
    code = f"{imports}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

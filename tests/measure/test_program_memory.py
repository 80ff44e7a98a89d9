"""Bytes of activations, counted in programs whose peaks are known, and against the formulas of the blocks."""

import numpy as np
import pytest

from s2search.block import Precision
from s2search.measurement.coreml_item import convert_item
from s2search.measurement.items import campaign_items
from s2search.measurement.program_memory import written_out_bytes
from s2search.mil.library import load_coremltools
from s2search.preset import Preset
from tests.mil.programs import builder, save

ITEMS = campaign_items(Preset.named("s2dit-tiny"), "256x144", scenarios=["stream"])
X = np.zeros((1, 8), np.float16)


def counted(path, build, inputs, states=(), state=()):
    return written_out_bytes(load_coremltools().utils.load_spec(str(save(path, build, inputs, states))), state)


def test_a_value_is_alive_until_its_last_use(tmp_path):
    def build(x):
        mb = builder()
        early = mb.exp(x=x)  # 16 bytes, read again at the end
        wide = mb.concat(values=[early, x, x], axis=1)  # 48 bytes
        narrow = mb.reduce_sum(x=wide, axes=[1], keep_dims=True)  # 2 bytes
        return mb.add(x=early, y=narrow)  # 16 bytes

    assert counted(tmp_path / "a.mlpackage", build, [X]) == 16 + 16 + 48 + 2


def test_a_view_is_no_copy_and_keeps_what_it_looks_at(tmp_path):
    def build(x):
        mb = builder()
        value = mb.exp(x=x)
        seen = mb.reshape(x=value, shape=(2, 4))
        other = mb.sin(x=x)
        return mb.add(x=mb.reshape(x=seen, shape=(1, 8)), y=other)

    assert counted(tmp_path / "a.mlpackage", build, [X]) == 16 + 16 + 16 + 16


def test_wide_numbers_count_wide_and_the_state_does_not(tmp_path):
    def build(x, total, ring):
        mb = builder()
        return mb.add(x=total, y=mb.cast(x=mb.add(x=x, y=mb.read_state(input=ring)), dtype="fp32"))

    total = np.zeros((1, 8), np.float32)
    found = [counted(tmp_path / f"{state}.mlpackage", build, [X, total], [(1, 8)], state) for state in ((), ("total",))]
    assert found == [16 + 32 + 32 + 32, 16 + 32 + 32]


@pytest.mark.parametrize(
    "item",
    [pytest.param(one, id=one.key, marks=() if one.part.name == "down" else pytest.mark.slow) for one in ITEMS],
)
def test_the_formulas_hold_for_programs_in_the_layout_of_the_blocks(item):
    """And with channels before tokens scores stand beside them, wherever keys and queries are multiplied."""
    formula = item.part.peak_bytes(item.shape, Precision.named("float16"))
    blocks, bc1s = (convert_item(item, layout).peak_bytes for layout in ("blocks", "bc1s"))
    assert blocks <= 1.05 * formula
    if item.role == "block":
        assert blocks > 0.9 * formula
        assert bc1s > 0.9 * formula
    if item.part.name == "full" and item.role == "block":
        shape = item.shape
        scores = 2 * shape.heads * shape.tokens * (shape.tokens + shape.context_frames * shape.height * shape.width)
        assert bc1s >= 2 * scores  # before and after the softmax

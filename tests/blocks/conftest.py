import dataclasses

import pytest
import torch
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.softmax.full import FullAttention
from s2search_blocks.softmax.kv_compressed import KVCompressedAttention
from s2search_blocks.softmax.ssa import SSA

from s2search.block import Shape, Stream, Window
from tests.blocks import naive

LCHA_VARIANTS = [
    LCHA(),
    LCHA(rope_order="post"),
    LCHA(linear_only=True),
    LCHA(local_only=True),
    LCHA(feature_map="relu"),
    LCHA(feature_map="relu", rope_order="post"),
    LCHA(linear_head_dim=12),
    LCHA(gate=False),
    LCHA(memory="window"),
    LCHA(memory="decay", decay=0.5),
]
BLOCKS = [*LCHA_VARIANTS, SSA(), FullAttention(), KVCompressedAttention()]

SMALL = Shape(frames=2, height=3, width=4, channels=24, heads=4, feed_forward=32, text_tokens=5, text_channels=7)


def pytest_generate_tests(metafunc):
    if "block" in metafunc.fixturenames:
        metafunc.parametrize("block", BLOCKS, ids=lambda block: block.label)


@pytest.fixture(autouse=True, scope="session")
def _alone(one_thread):
    """Every test here."""


@pytest.fixture
def make():
    return Maker()


class Maker:
    """Makes small random float64 layers, their inputs, and what the naive reference says about them."""

    def shape(self, **changes):
        return dataclasses.replace(SMALL, **changes)

    def layer(self, block, shape, dtype=torch.float64):
        torch.manual_seed(0)
        layer = block.build(shape).to(torch.float64)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return layer.to(dtype)

    def inputs(self, block, shape, *, frames=None, batch=1, per_frame=False, dtype=torch.float64):
        torch.manual_seed(1)
        frames = frames or shape.frames
        grid = (shape.height, shape.width) if block.stream is Stream.HIGH else (shape.low_height, shape.low_width)
        x_BTHWD = torch.randn(batch, frames, *grid, shape.channels, dtype=torch.float64)
        modulation_BT6D = torch.randn(batch, frames if per_frame else 1, 6, shape.channels, dtype=torch.float64)
        text_BSE = torch.randn(batch, shape.text_tokens, shape.text_channels, dtype=torch.float64)
        return x_BTHWD.to(dtype), modulation_BT6D.to(dtype), text_BSE.to(dtype)

    def naive(self, block, layer, inputs, visible_TT):
        def attend(attention, h_BTHWD):
            if block.name == "lcha":
                return naive.lcha(attention, h_BTHWD, visible_TT)
            return naive.softmax_attention(attention, h_BTHWD, visible_TT, block.query_stride, block.key_stride)

        return naive.layer(layer, *inputs, attend)

    def start(self, layer, x_BTHWD, window=4, sink=0):
        """Return a state of nothing; window and sink in frames."""
        window = Window(frames=window, sink_frames=sink)
        return layer.initial_state(x_BTHWD.shape[0], x_BTHWD.shape[2:4], window, x_BTHWD.device, x_BTHWD.dtype)

    def stream(self, layer, inputs, chunk_frames, state=None, **window):
        """Read and commit chunk after chunk; return all outputs and the last state."""
        x_BTHWD, modulation_BT6D, text_BSE = inputs
        state = state or self.start(layer, x_BTHWD, **window)
        outputs = []
        for chunk_BTHWD in x_BTHWD.split(chunk_frames, dim=1):
            outputs.append(layer(chunk_BTHWD, modulation_BT6D, text_BSE, state))
            state = layer.commit(chunk_BTHWD, modulation_BT6D, state)
        return torch.cat(outputs, dim=1), state

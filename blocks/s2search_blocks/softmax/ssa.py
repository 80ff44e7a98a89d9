"""Stride Self-Attention: the low-resolution candidate of the sandwich, softmax attention on a quarter of the tokens.

Source: S2DiT, section 3 (SSA); arXiv 2601.12719.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s2search.block import Stream
from s2search_blocks.softmax.spec import SoftmaxBlock


@dataclass(frozen=True, kw_only=True)
class SSA(SoftmaxBlock):
    """Softmax attention on the low-resolution grid, whose tokens stand at the centres of 2x2 cells.

    The switch before the first of consecutive SSA layers strides the grid; the block itself keeps it.
    """

    symbol: ClassVar[str] = "S"
    stream: ClassVar[Stream] = Stream.LOW
    key_stride: ClassVar[int] = 2

"""Full softmax attention on the high-resolution grid: the quality reference.

Source: S2DiT, table 3 ("Full"); arXiv 2601.12719.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s2search.block import Stream
from s2search_blocks.softmax.spec import SoftmaxBlock


@dataclass(frozen=True, kw_only=True)
class FullAttention(SoftmaxBlock):
    """Every high-resolution token attends to every other one in the window."""

    symbol: ClassVar[str] = "F"
    stream: ClassVar[Stream] = Stream.HIGH
    key_stride: ClassVar[int] = 1

"""KV-compressed attention: full-resolution queries, keys and values of 2x2 cells.

Source: S2DiT, table 3 ("KV-compressed"); arXiv 2601.12719. The compression is our choice: the mean of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s2search.block import Stream
from s2search_blocks.softmax.spec import SoftmaxBlock


@dataclass(frozen=True, kw_only=True)
class KVCompressedAttention(SoftmaxBlock):
    """Every high-resolution token attends to every cell in the window."""

    symbol: ClassVar[str] = "K"
    stream: ClassVar[Stream] = Stream.HIGH
    key_stride: ClassVar[int] = 2

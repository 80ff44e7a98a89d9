"""The forms in which Core ML packages come: options of the exporter, and of what times its parts.

Tables of two forms time two different programs, so their rows never stand in one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: `bc1s`: channels before tokens, (1, C, 1, S), as the Neural Engine works; `blocks`: as in the blocks.
Layout = Literal["bc1s", "blocks"]

#: Who keeps rings and tails from call to call: Core ML, as states of its own, or the caller.
StateKeeper = Literal["core_ml", "plain"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One of them; the exporter's own by default."""

    layout: Layout = "bc1s"
    state: StateKeeper = "core_ml"

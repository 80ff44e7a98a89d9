"""The forms in which Core ML packages come: options of the exporter, and of what times its parts.

Tables of two forms time two different programs, so their rows never stand in one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: `bc1s`: channels before tokens, (1, C, 1, S), as the Neural Engine works; `blocks`: as in the blocks.
Layout = Literal["bc1s", "blocks"]

#: Who keeps the state of an exported package from call to call: the host, which packs what goes in and is given what is
#: new (`exporters/host.py`); Core ML, rings and tails as one state; or the caller, who is given all of it again.
PackageKeeper = Literal["host", "core_ml", "plain"]

#: The same of what is timed alone: Core ML, as states of its own, or the caller.
StateKeeper = Literal["core_ml", "plain"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One of them, of what is timed alone.

    An exported package packs the state of all its layers by default (`host`), which a block by itself does not: its own
    rings and tails are states.
    """

    layout: Layout = "bc1s"
    state: StateKeeper = "core_ml"

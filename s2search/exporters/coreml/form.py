"""The forms in which Core ML packages come: options of the exporter, and of what times its parts.

Tables of two forms time two different programs, so their rows never stand in one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s2search.errors import InputError

#: `bc1s`: channels before tokens, (1, C, 1, S), as the Neural Engine works; `blocks`: as in the blocks.
Layout = Literal["bc1s", "blocks"]

#: Who keeps the state of an exported package from call to call: the host, which packs what goes in and is given what is
#: new (`exporters/host.py`); Core ML, rings and tails as one state; or the caller, who is given all of it again.
PackageKeeper = Literal["host", "core_ml", "plain"]

#: The same of what is timed: the host, which packs it; Core ML, as states of its own; or the caller.
StateKeeper = Literal["host", "core_ml", "plain"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One of them, of what is timed; that of the package that is to be shipped.

    Raises:
        InputError: The host packs a state that has channels before tokens.
    """

    layout: Layout = "bc1s"
    state: StateKeeper = "host"

    def __post_init__(self) -> None:
        if self.layout == "blocks" and self.state == "host":
            raise InputError(
                "state=host packs a state that has channels before tokens, and layout=blocks has tokens first",
                allowed="layout=blocks,state=plain",
                remedy="correct the options",
            )

"""OFA's lookup tables: `{operation and shapes: {count, mean, std}}` in milliseconds, one file per resolution.

Source: Cai et al., "Once-for-All" (2020), github.com/mit-han-lab/once-for-all, ofa/tutorial/latency_table.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s2search.readers.keyed_operations import KeyedOperations


@dataclass(frozen=True, kw_only=True)
class OFA(KeyedOperations):
    """Reads OFA's lookup tables."""

    statement: ClassVar[str] = "published by OFA: single operations, timed by its authors"
    spread: ClassVar[str] = "std"
    spread_is: ClassVar[str] = "the source's std, in milliseconds"
    rival: ClassVar[str] = "var, which ProxylessNAS writes: read the file as proxylessnas"

    def std_ms(self, spread: float) -> float:
        """Return the deviation as it stands."""
        return spread

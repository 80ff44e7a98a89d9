"""ProxylessNAS's lookup table: the keys of OFA's, with `var` in place of `std`.

`var` is a variance. Taken for a standard deviation it makes a spread of 0.3 ms into one of 0.09 ms.

Source: Cai et al., "ProxylessNAS" (2019), github.com/mit-han-lab/proxylessnas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from s2search.errors import TableError
from s2search.readers.keyed_operations import KeyedOperations


@dataclass(frozen=True, kw_only=True)
class ProxylessNAS(KeyedOperations):
    """Reads ProxylessNAS's lookup table."""

    statement: ClassVar[str] = "published by ProxylessNAS: single operations, timed by its authors"
    spread: ClassVar[str] = "var"
    spread_is: ClassVar[str] = "the root of the source's var, a variance in square milliseconds"
    rival: ClassVar[str] = "std, which OFA writes: read the file as ofa"

    def std_ms(self, spread: float) -> float:
        """Return the root of the variance."""
        if spread < 0:
            raise TableError(f"a var is {spread}", allowed="a variance, 0 or more", remedy="correct the file")
        return math.sqrt(spread)

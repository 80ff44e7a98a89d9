"""A column as its different values and which of them each row has, and rows that agree in columns.

Axes:  N rows  V different values  G groups of rows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Column:
    """What the rows hold in one column: values, and which of them each row has. Some may be no row's.

    Equal values are one, save floats: -0.0 equals 0.0, and is written in another way.
    """

    value_V: Sequence[Any]
    code_N: Int

    @classmethod
    def of(cls, cells: Sequence[Any]) -> Column:
        """Return the column of these cells; equal ones become one value."""
        return cls(cells, np.arange(len(cells))).merged()

    @property
    def cells(self) -> list[Any]:
        """The value of each row."""
        return list(map(self.value_V.__getitem__, self.code_N.tolist()))

    @property
    def different(self) -> list[Any]:
        """The values that rows have."""
        return [self.value_V[code] for code in np.unique(self.code_N)]

    def equals(self, value: object) -> Bool:
        """Return which rows have a value; not for floats, of which equal ones stand apart."""
        return np.asarray(self.code_N == (self.value_V.index(value) if value in self.value_V else -1))

    def merged(self) -> Column:
        """Return the column in which equal values are one."""
        if len(set(self.value_V)) == len(self.value_V):
            return self
        codes: dict[Any, int] = {}
        code_V = np.array([codes.setdefault(value, len(codes)) for value in self.value_V], np.int64)
        return Column(list(codes), code_V[self.code_N])

    def used(self) -> Column:
        """Return the column without values that no row has."""
        used_V, code_N = np.unique(self.code_N, return_inverse=True)
        return Column([self.value_V[code] for code in used_V], code_N)

    def take(self, chosen: Any) -> Column:
        """Return the column of some rows: a mask, a slice or their places."""
        return Column(self.value_V, self.code_N[chosen])


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows that agree in something: the group of each, and the first row of each group."""

    group_N: Int
    first_G: Int

    @classmethod
    def of(cls, number_N: Int) -> Groups:
        """Return the groups of rows that have the same number."""
        _, first_G, group_N = np.unique(number_N, return_index=True, return_inverse=True)
        return cls(group_N.ravel(), first_G)

    def __len__(self) -> int:
        return len(self.first_G)

    def have(self, mask_N: Bool) -> Bool:
        """Return which groups have a row of a mask."""
        return np.bincount(self.group_N[mask_N], minlength=len(self)) > 0

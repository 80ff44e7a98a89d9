"""What one operation is given, as the functions that compute it ask for it.

Numbers are tensors: float32 for all floating types, int32 for all whole ones, and bool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from s2search.mil.rounding import Sums

T = TypeVar("T")


class Arguments:
    """The inputs of one operation by name.

    `x = given["x"]` are tensors that it computes with. `given.integers("axes")` and its like are settings.

    Attributes:
        sums: How it accumulates.
    """

    def __init__(self, values: Mapping[str, Sequence[Tensor | str]], sums: Sums, *, shapes_only: bool = False) -> None:
        self._values, self.sums, self._shapes_only = values, sums, shapes_only

    def __getitem__(self, name: str) -> Tensor:
        return self._seen(self._setting(name))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> Tensor | None:
        """Return a tensor, or None if it was not given."""
        return self[name] if name in self._values else None

    def tensors(self, name: str) -> list[Tensor]:
        """Return all tensors of an input that takes several."""
        values = self._values[name]
        if not all(isinstance(value, Tensor) for value in values):
            raise TypeError(f"{name} is not numbers")
        return [self._seen(value) for value in values if isinstance(value, Tensor)]

    def integers(self, name: str, default: list[int] | None = None) -> list[int]:
        """Return a list of whole numbers, or of truth values as 0 and 1."""
        if name not in self._values and default is not None:
            return default
        return [int(value) for value in self._setting(name).flatten().tolist()]

    def integer(self, name: str, default: int | None = None) -> int:
        """Return a whole number."""
        return self._scalar(name, int, default)

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number."""
        return self._scalar(name, float, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a truth value."""
        return self._scalar(name, bool, default)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text."""
        if name not in self._values and default is not None:
            return default
        value = self._only(name)
        if not isinstance(value, str):
            raise TypeError(f"{name} is not a text")
        return value

    def axes(self, name: str, rank: int) -> list[int]:
        """Return axes, none of them negative; all where none are given."""
        axes = self.integers(name, list(range(rank)))
        if any(not -rank <= axis < rank for axis in axes):
            raise ValueError(f"the axes {axes} of {rank}")
        return [axis % rank for axis in axes]

    def _seen(self, x: Tensor) -> Tensor:
        return x.to("meta") if self._shapes_only else x

    def _scalar(self, name: str, kind: Callable[[float], T], default: T | None) -> T:
        if name not in self._values and default is not None:
            return default
        return kind(self._setting(name).item())

    def _setting(self, name: str) -> Tensor:
        value = self._only(name)
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is not numbers")
        return value

    def _only(self, name: str) -> Tensor | str:
        values = self._values[name]
        if len(values) != 1:
            raise ValueError(f"{name} is {len(values)} values")
        return values[0]


#: Computes an operation; one tensor for each output.
Compute = Callable[[Arguments], Tensor | tuple[Tensor, ...]]

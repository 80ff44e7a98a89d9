"""The rule `ring_by_concat`: caches that a function joins with what is new, cuts, and hands on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from s2search.mil.function import Constant, Function, Operation
from s2search.mil.numbers import TensorType
from s2search.mil.rules.rule import RuleFinding

#: Operations that move numbers and keep them as they are, by the name of what they move.
_MOVES = {
    "cast": "x",
    "concat": "values",
    "expand_dims": "x",
    "identity": "x",
    "reshape": "x",
    "slice_by_index": "x",
    "slice_by_size": "x",
    "split": "x",
    "squeeze": "x",
    "transpose": "x",
}


def ring_by_concat(function: Function) -> Iterator[RuleFinding]:
    """Yield a finding for each state, or input of an output's type, that goes on as a cut of itself and what is new.

    Only moves are followed, so a state that an operation computes anew is no ring. Of a join that is cut at once, only
    the parts that are left count.
    """
    graph = _Graph(function)
    for operation in function.every():
        if operation.type == "write_state":
            (state,), (value,) = operation.inputs["input"], operation.inputs["data"]
            yield from graph.rings(value, {state: state for state in (state,) if isinstance(state, str)})
    for name in function.outputs:
        if (made := graph.makers.get(name)) is not None:
            type_ = next(output.type for output in made.outputs if output.name == name)
            alike = {value.name: value.name for value in function.inputs if value.type == type_}
            yield from graph.rings(name, alike)


class _Graph:
    """Who made what, and which read of which state a value is."""

    def __init__(self, function: Function) -> None:
        self._function = function
        every = list(function.every())
        self.makers = {output.name: one for one in every for output in one.outputs}
        self._types = {output.name: output.type for one in every for output in one.outputs}
        self._types |= {value.name: value.type for value in function.inputs}

    def rings(self, value: str | Constant, caches: dict[str, str]) -> Iterator[RuleFinding]:
        """Yield a finding where a value is moved from one of these caches through a join."""
        found = dict(self._joins(value, None, set()))
        for cache, join in found.items():
            if cache in caches:
                yield RuleFinding(
                    rule="ring_by_concat",
                    function=self._function.name,
                    names=(join, cache),
                    problem=f"{cache} goes on as a cut of itself and what is new, joined by {join}",
                )

    def _joins(self, value: str | Constant, join: str | None, seen: set[str]) -> Iterator[tuple[str, str]]:
        """Yield the caches that a value is moved from, with the join on the way; none is a way without one."""
        if not isinstance(value, str) or value in seen:
            return
        seen.add(value)
        maker = self.makers.get(value)
        if maker is None or maker.type == "read_state":
            cache = value if maker is None else str(maker.inputs["input"][0])
            if join is not None:
                yield cache, join
        elif maker.type in _MOVES and _MOVES[maker.type] in maker.inputs:
            moved: Sequence[str | Constant] = maker.inputs[_MOVES[maker.type]]
            if maker.type == "concat":
                join = maker.name
            elif maker.type.startswith("slice") and (part := self._left_of_join(maker, moved[0])) is not None:
                join, moved = str(moved[0]), part
            for one in moved:
                yield from self._joins(one, join, seen)

    def _left_of_join(self, cut: Operation, value: str | Constant) -> Sequence[str | Constant] | None:
        """Return the parts of a join of which a cut leaves something; None where it is no cut of one, or not known."""
        join = self.makers.get(value) if isinstance(value, str) else None
        if join is None or join.type != "concat":
            return None
        type_ = self._types[join.outputs[0].name]
        axis = _integers(join, "axis", [0])[0] % max(1, len(type_.shape))
        left = _places(cut, axis, type_)
        if left is None:
            return None
        found, start = [], 0
        for part in join.inputs["values"]:
            shape = part.type.shape if isinstance(part, Constant) else self._types[part].shape
            size = shape[axis]
            if size is None:
                return None
            if _touches(left, start, start + size):
                found.append(part)
            start += size
        return found


def _touches(left: range, start: int, stop: int) -> bool:
    """Return whether any place of a range is from `start` to before `stop`; a range may have billions.

    >>> _touches(range(0, 9, 4), 5, 8), _touches(range(8, -1, -4), 4, 5)
    (False, True)
    """
    up = left if left.step > 0 else left[::-1]
    behind = max(0, -((up.start - start) // up.step))  # places before `start`
    return behind < len(up) and up[behind] < stop


def _places(cut: Operation, axis: int, type_: TensorType) -> range | None:
    """Return the places of an axis that a cut leaves; None where its settings are computed."""
    size, rank = type_.shape[axis], len(type_.shape)
    begin = _integers(cut, "begin", [])
    other = _integers(cut, "size" if cut.type == "slice_by_size" else "end", [])
    if size is None or len(begin) != rank or len(other) != rank:
        return None
    if cut.type == "slice_by_size":
        start = begin[axis] % size
        return range(start, size if other[axis] == -1 else start + other[axis])
    free_begin, free_end = _integers(cut, "begin_mask", [0] * rank), _integers(cut, "end_mask", [0] * rank)
    stride = _integers(cut, "stride", [1] * rank)
    cut_ = slice(None if free_begin[axis] else begin[axis], None if free_end[axis] else other[axis], stride[axis])
    return range(*cut_.indices(size))


def _integers(operation: Operation, name: str, default: list[int]) -> list[int]:
    """Return whole numbers that an operation is set to; the default where they are not given, or computed."""
    (value,) = operation.inputs.get(name, (None,))
    numbers = value.read() if isinstance(value, Constant) else None
    return default if numbers is None or isinstance(numbers, str) else [int(one) for one in numbers.flatten()]

"""A call recorded once and replayed on other inputs: what a CUDA graph is, behind values that never change.

A graph reads and writes fixed places in memory. Here inputs are copied into those places, and results out of them into
tensors of their own, so that a result, and a state above all, stays what it is however often the graph runs again.

What it costs: docs/decisions/streaming.md, "A CUDA graph behind immutable states".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

#: Runs a call for the first time; returns its result, which is a fixed place, and what runs it again into that place.
Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]

_CALLS_BEFORE_CAPTURE = 3  # compiles, and lets libraries allocate what they keep


class Given:
    """A tensor that was given, to tell whether it is given again unchanged.

    The tensor is kept, not its address: what has been freed may come again with other numbers.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = tensor, _version(tensor)

    def is_still(self, tensor: Tensor) -> bool:
        """Return whether this is it, with the same numbers; no where changes are not counted."""
        return tensor is self._tensor and self._version is not None and self._version == _version(tensor)


class Recorded:
    """A call of a tree of tensors that is recorded once, at the shapes of its first inputs.

    A tree is tuples and dataclasses of tensors and of other values, which must stay the same.
    """

    def __init__(self, call: Callable[[Any], Any], inputs: Any, capture: Capture) -> None:
        self._given = [Given(tensor) for tensor in leaves(inputs)]
        self._places = [tensor.clone() for tensor in leaves(inputs)]
        places = with_leaves(inputs, iter(self._places))
        self._result, self._replay = capture(lambda: call(places))

    def __call__(self, inputs: Any) -> Any:
        """Return what the call gives for inputs of the same shapes."""
        self._load(leaves(inputs))
        self._replay()
        places = leaves(self._result)
        results = [torch.empty_like(place) for place in places]
        _copy(results, places)
        return with_leaves(self._result, iter(results))

    def _load(self, tensors: list[Tensor]) -> None:
        """Copy what is not there already: the steps of one chunk share its state, and all chunks a prompt."""
        all_three = zip(self._places, tensors, self._given, strict=True)
        changed = [(place, tensor) for place, tensor, given in all_three if not given.is_still(tensor)]
        _copy([place for place, _ in changed], [tensor for _, tensor in changed])
        self._given = [Given(tensor) for tensor in tensors]


def cuda_graph(call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """Record a call as a CUDA graph. See `Capture`."""
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_CALLS_BEFORE_CAPTURE):
            call()
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        result = call()
    return result, graph.replay


def leaves(tree: Any) -> list[Tensor]:
    """Return the tensors of a tree, in order.

    >>> [tensor.shape for tensor in leaves((torch.zeros(2), None, (torch.zeros(3),)))]
    [torch.Size([2]), torch.Size([3])]
    """
    if isinstance(tree, Tensor):
        return [tree]
    return [tensor for _, child in _children(tree) for tensor in leaves(child)]


def with_leaves(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """Return a tree with other tensors, taken in order."""
    if isinstance(tree, Tensor):
        return next(tensors)
    changed = {name: with_leaves(child, tensors) for name, child in _children(tree)}
    if isinstance(tree, tuple):
        return tuple(changed.values())
    return dataclasses.replace(tree, **changed) if changed else tree


def kind(tree: Any) -> Any:
    """Return what two trees must have in common to share a recording: shapes, types, and what is no tensor.

    >>> kind((torch.zeros(2), 5)) == kind((torch.ones(2), 5)), kind((torch.zeros(2), 5)) == kind((torch.zeros(2), 6))
    (True, False)
    """
    if isinstance(tree, Tensor):
        return tree.shape, tree.dtype, tree.device
    if children := _children(tree):
        return type(tree), tuple(kind(child) for _, child in children)
    return tree


def _children(tree: Any) -> list[tuple[str, Any]]:
    if isinstance(tree, tuple):
        return [(str(index), child) for index, child in enumerate(tree)]
    if dataclasses.is_dataclass(tree):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    return []


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, source)

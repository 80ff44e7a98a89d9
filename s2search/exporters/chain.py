"""A model in several packages: where it is cut, what goes from one to the next, and how they run as one.

A chain is cut at layer boundaries. Every link is a package of the same functions, whose host packs the layers that are
in it. What a link returns beside its part of the state, later ones take by its name:

    hidden_07    (1, D, 1, S) the stream that enters layer 7: of the link before; and where the long skip crosses a cut,
                 of the link in which the high stream was left
    modulation   (1, 1, 1, 6 D) of the noise level, of the first link: to compute it again takes 6 D^2 weights
    embedding    (1, 1, 1, D) the same for the head

All are float16 with a last axis of a multiple of 32. A switch between the streams is in the link of the layer behind
it. So a cut in the high stream hands over one tensor, one right before the low stream no more, and one inside it a
quarter of that, and once the high stream that comes back.

It needs numpy alone.

Axes: D channels  S tokens of a stream
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from s2search.block import Stream
from s2search.errors import InputError
from s2search.exporters.host import HostForm, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s2search.exporters.package import ChainLink
    from s2search.network.config import ModelConfig

Arrays = dict[str, "NDArray[Any]"]
#: Layers of a link: the first, and the one after the last.
Span = tuple[int, int]

MODULATION, EMBEDDING = "modulation", "embedding"
_PARTS_OF_MODULATION = 6
_HALF_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class Course:
    """The way of a chunk through the layers, as far as it says what a cut hands over.

    Attributes:
        streams: Of the layers, first to last.
        head_skip: Whether the head reads the long skip where the last layer is in the low stream.
        channels: D.
        high_tokens: S of the high stream.
        low_tokens: S of the low stream.
    """

    streams: tuple[Stream, ...]
    head_skip: bool
    channels: int
    high_tokens: int
    low_tokens: int

    @classmethod
    def of(cls, config: ModelConfig, streams: Sequence[Stream], grid: tuple[int, int], frames: int) -> Course:
        """Return that of a model at a size."""
        rows, columns = grid
        return cls(
            streams=tuple(streams),
            head_skip=config.head_skip,
            channels=config.preset.channels,
            high_tokens=frames * rows * columns,
            low_tokens=frames * -(-rows // 2) * -(-columns // 2),
        )

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.streams)

    def tokens(self, layer: int) -> int:
        """Return S of the stream that enters a layer, before it is brought to the layer's own."""
        low = layer > 0 and self.streams[layer - 1] is Stream.LOW
        return self.low_tokens if low else self.high_tokens

    def taken(self, span: Span) -> tuple[str, ...]:
        """Return the names of what a link takes of those before it."""
        first, after = span
        if first == 0:
            return ()
        names = [hidden(first)]
        left = self.left_at(first)
        if left is not None and self._reads_skip(first, after):
            names.insert(0, hidden(left))
        return (*names, MODULATION, *((EMBEDDING,) if after == self.depth else ()))

    def returned(self, span: Span) -> tuple[str, ...]:
        """Return the names of what a link gives to those behind it; the last one gives the velocity."""
        first, after = span
        if after == self.depth:
            return ()
        names = [hidden(after)]
        left = self.left_at(after)
        own = left is not None and (left > first or left == first == 0)  # else it was handed over to this one too
        if left is not None and own and self._reads_skip(after, self.depth):
            names.insert(0, hidden(left))
        return (*names, *((MODULATION, EMBEDDING) if first == 0 else ()))

    def left_at(self, layer: int) -> int | None:
        """Return the layer before which the high stream was left; None where a layer is entered from it."""
        if layer == 0 or self.streams[layer - 1] is Stream.HIGH:
            return None
        return max((n + 1 for n in range(layer) if self.streams[n] is Stream.HIGH), default=0)

    def _reads_skip(self, first: int, after: int) -> bool:
        """Return whether layers that are entered from the low stream, or the head behind them, add the long skip."""
        within = Stream.HIGH in self.streams[first:after]
        return within or (after == self.depth and self.head_skip)

    def shape(self, name: str) -> tuple[int, int, int, int]:
        """Return the shape of what is handed over by its name."""
        if name == MODULATION:
            return (1, 1, 1, padded(_PARTS_OF_MODULATION * self.channels))
        if name == EMBEDDING:
            return (1, 1, 1, padded(self.channels))
        return (1, self.channels, 1, padded(self.tokens(layer_of(name))))

    def handed_bytes(self, span: Span) -> int:
        """Return the bytes that a link takes of others and gives to others, per pass."""
        names = (*self.taken(span), *self.returned(span))
        return sum(_HALF_BYTES * math.prod(self.shape(name)) for name in names)


def hidden(layer: int) -> str:
    """Return what the stream that enters a layer is called where it is handed over.

    >>> hidden(7)
    'hidden_07'
    """
    return f"hidden_{layer:02}"


def layer_of(name: str) -> int:
    """Return the layer that a handed-over stream enters.

    >>> layer_of("hidden_07")
    7
    """
    return int(name.rpartition("_")[2])


def spans_of(depth: int, cuts: Sequence[int]) -> tuple[Span, ...]:
    """Return the layers of every link of a chain that is cut before some layers.

    >>> spans_of(4, [1, 3])
    ((0, 1), (1, 3), (3, 4))
    """
    ends = (0, *cuts, depth)
    return tuple(pairwise(ends))


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How a model shall be cut: few links, none of them too large, that hand over little.

    Attributes:
        course: Says what a cut hands over.
        weight_bytes: Of a link's package, by its layers.
        most_bytes: That a package may have.
    """

    course: Course
    weight_bytes: Callable[[Span], int]
    most_bytes: float

    def best(self) -> tuple[Span, ...]:
        """Return the links: the fewest that are small enough, then those that hand over least, then the most even.

        Exact: the cost of a chain is the sum of its links' costs, compared in that order.

        Raises:
            InputError: A single layer is too large, with what stands before or behind it.
        """
        found: list[tuple[tuple[int, int, int], tuple[int, ...]] | None] = [((0, 0, 0), ())]
        for after in range(1, self.course.depth + 1):
            ways = []
            for first, before in enumerate(found):
                cost = None if before is None else self._costs[first, after]
                if before is not None and cost is not None:
                    total = tuple(a + b for a, b in zip(before[0], cost, strict=True))
                    ways.append((total, (*before[1], first)))
            found.append(min(ways, default=None))  # type: ignore[arg-type]
        if found[-1] is None:
            raise InputError(
                f"a layer alone takes {max(self.weight_bytes((n, n + 1)) for n in range(self.course.depth)):,} bytes "
                f"of weights, and a package at most {int(self.most_bytes):,}",
                remedy="raise package_mb, or export with fewer bits",
            )
        return spans_of(self.course.depth, found[-1][1][1:])

    @cached_property
    def _costs(self) -> dict[Span, tuple[int, int, int] | None]:
        depth = self.course.depth
        return {(first, after): self.cost((first, after)) for after in range(depth + 1) for first in range(after)}

    def cost(self, span: Span) -> tuple[int, int, int] | None:
        """Return what a link adds: itself, bytes handed over, and its size squared; None where it is too large."""
        weight = self.weight_bytes(span)
        return None if weight > self.most_bytes else (1, self.course.handed_bytes(span), weight**2)


# What a chain takes and returns as one.


def part_of_inputs(whole: HostForm, link: HostForm, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return what a link takes of the inputs that a package of all layers takes: its rows, as wide as its own are.

    Args:
        whole: What a host of all layers knows.
        link: What one of the link's layers does.
        arrays: Inputs of all layers.
    """
    every, own, shapes, found = whole.rows(), link.rows(), link.shapes(), Arrays()
    for name, array in arrays.items():
        if name not in every:
            found[name] = array
        elif name in shapes:
            rows = [every[name].index(row) for row in own[name]]
            height, width = shapes[name][2:]
            found[name] = np.ascontiguousarray(array[rows, :, :height, :width])
    return found


def joined_outputs(whole: HostForm, links: Sequence[tuple[HostForm, Mapping[str, NDArray[Any]]]]) -> Arrays:
    """Return what a package of all layers would return, of what its links did: nothing of what was handed over."""
    every, shapes, found = whole.rows(), whole.shapes(), Arrays()
    for form, outputs in links:
        own = form.rows()
        for name, array in outputs.items():
            if name in every and name in shapes:
                if name not in found:
                    found[name] = np.zeros(shapes[name], array.dtype)
                rows = [every[name].index(row) for row in own[name]]
                height, width = array.shape[2:]
                found[name][rows, :, :height, :width] = array
            elif name in shapes:
                found[name] = array
    return found


def run_links(
    whole: HostForm,
    chain: Sequence[ChainLink],
    function: str,
    inputs: Mapping[str, NDArray[Any]],
    call: Callable[[int, Arrays], Arrays],
) -> Arrays:
    """Run a function of every link in turn, each with what those before it returned, and return what all of them give.

    Args:
        whole: What a host of all layers knows.
        chain: The links.
        function: Its name.
        inputs: Of all layers.
        call: Runs the function of the link of a number, first 0.
    """
    handed, done = Arrays(), list[tuple[HostForm, Arrays]]()
    for number, link in enumerate(chain):
        own = part_of_inputs(whole, link.host, inputs) | handed
        outputs = call(number, {one.name: own[one.name] for one in link.function(function).inputs})
        handed |= {name: outputs[name] for name in link.hands_on}
        done.append((link.host, outputs))
    return joined_outputs(whole, done)

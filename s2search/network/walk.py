"""The one walk through the sandwich: which layer gets what, for every pass and every form of a network.

`Route` switches between the two streams and keeps the long skip; `walk` takes a chunk from latents to velocity. The
model itself, its fused and compiled form, its channels-first form and the network that layout search trains all go
this way; only what they do at a layer is theirs.

Axes, where tokens come before channels: B batch  T frames  H W token rows and columns  D channels. The walk itself
looks at no axis but those of the grid that it hands to `raised`.

Source: S2DiT, section 3 (streams y_L and y_S, long skip); arXiv 2601.12719.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from s2search.block import Stream
from s2search.network.config import ModelConfig
from s2search.network.flow import unit_gaussian_gain

#: `read` gives a velocity, `commit` the state with this chunk added, `advance` both.
Pass = Literal["read", "commit", "advance"]

#: Runs a layer on a stream: `visit(of_layer, number, x, modulation) -> (x, new state)`. Of a layer that only commits
#: nobody reads the stream, and of one that only reads nobody reads the state.
Visit = Callable[[Pass, int, Tensor, Tensor], tuple[Tensor, Any]]


class Switches(Protocol):
    """What a route needs of a network: the switches between the streams, and the head that it leads to.

    Attributes:
        config: Says whether the head gets the long skip, and what its output is.
        head: A module.
    """

    config: ModelConfig
    head: Any

    def lowered(self, x: Tensor) -> Tensor:
        """Return a high stream brought down."""
        ...

    def raised(self, x: Tensor, size: torch.Size) -> Tensor:
        """Return a low stream brought up to the size of the stem's tokens."""
        ...


class Sandwich(Switches, Protocol):
    """A network that can be walked through; layers are what a visit makes of them.

    Attributes:
        stem: A module.
        streams: Of the layers, first to last.
    """

    stem: Any
    streams: tuple[Stream, ...]


class Route:
    """The two streams on their way through the layers.

    `m` says where a layer runs: 1 in the high stream, 0 in the low one; a tensor in between mixes what both give, which
    then run both. Before the first layer the high stream is what the stem gave.

    Source: S2DiT, section 3: with u = max(m - m', 0) and d = max(m' - m, 0), where m' is the layer's before,
        in_high = (1 - u) y_high + u (up(y_low) + skip)     in_low = (1 - d) y_low + d down(y_high)
        skip = d y_high + (1 - d) skip
        y_high = m out_high + (1 - m) y_high                y_low = (1 - m) out_low + m y_low
    The head gets m y_high + (1 - m) (up(y_low) + skip): the paper's formula has no skip there, which old models keep.
    """

    def __init__(self, network: Switches, x: Tensor, *, low: Tensor | None = None) -> None:
        """Begin at the stem's output; a route that mixes streams also needs a low one to begin with."""
        self._network, self._size = network, x.shape
        self._high: Any = x
        self._low: Any = low
        self._skip: Any = 0
        self._m: int | Tensor = 1

    def enter(self, m: int | Tensor, layer: Callable[[Stream, Tensor], Tensor]) -> None:
        """Run a layer, or with a soft `m` one of each stream; a stream in which nothing runs costs nothing."""
        up, down = _above_zero(m - self._m), _above_zero(self._m - m)
        in_high = _mixed(up, self._risen, lambda: self._high)
        in_low = _mixed(down, lambda: self._network.lowered(self._high), lambda: self._low)
        self._skip = _mixed(down, lambda: self._high, lambda: self._skip)
        self._high = _mixed(m, lambda: layer(Stream.HIGH, in_high), lambda: self._high)
        self._low = _mixed(m, lambda: self._low, lambda: layer(Stream.LOW, in_low))
        self._m = m

    @property
    def stream(self) -> Tensor:
        """What the last layer gave, in its own stream; `m` is no mixture."""
        x: Tensor = self._high if self._m else self._low
        return x

    def go_on(self, x: Tensor, skip: Tensor | None) -> None:
        """Go on with another tensor in place of `stream`, and in the low stream with another long skip."""
        if self._m:
            self._high = x
        else:
            self._low, self._skip = x, self._skip if skip is None else skip

    def leave(self) -> Tensor:
        """Return the input of the head, from a low last layer with the skip where the config says so."""
        raised = self._risen if self._network.config.head_skip else self._raised
        x: Tensor = _mixed(self._m, lambda: self._high, raised)
        return x

    def _raised(self) -> Tensor:
        return self._network.raised(self._low, self._size)

    def _risen(self) -> Tensor:
        """Return the low stream brought up, with the high one that was kept on the way down."""
        risen: Tensor = self._raised() + self._skip
        return risen


def predicted(network: Switches, x: Tensor, time: Tensor, latents: Tensor, s: Tensor) -> Tensor:
    """Return the velocity (B, C, T, Y, X) of what a route left, which began at these latents."""
    velocity: Tensor = network.head(x, time)
    if network.config.velocity == "plain":
        return velocity
    frames, rows = latents.shape[2:4]
    gain = unit_gaussian_gain(s).to(latents.dtype)
    if gain.shape[1] > 1:
        gain = gain.repeat_interleave(rows, dim=1)
    # Frames one below the other: operations on five axes do not run on a Neural Engine.
    velocity = velocity.flatten(2, 3) + gain[:, None, :, None] * latents.flatten(2, 3)
    return torch.unflatten(velocity, 2, (frames, rows))


def _nothing(number: int, route: Route) -> None:
    pass


def walk(
    network: Sandwich,
    what: Pass,
    latents: Tensor,
    s: Tensor,
    visit: Visit,
    between: Callable[[int, Route], None] = _nothing,
) -> tuple[Tensor | None, tuple[Any, ...]]:
    """Return the velocity (None of a commit), and the layers' new states, first to last.

    Args:
        network: What is walked through.
        what: A commit is wanted of every layer, and needs the outputs of all but the last.
        latents: Noisy latents, as the stem takes them.
        s: Their noise level.
        visit: Runs a layer.
        between: Called with a layer's number before the route enters it.
    """
    x, modulation, time = network.stem(latents, s)
    route, last = Route(network, x), len(network.streams) - 1
    new: list[Any] = []

    def layer(number: int, _: Stream, x: Tensor) -> Tensor:
        of_layer: Pass = "advance" if what == "commit" and number < last else what
        y, state = visit(of_layer, number, x, modulation)
        new.append(state)
        return y

    for number, stream in enumerate(network.streams):
        between(number, route)
        route.enter(1 if stream is Stream.HIGH else 0, partial(layer, number))
    velocity = None if what == "commit" else predicted(network, route.leave(), time, latents, s)
    return velocity, tuple(new)


def _read(layer: Any, x: Tensor, modulation: Tensor, text: Any, state: Any) -> tuple[Tensor, None]:
    return layer(x, modulation, text, state), None


def _commit(layer: Any, x: Tensor, modulation: Tensor, text: Any, state: Any) -> tuple[Tensor, Any]:
    return x, layer.commit(x, modulation, state)


def _advance(layer: Any, x: Tensor, modulation: Tensor, text: Any, state: Any) -> tuple[Tensor, Any]:
    if hasattr(layer, "advance"):
        both: tuple[Tensor, Any] = layer.advance(x, modulation, text, state)
        return both
    return layer(x, modulation, text, state), layer.commit(x, modulation, state)


#: What a pass does at a layer that keeps the contract of `s2search.block.Block`, tokens before channels.
LAYER_PASSES: dict[Pass, Callable[..., tuple[Tensor, Any]]] = {"read": _read, "commit": _commit, "advance": _advance}


def _above_zero(m: int | Tensor) -> int | Tensor:
    return m.clamp_min(0) if isinstance(m, Tensor) else max(m, 0)


def _mixed(m: int | Tensor, one: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """Return m one + (1 - m) other; what has no share is not computed."""
    if isinstance(m, Tensor):
        return m * one() + (1 - m) * other()
    return one() if m else other()

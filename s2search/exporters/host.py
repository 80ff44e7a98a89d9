"""What an application does around the calls of a package whose state it keeps itself: the part that it must port.

    state = host.start()
    for every chunk:
        x = noise
        for s in the schedule:
            outputs = run("denoise", host.inputs(x, s, text, state))     # "first", without a state, for the first chunk
            v = host.velocity(outputs, x, s)
            x = the next step's latents, from x, s and v
        outputs = run("commit", host.inputs(z, 0, text, state))          # or "advance" instead of the last "denoise"
        state = host.after(state, outputs)

A program takes float16 alone and returns only what is new. So the host keeps:

    frames   how many latent frames the rings hold, 0 at first
    keys     (L, D, 1, R G) float16   a row per layer with a ring: raw keys, frame after frame, the newest last
    values   (L, D, 1, R G) float16
    tails    (L, D, 1, R G) float16   the last frames before a causal convolution
    sums     (L, C, A (K + 1), K) float32   S transposed and z of linear attention, of every head; C chunks apart, or 1

Keys, values and tails go in as they are. Of the sums, those of all chunks that are remembered are added up, and S and z
of a head are multiplied by one share, a power of 2, so that float16 holds them however long the stream is; the program
multiplies the chunk's own sums by the same share, which is a row of its own. What goes in and comes out has a last axis
of a multiple of 32; what is beyond a tensor's own numbers is never read.

It needs numpy alone. A model in several packages has a host for each, which packs the layers that are in it.

Axes: L layers  D channels  R slots of a ring or tail (frames)  G tokens of a frame  T frames of a chunk  C slots of
      chunks  A heads  K channels per head  X rows of a head's sums, K + 1  W E text tokens and channels  Y X latent
      rows and columns  F frequencies
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from s2search.block import KeptRing, KeptSums, KeptTail, largest_share
from s2search.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

MASKED = -1e4  # float16 holds it, and its exponential is 0 in every precision
WIDTH = 32  # numbers: 64 bytes of float16, of which a last axis is a multiple
ONE_STATE = "past"  # takes the place of keys, values and tails where Core ML keeps them
_KEPT = ("keys", "values", "tails", ONE_STATE)

Arrays = dict[str, "NDArray[Any]"]

#: Who keeps keys, values and tails.
Keeper = Literal["host", "core_ml"]


@dataclass(frozen=True, kw_only=True)
class HostForm:
    """What a host must know of a package. It stands in the manifest.

    Attributes:
        latents: C, T, Y and X.
        text: W and E.
        time_channels: F, of the sinusoids of the noise level.
        residual: Whether a part of the velocity is the host's to add: see `Host.velocity`.
        channels: D.
        slots: R, frames of a full ring.
        sink_frames: The first of them, which stay for ever once the ring is full.
        chunk_slots: C, of sums that are kept per chunk.
        sink_chunks: The first of them, likewise.
        rings: Rows of `keys` and `values`.
        tails: Rows of `tails`.
        sums: Rows of `sums`.
        keeper: Who keeps keys, values and tails: the host, or Core ML in one state, `past`.

    Raises:
        InputError: A layer's heads do not divide the channels.
    """

    latents: tuple[int, int, int, int]
    text: tuple[int, int]
    time_channels: int
    residual: bool
    channels: int
    slots: int
    sink_frames: int
    chunk_slots: int
    sink_chunks: int
    rings: tuple[KeptRing, ...] = ()
    tails: tuple[KeptTail, ...] = ()
    sums: tuple[KeptSums, ...] = ()
    keeper: Keeper = "host"

    def __post_init__(self) -> None:
        for one in self.sums:
            if one.heads < 1 or self.channels % one.heads:
                raise InputError(
                    f"layer {one.layer} keeps sums of {one.heads} heads of {self.channels} channels",
                    allowed="heads that divide the channels",
                    remedy="export the package again",
                )

    @property
    def frames(self) -> int:
        """Latent frames of a chunk, T."""
        return self.latents[1]

    @property
    def ring_frames(self) -> int:
        """Frames of a chunk that a ring can hold: all, but where the window is shorter than a chunk."""
        return min(self.frames, self.slots)

    @property
    def grids(self) -> tuple[int, ...]:
        """Tokens of a frame, of the rings that differ in it: each has a row of `past_bias`."""
        return tuple(sorted({ring.frame_tokens for ring in self.rings}))

    def tail_frames(self, tail: KeptTail) -> int:
        """Return how many frames of a chunk become a layer's tail."""
        return min(self.frames, tail.frames)

    def head_channels(self, sums: KeptSums) -> int:
        """Return K of a layer."""
        return self.channels // sums.heads

    def slots_of(self, sums: KeptSums) -> int:
        """Return C of a layer: 1 where all chunks are added up."""
        return self.chunk_slots if sums.memory == "window" else 1

    def of_layers(self, first: int, after: int) -> HostForm:
        """Return the form of the layers from one up to another: of a package that holds no more."""
        within = range(first, after)
        return replace(
            self,
            rings=tuple(one for one in self.rings if one.layer in within),
            tails=tuple(one for one in self.tails if one.layer in within),
            sums=tuple(one for one in self.sums if one.layer in within),
        )

    def rows(self) -> dict[str, tuple[int, ...]]:
        """Return whose the rows of packed inputs and outputs are: a layer's each, but of `past_bias` a grid's."""
        rings, tails, sums = (tuple(one.layer for one in kept) for kept in (self.rings, self.tails, self.sums))
        found = {"past_bias": self.grids, "sums": sums, "new_sums": sums}
        found |= dict.fromkeys(("keys", "values", "new_keys", "new_values"), rings)
        return found | {"tails": tails, "new_tails": tails}

    @property
    def state_bytes(self) -> int:
        """Bytes of what is remembered, without padding: sums in float32, all else in float16."""
        frames = sum(2 * self.slots * ring.frame_tokens for ring in self.rings)
        frames += sum(tail.frames * tail.frame_tokens for tail in self.tails)
        sums = sum(self.slots_of(one) * self.channels * (self.head_channels(one) + 1) for one in self.sums)
        return 2 * self.channels * frames + 4 * sums

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all inputs and outputs of the package's functions by name."""
        _, frames, rows, columns = self.latents
        latents = (self.latents[0], frames * rows)
        found: dict[str, tuple[int, ...]] = {
            "latents": (1, *latents, padded(columns)),
            "time": (1, 1, 1, padded(self.time_channels)),
            "text": (1, self.text[1], 1, padded(self.text[0])),
            "velocity": (1, *latents, padded(columns)),
        }
        if self.rings:
            tokens = (self.slots + self.frames) * self.grids[-1]
            found["past_bias"] = (len(self.grids), 1, 1, padded(tokens))
        kept = self._rows_of_rings() | self._rows_of_tails()
        return found | (kept if self.keeper == "host" else _in_one(kept)) | self._rows_of_sums()

    def _rows_of_rings(self) -> dict[str, tuple[int, ...]]:
        if not self.rings:
            return {}
        size = (len(self.rings), self.channels, 1)
        old, new = ((*size, padded(count * self.grids[-1])) for count in (self.slots, self.ring_frames))
        return {"keys": old, "values": old, "new_keys": new, "new_values": new}

    def _rows_of_tails(self) -> dict[str, tuple[int, ...]]:
        if not self.tails:
            return {}
        size = (len(self.tails), self.channels, 1)
        old = max(tail.frames * tail.frame_tokens for tail in self.tails)
        new = max(self.tail_frames(tail) * tail.frame_tokens for tail in self.tails)
        return {"tails": (*size, padded(old)), "new_tails": (*size, padded(new))}

    def _rows_of_sums(self) -> dict[str, tuple[int, ...]]:
        if not self.sums:
            return {}
        width = max(self.head_channels(one) for one in self.sums)
        new, old = (max(self.channels + more * one.heads for one in self.sums) for more in (1, 2))
        size = len(self.sums), 1
        return {"sums": (*size, old, padded(width)), "new_sums": (*size, new, padded(width))}


@dataclass(frozen=True)
class Host:
    """The arithmetic around a package's calls. It holds nothing: a state is a dictionary, which is never changed.

    Args:
        form: Of the package.
        kind: Of keys, values, tails and all that goes in: float16, but for what computes exactly in its place.
    """

    form: HostForm
    kind: DTypeLike = np.float16
    exact: DTypeLike = field(default=np.float32)

    def start(self) -> Arrays:
        """Return a state that remembers nothing."""
        form, shapes = self.form, self.form.shapes()
        state = {"frames": np.zeros(1, self.exact)}
        state |= {name: np.zeros(shapes[name], self.kind) for name in _KEPT if name in shapes}
        if form.sums:
            layers, _, rows, width = shapes["new_sums"]
            slots = max(form.slots_of(one) for one in form.sums)
            state["sums"] = np.zeros((layers, slots, rows, width), self.exact)
        return state

    def is_empty(self, state: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether a state remembers nothing: then `first` computes what `denoise` does."""
        return not state["frames"][0]

    # Before a call.

    def inputs(
        self,
        latents_CTYX: NDArray[Any],
        s: float,
        text_WE: NDArray[Any],
        state: Mapping[str, NDArray[Any]] | None = None,
    ) -> Arrays:
        """Return what a function takes; without a state, what `first` does."""
        channels, frames, rows, columns = self.form.latents
        given: Arrays = {
            "latents": latents_CTYX.reshape(1, channels, frames * rows, columns),
            "time": self.sinusoids(s).reshape(1, 1, 1, -1),
            "text": text_WE.T[None, :, None, :],
        }
        given = {name: _widened(array, padded(array.shape[-1])) for name, array in given.items()}
        if state is not None:
            given |= self.past(state)
        return {name: np.ascontiguousarray(array, self.kind) for name, array in given.items()}

    def sinusoids(self, s: float) -> NDArray[Any]:
        """Return cosines, then sines, of the time 1000 s at geometric frequencies (F,)."""
        half = self.form.time_channels // 2
        angle_F = 1000.0 * s * np.exp(-math.log(10_000) / half * np.arange(half))
        return np.concatenate((np.cos(angle_F), np.sin(angle_F)))

    def past(self, state: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return what a function takes of a state."""
        given: Arrays = {}
        if self.form.rings:
            given["past_bias"] = self.past_bias(int(state["frames"][0]))
        given |= {name: state[name] for name in _KEPT if name in state}
        if self.form.sums:
            given["sums"] = self.shared_sums(state["sums"])
        return given

    def past_bias(self, frames: int) -> NDArray[Any]:
        """Return what is added to the scores of keys (grids, 1, 1, (R + T) G): it hides frames that are not there."""
        form = self.form
        bias = np.zeros(form.shapes()["past_bias"], self.kind)
        for row, tokens in enumerate(form.grids):
            bias[row, 0, 0, : (form.slots - frames) * tokens] = MASKED
        return bias

    def shared_sums(self, kept_LCXK: NDArray[Any]) -> NDArray[Any]:
        """Return S, z and the chunk's share of every head (L, 1, A (K + 2), K), the first two times the share."""
        given = np.zeros(self.form.shapes()["sums"], self.kind)
        for row, one in enumerate(self.form.sums):
            sums_AXK = self._of_heads(kept_LCXK[row].sum(axis=0), one)
            largest_A = sums_AXK[:, -1].max(axis=1)
            share_A = np.minimum(largest_share(self.form.frames), power_of_two_below(1 / np.maximum(largest_A, 1)))
            share_A11 = share_A[:, None, None]
            rows_AXK = np.concatenate((share_A11 * sums_AXK, np.broadcast_to(share_A11, sums_AXK[:, :1].shape)), axis=1)
            width = rows_AXK.shape[2]
            given[row, 0, : len(rows_AXK) * rows_AXK.shape[1], :width] = rows_AXK.reshape(-1, width)
        return given

    # After a call.

    def velocity(self, outputs: Mapping[str, NDArray[Any]], latents_CTYX: NDArray[Any], s: float) -> NDArray[Any]:
        """Return the velocity (C, T, Y, X), float32; a residual is added to the velocity of unit Gaussian latents."""
        columns = self.form.latents[3]
        velocity_CTYX: NDArray[Any] = outputs["velocity"][..., :columns].astype(self.exact).reshape(self.form.latents)
        if not self.form.residual:
            return velocity_CTYX
        gain = (2 * s - 1) / (1 - 2 * s + 2 * s * s)
        velocity_CTYX += np.asarray(gain, self.exact) * latents_CTYX.astype(self.exact)
        return velocity_CTYX

    def after(self, state: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the state with a chunk added: what is new of it goes into rings, tails and sums."""
        form, full = self.form, state["frames"][0] >= self.form.slots
        later = {"frames": np.minimum(state["frames"] + form.frames, form.slots).astype(self.exact)}
        for name in ("keys", "values"):
            if name in state:
                sizes = [(form.slots, form.ring_frames, ring.frame_tokens) for ring in form.rings]
                later[name] = _ring_after(state[name], outputs[f"new_{name}"], sizes, form.sink_frames if full else 0)
        if "tails" in state:
            sizes = [(tail.frames, form.tail_frames(tail), tail.frame_tokens) for tail in form.tails]
            later["tails"] = _ring_after(state["tails"], outputs["new_tails"], sizes, 0)
        if ONE_STATE in state:
            later[ONE_STATE] = outputs[f"new_{ONE_STATE}"]
        if form.sums:
            later["sums"] = self._sums_after(state["sums"], outputs["new_sums"], form.sink_chunks if full else 0)
        return later

    def _sums_after(self, kept_LCXK: NDArray[Any], new_L1XK: NDArray[Any], sinks: int) -> NDArray[Any]:
        """Return the sums with a chunk's, added in float32."""
        later_LCXK = kept_LCXK.copy()
        for row, one in enumerate(self.form.sums):
            size, width = self.form.channels + one.heads, self.form.head_channels(one)
            new_1XK = new_L1XK[row, :, :size, :width].astype(self.exact)
            slots = self.form.slots_of(one)
            kept_CXK = kept_LCXK[row, :slots, :size, :width]
            if one.memory == "window":
                sum_CXK = _shifted(kept_CXK, new_1XK, sinks)
            else:
                sum_CXK = kept_CXK + new_1XK
                sum_CXK = np.asarray(one.decay, self.exact) * sum_CXK if one.memory == "decay" else sum_CXK
            later_LCXK[row, :slots, :size, :width] = sum_CXK
        return later_LCXK

    def _of_heads(self, rows_XK: NDArray[Any], one: KeptSums) -> NDArray[Any]:
        """Return a layer's rows as (A, K + 1, K)."""
        width = self.form.head_channels(one)
        return rows_XK[: self.form.channels + one.heads, :width].reshape(one.heads, width + 1, width)


def padded(count: int) -> int:
    """Return how long a last axis of so many numbers is.

    >>> padded(64), padded(77)
    (64, 96)
    """
    return -(-count // WIDTH) * WIDTH


def power_of_two_below(x_A: NDArray[Any]) -> NDArray[Any]:
    """Return the largest powers of 2 up to positive numbers, exactly.

    >>> power_of_two_below(np.array([0.3, 0.5])).tolist()
    [0.25, 0.5]
    """
    _, exponent_A = np.frexp(x_A)
    power_A: NDArray[Any] = np.ldexp(np.ones_like(x_A), exponent_A - 1)
    return power_A


def _in_one(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shape of the one state that holds all rows: keys, values, then tails."""
    kept = [shapes[name] for name in _KEPT if name in shapes]
    if not kept:
        return {}
    size = (sum(shape[0] for shape in kept), kept[0][1], 1, max(shape[3] for shape in kept))
    return {ONE_STATE: size, f"new_{ONE_STATE}": size}


def _widened(array: NDArray[Any], width: int) -> NDArray[Any]:
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])])


def _ring_after(
    kept_LD1M: NDArray[Any], new_LD1N: NDArray[Any], sizes: list[tuple[int, int, int]], sinks: int
) -> NDArray[Any]:
    """Return rings with a chunk's frames at their ends.

    Args:
        kept_LD1M: A row per layer.
        new_LD1N: The same of what is new.
        sizes: Slots, new frames and tokens of a frame, per layer.
        sinks: First slots that stay.
    """
    later_LD1M = kept_LD1M.copy()
    for row, (slots, added, tokens) in enumerate(sizes):
        kept_DRG = kept_LD1M[row, :, 0, : slots * tokens].reshape(-1, slots, tokens)
        new_DTG = new_LD1N[row, :, 0, : added * tokens].reshape(-1, added, tokens)
        moved_RDG = _shifted(kept_DRG.swapaxes(0, 1), new_DTG.swapaxes(0, 1), sinks)
        later_LD1M[row, :, 0, : slots * tokens] = moved_RDG.swapaxes(0, 1).reshape(-1, slots * tokens)
    return later_LD1M


def _shifted(kept_R: NDArray[Any], new_T: NDArray[Any], sinks: int) -> NDArray[Any]:
    """Return as many slots with the newest at the end; the first `sinks` stay."""
    all_RT = np.concatenate((kept_R, new_T))
    return np.concatenate((all_RT[:sinks], all_RT[len(new_T) + sinks :]))

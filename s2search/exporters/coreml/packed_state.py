"""What layers remember as few tensors: taken apart for the layers that read it, and put together of what is new.

Every tensor has a row per layer on its first axis; see `exporters/host.py`. What is beyond a tensor's own numbers is
cut off before anything is computed: whatever stands there, nothing changes.

Axes: L layers  D channels  M numbers of a row  R slots  T frames of a chunk  G tokens of a frame  A heads  X rows of a
      head's sums  K channels per head
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from s2search.block import KeptRing
from s2search.exporters.host import MASKED, ONE_STATE, HostForm
from s2search.exporters.package import NEW
from s2search.exporters.past import PAST_BIAS, Tensors


class PackedState:
    """How the state of one form is packed.

    Attributes:
        names: What functions take, in order.
        new_names: What they return of it, in order.
    """

    def __init__(self, form: HostForm) -> None:
        self._form, self._shapes = form, form.shapes()
        self.names = tuple(name for name in _NAMES if name in self._shapes)
        self.new_names = tuple(NEW + name for name in self.names if NEW + name in self._shapes)

    def layers(self, past: Mapping[str, Tensor]) -> dict[int, Tensors]:
        """Return what every layer reads, by its number and the names that `Block` says."""
        form = self._form
        found: dict[int, Tensors] = {}
        for name, kept, row in self._rows(past):
            found.setdefault(kept, {})[name] = row
        bias = dict(zip(form.grids, self._biases(past), strict=True))
        for ring in form.rings:
            found[ring.layer]["bias"] = bias[ring.frame_tokens]
        for one, row in zip(form.sums, self._sums(past), strict=True):
            found.setdefault(one.layer, {})["sums"] = row
        return found

    def new(self, new: Mapping[int, Tensors], past: Mapping[str, Tensor]) -> Tensors:
        """Return what a function returns, in the order of `new_names`.

        Args:
            new: Of every layer.
            past: What the function was given.
        """
        form, found = self._form, Tensors()
        keys, values = ([self._latest(new[ring.layer][name], ring) for ring in form.rings] for name in _RING)
        tails = [new[tail.layer]["tail"] for tail in form.tails]
        if form.keeper == "core_ml":
            if ONE_STATE in past:
                found[NEW + ONE_STATE] = self._one_state([*keys, *values, *tails], past)
        else:
            groups = {"new_keys": keys, "new_values": values, "new_tails": tails}
            found |= {name: stacked(group, self._shapes[name]) for name, group in groups.items() if group}
        sums = [new[one.layer]["sums"] for one in form.sums]
        if sums:
            rows = [x.reshape(1, 1, -1, x.shape[3]) for x in sums]
            found["new_sums"] = stacked(rows, self._shapes["new_sums"])
        return found

    def _rows(self, past: Mapping[str, Tensor]) -> list[tuple[str, int, Tensor]]:
        """Return every layer's keys, values and tail: the name, the layer and the tensor (1, D, 1, R G)."""
        form = self._form
        rings = [(ring.layer, form.slots * ring.frame_tokens) for ring in form.rings]
        tails = [(tail.layer, tail.frames * tail.frame_tokens) for tail in form.tails]
        groups = (("keys", "keys", rings), ("values", "values", rings), ("tails", "tail", tails))
        if form.keeper == "host":
            return [
                (name, layer, row)
                for given, name, sizes in groups
                if sizes
                for (layer, _), row in zip(sizes, _apart(past[given], [size for _, size in sizes]), strict=True)
            ]
        named = [(name, layer, size) for _, name, sizes in groups for layer, size in sizes]
        rows = _apart(past[ONE_STATE], [size for _, _, size in named]) if named else []
        return [(name, layer, row) for (name, layer, _), row in zip(named, rows, strict=True)]

    def _biases(self, past: Mapping[str, Tensor]) -> list[Tensor]:
        form = self._form
        if not form.rings:
            return []
        return _apart(past[PAST_BIAS], [(form.slots + form.frames) * tokens for tokens in form.grids])

    def _sums(self, past: Mapping[str, Tensor]) -> list[Tensor]:
        """Return (1, A, K + 2, K) of every layer."""
        form = self._form
        if not form.sums:
            return []
        rows = _apart(past["sums"], [form.head_channels(one) for one in form.sums])
        sizes = [form.channels + 2 * one.heads for one in form.sums]
        return [
            _cut(row, 2, size).reshape(1, one.heads, -1, row.shape[3])
            for row, size, one in zip(rows, sizes, form.sums, strict=True)
        ]

    def _latest(self, new_1D1N: Tensor, ring: KeptRing) -> Tensor:
        """Return the frames of a chunk that a ring can hold."""
        size = self._form.ring_frames * ring.frame_tokens
        return new_1D1N if new_1D1N.shape[3] == size else new_1D1N[..., -size:]

    def _one_state(self, new: Sequence[Tensor], past: Mapping[str, Tensor]) -> Tensor:
        """Return the one state with the chunk in it: the program moves rings up where Core ML keeps them."""
        form = self._form
        sinks = form.sink_frames
        full = 1 - past[PAST_BIAS][0, 0, 0, 0] / MASKED if form.rings and sinks else None
        rows = []
        for (name, layer, old_1D1M), new_1D1N in zip(self._rows(past), new, strict=True):
            tokens = {ring.layer: ring.frame_tokens for ring in form.rings}.get(layer, 0)
            of_ring = name != "tail"
            moved_1D1M = torch.cat((old_1D1M[..., new_1D1N.shape[3] :], new_1D1N), dim=3)
            if of_ring and full is not None:
                first = sinks * tokens
                kept_1D1M = torch.cat((old_1D1M[..., :first], moved_1D1M[..., first:]), dim=3)
                moved_1D1M = full * kept_1D1M + (1 - full) * moved_1D1M
            rows.append(moved_1D1M)
        return stacked(rows, self._shapes[NEW + ONE_STATE])


_NAMES = (PAST_BIAS, "keys", "values", "tails", ONE_STATE, "sums")
_RING = ("keys", "values")


def trimmed(x: Tensor, size: int) -> Tensor:
    """Return the numbers of a last axis that are there."""
    return _cut(x, x.ndim - 1, size)


def widened(x: Tensor, size: int) -> Tensor:
    """Return a tensor with zeros behind the numbers of its last axis."""
    return x if x.shape[-1] == size else functional.pad(x, (0, size - x.shape[-1]))


def _cut(x: Tensor, axis: int, size: int) -> Tensor:
    return x if x.shape[axis] == size else x.narrow(axis, 0, size)


def _apart(x_LDXM: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return the rows, each with the numbers of its last axis that are there."""
    x_LDXM = trimmed(x_LDXM, max(sizes))
    rows = [x_LDXM] if len(sizes) == 1 else list(torch.split(x_LDXM, 1))
    return [trimmed(row, size) for row, size in zip(rows, sizes, strict=True)]


def stacked(rows: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    """Return rows of different sizes as one tensor of a shape, with zeros behind their numbers."""
    if len({row.shape for row in rows}) > 1:
        most = [max(row.shape[axis] for row in rows) for axis in (2, 3)]
        rows = [functional.pad(row, (0, most[1] - row.shape[3], 0, most[0] - row.shape[2])) for row in rows]
    x_LDXM = rows[0] if len(rows) == 1 else torch.cat(tuple(rows))
    return widened(x_LDXM, shape[3])

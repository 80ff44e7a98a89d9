"""Inputs of packed functions (`exporters/host.py`) that show what the host's own would hide.

A host fills padding with zeros, and gives all heads one share while little came before. A graph that reads padding, or
another head's share, computes the same from those.

Axes: D rows of an input  A heads  X rows of a head's sums, K + 2  K channels per head
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from s2search.exporters.host import ONE_STATE, HostForm

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
_SHARES = 3  # different ones, so that no head has its neighbours', nor a layer the next one's


def with_padding(form: HostForm, arrays: Mapping[str, NDArray[Any]], seed: int) -> Arrays:
    """Return inputs with random numbers wherever the form says that nothing is read.

    Args:
        form: Of the package.
        arrays: Inputs of a function by name; those of other names stay as they are.
        seed: Of the numbers.
    """
    generator, sizes = np.random.default_rng(seed), own_sizes(form)
    found: Arrays = {}
    for name, array in arrays.items():
        filled = generator.standard_normal(array.shape).astype(array.dtype)
        for row, (height, width) in enumerate(sizes.get(name, [array.shape[2:]] * len(array))):
            filled[row, :, :height, :width] = array[row, :, :height, :width]
        found[name] = filled
    return found


def with_shares_apart(form: HostForm, sums_L1XK: NDArray[Any]) -> NDArray[Any]:
    """Return sums whose heads have different shares: S, z and the share times a power of 2, which says the same."""
    found_L1XK = sums_L1XK.copy()
    for row, one in enumerate(form.sums):
        size, width = form.channels + 2 * one.heads, form.head_channels(one)
        rows_AXK = found_L1XK[row, 0, :size, :width].reshape(one.heads, -1, width)
        power_A11 = np.exp2(-((row + np.arange(one.heads)) % _SHARES)).astype(rows_AXK.dtype)[:, None, None]
        found_L1XK[row, 0, :size, :width] = (rows_AXK * power_A11).reshape(size, width)
    return found_L1XK


def own_sizes(form: HostForm) -> dict[str, list[tuple[int, int]]]:
    """Return the last two axes of every input's own numbers, of each row on its first axis."""
    return {name: [*rows] for name, rows in _sizes(form)}


def _sizes(form: HostForm) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    rings = [(1, form.slots * ring.frame_tokens) for ring in form.rings]
    tails = [(1, tail.frames * tail.frame_tokens) for tail in form.tails]
    _, frames, rows, columns = form.latents
    yield "latents", [(frames * rows, columns)]
    yield "time", [(1, form.time_channels)]
    yield "text", [(1, form.text[0])]
    yield "past_bias", [(1, (form.slots + form.frames) * tokens) for tokens in form.grids]
    yield from (("keys", rings), ("values", rings), ("tails", tails), (ONE_STATE, [*rings, *rings, *tails]))
    yield "sums", [(form.channels + 2 * one.heads, form.head_channels(one)) for one in form.sums]

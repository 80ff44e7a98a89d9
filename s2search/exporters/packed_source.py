"""Inputs and outputs of packed functions (`exporters/host.py`) as those of `exporters/step.py`, and back.

So that one form can be held against the other. A host needs none of this.

Axes: see `host.py` and `step.py`
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from s2search.block import KeptRing, KeptSums, KeptTail
from s2search.exporters.host import ONE_STATE, HostForm

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]


def to_source(form: HostForm, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Return the inputs of a step for those of a packed function.

    Args:
        form: Of the functions.
        arrays: Inputs.
        shapes: Of the step's state by name.
    """
    wide = {name: array.astype(np.promote_types(array.dtype, np.float32)) for name, array in arrays.items()}
    latents = wide["latents"][..., : form.latents[3]].reshape(1, *form.latents)
    noise_level = noise_level_of(wide["time"].ravel()[: form.time_channels])
    given = {
        "latents": latents,
        "s": np.full((1, 1), noise_level, latents.dtype),
        "text": wide["text"][:, :, 0, : form.text[0]].swapaxes(1, 2),
    }
    if len(wide) == len(given):
        return given
    if "past_bias" in shapes:
        given["past_bias"] = _bias_of_frames(form, wide, latents.dtype)
    kept = (*_rings_and_tails(form, wide), *_shared_sums(form, wide))
    return given | {name: array.reshape(shapes[name]) for name, array in kept}


def from_source(form: HostForm, arrays: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the outputs of a packed function for those of a step, and what the step was given."""
    found: Arrays = {}
    shapes = form.shapes()
    if "velocity" in arrays:
        velocity_1CTYX = arrays["velocity"]
        if form.residual:
            s = float(given["s"][0, 0])
            velocity_1CTYX = velocity_1CTYX - (2 * s - 1) / (1 - 2 * s + 2 * s * s) * given["latents"]
        rows = velocity_1CTYX.reshape((*shapes["velocity"][:3], form.latents[3]))
        found["velocity"] = _filled(rows, shapes["velocity"])
    if not any(name.startswith("new_") for name in arrays):
        return found
    groups = _new_rows(form, arrays, given)
    if form.keeper == "core_ml":
        groups = _one_group(form, arrays, groups)
    return found | {name: _stacked(rows, shapes[name]) for name, rows in groups.items() if rows}


def state_to_source(form: HostForm, state: Mapping[str, NDArray[Any]], like: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return what a host keeps as the state of a step, its bias left out, in the shapes of one."""
    kept: Arrays = {}
    wide = {name: array.astype(np.float32) for name, array in state.items()}
    for name, array in _rings_and_tails(form, wide):
        kept[name] = array
    for row, one in enumerate(form.sums):
        width, slots = form.head_channels(one), form.slots_of(one)
        sums_CXK = wide["sums"][row, :slots, : form.channels + one.heads, :width]
        sums_CAXK = sums_CXK.reshape(slots, one.heads, width + 1, width)
        kept[f"sum_{one.layer:02}"] = sums_CAXK[:, :, :-1].swapaxes(2, 3)
        kept[f"norm_{one.layer:02}"] = sums_CAXK[:, :, -1]
    return {name: array.reshape(like[name].shape) for name, array in kept.items()}


def noise_level_of(time_F: NDArray[Any]) -> float:
    """Return the noise level of its sinusoids: every frequency, from the lowest up, says it more exactly."""
    half, time = len(time_F) // 2, 0.0
    frequency_F = np.exp(-math.log(10_000) / half * np.arange(half))
    phase_F = np.arctan2(time_F[half:].astype(float), time_F[:half].astype(float))
    for frequency, phase in zip(frequency_F[::-1], phase_F[::-1], strict=True):
        turn = (phase - time * frequency + math.pi) % (2 * math.pi) - math.pi
        time += turn / frequency
    return time / 1000


def _bias_of_frames(form: HostForm, wide: Mapping[str, NDArray[Any]], kind: Any) -> NDArray[Any]:
    """Return the bias of every frame of a ring; of a window of sums without a ring, all frames are there."""
    if not form.rings:
        return np.zeros(form.slots, kind)
    tokens = form.grids[0]
    return wide["past_bias"][0, 0, 0, : form.slots * tokens : tokens]


def _rings_and_tails(form: HostForm, wide: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
    rows = {name: list(wide[name]) for name in ("keys", "values", "tails") if name in wide}
    if ONE_STATE in wide:
        whole, count = list(wide[ONE_STATE]), len(form.rings)
        rows = {"keys": whole[:count], "values": whole[count : 2 * count], "tails": whole[2 * count :]}
    for row, ring in enumerate(form.rings):
        for name in ("keys", "values"):
            yield f"{name}_{ring.layer:02}", _frames_first(rows[name][row], form.slots, ring.frame_tokens)
    for row, tail in enumerate(form.tails):
        yield f"tail_{tail.layer:02}", _frames_first(rows["tails"][row], tail.frames, tail.frame_tokens)


def _shared_sums(form: HostForm, wide: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
    for row, one in enumerate(form.sums):
        width = form.head_channels(one)
        size = form.channels + 2 * one.heads
        sums_AXK = wide["sums"][row, 0, :size, :width].reshape(one.heads, width + 2, width)
        sums_AXK = sums_AXK[:, :-1] / sums_AXK[:, -1:]
        for name, part in (("sum", sums_AXK[:, :-1].swapaxes(1, 2)), ("norm", sums_AXK[:, -1])):
            label = f"{name}_{one.layer:02}"
            slots = np.zeros((form.slots_of(one), *part.shape), part.dtype)
            slots[-1] = part  # the program is given the sum of all slots
            yield label, slots


def _new_rows(
    form: HostForm, arrays: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]
) -> dict[str, list[NDArray[Any]]]:
    def latest(kept: KeptRing | KeptTail, name: str, frames: int) -> NDArray[Any]:
        x_RGD = arrays[f"new_{name}_{kept.layer:02}"][0, -frames:]
        return x_RGD.reshape(-1, form.channels).T[None, :, None]

    return {
        "new_keys": [latest(ring, "keys", form.ring_frames) for ring in form.rings],
        "new_values": [latest(ring, "values", form.ring_frames) for ring in form.rings],
        "new_tails": [latest(tail, "tail", form.tail_frames(tail)) for tail in form.tails],
        "new_sums": [_chunk_sums(form, one, arrays, given) for one in form.sums],
    }


def _chunk_sums(
    form: HostForm, one: KeptSums, arrays: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]
) -> NDArray[Any]:
    """Return the sums of the chunk alone (1, 1, A (K + 1), K)."""
    width = form.head_channels(one)
    parts = []
    for name in ("sum", "norm"):
        label = f"{name}_{one.layer:02}"
        new, old = arrays[f"new_{label}"][0], given[label][0]
        added = (new / one.decay if one.memory == "decay" else new) - old if one.memory != "window" else new
        part: NDArray[Any] = added[-one.heads :]
        parts.append(part.swapaxes(1, 2) if name == "sum" else part[:, None])
    rows: NDArray[Any] = np.concatenate(parts, axis=1).reshape(1, 1, -1, width)
    return rows


def _one_group(
    form: HostForm, arrays: Mapping[str, NDArray[Any]], groups: dict[str, list[NDArray[Any]]]
) -> dict[str, list[NDArray[Any]]]:
    """Return whole rings and tails as the one state, beside the sums."""
    names = [f"{name}_{ring.layer:02}" for name in ("keys", "values") for ring in form.rings]
    names += [f"tail_{tail.layer:02}" for tail in form.tails]
    whole = [arrays[f"new_{name}"].reshape(-1, form.channels).T[None, :, None] for name in names]
    return {f"new_{ONE_STATE}": whole, "new_sums": groups["new_sums"]}


def _frames_first(x_D1M: NDArray[Any], frames: int, tokens: int) -> NDArray[Any]:
    return x_D1M[:, 0, : frames * tokens].T


def _stacked(rows: list[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.concatenate([_filled(row, (1, *shape[1:])) for row in rows])


def _filled(x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.pad(x, [(0, size - have) for size, have in zip(shape, x.shape, strict=True)])

"""Writes what Swift's host arithmetic must give: the vectors that the unit tests of `S2Stream` read.

    python -m tests.kit.swift_vectors

All expected numbers come from `s2search.exporters.host.Host` and `s2search.network.flow`. What a package would return
is drawn by a linear congruential generator that Swift has too, in padding as well, so that streams of 1,000 chunks
need no file. float16 stands as its 16 bits.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

import s2search.kit.manifest
from s2search.block import KeptRing, KeptSums, KeptTail
from s2search.exporters.host import Host, HostForm
from s2search.network import flow

PACKAGE = Path(s2search.kit.manifest.__file__).with_name("swift") / "S2Stream"
FOLDER = PACKAGE / "Tests" / "S2StreamCoreTests" / "Vectors"

_SMALL: dict[str, Any] = {
    "latents": (2, 2, 2, 3),
    "text": (3, 2),
    "time_channels": 8,
    "residual": False,
    "channels": 4,
    "slots": 4,
    "sink_frames": 0,
    "chunk_slots": 2,
    "sink_chunks": 0,
}
_RINGS = (KeptRing(layer=0, frame_tokens=2), KeptRing(layer=2, frame_tokens=6))
_TAILS = (KeptTail(layer=1, frames=1, frame_tokens=6), KeptTail(layer=3, frames=3, frame_tokens=2))
_SUMS = (
    KeptSums(layer=1, heads=2, memory="running"),
    KeptSums(layer=3, heads=1, memory="decay", decay=0.9),
    KeptSums(layer=4, heads=2, memory="window"),
)

FORMS = {
    "rings without a sink, a plain velocity": HostForm(**_SMALL, rings=_RINGS),
    "rings and tails with a sink, a residual velocity": HostForm(
        **{**_SMALL, "sink_frames": 1, "residual": True}, rings=_RINGS, tails=_TAILS
    ),
    "a window shorter than a chunk": HostForm(
        **{**_SMALL, "latents": (1, 3, 1, 2), "slots": 2}, rings=_RINGS[:1], tails=_TAILS[1:]
    ),
    "running, decaying and window sums without a sink": HostForm(**_SMALL, sums=_SUMS, rings=_RINGS[:1]),
    "window sums of three chunks with a sink": HostForm(
        **{**_SMALL, "slots": 6, "sink_frames": 2, "chunk_slots": 3, "sink_chunks": 1}, sums=_SUMS[1:]
    ),
    "rings and tails that Core ML keeps": HostForm(
        **{**_SMALL, "channels": 2}, rings=_RINGS[:1], tails=_TAILS[1:], sums=_SUMS[:1], keeper="core_ml"
    ),
    "nothing to remember": HostForm(**_SMALL),
    "a thousand chunks": HostForm(**{**_SMALL, "channels": 2}, sums=_SUMS[:2]),
}
_LOOKS = {"a thousand chunks": (0, 1, 16, 128, 1000)}
_LEVELS = (1.0, 0.9375, 0.625, 0.5, 0.0)


class Draws:
    """Whole numbers from 0 to 2047: a linear congruential generator (Knuth, MMIX), its highest 11 bits."""

    def __init__(self) -> None:
        self._state = 1

    def whole(self, shape: tuple[int, ...]) -> np.ndarray:
        found = np.empty(math.prod(shape), np.float32)
        for place in range(len(found)):
            self._state = (self._state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
            found[place] = self._state >> 53
        return found.reshape(shape)

    def floats(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return what float16 does not hold exactly, from -1.5 to 1.5."""
        return (self.whole(shape) - np.float32(1024)) / np.float32(700)

    def output(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return what a package would return: z is never negative."""
        lowest = 0 if name == "new_sums" else 1024
        return ((self.whole(shape) - np.float32(lowest)) / np.float32(512)).astype(np.float16)


def documents() -> dict[str, Any]:
    """Return the files' content by name."""
    return {
        "streams.json": [_stream(name, form) for name, form in FORMS.items()],
        "halves.json": _halves(),
        "sampler.json": _sampler(),
    }


def _stream(name: str, form: HostForm) -> dict[str, Any]:
    host, shapes, draws = Host(form), form.shapes(), Draws()
    latents_CTYX, text_WE = draws.floats(form.latents), draws.floats(form.text)
    looks, state = [], host.start()
    at = _LOOKS.get(name, (0, 1, 2, 4, 5))
    for chunk in range(at[-1] + 1):
        if chunk in at:
            s = _LEVELS[len(looks)]
            velocity = draws.output("velocity", shapes["velocity"])
            looks.append(
                {
                    "chunk": chunk,
                    "s": s,
                    "empty": host.is_empty(state),
                    "inputs": {
                        name: _bits(array)
                        for name, array in host.inputs(latents_CTYX, s, text_WE, state).items()
                        if chunk == 0 or name not in ("latents", "text")  # they are the same for every chunk
                    },
                    "velocity": _floats(host.velocity({"velocity": velocity}, latents_CTYX, s)),
                }
            )
        new = {name: draws.output(name, shapes[name]) for name in sorted(shapes) if name.startswith("new_")}
        state = host.after(state, new)
    shapes_ = {name: list(shape) for name, shape in sorted(shapes.items())}
    return {"name": name, "host": msgspec.to_builtins(form), "shapes": shapes_, "looks": looks}


def _halves() -> list[dict[str, Any]]:
    exact = [0.0, -0.0, 1.0, -2.0, 65504.0, 65519.99, 65520.0, -1e9, 2.0**-14, 2.0**-24, 2.0**-25, 2.0**-25 * 1.0001]
    ties = [1 + 2.0**-11, 1 + 3 * 2.0**-11, 2 - 2.0**-12, 2.0**-14 - 2.0**-26, 2049.0, 2051.0, -4098.0]
    twice = [1 + 2.0**-11 + 2.0**-40]  # through float32 it would be rounded down
    numbers = [*exact, *ties, *twice, *(math.sin(k) * 10.0 ** (k % 12 - 7) for k in range(60))]
    with np.errstate(over="ignore"):
        return [{"number": x, "bits": int(np.float64(x).astype(np.float16).view(np.uint16))} for x in numbers]


def _sampler() -> dict[str, Any]:
    draws = Draws()
    x, v, noise = (draws.floats((2, 3)) for _ in range(3))
    tensors = {name: torch.from_numpy(array) for name, array in (("x", x), ("v", v), ("noise", noise))}
    schedules = [
        {"steps": steps, "shift": shift, "levels": list(flow.few_step_schedule(steps, shift))}
        for steps, shift in ((4, 5.0), (1, 5.0), (8, 1.0), (50, 5.0))
    ]
    s, later = flow.few_step_schedule()[1:3]
    z = flow.clean(tensors["x"], s, tensors["v"])
    return {
        "schedules": schedules,
        "x": _floats(x),
        "v": _floats(v),
        "noise": _floats(noise),
        "step": 1,
        "clean": _floats(z.numpy()),
        "renoised": _floats(flow.renoise(z, later, tensors["noise"]).numpy()),
        "moved": _floats((tensors["x"] + (later - s) * tensors["v"]).numpy()),  # as FlowSampler does
    }


def _bits(array: np.ndarray) -> dict[str, Any]:
    assert array.dtype == np.float16
    return {"shape": list(array.shape), "bits": array.view(np.uint16).ravel().tolist()}


def _floats(array: np.ndarray) -> dict[str, Any]:
    assert array.dtype == np.float32
    return {"shape": list(array.shape), "values": array.ravel().tolist()}


def text_of(document: Any) -> str:
    """Return a file's text, a line per case."""
    if isinstance(document, list):
        return "[\n" + ",\n".join(json.dumps(one, separators=(",", ":")) for one in document) + "\n]\n"
    return json.dumps(document, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    for file, content in documents().items():
        (FOLDER / file).write_text(text_of(content))

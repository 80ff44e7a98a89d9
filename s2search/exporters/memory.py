"""What a package needs of memory once it is loaded, by the formulas of its blocks."""

from __future__ import annotations

import dataclasses

from s2search.block import Precision
from s2search.exporters.package import Manifest
from s2search.preset import video_size


def predicted_memory_bytes(manifest: Manifest) -> int:
    """Return the bytes of weights, of the state, and of the part that needs most beside them while it runs.

    It is what must fit, not what a runtime takes: those keep copies, and Core ML a program of its own per device.
    """
    config, slots = manifest.model, (manifest.window.frames or 0) + manifest.window.sink_frames
    shape = config.preset.shape(video_size(*manifest.grid), "stream", frames=manifest.chunk_frames)
    shape = dataclasses.replace(shape, context_frames=slots)
    precision = Precision.named(manifest.precision)
    beside = max(part.peak_bytes(shape, precision) for part in config.parts.values())
    return manifest.sizes.predicted_weight_bytes + manifest.sizes.predicted_state_bytes + beside

"""A model's row: its samples are made, or read, and held against real clips."""

from __future__ import annotations

from pathlib import Path

from s2search.training.distance.generate import Maker, Progress, generate
from s2search.training.distance.measure import MeasuredRow, Yardstick, see


def model_row(
    maker: Maker, yardstick: Yardstick, folder: Path, *, seed: int, batch: int, progress: Progress
) -> MeasuredRow:
    """Return how far a model's clips are, by the captions of the yardstick's second half, and how fast they are made.

    Args:
        maker: The model.
        yardstick: Real clips.
        folder: For the samples of all models; each has a folder of its own, named after its weights and steps.
        seed: Of all noise.
        batch: Samples that are made side by side.
        progress: Told before every batch.

    Raises:
        InputError: The folder holds samples of something else.
        CheckError: A sample is not finite.
    """
    clips, own = yardstick.clips, folder / f"{maker.weights.removeprefix('sha256:')[:12]}-{maker.steps}"
    made = generate(maker, clips, yardstick.second, own, seed=seed, batch=batch, progress=progress)
    seen = see(yardstick.networks.both, made)
    return yardstick.measured(
        str(maker.folder),
        "model",
        seen,
        steps=maker.steps,
        sampler=maker.sampler,
        weights=maker.weights,
        speed=maker.speed(clips.heading.latent_size, yardstick.second[0].caption),
    )

"""The command `distance`: how far generated video is from real video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.processes import joined
from s2search.api.values import PathText
from s2search.document import check_folder, check_writable
from s2search.errors import InputError, require

if TYPE_CHECKING:
    from s2search.training.data.clips import Clips
    from s2search.training.distance.documents import Distances
    from s2search.training.distance.networks import FeatureNetworks

RESULT, SAMPLES = "distance.json", "samples"


def distance_train(
    data: PathText, out: PathText = "distance.safetensors", *, features: int = 64, steps: int = 2500, seed: int = 0
) -> FeatureNetworks:
    """Make the two networks of a data set by which clips are held against real ones: one random, one trained.

    Args:
        data: A folder that `data make` wrote.
        out: The file, at most 2 MB for latents of 16 channels; it is written whole or not at all.
        features: Of each network, 2 to 64. A measurement needs 4 samples per feature.
        steps: Of 32 clips each, of the one that is trained.
        seed: Of weights, order and noise.

    Raises:
        InputError: The data are too few, or the file cannot be written.
        CheckError: The loss is not finite.
    """
    require("torch", "safetensors")
    check_writable(Path(out))
    from s2search.training.distance.learn import learned
    from s2search.training.distance.networks import MOST_FEATURES

    if not 2 <= features <= MOST_FEATURES:
        raise InputError(f"{features} features", allowed=f"2 to {MOST_FEATURES}", remedy="correct the number")
    if steps < 1:
        raise InputError(f"{steps} steps", allowed="1 or more", remedy="correct the number")
    clips = _clips(data)
    with joined("cpu", "learning") as (where, progress):
        _check_alone(where.count)
        networks = learned(clips, features=features, steps=steps, seed=seed, progress=progress)
    networks.save(Path(out))
    return networks


def distance_measure(
    models: PathText | Sequence[PathText] = (),
    *,
    data: PathText,
    network: PathText,
    out: PathText = "distance",
    samples: int = 512,
    steps: str | Sequence[int] = "",
    seed: int = 0,
    batch: int = 16,
    text: str | None = None,
    device: str = "cpu",
) -> Distances:
    """Say how far what models make is from real clips, beside how far spoilt real clips are.

    Samples are kept in `OUT/samples`; the same command goes on where it stopped. `OUT/distance.json` is the answer.

    Args:
        models: Folders of weights, such as RUN/model; without one, only what the measure sees is told.
        data: A folder that `data make` wrote; its held-out clips are the real ones, twice as many as samples.
        network: What `distance train` wrote.
        out: The folder.
        samples: Of each row; 4 or more per feature of the networks.
        steps: Of the samplers, `1,2,4`; by default those that a model was trained for, or 50.
        seed: Of all noise.
        batch: Samples that are made side by side.
        text: The models' text encoder; `hashing`, as wide as a model, by default.
        device: Where models compute: cpu or cuda.

    Returns:
        A row per model and number of steps, and which of two models is nearer.

    Raises:
        InputError: Something does not go together, there are too few clips, or the measure is blind on this data.
        CheckError: A sample is not finite.
    """
    require("torch", "safetensors", "diffusers")
    check_folder(Path(out))
    from s2search.training.distance.generate import Maker
    from s2search.training.distance.measure import Yardstick
    from s2search.training.distance.models import model_row
    from s2search.training.distance.networks import FeatureNetworks

    for name, value in (("samples", samples), ("batch", batch)):
        if value < 1:
            raise InputError(f"{name} is {value}", allowed="1 or more", remedy="correct it")
    asked, folders = _steps(steps), _folders(models)
    clips = _clips(data)
    yardstick = Yardstick.of(clips, FeatureNetworks.load(Path(network)), samples)
    with joined(device, "measuring") as (where, progress):
        _check_alone(where.count)
        makers = [
            Maker.of(folder, clips, where.device, steps=count, text=text) for folder in folders for count in asked
        ]
        rows, total = yardstick.checked(), samples * len(makers)
        for number, maker in enumerate(makers):
            done = number * samples
            row = model_row(
                maker,
                yardstick,
                Path(out) / SAMPLES,
                seed=seed,
                batch=batch,
                progress=lambda made, _, label, done=done: progress(done + made, total, label),  # type: ignore[misc]
            )
            rows.append(row)
        progress(total, total, "done")
    found = yardstick.document(rows, seed)
    found.save(Path(out) / RESULT)
    return found


def _steps(given: str | Sequence[int]) -> tuple[int | None, ...]:
    """Return numbers of steps; None for a model's own.

    >>> _steps("1,2,4"), _steps("")
    ((1, 2, 4), (None,))
    """
    try:
        found = tuple(int(word) for word in (given.split(",") if isinstance(given, str) else given) if word != "")
    except (TypeError, ValueError):
        found = (0,)
    if not all(1 <= count <= 1000 for count in found) or len({*found}) < len(found):
        raise InputError(
            f"steps are {given!r}",
            allowed="different whole numbers from 1 to 1000, such as 1,2,4",
            remedy="correct them",
        )
    return found or (None,)


def _folders(models: PathText | Sequence[PathText]) -> list[Path]:
    several = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    folders = [Path(one) for one in several]
    for folder in folders:
        if folders.count(folder) > 1:
            raise InputError(f"the model {str(folder)!r} is named twice", remedy="name it once")
    return folders


def _check_alone(count: int) -> None:
    if count > 1:
        raise InputError(
            f"{count} processes were started, and this is the work of one", remedy="start it without torchrun"
        )


def _clips(data: PathText) -> Clips:
    from s2search.training.data.clips import Clips

    return Clips.load(Path(data))

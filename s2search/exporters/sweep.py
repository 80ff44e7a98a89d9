"""The sensitivity sweep: what each precision of each part costs, one at a time, in noise of the velocity.

Every figure is on disk before the next one begins, in a journal beside the result, so the same command goes on where
the last one stopped, however it did. The last figures are of drawn mixtures: they test the law that noise powers of
parts add up, by which precisions are chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import Tensor

from s2search.document import check_writable
from s2search.errors import InputError, keeping
from s2search.exporters.calibration import RangeStreams, calibrate
from s2search.exporters.prompt_tokens import PromptTokens
from s2search.exporters.quantised import (
    Ranges,
    Recording,
    matrices,
    part_bytes,
    quantised,
    record,
    rest_bytes,
    weights_digest,
)
from s2search.exporters.step import StepShape
from s2search.journal import open_journal
from s2search.network.network import S2DiT
from s2search.precision.documents import Mixture, Palette, PartChoices, PrecisionChoice, Sensitivity, noise_db
from s2search.precision.part import PartPrecision, parts_in_order

#: What is on offer unless the user says otherwise.
PRECISIONS = ("float16", "w8a16", "w8a8", "w6a16", "w6a8", "w4a16", "w4a8")

#: Called with figures done, figures to find, and what comes next.
Progress = Callable[[int, int, str], Any]


@dataclass(frozen=True, kw_only=True)
class PrecisionSweep:
    """What to find out.

    Attributes:
        grid: Token rows and columns.
        precisions: On offer for every part.
        palette: How tables are found.
        chunks: Of the stream that is compared.
        seed: Of its inputs, and of the mixtures.
        mixtures: How many drawn assignments test the law.
    """

    grid: tuple[int, int]
    precisions: tuple[str, ...] = PRECISIONS
    palette: Palette = "kmeans"
    chunks: int = 4
    seed: int = 0
    mixtures: int = 8

    def __post_init__(self) -> None:
        for label in self.precisions:
            PartPrecision.parse(label)
        if not self.precisions or len({*self.precisions}) < len(self.precisions):
            raise InputError(
                f"the precisions on offer are {', '.join(self.precisions) or 'none'}",
                allowed="at least one, each once",
                remedy="correct --precision",
            )
        if self.chunks < 1 or self.mixtures < 0:
            raise InputError(
                f"{self.chunks} chunks and {self.mixtures} mixtures",
                allowed="at least 1 chunk and 0 mixtures",
                remedy="correct the options",
            )


def sweep(
    model: S2DiT, asked: PrecisionSweep, out: Path, progress: Progress = lambda done, total, label: None
) -> Sensitivity:
    """Measure the sensitivity of every part, and write it.

    Args:
        model: In float32, in evaluation mode. It is left as it is.
        asked: What to find out.
        out: The file to write. A journal of a sweep that was stopped stands beside it, and is gone at the end.
        progress: Called before every figure.

    Raises:
        InputError: It cannot be written there, or what is there is of another sweep.
    """
    check_writable(out)
    if (there := finished(out, asked)) is not None:
        _refuse_other(out, "model", there.model_digest, model.config.digest)
        _refuse_other(out, "weights", there.weights_digest, weights_digest(model))
        if not journal_path(out).exists():
            return there
    preset = model.config.preset
    shape = StepShape(grid=asked.grid, frames=preset.chunk_frames, window=preset.window)
    parts = parts_in_order(matrices(model))
    singles = {f"{part} {label}": {part: label} for part in parts for label in asked.precisions}
    trials = singles | {f"mixture {i}": drawn for i, drawn in enumerate(_drawn(parts, asked))}
    with open_journal(journal_path(out), _heading(model, asked), _Figure, of="sweep") as journal:
        figures, noise = _Figures(model, asked, shape), {figure.key: figure.noise for figure in journal.lines}
        for done, (key, trial) in enumerate(trials.items()):
            progress(done, len(trials), key)
            if key not in noise:
                noise[key] = figures.noise(trial)
                journal.append(_Figure(key, noise[key]))
        progress(len(trials), len(trials), "")
        found = _sensitivity(model, asked, shape, parts, noise)
        with keeping(found):
            found.save(out)
        journal_path(out).unlink()
    return found


def finished(out: Path, asked: PrecisionSweep) -> Sensitivity | None:
    """Return the finished sweep of these settings that is in a file; None where there is no file yet.

    Raises:
        InputError: The file is something else, or of a sweep with other settings: it took hours, and stays.
    """
    if not out.exists():
        return None
    try:
        found = Sensitivity.load(out)
    except InputError as error:
        raise InputError(f"{str(out)!r} is there and is no finished sweep", remedy="name another file") from error
    there = {
        "grid": found.grid,
        "precisions": tuple(choice.precision for choice in found.parts[0].choices) if found.parts else (),
        "palette": found.palette,
        "chunks": found.chunks,
        "seed": found.seed,
        "mixtures": len(found.mixtures),
    }
    for name, value in there.items():
        _refuse_other(out, name, value, getattr(asked, name))
    return found


def _refuse_other(out: Path, name: str, there: object, here: object) -> None:
    if there != here:
        raise InputError(
            f"{str(out)!r} is of another sweep: {name} is {there} there and {here} here", remedy="name another file"
        )


def journal_path(out: Path) -> Path:
    """Return where the journal of a sweep is."""
    return out.with_name(f"{out.name}.journal")


class _Figures:
    """Finds figures; what all of them need is computed when the first is asked for."""

    def __init__(self, model: S2DiT, asked: PrecisionSweep, shape: StepShape) -> None:
        self._model, self._asked, self._shape = model, asked, shape
        self._recording: Recording | None = None
        self._ranges: Ranges = {}
        self._rounded: dict[Any, Tensor] = {}

    def noise(self, parts: Mapping[str, str]) -> float:
        """Return the noise of an assignment; parts that it leaves out are exact."""
        if self._recording is None:
            prompts, asked = PromptTokens.hashed(self._model.config.preset), self._asked
            self._recording = record(self._model, self._shape, chunks=asked.chunks, seed=asked.seed, prompts=prompts)
            self._ranges = calibrate(self._model, RangeStreams(shape=self._shape, prompts=prompts))
        precisions = {part: PartPrecision.parse(label) for part, label in parts.items()}
        with quantised(self._model, precisions, self._asked.palette, self._ranges, self._rounded):
            return self._recording.noise(self._model)


def _drawn(parts: tuple[str, ...], asked: PrecisionSweep) -> Iterator[dict[str, str]]:
    """Yield mixtures: every part's precision drawn by itself."""
    rng = np.random.default_rng(asked.seed)
    for _ in range(asked.mixtures):
        yield {part: asked.precisions[rng.integers(len(asked.precisions))] for part in parts}


def _sensitivity(
    model: S2DiT, asked: PrecisionSweep, shape: StepShape, parts: tuple[str, ...], noise: Mapping[str, float]
) -> Sensitivity:
    blocks = {f"layers.{i}": label for i, label in enumerate(model.config.layout)}
    offers = tuple(
        PartChoices(
            part=part,
            block=blocks.get(part, ""),
            choices=tuple(
                PrecisionChoice(
                    precision=label,
                    bytes=part_bytes(model, part, PartPrecision.parse(label)),
                    noise=noise[f"{part} {label}"],
                )
                for label in asked.precisions
            ),
        )
        for part in parts
    )
    return Sensitivity(
        model_digest=model.config.digest,
        plan_digest=model.config.plan_digest,
        weights_digest=weights_digest(model),
        grid=asked.grid,
        chunks=asked.chunks,
        seed=asked.seed,
        palette=asked.palette,
        rest_bytes=rest_bytes(model, shape.frames),
        parts=offers,
        mixtures=tuple(
            Mixture(
                parts=drawn,
                predicted_db=noise_db(sum(noise[f"{part} {label}"] for part, label in drawn.items())),
                measured_db=noise_db(noise[f"mixture {i}"]),
            )
            for i, drawn in enumerate(_drawn(parts, asked))
        ),
    )


class _Figure(msgspec.Struct, frozen=True):
    """A line of the journal."""

    key: str
    noise: float


def _heading(model: S2DiT, asked: PrecisionSweep) -> dict[str, Any]:
    """Return what two sweeps must have in common to share a journal."""
    return {
        "model": model.config.digest,
        "weights": weights_digest(model),
        "sweep": msgspec.to_builtins(dataclasses.asdict(asked)),
    }

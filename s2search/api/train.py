"""The command `train`: a model from clips, by a trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2search.api.values import PathText
from s2search.document import as_json
from s2search.errors import require

if TYPE_CHECKING:
    from s2search.training.engine import Outcome
    from s2search.training.estimate import RunEstimate
    from s2search.training.prepare import PreparedRun
    from s2search.training.settings import RunSettings

_FRAMES = 8  # of a strip
_GAP, _GREY = 2, 128  # pixels between them

#: A run.toml, or what it would say.
Asked = PathText | Mapping[str, Any] | None


def train(
    run: Asked = None,
    out: PathText = "run",
    *,
    data: PathText | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
) -> Outcome:
    """Train a model, or go on with a run that was stopped.

    Under torchrun every process calls it.

    Args:
        run: A run.toml, or what it would say as a dictionary; all by default without one.
        out: The folder of the run. An unfinished one is finished.
        data: A folder that `data make` wrote; instead of the run's own.
        settings: Changes of the run's: `optimizer.steps=500`, or `{"optimizer.steps": 500}`.

    Returns:
        Where it stopped, and how good the model is.

    Raises:
        InputError: A setting is wrong, something does not go together, or the folder holds another run.
        CheckError: A loss or a gradient is not finite.
    """
    require("torch", "safetensors")
    given, asked = _settings(run, data, settings)
    from s2search.reporting.progress import notice, progress_bar
    from s2search.training.engine import Engine
    from s2search.training.parallel import processes
    from s2search.training.prepare import PreparedRun
    from s2search.training.run_folder import opened

    prepared, folder = PreparedRun.of(asked), Path(out)
    with processes(asked.engine) as where:
        if not where.first:
            where.wait()
            return Engine(trainer=prepared.trainer, run=prepared.run(folder, where), folder=folder, where=where).train()
        with opened(folder, prepared.record(), given), progress_bar("training") as progress:
            where.wait()
            ready = prepared.run(folder, where)
            engine = Engine(trainer=prepared.trainer, run=ready, folder=folder, where=where)
            outcome = engine.train(progress, notice)
            draw_page(prepared, outcome)
            return outcome


def train_dry(
    run: Asked = None, *, data: PathText | None = None, settings: Sequence[str] | Mapping[str, Any] = ()
) -> RunEstimate:
    """Return what a run would be: all settings, parameters, memory, and the time of a step.

    Two steps are run, and nothing is kept.

    Args:
        run: As for `train`.
        data: As for `train`.
        settings: As for `train`.

    Raises:
        InputError: A setting is wrong, or something does not go together.
    """
    require("torch", "safetensors")
    _, asked = _settings(run, data, settings)
    from s2search.training.engine import Engine
    from s2search.training.estimate import estimated
    from s2search.training.parallel import processes
    from s2search.training.prepare import PreparedRun

    prepared = PreparedRun.of(asked)
    with processes(asked.engine) as where, tempfile.TemporaryDirectory() as folder:
        ready = prepared.run(Path(folder), where)
        return estimated(Engine(trainer=prepared.trainer, run=ready, folder=Path(folder), where=where))


def _settings(run: Asked, data: PathText | None, changes: Sequence[str] | Mapping[str, Any]) -> tuple[str, RunSettings]:
    """Return the text of run.toml, and all settings."""
    from s2search.border.regular_file import read_regular_text
    from s2search.training.settings import RunSettings, overridden

    path = None if run is None or isinstance(run, Mapping) else Path(run)
    stated: Mapping[str, Any] = run if isinstance(run, Mapping) else {} if path is None else RunSettings.read(path)
    listed = [f"{key}={_toml(value)}" for key, value in changes.items()] if isinstance(changes, Mapping) else [*changes]
    if data is not None:
        listed.append(f"data={_toml(str(data))}")
    found = RunSettings.of(overridden(stated, listed))
    text = "" if path is None else read_regular_text(path)
    return "\n".join((text.rstrip("\n"), *(f"# --set {change}" for change in listed))).strip() + "\n", found


def _toml(value: Any) -> str:
    """Return a value as TOML writes it, which JSON's numbers, texts and arrays are."""
    return as_json(value, indent=-1).strip()


def draw_page(prepared: PreparedRun, outcome: Outcome) -> None:
    """Write the page of a run that is done."""
    from s2search.codec.pixels import frames_from_video
    from s2search.codec.video import png
    from s2search.document import write_text
    from s2search.reporting.training import training_html
    from s2search.training.run_folder import REPORT, STRIP, read_metrics

    if outcome.interrupted:
        return
    rows_HWC = {}
    if prepared.codec is not None and outcome.drawn:
        codec = prepared.codec.load()
        for asked, latents_CTYX in outcome.drawn.items():
            frames_THWC = frames_from_video(codec.decode(latents_CTYX[None])[0])
            chosen = np.linspace(0, len(frames_THWC) - 1, _FRAMES).round().astype(int)
            apart_THWC = np.pad(frames_THWC[chosen], ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=_GREY)
            rows_HWC[asked] = np.concatenate(apart_THWC, axis=1)[:, :-_GAP]
        below = [np.pad(row_HWC, ((0, _GAP), (0, 0), (0, 0)), constant_values=_GREY) for row_HWC in rows_HWC.values()]
        (outcome.folder / STRIP).write_bytes(png(np.concatenate(below)[:-_GAP]))
    strips = {asked: png(row_HWC) for asked, row_HWC in rows_HWC.items()}
    rows = read_metrics(outcome.folder)
    page = training_html(prepared.record(), rows, outcome.judgement, strips, outcome.left, outcome.watched)
    write_text(outcome.folder / REPORT, page)

"""The command `recalibrate`: a table corrected by whole packages, timed here; a score, by what was trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.values import Blocks, PathText, blocks_of, preset_of, table_of
from s2search.document import check_folder
from s2search.errors import InputError
from s2search.preset import PRESETS, Preset, token_grid
from s2search.tables.table import LatencyTable, refuse_existing

if TYPE_CHECKING:
    from s2search.pipeline.rival import ScoreRecalibration
    from s2search.recalibration.result import Recalibration


def recalibrate(
    table: PathText | LatencyTable | None = None,
    out: PathText = "recalibrated",
    *,
    score: PathText | None = None,
    layouts: int = 30,
    runtime: str | None = None,
    preset: str | Preset | None = None,
    depth: int | None = None,
    video: str | None = None,
    candidates: Blocks | None = None,
    rounds: int = 30,
    seed: int = 0,
) -> Recalibration | ScoreRecalibration:
    """Time whole layouts against a table, and write a corrected version of it; or correct a score by what was trained.

    A third of the layouts gives the correction, the others tell what it gains. Where they do not support it, nothing is
    written: `new_table` of the answer is null, and `refusal` says why.

    Args:
        table: A table that was measured here.
        out: The new table's folder, or that of the new score.json. An unfinished recalibration is finished.
        score: Instead of a table: a folder of `run`, whose score is multiplied by what its rival measured; the others
            say nothing of a score.
        layouts: Random layouts to time, at least 15; two of three are held out.
        runtime: `onnxruntime` or `executorch`; the table's own by default.
        preset: Model size; the table's own by default.
        depth: Layers of the layouts; the preset's by default.
        video: Video size; the table's only one by default.
        candidates: Blocks in the layouts; all of the table's by default.
        rounds: How often everything is timed.
        seed: Draws layouts, weights and orders.

    Raises:
        InputError: The table was measured elsewhere or for a preset that is not installed, there are few layouts, or
            the run has no rival's result.
    """
    if (table is None) == (score is None):
        given = "neither a table nor --score" if table is None else "a table and --score"
        raise InputError(
            f"{given} is given", remedy="name a table that was measured here, or a run's folder: --score RUN"
        )
    check_folder(Path(out))
    refuse_existing(Path(out))
    if score is not None:
        return _score_recalibrated(Path(score), Path(out))
    assert table is not None
    from s2search.recalibration import recalibrate as recalibration
    from s2search.report.progress import progress_bar

    old = table_of(table)
    bench = recalibration.bench_of(old, runtime)
    sizes = _sizes(old, preset)
    settings = recalibration.Settings(
        preset=dataclasses.replace(sizes, depth=depth or sizes.depth),
        layouts=layouts,
        candidates=blocks_of(candidates),
        rounds=rounds,
        seed=seed,
    )
    scope = old.scope("stream", video=token_grid(video) if video else None)
    return recalibration.recalibrate(old, scope, settings, out, bench, progress=progress_bar)


def _score_recalibrated(run: Path, out: Path) -> ScoreRecalibration:
    from s2search.document import read_json
    from s2search.pipeline.record import PipelineRecord, check_unchanged
    from s2search.pipeline.rival import RivalResult, ScoreRecalibration, corrected
    from s2search.score.measured import MeasuredScore

    made = PipelineRecord.load(run).stages
    done = {name for name, stage in made.items() if stage.state == "done"}
    if not {"score", "rival"} <= done or not (run / "rival/rival.json").exists():
        raise InputError(
            f"{str(run)!r} has no rival's result",
            remedy=f"s2search run --out {run} --until rival, with rival.seeds that are not empty",
        )
    for name in ("score", "rival"):
        check_unchanged(run, name, made[name].files)
    old = MeasuredScore.load(run / "score/score.json")
    result = read_json(run / "rival/rival.json", RivalResult, what="rival's result")
    new = corrected(old, result)
    out.mkdir(parents=True)
    new.save(out / "score.json")
    return ScoreRecalibration(
        score=str(out / "score.json"),
        digest=new.digest,
        old_digest=old.digest,
        factor=result.factor,
        factor_error=result.factor_error,
        rival=result,
    )


def _sizes(table: LatencyTable, preset: str | Preset | None) -> Preset:
    if preset is None and table.card.preset not in PRESETS:
        raise InputError(
            f"the table {table.name!r} was measured for the preset {table.card.preset!r}, which is not installed",
            remedy="name its file: --preset FILE.toml",
        )
    return preset_of(preset or table.card.preset)

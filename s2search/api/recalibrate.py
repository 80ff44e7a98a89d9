"""The command `recalibrate`: a table corrected by whole packages, timed here; a score, by what was trained."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2search import registry
from s2search.api.values import Blocks, PathText, blocks_of, preset_of, table_of
from s2search.document import check_folder
from s2search.errors import InputError
from s2search.preset import PRESETS, Preset, token_grid
from s2search.tables.table import LatencyTable, Scope, refuse_existing

_KIT = "kit:"  # before the path of its results

if TYPE_CHECKING:
    from s2search.kit.programs import ProgramTimes, WholePrograms
    from s2search.pipeline.rival import ScoreRecalibration
    from s2search.recalibration.campaign import PhoneCampaign, TimedProgram
    from s2search.recalibration.result import Recalibration


def recalibrate(
    table: PathText | LatencyTable | None = None,
    out: PathText = "recalibrated",
    *,
    of: PathText | LatencyTable | None = None,
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
        table: A table that was measured here. Or `kit:results.jsonl` (or `kit:` and its folder), of a kit that timed
            whole programs: these are the layouts then, and nothing is timed here.
        out: The new table's folder, or that of the new score.json. An unfinished recalibration is finished.
        of: With a kit: the table that is corrected, of its phone; by default its own.
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
        given = "neither a table nor --score is" if table is None else "a table and --score are"
        raise InputError(
            f"{given} given",
            remedy="name a table that was measured here, kit:results.jsonl, or a run's folder: --score RUN",
        )
    kit = str(table).removeprefix(_KIT) if str(table).startswith(_KIT) else None
    if kit is None and of is not None:
        raise InputError("--table is given without a kit", remedy="name its results: kit:results.jsonl")
    if kit is not None:
        _refuse_timing(runtime=runtime, candidates=candidates, layouts=layouts, rounds=rounds, seed=seed)
    check_folder(Path(out))
    refuse_existing(Path(out))
    if score is not None:
        return _score_recalibrated(Path(score), Path(out))
    if kit is not None:
        return _by_kit(Path(kit), of, Path(out), preset=preset, depth=depth, video=video)
    assert table is not None
    _refuse_results(table)
    from s2search.recalibration import recalibrate as recalibration
    from s2search.reporting.progress import progress_bar

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


def _refuse_timing(**given: object) -> None:
    """Refuse options of a timing here: a kit's programs have been timed."""
    usual = {"runtime": None, "candidates": None, "layouts": 30, "rounds": 30, "seed": 0}
    for name, value in given.items():
        if value != usual[name]:
            raise InputError(
                f"--{name} {value} is of programs that are timed here, and a kit's have been timed",
                remedy="leave it out: what a kit times, `s2search kit build` decides",
            )


def _refuse_results(table: PathText | LatencyTable) -> None:
    """Refuse a kit that is not called one."""
    if isinstance(table, LatencyTable):
        return
    path = Path(table)
    if path.name == "results.jsonl" or (path / "manifest.json").exists():
        raise InputError(f"{str(path)!r} is a kit's, and no table", remedy=f"say kit:{path}")


def _by_kit(
    results: Path,
    table: PathText | LatencyTable | None,
    out: Path,
    *,
    preset: str | Preset | None,
    depth: int | None,
    video: str | None,
) -> Recalibration:
    """Correct a phone's table, by default the kit's own, by the whole programs of its kit."""
    from s2search.kit.programs import whole_programs
    from s2search.kit.results import results_file
    from s2search.recalibration.campaign import recalibrate_by

    results = results_file(results)
    old = _own_table(results) if table is None else table_of(table)
    whole = whole_programs(results, sustained=old.card.sustained)
    if whole.programs and all(one.misplaced for one in whole.programs):
        raise InputError(
            f"no whole program ran where it was asked: {whole.programs[0].placed}",
            remedy="build the kit in another form: --state, --layout, --precision",
        )
    units = {one.compute_unit for one in whole.programs}
    scope = old.scope(
        "stream", video=token_grid(video) if video else None, compute_unit=units.pop() if len(units) == 1 else None
    )
    if whole.programs and scope.shape.grid not in (grids := {one.shape.grid for one in whole.programs}):
        raise InputError(
            f"the kit timed no whole program of {scope.shape.grid} tokens",
            allowed=", ".join(sorted(grids)),
            remedy="name the kit's own size with --video, or the table of that size",
        )
    return recalibrate_by(old, scope, _campaign(whole, old, scope), out, depth=depth or _sizes(old, preset).depth)


def _own_table(results: Path) -> LatencyTable:
    from s2search.kit.ingest import ingest

    with tempfile.TemporaryDirectory() as folder:
        found = ingest(results, folder, keep_misplaced=True)
    tables = [table for table in found.tables if not table.card.sustained]
    if len(tables) != 1:
        raise InputError(
            f"the kit of {str(results)!r} gives {len(tables)} tables",
            allowed=", ".join(table.name for table in tables),
            remedy="ingest it, and name one: --table FOLDER",
        )
    return tables[0]


def _campaign(whole: WholePrograms, table: LatencyTable, scope: Scope) -> PhoneCampaign:
    """Return what a kit timed of one scope of a table, as recalibration takes it."""
    from s2search.recalibration.campaign import PhoneCampaign

    own = table.card.protocol.get("results_digest") == whole.results_digest
    rows = {
        f"{row.scenario} {row.part_label} {row.grid} {row.precision} {row.compute_unit}": row
        for row in table.in_scope(scope)
    }
    again = {} if own else {row.label: whole.parts[key] for key, row in rows.items() if key in whole.parts}
    where = (scope.precision, scope.compute_unit, scope.shape)
    programs = [
        one
        for one in whole.programs
        if (one.precision, one.compute_unit, one.shape) == where and one.function == "denoise"
    ]
    return PhoneCampaign(
        programs=[timed for timed in map(_timed, _whole(programs)) if timed],
        alone_ms={label: (times.corrected.median_ms, times.error_ms) for label, times in again.items()},
        left_out=(
            *(one.placed for one in programs if one.misplaced),
            *(
                f"{one.label}: it is no program of {scope}"
                for one in whole.programs
                if one.kind == "package" and one.function == "denoise" and one not in programs
            ),
            *(f"{label}: {why}" for label, why in whole.missing.items()),
        ),
        runtime=table.card.runtime,
        chip=whole.chip,
        date=whole.date,
        drift_percent=whole.drift_percent,
        marked=whole.marked,
        samples_digest=whole.results_digest,
    )


def _whole(programs: Sequence[ProgramTimes]) -> list[list[ProgramTimes]]:
    """Return the programs, those that are links of one chain together."""
    found: dict[str, list[ProgramTimes]] = {}
    for one in programs:
        found.setdefault(f"chain {one.layout}" if one.link else one.label, []).append(one)
    return list(found.values())


def _timed(links: Sequence[ProgramTimes]) -> TimedProgram | None:
    """Return a program as recalibration takes it, the sum of its links; None where one ran elsewhere or is missing."""
    from s2search.recalibration.campaign import TimedProgram
    from s2search.space import layout_labels

    first = links[0]
    if any(one.misplaced for one in links) or len(links) < first.links:
        return None
    return TimedProgram(
        kind=first.kind,
        text=first.layout,
        layers=[registry.create("blocks", label) for label in layout_labels(first.layout)],
        ms=math.fsum(one.times.corrected.median_ms for one in links),
        error_ms=math.hypot(*(one.times.error_ms for one in links)),
        changes=sum(one.changes for one in links),
        packages=first.links,
        state_bytes=sum(one.state_bytes for one in links),
        taken=first.memory if len(links) == 1 else None,
    )


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

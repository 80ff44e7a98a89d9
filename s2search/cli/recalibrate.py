"""`s2search recalibrate`: a table corrected by whole packages, timed here; a score, by what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.options import say, say_json, say_misleading


def recalibrate(
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="[TABLE|kit:RESULTS]",
            help="A table that was measured here: its folder, or an installed one. Or a kit's results.jsonl, whose "
            "whole programs correct its table.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The new table's or score's folder. An unfinished recalibration is finished.")
    ] = Path("recalibrated"),
    score: Annotated[
        Path | None, typer.Option(help="Instead of a table: a folder of `run`, whose rival corrects its score.")
    ] = None,
    of: Annotated[
        str | None, typer.Option("--table", help="With kit: the table to correct; by default the kit's own rows.")
    ] = None,
    layouts: Annotated[int, typer.Option(help="Random layouts to time, at least 15; two in three are held out.")] = 30,
    runtime: Annotated[str | None, typer.Option(help="onnxruntime or executorch; by default the table's own.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Model size or a TOML file of sizes; by default the table's own.")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Layers of the layouts; by default the preset's.")] = None,
    video: Annotated[
        str | None, typer.Option(help="Video size, WIDTHxHEIGHT; by default the table's only one.")
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(help="Blocks in the layouts; by default all of the table's.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="How often everything is timed.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws layouts, weights and orders.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (recalibration/1, score_recalibration/1).")
    ] = False,
) -> int:
    """Time whole layouts against a table, and write a corrected version of it.

    A third of the layouts gives the correction, the others tell what it gains. Where they do not support it, nothing is
    written and the exit code is 1. With kit:results.jsonl the layouts are those that a phone timed. With --score a
    run's score is multiplied by what its rival measured.
    """
    from s2search.api.recalibrate import recalibrate as run
    from s2search.pipeline.rival import ScoreRecalibration
    from s2search.recalibration.version import correction_text, memory_text
    from s2search.reporting.recalibration import recalibration_text, score_recalibration_text

    found = run(
        table,
        out,
        of=of,
        score=score,
        layouts=layouts,
        runtime=runtime,
        preset=preset,
        depth=depth,
        video=video,
        candidates=candidates,
        rounds=rounds,
        seed=seed,
    )
    if isinstance(found, ScoreRecalibration):
        say_json(found.to_json()) if as_json else say(score_recalibration_text(found))
        return 0
    say_misleading([one for one in (table, of) if one is not None and not one.startswith("kit:")])
    if as_json:
        say_json(found.to_json())
    else:
        memory = memory_text(found.memory.correction) if found.memory else ""
        say(recalibration_text(found, correction_text(found.correction), memory))
    return 0 if found.new_table else 1

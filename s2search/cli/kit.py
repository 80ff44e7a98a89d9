"""`s2search kit`: measure a phone with a Mac, without s2search on either."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.examples import epilog
from s2search.cli.options import PipelineOption, PrecisionName, ScenarioName, UnitsName, say, say_misleading
from s2search.exporters.coreml.form import Layout, StateKeeper

kit_app = typer.Typer(
    help="Measure a phone: build a kit here, run it on a Mac, read the results.", epilog=epilog("kit")
)


@kit_app.callback()
def kit() -> None:
    """Measure a phone: build a kit here, run it on a Mac, read the results."""


@kit_app.command("build", epilog=epilog("kit build"))
def kit_build(
    out: Annotated[Path, typer.Option(help="The kit's folder. An unfinished one is finished.")],
    preset: Annotated[str, typer.Option(help="Model size: s2dit-tiny, s2dit-small, s2dit-1.8b.")] = "s2dit-1.8b",
    video: Annotated[list[str] | None, typer.Option(help="Video size; repeatable.", show_default="512x288")] = None,
    scenario: Annotated[
        list[ScenarioName] | None, typer.Option(help="stream, clip; repeatable.", show_default="stream")
    ] = None,
    candidates: Annotated[str | None, typer.Option(help="Blocks to measure; all installed ones by default.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A row to measure, 'stream ssa 3x18x32', or a design.json: what settles it."),
    ] = None,
    clip_frames: Annotated[int | None, typer.Option(min=1, help="Latent frames of a clip.")] = None,
    precision: Annotated[
        list[PrecisionName] | None,
        typer.Option(help="float16, or w4a16 (4-bit palettes); repeatable.", show_default="float16"),
    ] = None,
    compute_units: Annotated[
        list[UnitsName] | None,
        typer.Option(help="What Core ML may use; repeatable.", show_default="cpu_and_neural_engine"),
    ] = None,
    layout: Annotated[Layout, typer.Option(help="Of the package to be shipped: bc1s or blocks.")] = "bc1s",
    state: Annotated[
        StateKeeper, typer.Option(help="Of the package to be shipped: the host keeps it, core_ml, or plain.")
    ] = "host",
    shots: Annotated[
        int | None, typer.Option(help="Time only this many blocks per scenario and size; the rest is predicted.")
    ] = None,
    known: Annotated[
        list[str] | None, typer.Option(help="A known device's table that predicts the rest; repeatable.")
    ] = None,
    layouts: Annotated[int, typer.Option(min=0, help="Random layouts of the blocks to time whole.")] = 0,
    layout_depth: Annotated[int, typer.Option(min=1, help="Layers of those.")] = 6,
    contexts: Annotated[
        bool, typer.Option("--contexts", help="Also time every block as 2 and 3 layers, and every two in both orders.")
    ] = False,
    package: Annotated[
        Path | None, typer.Option(help="An exported Core ML package to time too: first chunk, later steps, commit.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="How often every row is timed.")] = 30,
    sustained: Annotated[
        str | None, typer.Option(help="Then load the phone for this long, and report the last third too: 5m or 300s.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order and of the layouts.")] = 0,
) -> int:
    """Make a folder for a Mac: Core ML packages, the order, a runner, Swift sources, a README."""
    from s2search.api.kit import kit_build as run
    from s2search.reporting.kit import built_text

    manifest = run(
        out,
        preset=preset,
        video=video or "512x288",
        scenario=[name.value for name in scenario or [ScenarioName.STREAM]],
        candidates=candidates,
        only=only or (),
        clip_frames=clip_frames,
        precision=[name.value for name in precision or [PrecisionName.FLOAT16]],
        compute_units=[name.value for name in compute_units or [UnitsName.CPU_AND_NEURAL_ENGINE]],
        layout=layout,
        state=state,
        shots=shots,
        known=known or (),
        layouts=layouts,
        layout_depth=layout_depth,
        contexts=contexts,
        package=package,
        rounds=rounds,
        sustained=sustained,
        seed=seed,
    )
    say_misleading(known or ())
    say(built_text(manifest, out))
    return 0


@kit_app.command("ingest", epilog=epilog("kit ingest"))
def kit_ingest(
    results: Annotated[Path, typer.Argument(help="The kit's folder as it came back, or results.jsonl in it.")],
    out: Annotated[Path, typer.Option(help="Where tables go; one folder each.")] = Path("latency_tables"),
    pipeline: PipelineOption = None,
    keep_misplaced: Annotated[
        bool, typer.Option("--keep-misplaced", help="Keep rows that ran elsewhere than asked, under that unit.")
    ] = False,
) -> int:
    """Check what a phone measured, correct its drift, and write latency tables."""
    from s2search.api.kit import kit_ingest as run
    from s2search.reporting.kit import ingested_text

    say(ingested_text(run(results, out=out, pipeline=pipeline, keep_misplaced=keep_misplaced)))
    return 0

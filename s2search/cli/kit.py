"""`s2search kit`: measure a phone with a Mac, without s2search on either."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

kit_app = typer.Typer(help="Measure a phone: build a kit here, run it on a Mac, read the results.")


class ScenarioName(StrEnum):
    """What one forward pass sees."""

    STREAM = "stream"
    CLIP = "clip"


class PrecisionName(StrEnum):
    """How a package stores weights and computes."""

    FLOAT16 = "float16"
    W4A16 = "w4a16"


class LayoutName(StrEnum):
    """In which layout packages compute."""

    BC1S = "bc1s"
    BLOCKS = "blocks"


class StateName(StrEnum):
    """Who keeps rings and tails."""

    CORE_ML = "core_ml"
    PLAIN = "plain"


class UnitsName(StrEnum):
    """What Core ML may use."""

    CPU_AND_NEURAL_ENGINE = "cpu_and_neural_engine"
    CPU_AND_GPU = "cpu_and_gpu"
    CPU_ONLY = "cpu_only"
    ALL = "all"


@kit_app.callback()
def kit() -> None:
    """Measure a phone: build a kit here, run it on a Mac, read the results."""


@kit_app.command("build")
def kit_build(
    out: Annotated[Path, typer.Option(help="The kit's folder. An unfinished one is finished.")],
    preset: Annotated[str, typer.Option(help="Model size: s2dit-tiny, s2dit-small, s2dit-1.8b.")] = "s2dit-1.8b",
    video: Annotated[list[str] | None, typer.Option(help="Video size; repeatable.", show_default="512x288")] = None,
    scenario: Annotated[
        list[ScenarioName] | None, typer.Option(help="stream, clip; repeatable.", show_default="stream")
    ] = None,
    candidates: Annotated[str | None, typer.Option(help="Blocks to measure; all installed ones by default.")] = None,
    clip_frames: Annotated[int | None, typer.Option(min=1, help="Latent frames of a clip.")] = None,
    precision: Annotated[
        list[PrecisionName] | None,
        typer.Option(help="float16, or w4a16 (4-bit palettes); repeatable.", show_default="float16"),
    ] = None,
    compute_units: Annotated[
        list[UnitsName] | None,
        typer.Option(help="What Core ML may use; repeatable.", show_default="cpu_and_neural_engine"),
    ] = None,
    layout: Annotated[LayoutName, typer.Option(help="Of the package to be shipped: bc1s or blocks.")] = LayoutName.BC1S,
    state: Annotated[
        StateName, typer.Option(help="Of the package to be shipped: core_ml keeps rings and tails, or plain.")
    ] = StateName.CORE_ML,
    shots: Annotated[
        int | None, typer.Option(help="Time only this many blocks per scenario and size; the rest is predicted.")
    ] = None,
    known: Annotated[
        list[str] | None, typer.Option(help="A known device's table that predicts the rest; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="How often every row is timed.")] = 30,
    sustained: Annotated[
        str | None, typer.Option(help="Then load the phone for this long, and report the last third too: 5m or 300s.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order.")] = 0,
) -> int:
    """Make a folder for a Mac: Core ML packages, the order, a runner, Swift sources, a README."""
    from s2search.errors import InputError
    from s2search.exporters.coreml.form import Form
    from s2search.kit.build import build
    from s2search.kit.manifest import KitProtocol
    from s2search.kit.shots import choose_items
    from s2search.measurement.items import FORWARD, campaign_items
    from s2search.measurement.samples import parse_seconds
    from s2search.preset import Preset
    from s2search.report.kit import built_text
    from s2search.report.progress import progress_bar
    from s2search.space import parse_blocks
    from s2search.tables.row import ROLES
    from s2search.tables.table import open_table

    sizes = Preset.named(preset)
    items = [
        item
        for size in video or ["512x288"]
        for item in campaign_items(
            sizes,
            size,
            scenarios=[name.value for name in scenario or [ScenarioName.STREAM]],
            candidates=parse_blocks(candidates or ""),
            clip_frames=clip_frames,
            roles=ROLES if shots is None else FORWARD,
        )
    ]
    if known and shots is None:
        raise InputError("--known is given without --shots", remedy="say how many blocks to time, or drop --known")
    choice = None if shots is None else choose_items(items, shots, [open_table(name) for name in known or ()])
    with progress_bar("converting") as progress:
        manifest = build(
            out,
            choice.timed if choice else items,
            preset=sizes.name,
            precisions=[name.value for name in precision or [PrecisionName.FLOAT16]],
            compute_units=[name.value for name in compute_units or [UnitsName.CPU_AND_NEURAL_ENGINE]],
            form=Form(layout=layout.value, state=state.value),
            protocol=KitProtocol(
                rounds=rounds, seed=seed, sustained_s=None if sustained is None else parse_seconds(sustained)
            ),
            choice=choice,
            progress=progress,
        )
    _say(built_text(manifest, out))
    return 0


@kit_app.command("ingest")
def kit_ingest(
    results: Annotated[Path, typer.Argument(help="results.jsonl, in the kit's folder as it came back.")],
    out: Annotated[Path, typer.Option(help="Where tables go; one folder each.")] = Path("latency_tables"),
) -> int:
    """Check what a phone measured, correct its drift, and write latency tables."""
    from s2search.kit.ingest import ingest
    from s2search.report.kit import ingested_text

    _say(ingested_text(ingest(results, out)))
    return 0


def _say(answer: RenderableType) -> None:
    from rich.console import Console

    Console(highlight=False, markup=False).print(answer)

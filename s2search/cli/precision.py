"""The commands `sensitivity` and `plan precision`: what precision costs, part by part, and which to take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2search.errors import InputError

if TYPE_CHECKING:
    from s2search.cost import Budget
    from s2search.precision.documents import Sensitivity


class PaletteName(StrEnum):
    """How the values of a table are found."""

    KMEANS = "kmeans"
    UNIFORM = "uniform"


def sensitivity(
    out: Annotated[Path, typer.Option(help="The file to write: sensitivity.json. An unfinished sweep is finished.")],
    weights: Annotated[Path | None, typer.Argument(help="A folder that save_pretrained wrote.")] = None,
    preset: Annotated[str | None, typer.Option(help="Model size, or a TOML file of sizes; without weights.")] = None,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Untrained weights: to try it out.")] = False,
    plan: Annotated[Path | None, typer.Option(help="Realize this plan (JSON) at the preset's sizes.")] = None,
    layout: Annotated[str | None, typer.Option(help="Realize this layout: L4S4.")] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Precisions to try: float16, w4a16, w4g32a8. Repeatable.", show_default="7 of them"),
    ] = None,
    palette: Annotated[PaletteName, typer.Option(help="How tables of values are found.")] = PaletteName.KMEANS,
    video: Annotated[str, typer.Option(help="Video size, WIDTHxHEIGHT.")] = "256x144",
    chunks: Annotated[int, typer.Option(min=1, help="Chunks of the stream that is compared.")] = 4,
    mixtures: Annotated[
        int, typer.Option(min=0, help="Random assignments that test whether the noise of parts adds up.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of inputs, mixtures and random weights.")] = 0,
) -> int:
    """Measure what each precision of each part of a model costs, in noise of the velocity."""
    from rich.console import Console

    from s2search.exporters.sweep import PRECISIONS, PrecisionSweep, sweep
    from s2search.network.source import ModelSource, load_model
    from s2search.preset import token_grid
    from s2search.report.precision import sensitivity_text
    from s2search.report.progress import progress_bar

    asked = PrecisionSweep(
        grid=token_grid(video),
        precisions=tuple(precision or PRECISIONS),
        palette=palette.value,
        chunks=chunks,
        seed=seed,
        mixtures=mixtures,
    )
    model = load_model(
        ModelSource(weights=weights, preset=preset, plan=plan, layout=layout, random_weights=random_weights, seed=seed)
    )
    with progress_bar("sweeping") as progress:
        found = sweep(model.requires_grad_(False), asked, out, progress)
    Console(highlight=False, markup=False).print(sensitivity_text(found))
    return 0


def plan_precision(
    file: Annotated[Path, typer.Argument(metavar="SENSITIVITY", help="What s2search sensitivity wrote.")],
    budget: Annotated[
        list[str] | None, typer.Option(help="Limit on all weights: 1.2MB; with --table also on latency: 260ms.")
    ] = None,
    least_db: Annotated[float | None, typer.Option(help="Signal-to-noise ratio of the velocity, dB.")] = None,
    table: Annotated[str | None, typer.Option(help="Latency table with rows of several precisions.")] = None,
    solver: Annotated[str, typer.Option(help="dynamic, milp, exhaustive, ...")] = "dynamic",
    out: Annotated[Path | None, typer.Option(help="Write the choice as JSON: precision.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> int:
    """Choose the precision of every part, exactly: least noise within a budget, or fewest bytes at a quality."""
    from s2search import registry
    from s2search.cost import Budget
    from s2search.document import check_writable
    from s2search.precision.choose import Wish, choose, latency_from
    from s2search.precision.documents import Sensitivity
    from s2search.report.precision import precision_text

    if out is not None:
        check_writable(out)
    found = Sensitivity.load(file)
    limits = _limits([Budget.parse(text) for text in budget or ()], with_table=table is not None)
    wish = Wish(least_db=least_db, memory_bytes=limits.get("memory"), latency_us=limits.get("latency"))
    latency_of = None if table is None else latency_from(_rows(table, found), found)
    answer = choose(found, wish, registry.create("solvers", solver), latency_of)
    if out is not None:
        answer.save(out)
    if as_json:
        typer.echo(answer.to_json(), nl=False)
    else:
        from rich.console import Console

        Console(highlight=False, markup=False).print(precision_text(answer, found))
    return 0


def _limits(budgets: list[Budget], *, with_table: bool) -> dict[str, int]:
    limits: dict[str, int] = {}
    for budget in budgets:
        if budget.kind not in ("memory", "latency") or budget.kind in limits:
            raise InputError(
                f"the budget {budget.text} is {'given beside another' if budget.kind in limits else 'a rate'}",
                allowed="one of memory and one of latency",
                remedy="correct --budget",
            )
        limits[budget.kind] = int(budget.amount)
    if with_table != ("latency" in limits):
        missing = "a latency budget" if with_table else "a table"
        raise InputError(f"there is no {missing.removeprefix('a ')} to price latency", remedy=f"give {missing} as well")
    return limits


def _rows(name: str, found: Sensitivity) -> dict[tuple[str, str], int]:
    """Return the microseconds of parts by name and precision, of a table's streaming rows at the sweep's video size."""
    from s2search.tables.table import open_table

    rows = [row for row in open_table(name).rows if row.scenario == "stream" and row.role != "commit"]
    at_size = [row for row in rows if (row.shape.height, row.shape.width) == tuple(found.grid)]
    if not at_size:
        raise InputError(
            f"the table {name!r} has no streaming rows at {found.grid[0]}x{found.grid[1]} tokens",
            remedy="sweep at the table's video size, or measure a table at the sweep's",
        )
    return {(row.label, row.precision): round(1000 * row.latency_ms) for row in at_size}

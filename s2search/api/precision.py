"""The commands `sensitivity` and `plan precision`: what precision costs, part by part, and which to take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.values import Budgets, PathText, Texts, budgets_of, loaded, model_of, plugin_of, table_of, texts_of
from s2search.cost import Budget
from s2search.document import check_writable
from s2search.errors import InputError
from s2search.planner.plan import Plan
from s2search.precision.documents import Palette, PrecisionPlan, Sensitivity
from s2search.preset import Preset, token_grid
from s2search.solver.base import Solver
from s2search.tables.table import LatencyTable

if TYPE_CHECKING:
    from s2search.network.network import S2DiT


def sensitivity(
    out: PathText,
    weights: PathText | S2DiT | None = None,
    *,
    preset: str | Preset | None = None,
    random_weights: bool = False,
    plan: PathText | Plan | None = None,
    layout: str | None = None,
    precision: Texts = (),
    palette: Palette = "kmeans",
    video: str = "256x144",
    chunks: int = 4,
    mixtures: int = 8,
    seed: int = 0,
) -> Sensitivity:
    """Measure what each precision of each part of a model costs, in noise of the velocity.

    Args:
        out: The file to write: sensitivity.json. An unfinished sweep is finished, a finished one read.
        weights: A folder that save_pretrained wrote, or a model.
        preset: Model size, a TOML file of sizes, or the sizes; without weights.
        random_weights: Untrained: to try it.
        plan: Realize this plan (a JSON file, or the plan) at the preset's sizes.
        layout: Realize this layout: `L4S4`.
        precision: On offer: `float16`, `w4a16`, `w4g32a8`; seven of them by default.
        palette: How tables of values are found: `kmeans` or `uniform`.
        video: Video size.
        chunks: Chunks of the stream that is compared.
        mixtures: Drawn assignments that test whether figures add up.
        seed: Of inputs, mixtures and random weights.

    Raises:
        InputError: The file cannot be written, or is of another sweep; the options name no model.
    """
    check_writable(Path(out))
    model = model_of(weights, preset=preset, random_weights=random_weights, plan=plan, layout=layout, seed=seed)
    from s2search.exporters.sweep import PRECISIONS, PrecisionSweep, finished, sweep
    from s2search.reporting.progress import progress_bar

    asked = PrecisionSweep(
        grid=token_grid(video),
        precisions=texts_of(precision) or PRECISIONS,
        palette=palette,
        chunks=chunks,
        seed=seed,
        mixtures=mixtures,
    )
    finished(Path(out), asked)  # refuses another sweep's file before the model is loaded
    with progress_bar("sweeping") as progress:
        return sweep(loaded(model).requires_grad_(False), asked, Path(out), progress)


def plan_precision(
    file: PathText | Sensitivity,
    *,
    budget: Budgets = (),
    least_db: float | None = None,
    table: PathText | LatencyTable | None = None,
    solver: str | Solver = "dynamic",
) -> PrecisionPlan:
    """Choose the precision of every part, exactly: least noise within a budget, or fewest bytes at a quality.

    Args:
        file: What `sensitivity` wrote or returned.
        budget: Of all weights: `1.2MB`. With a table also latency: `260ms`.
        least_db: Signal-to-noise ratio of the velocity, dB.
        table: Latency table with rows of several precisions.
        solver: How to search.
    """
    from s2search.precision.choose import Wish, choose, latency_from

    found = file if isinstance(file, Sensitivity) else Sensitivity.load(Path(file))
    limits = _limits(budgets_of(budget), with_table=table is not None)
    wish = Wish(least_db=least_db, memory_bytes=limits.get("memory"), latency_us=limits.get("latency"))
    latency_of = None if table is None else latency_from(_rows(table_of(table), found), found)
    return choose(found, wish, plugin_of("solvers", solver), latency_of)


def _limits(budgets: tuple[Budget, ...], *, with_table: bool) -> dict[str, int]:
    limits: dict[str, int] = {}
    for budget in budgets:
        if budget.kind not in ("memory", "latency") or budget.kind in limits or budget.sustained:
            raise InputError(
                f"the budget {budget.text} is "
                + ("given beside another" if budget.kind in limits else "no limit on memory or on one pass"),
                allowed="one of memory and one of latency",
                remedy="correct --budget",
            )
        limits[budget.kind] = int(budget.amount)
    if with_table != ("latency" in limits):
        missing = "a latency budget" if with_table else "a table"
        raise InputError(f"there is no {missing.removeprefix('a ')} to price latency", remedy=f"give {missing} as well")
    return limits


def _rows(table: LatencyTable, found: Sensitivity) -> dict[tuple[str, str], int]:
    """Return the microseconds of parts by name and precision, of a table's streaming rows at the sweep's video size."""
    rows = [row for row in table.rows if row.scenario == "stream" and row.role != "commit"]
    at_size = [row for row in rows if (row.shape.height, row.shape.width) == tuple(found.grid)]
    if not at_size:
        raise InputError(
            f"the table {table.name!r} has no streaming rows at {found.grid[0]}x{found.grid[1]} tokens",
            remedy="sweep at the table's video size, or measure a table at the sweep's",
        )
    return {(row.label, row.precision): round(1000 * row.latency_ms) for row in at_size}

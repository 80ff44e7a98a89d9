"""What `s2search kit` prints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UnsetType
from rich.console import Group, RenderableType
from rich.text import Text

from s2search.cost import format_bytes
from s2search.kit.readme import expected_minutes
from s2search.reporting.terminal import table_text

if TYPE_CHECKING:
    from s2search.kit.ingest import Ingested
    from s2search.kit.manifest import KitManifest
    from s2search.kit.programs import ProgramTimes, WholePrograms


def built_text(manifest: KitManifest, folder: Path) -> RenderableType:
    """Return what a kit holds and what to do with it."""
    size, paths = format_bytes(manifest.weight_bytes), {package.path for package in manifest.packages}
    wholes = f", {len(manifest.programs)} of them whole programs" if manifest.programs else ""
    foretold = () if isinstance(manifest.shots, UnsetType) else manifest.shots.foretold
    places = {(row.shape.grid, row.precision) for row in manifest.parts if row.scenario == "stream"}
    strange = {
        f"{row.precision} at {row.shape.grid}"
        for row in manifest.programs
        if row.single_calls and (row.shape.grid, row.precision) not in places
    }
    alone = f"The package is of {strange.pop()} tokens, and no row is: no table foretells it.\n" if strange else ""
    left_out = f"Left to be predicted: {', '.join(foretold)}.\n" if foretold else ""
    return Text(
        f"{folder}: {len(manifest.rows)} rows{wholes}, {len(paths)} packages, {size} of weights, "
        f"{len(manifest.order)} samples.\n{left_out}{alone}Take the folder to a Mac with an iPhone and follow its "
        f"README.md; about {expected_minutes(manifest):.0f} minutes are expected there (an estimate)."
    )


def ingested_text(found: Ingested) -> RenderableType:
    """Return the tables, the rows that are in none, and what is to be said against the run."""
    parts: list[RenderableType] = []
    for table, folder in zip(found.tables, found.folders, strict=True):
        parts += [table_text(table), f"written to {folder}"]
    parts += [f"not measured: {entry.row.label}: {entry.reason}" for entry in found.missing]
    parts += [f"misplaced: {sentence}" for sentence in found.misplaced]
    parts += [f"mark: {mark}" for mark in found.marks]
    for whole in found.programs:
        parts.append(_whole_text(whole))
        parts += [f"misplaced: {sentence}" for sentence in whole.misplaced]
    return Group(*parts)


def _whole_text(whole: WholePrograms) -> str:
    """Return how many whole programs were timed, and what the exported package took."""
    kinds = Counter(one.kind for one in whole.programs)
    counted = ", ".join(f"{count} of {kind}" for kind, count in kinds.items())
    mode = whole.mode.split(":")[0]
    lines = [f"whole programs{f' ({mode})' if mode else ''}: {len(whole.programs)} ({counted}), in programs.json"]
    lines += [_package_text(one) for one in whole.programs if one.kind == "package"]
    return "\n".join(lines)


def _package_text(one: ProgramTimes) -> str:
    told = [f"p50 {one.times.corrected.median_ms:.1f} ms", f"p95 {one.p95_ms:.1f} ms"]
    for what, ms in (("cold load", one.cold_loads_ms), ("load", one.loads_ms), ("first call", one.first_calls_ms)):
        told += [f"{what} {ms[0]:.0f} ms"] if ms else []
    link = f" link {one.link} of {one.links}" if one.link else ""
    return f"package {one.function}{link}: {', '.join(told)}"

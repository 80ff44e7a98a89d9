"""What `s2search kit` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UnsetType
from rich.console import Group, RenderableType
from rich.text import Text

from s2search.cost import format_bytes
from s2search.kit.readme import expected_minutes
from s2search.report.terminal import table_text

if TYPE_CHECKING:
    from s2search.kit.ingest import Ingested
    from s2search.kit.manifest import KitManifest


def built_text(manifest: KitManifest, folder: Path) -> RenderableType:
    """Return what a kit holds and what to do with it."""
    size = format_bytes(sum(package.weight_bytes for package in manifest.packages))
    foretold = () if isinstance(manifest.shots, UnsetType) else manifest.shots.foretold
    left_out = f"Left to be predicted: {', '.join(foretold)}.\n" if foretold else ""
    return Text(
        f"{folder}: {len(manifest.rows)} rows, {len(manifest.packages)} packages, {size} of weights, "
        f"{len(manifest.order)} samples.\n{left_out}Take the folder to a Mac with an iPhone and follow its README.md; "
        f"about {expected_minutes(manifest):.0f} minutes are expected there (an estimate)."
    )


def ingested_text(found: Ingested) -> RenderableType:
    """Return the tables, the rows that are in none, and what is to be said against the run."""
    parts: list[RenderableType] = []
    for table, folder in zip(found.tables, found.folders, strict=True):
        parts += [table_text(table), f"written to {folder}"]
    parts += [f"not measured: {entry.row.label}: {entry.reason}" for entry in found.missing]
    parts += [f"misplaced: {sentence}" for sentence in found.misplaced]
    parts += [f"mark: {mark}" for mark in found.marks]
    return Group(*parts)

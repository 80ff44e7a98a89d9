"""What an export wrote, as people read it."""

from __future__ import annotations

from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes
from s2search.exporters.memory import predicted_memory_bytes
from s2search.exporters.package import WEIGHT_FILES
from s2search.preset import video_size

if TYPE_CHECKING:
    from s2search.exporters.component.package import ComponentPackage
    from s2search.exporters.package import Package


def package_text(package: Package, *, seconds: float) -> RenderableType:
    """Return the package's files and sizes, and the seconds that it took."""
    manifest, sizes = package.manifest, package.manifest.sizes
    files = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for file in manifest.files:
        files.add_row(f"  {file.path}", Text(format_bytes(file.bytes), justify="right"))
    apart = sum(file.bytes for file in manifest.files if PurePosixPath(file.path).name in WEIGHT_FILES)
    label = "weights" if apart else "weights and graphs"
    rows = {
        label: (apart or sizes.weight_bytes, sizes.predicted_weight_bytes),
        "state": (sizes.state_bytes, sizes.predicted_state_bytes),
    }
    figures = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("", "actual", "predicted", "difference"):
        figures.add_column(header, justify="left" if not header else "right")
    for label, (actual, predicted) in rows.items():
        difference = f"{actual / predicted - 1:+.1%}" if predicted else "-"
        figures.add_row(label, format_bytes(actual), format_bytes(predicted), difference)
    figures.add_row("memory, loaded", "not measured", format_bytes(predicted_memory_bytes(manifest)), "-")
    functions = ", ".join(function.name for function in manifest.functions)
    size = f"{video_size(*manifest.grid)}, chunks of {manifest.chunk_frames} latent frames, {manifest.precision}"
    runs = [(label, len(list(layers))) for label, layers in groupby(manifest.model.layout)]
    layout = ", ".join(label if count == 1 else f"{label}*{count}" for label, count in runs)
    return Group(
        Text(f"{manifest.exporter_text} package in {package.folder} after {seconds:.1f} s"),
        Text(layout),
        Text(size),
        Text(f"functions: {functions}"),
        files,
        figures,
        Text(f"model {manifest.model_digest[:19]}, plan {(manifest.plan_digest or 'none')[:19]}"),
    )


def component_text(package: ComponentPackage, *, seconds: float) -> RenderableType:
    """Return the functions and sizes of a text encoder's or decoder's package, and the seconds that it took."""
    manifest = package.manifest
    written = f"{manifest.exporter}[{manifest.options}]" if manifest.options else manifest.exporter
    lines = [
        f"{manifest.part} of {manifest.plugin} by {written} in {package.folder}, {manifest.precision}, {seconds:.0f} s"
    ]
    lines += [f"  {one.name}: {len(one.inputs)} inputs, {len(one.outputs)} outputs" for one in manifest.functions]
    size = sum(file.bytes for file in manifest.files if not file.path.startswith("source/"))
    lines.append(f"  {size / 1e6:.2f} MB, and {sum(one.bytes for one in manifest.states) / 1e6:.2f} MB of cache")
    return Text("\n".join(lines))

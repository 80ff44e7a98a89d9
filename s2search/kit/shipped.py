"""The exported package itself in a kit: its functions `first`, `denoise` and `commit`, each a row of its own.

What a chunk takes on the phone is said by nothing as well as by the package that makes it: first chunk, later steps,
the commit, and how long it loads. Of a model in several packages every link has rows of its own: what it takes of the
link before is an input like others. All files are checked against the package's manifest before they are copied.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2search.block import Block
from s2search.border.regular_file import read_regular
from s2search.errors import InputError
from s2search.exporters.package import MANIFEST, FunctionSpec, Manifest, Package
from s2search.kit.manifest import ComputeUnits, Input, KitPackage, KitProgram, KitRow, Shipped, digest_of
from s2search.measurement.layouts import layout_text, parts_of_link
from s2search.preset import video_size
from s2search.space import parse_blocks

_FUNCTIONS = ("first", "denoise", "commit")
_POSITIVE = ("sums", "sum_", "norm_")  # what is divided by
_WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@dataclass(frozen=True, kw_only=True)
class ShippedFunction:
    """One function of the exported package, in the kit."""

    program: KitProgram
    package: KitPackage
    state_bytes: int
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class ShippedPackage:
    """An exported package in the kit: what it is, and its functions."""

    told: Shipped
    manifest: Manifest
    functions: tuple[ShippedFunction, ...]

    def rows(self, number: int, units: ComputeUnits) -> Iterator[KitRow]:
        """Yield its rows, the first with a number."""
        manifest = self.manifest
        rows, columns = manifest.grid
        shape = manifest.model.preset.shape(video_size(rows, columns), "stream", frames=manifest.chunk_frames)
        window = (manifest.window.frames or 0) + manifest.window.sink_frames
        for place, one in enumerate(self.functions):
            yield KitRow(
                id=number + place,
                role="layout",
                part="",
                options="",
                scenario="stream",
                shape=dataclasses.replace(shape, context_frames=window),
                precision=manifest.precision,
                compute_unit=units,
                package=one.package.digest,
                state_bytes=one.state_bytes,
                peak_bytes=one.peak_bytes,
                program=one.program,
                single_calls=True,
            )


def ship(folder: str | os.PathLike[str], packages: Path) -> ShippedPackage:
    """Check an exported package and copy what Core ML reads of it.

    Args:
        folder: What `s2search export --exporter coreml` wrote.
        packages: The kit's folder of packages.

    Raises:
        CheckError: A file is missing or changed.
        InputError: It is no package of Core ML.
    """
    from s2search.exporters.coreml.exporter import CoreMLExporter

    package = Package.load(folder)
    manifest = package.manifest
    if manifest.exporter != CoreMLExporter.name:
        raise InputError(
            f"the package {str(folder)!r} was written by the exporter {manifest.exporter_text!r}",
            allowed="packages of coreml",
            remedy="export it for Core ML: s2search export --exporter coreml",
        )
    package.check_files()
    stored: dict[str, tuple[Any, str, int]] = {}
    functions = []
    for function, link in _functions(manifest):
        if function.name in _FUNCTIONS:
            if function.file not in stored:
                stored[function.file] = _stored(package.folder / function.file, packages)
            functions.append(_function(manifest, function, link, *stored[function.file]))
    order = {name: place for place, name in enumerate(_FUNCTIONS)}
    told = Shipped(
        name=package.folder.resolve().name,
        digest=digest_of(read_regular(package.folder / MANIFEST)),
        exporter=manifest.exporter_text,
        model_digest=manifest.model_digest,
        plan_digest=manifest.plan_digest,
    )
    functions.sort(key=lambda one: (order[one.program.function], one.program.link))
    return ShippedPackage(told=told, manifest=manifest, functions=tuple(functions))


def _stored(source: Path, packages: Path) -> tuple[Any, str, int]:
    """Copy a .mlpackage under its digest; return its program, its path in the kit and the bytes of its weights."""
    from s2search.mil.library import load_coremltools, quiet_coremltools

    with quiet_coremltools():
        specification = load_coremltools().utils.load_spec(str(source))
    content = type(specification)()
    content.CopyFrom(specification)
    content.description.ClearField("metadata")
    weights = source / _WEIGHTS
    stored = read_regular(weights) if weights.exists() else b""
    name = f"{digest_of(content.SerializeToString(deterministic=True), stored)[7:23]}.mlpackage"
    if not (packages / name).exists():
        partial = packages.parent / ".build" / "shipped.mlpackage"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(packages / name)
    return specification, f"packages/{name}", len(stored)


def _functions(manifest: Manifest) -> Iterator[tuple[FunctionSpec, int]]:
    """Yield the functions of all links with the link's number; with 0 where there is one package."""
    yield from ((function, 0) for function in manifest.functions if not manifest.chain)
    for number, link in enumerate(manifest.chain, 1):
        yield from ((function, number) for function in link.functions)


def _span(manifest: Manifest, link: int) -> tuple[int, int]:
    """Return the layers of a link; all of them where there is one package."""
    return manifest.chain[link - 1].layers if link else (0, len(manifest.model.layout))


def _function(
    manifest: Manifest, function: FunctionSpec, link: int, specification: Any, path: str, weight_bytes: int
) -> ShippedFunction:
    from s2search.measurement.program_memory import written_out_bytes

    alone = type(specification)()
    alone.mlProgram.functions[function.name].CopyFrom(specification.mlProgram.functions[function.name])
    blocks = alone.mlProgram.functions[function.name].block_specializations.values()
    operations = Counter(one.type for block in blocks for one in block.operations if one.type != "const")
    layers: list[Block] = [block for label in manifest.model.layout for block in parse_blocks(label)]
    return ShippedFunction(
        program=KitProgram(
            kind="package",
            layout=layout_text(layers),
            function=function.name,
            counts=dict(sorted(parts_of_link(layers, *_span(manifest, link)).items())),
            exporter=manifest.exporter_text,
            link=link,
            links=max(1, len(manifest.chain)),
        ),
        package=KitPackage(
            digest=digest_of(path.encode(), function.name.encode()),
            path=path,
            function=function.name,
            weight_bytes=weight_bytes,
            operations=dict(sorted(operations.items())),
            inputs=[_input(one.name, one) for one in function.inputs if one.name not in manifest.held],
            outputs=[one.name for one in function.outputs if one.name.removeprefix("new_") not in manifest.held],
            states=list(manifest.held) if function.name != "first" else [],
            parity_db=None,
        ),
        state_bytes=manifest.chain[link - 1].host.state_bytes if link else manifest.sizes.state_bytes,
        peak_bytes=written_out_bytes(alone, [state.name for state in manifest.states]),
    )


def _input(name: str, one: Any) -> Input:
    """Return an input with numbers of an ordinary size: a full window, sums above 0."""
    low, high = (0.0, 0.0) if name == "past_bias" else (0.5, 1.0) if name.startswith(_POSITIVE) else (-1.0, 1.0)
    return Input(name=name, shape=list(one.shape), dtype=one.dtype, low=low, high=high)

"""What stands around the step as packages of their own: `text` makes tokens of numbers, `decoder` makes frames.

    manifest.json   what is in it (`ComponentManifest`)
    source/         the plugin's own folder: config, safetensors and tokenizer; verification loads it
    ...             the runtime's own files, as those of a step's package

`text` has one function, `encode`: `ids` (1, S) int32 in, `text` (1, S, E) out. Splitting a prompt into numbers is the
tokenizer's work, which stays with the host.

`decoder` has two: `first` decodes the first chunk of a stream, `next` every later one. Both take `latents` (1, C, T, Y,
X) and return `video` (1, 3, frames, rows, columns) from -1 to 1 and the cache: (2, C, Y, X) each, `new_cache_00` and
on. `next` also takes `cache_00` and on. `dct` has no cache: it is one linear map. In Core ML the cache is states of its
own, which `first` writes whatever is in them and `next` reads and writes; `state=plain` passes them in and out.

Axes: see s2search/codec/base.py and s2search/text/base.py
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from s2search import registry
from s2search.border.regular_file import read_regular
from s2search.codec.base import DecoderComponent
from s2search.document import as_json, read_json, write_text
from s2search.errors import InputError
from s2search.exporters.component.functions import CACHE, ComponentFunction, Kind, functions_of, open_component
from s2search.exporters.graph import exported
from s2search.exporters.package import (
    MANIFEST,
    PART_SCHEMA,
    SOURCE,
    FileEntry,
    FunctionSpec,
    Listing,
    NumberType,
    Package,
    Progress,
    TensorSpec,
    file_entries,
    new_folder,
)
from s2search.text.base import TextComponent

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from s2search.exporters.base import Exporter

_KEPT = ("*.json", "*.safetensors", "*.txt")


@dataclass(frozen=True, kw_only=True)
class ComponentManifest(Listing):
    """What a component's package is; the content of its manifest.json.

    Attributes:
        schema: Of the file.
        part: `text` or `decoder`.
        plugin: The text encoder or codec by its name; its folder is the package's source.
        plugin_options: Its other options, as people write them.
        exporter: Who wrote the files, and runs them.
        options: Its options.
        facts: Versions.
        source_digest: Of the source's weights, file by file; of nothing where there are none.
        precision: Of weights and activations.
        functions: What can be run.
        states: The cache, as inputs.
        held: Those of the cache that the runtime keeps by itself, in its own order.
        files: All files but the manifest itself.
    """

    schema: Literal["s2search.part/1"] = PART_SCHEMA
    part: Kind
    plugin: str
    exporter: str
    options: str
    facts: dict[str, str]
    source_digest: str
    precision: str
    functions: tuple[FunctionSpec, ...]
    states: tuple[TensorSpec, ...]
    files: tuple[FileEntry, ...]
    held: tuple[str, ...] = ()
    plugin_options: str = ""

    #: A component is one package, and nobody packs its cache.
    chain: ClassVar[tuple[()]] = ()
    host: ClassVar[None] = None

    def __post_init__(self) -> None:
        self.check_names()
        _, options = registry.parse(f"{self.plugin}[{self.plugin_options}]")
        if "folder" in options or any(mark in self.plugin_options for mark in ("/", "\\")):
            raise InputError(
                f"the options of the package's {self.part} name a place: {self.plugin_options!r}",
                remedy="do not use it",
            )


@dataclass(frozen=True, kw_only=True)
class ComponentPackage(Package):
    """A component's folder and its manifest."""

    manifest: ComponentManifest  # type: ignore[assignment]  # of a component instead of a step

    @classmethod
    @override
    def load(cls, folder: Any) -> ComponentPackage:
        manifest = read_json(Path(folder, MANIFEST), ComponentManifest, what="package manifest of a component")
        return cls(folder=Path(folder), manifest=manifest)

    def open_source(self) -> TextComponent | DecoderComponent:
        """Return the component that the package was made of, from the package's own copy of its files."""
        _, options = registry.parse(f"{self.manifest.plugin}[{self.manifest.plugin_options}]")
        if self.source.is_dir() and any(self.source.iterdir()):
            options["folder"] = str(self.source)
        return open_component(self.manifest.plugin, options)


@torch.no_grad()
def export_component(
    plugin: str,
    exporter: str,
    out: Path,
    progress: Progress = lambda done, total, label: None,
    *,
    grid: tuple[int, int] = (9, 16),
    frames: int = 3,
) -> ComponentPackage:
    """Write the package of a component, all or nothing.

    Args:
        plugin: The text encoder or codec, as people write it.
        exporter: As people write it; `coreml[bits=8]` has palettes of 256 values.
        out: Its folder; there may be nothing at that place.
        progress: Called as the work goes on.
        grid: Of a decoder: token rows and columns.
        frames: Of a decoder: latent frames of a chunk.

    Raises:
        InputError: The plugin has no network, the exporter writes no components, or the folder exists.
    """
    (name, options), made_by = registry.parse(plugin), _exporter(exporter)
    writer = made_by.component_writer()
    with new_folder(out) as folder:
        component = open_component(name, options)
        functions = functions_of(component, grid, frames)
        steps, done = 2 * len(functions), count()

        def say(label: str) -> None:
            progress(next(done), steps, label)

        programs = []
        for function in functions:
            say(f"tracing {function.name}")
            program = exported(function.module, tuple(function.inputs.values()), writer.decompositions())
            programs.append((_specification(function, program, made_by.precision), program))
        kind: Kind = "text" if isinstance(component, TextComponent) else "decoder"
        written = writer.write(component.model, programs, folder, {"s2search.part": kind, "s2search.plugin": name}, say)
        _copy_source(component, folder / SOURCE)
        specs = tuple(replace(spec, file=written.files[spec.name]) for spec, _ in programs)
        manifest = ComponentManifest(
            part=kind,
            plugin=name,
            plugin_options=_without_folder(options),
            exporter=made_by.name,
            options=made_by.options_text,
            facts=dict(written.facts),
            source_digest=source_digest(folder / SOURCE),
            precision=made_by.precision,
            functions=specs,
            held=writer.held(programs),
            states=tuple(one for one in specs[-1].inputs if one.name.startswith(CACHE)),
            files=file_entries(folder, progress),
        )
        write_text(folder / MANIFEST, as_json(manifest, indent=1))
    progress(steps, steps, "")
    return ComponentPackage.load(out)


def _exporter(text: str) -> Exporter:
    exporter: Exporter = registry.create("exporters", text)
    if problem := exporter.why_not():
        raise InputError(problem)
    return exporter


def _without_folder(options: Mapping[str, str]) -> str:
    """Return options as people write them, but for the folder: the package has its own."""
    return ",".join(f"{key}={value}" for key, value in options.items() if key != "folder")


def source_digest(folder: Path) -> str:
    """Return a digest of the weights of a source."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        found.update(read_regular(path))
    return f"sha256:{found.hexdigest()}"


def _specification(function: ComponentFunction, program: ExportedProgram, precision: str) -> FunctionSpec:
    """Return what the manifest says of a function, but for its file."""
    number: NumberType = "float32" if precision == "float32" else "float16"

    def specs(tensors: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=name, shape=tuple(x.shape), dtype=number if x.is_floating_point() else "int32")
            for name, x in tensors.items()
        )

    outputs = [node.meta["val"] for node in program.graph.output_node().args[0]]
    return FunctionSpec(
        name=function.name,
        file="",
        inputs=specs(function.inputs),
        outputs=specs(dict(zip(function.outputs, outputs, strict=True))),
    )


def _copy_source(component: TextComponent | DecoderComponent, source: Path) -> None:
    """Copy what the plugin reads: config, weights and tokenizer, and nothing that lies beside them."""
    source.mkdir()
    for name, folder in component.sources.items():
        (source / name).mkdir(parents=True, exist_ok=True)
        for path in sorted(path for pattern in _KEPT for path in folder.glob(pattern)):
            shutil.copyfile(path, source / name / path.name)

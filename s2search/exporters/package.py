"""A package: a folder with everything that a runtime needs to stream a model, and what it was made from.

    manifest.json   what is in it (`Manifest`)
    source/         the weights that it was made from, as `save_pretrained` writes them: verification compares with it;
                    and prompts that the model reads, where it was exported with some (`prompt_tokens.py`)
    ...             the runtime's own files, named in the manifest

A package is written all or nothing. Its functions are those of `s2search/exporters/step.py`, whose names and shapes the
manifest repeats. Reading a package unpickles nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

import msgspec
from typing_extensions import override

from s2search.block import Block, Precision, Stream, Window
from s2search.border.regular_file import is_regular, open_regular, read_regular_text
from s2search.document import as_json, check_folder, read_json, write_text
from s2search.errors import CheckError, InputError
from s2search.exporters.chain import Course, Span
from s2search.exporters.host import HostForm
from s2search.network.config import PLAN, ModelConfig
from s2search.planner.plan import Plan
from s2search.preset import video_size

SCHEMA: Literal["s2search.package/1"] = "s2search.package/1"
PART_SCHEMA: Literal["s2search.part/1"] = "s2search.part/1"
MANIFEST, SOURCE = "manifest.json", "source"
REPORT = "report.json"  # of verification, beside the manifest unless it goes elsewhere
WEIGHT_FILES = ("weights.bin", "weight.bin")  # of runtimes that keep weights apart from graphs
NEW = "new_"  # before the name of a state that a function returns

#: Called with what is done, what there is to do, and what comes next.
Progress = Callable[[int, int, str], Any]
_BLOCK_BYTES = 2**24  # read at a time for a digest
_MEGABYTE = 10**6
_FOREIGN_MARKS = ("\\", ":")  # of Windows' paths
_DO_NOT_USE = "do not use it"

NumberType = Literal["float16", "float32", "int32"]
_BYTES_OF = {"float16": 2, "float32": 4, "int32": 4}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of a function."""

    name: str
    shape: tuple[int, ...]
    dtype: NumberType

    @property
    def bytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * _BYTES_OF[self.dtype]


@dataclass(frozen=True, kw_only=True)
class FunctionSpec:
    """A function: its inputs and outputs in their order, and the file that holds it."""

    name: str
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """One of several packages that a model is in; see `s2search/exporters/chain.py`.

    Attributes:
        layers: The first in it, and the one after the last.
        hands_on: Outputs that later links take by their names.
        functions: The same as the whole model's, each with the link's own file, inputs and outputs.
        host: What a host must know to keep the state of its layers.
    """

    layers: Span
    hands_on: tuple[str, ...]
    functions: tuple[FunctionSpec, ...]
    host: HostForm

    def function(self, name: str) -> FunctionSpec:
        """Return a function by name."""
        return next(one for one in self.functions if one.name == name)


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file by its path inside the package, with forward slashes."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of weights and of streaming state: as the formulas of the blocks say, and as they are.

    `weight_bytes` are those of the runtime's own files, graphs included.
    """

    predicted_weight_bytes: int
    weight_bytes: int
    predicted_state_bytes: int
    state_bytes: int


class Listing:
    """What every manifest lists: functions in files, and who wrote them with which options."""

    exporter: str
    options: str
    functions: tuple[FunctionSpec, ...]
    files: tuple[FileEntry, ...]

    @property
    def exporter_text(self) -> str:
        """The exporter as it is written on a command line."""
        return f"{self.exporter}[{self.options}]" if self.options else self.exporter

    def function(self, name: str) -> FunctionSpec:
        """Return a function by name.

        Raises:
            InputError: There is none of that name.
        """
        found = {function.name: function for function in self.functions}
        if name not in found:
            raise InputError(f"the package has no function {name!r}", allowed=f"it has: {', '.join(found)}")
        return found[name]

    @property
    def stored_functions(self) -> tuple[FunctionSpec, ...]:
        """The functions as they are in files: of every link, where a model is in several packages."""
        return self.functions

    def check_names(self) -> None:
        """Raise unless the files and options that it names can only lie in its package.

        Raises:
            InputError: It names what is refused.
        """
        paths = [file.path for file in self.files]
        for path in (*paths, *filter(None, (function.file for function in self.stored_functions))):
            parts = path.split("/")
            if not path.isprintable() or {"", ".", ".."} & {*parts} or any(mark in path for mark in _FOREIGN_MARKS):
                raise InputError(f"the package names a file outside of it: {path!r}", remedy=_DO_NOT_USE)
        names = [function.name for function in self.functions]
        # Some file systems do not tell A from a, nor two ways to write an accent.
        for what, words in (("file", [_plain_name(path) for path in paths]), ("function", names)):
            if twice := next((word for word in words if words.count(word) > 1), None):
                raise InputError(f"the package names the {what} {twice!r} twice", remedy=_DO_NOT_USE)
        if any(mark in self.options for mark in ("/", "\\")):
            raise InputError(
                f"the options of the package's exporter name a place: {self.options!r}", remedy=_DO_NOT_USE
            )


@dataclass(frozen=True, kw_only=True)
class Manifest(Listing):
    """What a package is; the content of its manifest.json.

    Attributes:
        schema: Of the file.
        exporter: Name of the exporter plugin, which also runs it.
        options: The exporter's options that are not the defaults, as people write them.
        facts: What the exporter says of its work: versions, opset.
        model: Sizes and layout.
        model_digest: The model's digest, which its weights carry too.
        plan_digest: The plan that the model was realized from; null for a preset's own layout.
        grid: Token rows and columns.
        chunk_frames: Latent frames of a chunk.
        window: Past frames that softmax attention sees.
        precision: Of weights and activations, as latency tables name it.
        functions: What can be run.
        states: Inputs that are the streaming state, in their order; a function that changes x returns `new_x`.
        held: Those of them that the runtime keeps by itself; see `s2search/exporters/stateful.py`.
        host: What whoever runs it must know to keep the rest; see `s2search/exporters/host.py`. Null where functions
            take and return the whole state.
        sizes: Predicted and actual.
        files: All files but the manifest itself.
        chain: The packages that the model is in, in their order, where these are several: `functions` and `host` are
            then what all of them take and return together, and no file holds them. Left out of the file where it is
            empty.
    """

    schema: Literal["s2search.package/1"] = SCHEMA
    exporter: str
    options: str
    facts: dict[str, str]
    model: ModelConfig
    model_digest: str
    plan_digest: str | None
    grid: tuple[int, int]
    chunk_frames: int
    window: Window
    precision: str
    functions: tuple[FunctionSpec, ...]
    states: tuple[TensorSpec, ...]
    sizes: Sizes
    files: tuple[FileEntry, ...]
    held: tuple[str, ...] = ()
    host: HostForm | None = None
    chain: tuple[ChainLink, ...] = ()

    @property
    @override
    def stored_functions(self) -> tuple[FunctionSpec, ...]:
        return tuple(one for link in self.chain for one in link.functions) or self.functions

    @property
    def course(self) -> Course:
        """The way of a chunk through the model's layers."""
        blocks = [part for part in self.model.parts.values() if isinstance(part, Block)]
        streams = [Stream(block.stream) for block in blocks]
        return Course.of(self.model, streams, self.grid, self.chunk_frames)

    def __post_init__(self) -> None:
        if self.model_digest != self.model.digest or self.plan_digest != self.model.plan_digest:
            raise InputError(
                f"the package names the model {self.model_digest[:19]}, and its config is {self.model.digest[:19]}",
                remedy="export it again",
            )
        self.check_names()
        if self.host is not None:
            self._check_host(self.host)
        if self.chain:
            self._check_chain()
        elif any(not one.file for one in self.functions):
            raise InputError(
                "the package's functions name no file, and its manifest lists no links of a chain",
                remedy="export it again",
            )

    def _check_chain(self) -> None:
        """Raise unless the links of a chain are the whole model's layers, and take what those before them hand on.

        Raises:
            InputError: They are not.
        """
        course, after = self.course, 0
        for number, link in enumerate(self.chain, 1):
            for what, told, true in self._pairs_of_link(link, course, after, last=number == len(self.chain)):
                if told != true:
                    raise InputError(
                        f"link {number} of the package has {what} = {told}, and {true} would go with the rest",
                        remedy="export it again",
                    )
            after = link.layers[1]

    def _pairs_of_link(
        self, link: ChainLink, course: Course, begins: int, *, last: bool
    ) -> Iterator[tuple[str, object, object]]:
        """Yield what a link states and what goes with the rest; the later ones stand where all before agree."""
        first, after = link.layers
        yield "first layer", first, begins
        if not first < after <= course.depth or (after == course.depth) != last:
            yield "layers", list(link.layers), f"[{first}, {course.depth}]" if last else f"fewer than {course.depth}"
        yield "functions", [one.name for one in link.functions], [one.name for one in self.functions]
        if self.host is None or link.host != self.host.of_layers(first, after):
            yield "host", "one of other layers", "that of its own"
        yield "hand-over", link.hands_on, course.returned(link.layers)
        yield from _tensors_of_link(link, course)

    def _check_host(self, host: HostForm) -> None:
        """Raise unless a host is told what the rest of the manifest says.

        Raises:
            InputError: It is told otherwise.
        """
        pairs: list[tuple[str, object, object]] = [
            ("chunk_frames", host.frames, self.chunk_frames),
            ("sink_frames", host.sink_frames, self.window.sink_frames),
            ("residual", host.residual, self.model.velocity == "residual"),
            ("channels", host.channels, self.model.preset.channels),
        ]
        shapes = host.shapes()
        for function in self.functions:
            tensors = (*function.inputs, *function.outputs)
            pairs += [(f"{one.name!r} of {function.name}", shapes.get(one.name), one.shape) for one in tensors]
        for what, told, true in pairs:
            if told != true:
                raise InputError(
                    f"the package tells its host {what} = {told}, and is made for {true}", remedy="export it again"
                )


def _tensors_of_link(link: ChainLink, course: Course) -> Iterator[tuple[str, object, object]]:
    """Yield what a link's functions take and return, as stated and as its layers have it: names, then shapes."""
    shapes: dict[str, tuple[int, ...]] = dict(link.host.shapes())
    taken, returned = course.taken(link.layers), course.returned(link.layers)
    shapes |= {name: course.shape(name) for name in (*taken, *returned)}
    first, last = not taken, not returned
    for one in link.functions:
        own = [name for name in shapes if name in ("past_bias", "keys", "values", "tails", "sums")]
        inputs = {*(("latents", "time") if first else taken), "text", *(() if one.name == "first" else own)}
        outputs = {*(("velocity",) if last and one.name != "commit" else returned)}
        outputs |= {f"new_{name}" for name in own if f"new_{name}" in shapes and one.name in ("commit", "advance")}
        yield f"inputs of {one.name}", {spec.name for spec in one.inputs}, inputs
        yield f"outputs of {one.name}", {spec.name for spec in one.outputs}, outputs
        for spec in (*one.inputs, *one.outputs):
            yield f"{spec.name!r} of {one.name}", spec.shape, shapes[spec.name]


def _plain_name(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package's folder and its manifest."""

    folder: Path
    manifest: Manifest

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a package's manifest; its files are not looked at: see `check_files`.

        Raises:
            InputError: There is none, or it is not one.
        """
        if not Path(folder).is_dir():
            raise InputError(f"there is no package {str(folder)!r}", remedy="name a folder that s2search export wrote")
        manifest = read_json(Path(folder, MANIFEST), Manifest, what="package manifest")
        return cls(folder=Path(folder), manifest=manifest)

    @property
    def source(self) -> Path:
        """The folder of the weights that it was made from: `S2DiT.from_pretrained` reads it."""
        return self.folder / SOURCE

    @property
    def plan(self) -> Plan | None:
        """The plan that its model was realized from; None where there is none.

        Raises:
            InputError: It is missing, or none.
        """
        return None if self.manifest.plan_digest is None else Plan.load(self.source / PLAN)

    def check_files(self) -> None:
        """Raise unless all files are there as they were written, and nothing that a runtime could take for one.

        Raises:
            CheckError: It names the first that is not.
        """
        listed = {entry.path: entry for entry in self.manifest.files}
        for function in self.manifest.stored_functions:
            if not any(path == function.file or path.startswith(f"{function.file}/") for path in listed):
                raise self._not_as_written(function.file, f"the file of {function.name!r} and has no digest")
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_dir() and not path.is_symlink():
                continue
            if name not in listed and "/" in name:
                raise self._not_as_written(name, "not in its manifest", "remove it, or export it again")
        for name, entry in listed.items():
            if not is_regular(path := self.folder / name):
                raise self._not_as_written(name, "no regular file" if os.path.lexists(path) else "missing")
            if _sha256(self.folder / name) != entry.sha256:
                raise self._not_as_written(name, "changed")

    def only_file(self) -> Path:
        """Return the file that holds all functions.

        Raises:
            InputError: There are several.
        """
        files = sorted({function.file for function in self.manifest.stored_functions})
        if len(files) != 1:
            raise InputError(f"the functions of the package are in {', '.join(files) or 'no file'}", remedy=_DO_NOT_USE)
        return self.folder / files[0]

    def _not_as_written(self, path: str, problem: str, remedy: str = "export it again") -> CheckError:
        return CheckError(f"{path!r} in the package {str(self.folder)!r} is {problem}", remedy=remedy, path=path)


def is_component(folder: Path) -> bool:
    """Return whether a folder holds the package of a component: a text encoder or a decoder."""
    try:
        return f'"{PART_SCHEMA}"' in read_regular_text(Path(folder, MANIFEST))[:200]
    except (OSError, ValueError):
        return False


def _quiet(done: int, total: int, label: str) -> None:
    pass


def write_manifest(folder: Path, manifest: Manifest, progress: Progress = _quiet) -> Package:
    """Write the manifest of a folder whose other files are written: list them, and weigh what is not the source."""
    files = file_entries(folder, progress)
    weight_bytes = sum(file.bytes for file in files if PurePosixPath(file.path).parts[0] != SOURCE)
    sizes = dataclasses.replace(manifest.sizes, weight_bytes=weight_bytes)
    manifest = dataclasses.replace(manifest, files=files, sizes=sizes)
    content = msgspec.to_builtins(manifest)
    if not manifest.chain:
        del content["chain"]  # so that versions that know of none read it
    write_text(folder / MANIFEST, as_json(content, indent=1))
    return Package(folder=folder, manifest=manifest)


def file_entries(folder: Path, progress: Progress = _quiet) -> tuple[FileEntry, ...]:
    """Return all files of a package but its manifest, with their digests; progress is counted in MB."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST]
    total, entries, before = sum(path.stat().st_size for path in paths), list[FileEntry](), 0

    def show(label: str, done: int) -> None:
        progress(done // _MEGABYTE, total // _MEGABYTE, label)

    for path in paths:
        name = path.relative_to(folder).as_posix()
        digest = _sha256(path, partial(show, f"MB: digest of {name}"), before)
        entries.append(FileEntry(path=name, bytes=path.stat().st_size, sha256=digest))
        before += entries[-1].bytes
    show("", total)
    return tuple(entries)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write to, which becomes `out` when all went well and is removed when not.

    Raises:
        InputError: There is something at `out`, or it cannot be written there.
    """
    check_new_folder(out)
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{str(out)!r} cannot be written: {error.strerror}", remedy="choose another path") from error
    try:
        yield partial
        partial.replace(out)
    except OSError as error:
        if error.errno is None or not str(error.filename or partial).startswith(str(partial)):
            raise
        raise InputError(
            f"{str(out)!r} cannot be written: {error.strerror}", remedy="make room, or choose another path"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_new_folder(out: Path) -> None:
    """Raise unless a package can be written there, before anything is read or computed.

    Raises:
        InputError: There is something, or it cannot be written.
    """
    try:
        taken = out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir())))
    except OSError as error:
        raise InputError(f"{str(out)!r} cannot be written: {error.strerror}", remedy="choose another path") from error
    if taken:
        raise InputError(f"{str(out)!r} exists", remedy="name another folder, or remove it")
    check_folder(out)


def predicted_sizes(config: ModelConfig, grid: tuple[int, int], frames: int, slots: int, precision: str) -> Sizes:
    """Return what the formulas of the blocks say of a model that streams with so many past frames."""
    shape = config.preset.shape(video_size(*grid), "stream", frames=frames)
    shape = dataclasses.replace(shape, context_frames=slots)
    stored = Precision.named(precision)
    parts = config.parts.values()
    return Sizes(
        predicted_weight_bytes=sum(stored.weight_bytes(part.parameters(shape)) for part in parts),
        weight_bytes=0,
        predicted_state_bytes=sum(part.state_bytes(shape, stored) for part in parts if isinstance(part, Block)),
        state_bytes=0,
    )


def _sha256(path: Path, show: Callable[[int], None] = lambda done: None, before: int = 0) -> str:
    """Return a file's digest, and tell after every block how much was read, and `before` it."""
    found = hashlib.sha256()
    with open_regular(path) as file:
        show(before)
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
            show(before + file.tell())
    return f"sha256:{found.hexdigest()}"

"""Makes a kit: one folder with every block at every shape in every precision as a Core ML package, and all beside it.

Packages have the form that the exporter writes (`s2search/measurement/coreml_item.py`) and are named by a hash of their
content, so equal ones are stored once; beside them are the manifest, the runner, the Swift sources and a README. Every
finished package leaves a note in `.build/`; the same command goes on where a killed one stopped. The manifest comes
last: a folder with a manifest is a whole kit.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from s2search.border.regular_file import open_regular, read_regular
from s2search.document import write_text
from s2search.errors import InputError, require
from s2search.exporters.coreml.form import Form
from s2search.kit.campaign import Built, KitCampaign, KitPrecision, converter, manifest_of
from s2search.kit.manifest import (
    MANIFEST,
    ComputeUnits,
    Input,
    KitManifest,
    KitPackage,
    KitProtocol,
    digest_of,
)
from s2search.kit.readme import readme
from s2search.kit.shipped import ship
from s2search.kit.shots import ShotChoice
from s2search.kit.whole import ConvertedProgram, WholeItem, convert_whole
from s2search.measurement.base import Item

if TYPE_CHECKING:
    from torch import Tensor

    from s2search.measurement.coreml_item import CoreMLItem


#: Is told how many packages are done, of how many, and what comes next.
Progress = Callable[[int, int, str], None]

_NOTES = ".build"
_WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
_TEXT_WEIGHTS = {"cross_attention_key": 8, "cross_attention_value": 8}


def build(
    out: Path,
    items: Sequence[Item],
    *,
    preset: str,
    precisions: Sequence[KitPrecision] = ("float16",),
    compute_units: Sequence[ComputeUnits] = ("cpu_and_neural_engine",),
    form: Form | None = None,
    protocol: KitProtocol | None = None,
    choice: ShotChoice | None = None,
    wholes: Sequence[WholeItem] = (),
    package: str | os.PathLike[str] | None = None,
    progress: Progress = lambda done, total, label: None,
) -> KitManifest:
    """Make a kit's folder, or finish one.

    Args:
        out: The folder: missing, empty, or left by the same command.
        items: What to time; see `campaign_items`.
        preset: The model's name.
        precisions: `float16`, or `w4a16`: 4-bit palettes (8-bit for text, the switches and the two ends), float16
            activations.
        compute_units: What Core ML may use; every row is measured once per choice.
        form: That of the package that is to be shipped; the exporter's own by default.
        protocol: How to measure.
        choice: How the items were chosen from a larger campaign, if they were.
        wholes: Whole programs to time among them.
        package: An exported package to time as well.
        progress: Called before every package, and at the end.

    Raises:
        MissingExtraError: coremltools or torch is not installed.
        InputError: The folder holds something else, or the disk is full, or the package is none of Core ML.
        CheckError: A traced block does not give what the block gives, or a file of the package has changed.
    """
    require("coremltools", "torch")
    if not any(item.role == "block" for item in items):
        raise InputError("there is no block to measure", remedy="name at least one candidate")
    form, protocol = form or Form(), protocol or KitProtocol()
    _refuse_finished(out)
    try:
        (out / _NOTES).mkdir(parents=True, exist_ok=True)
        (out / "packages").mkdir(exist_ok=True)
        shipped = None if package is None else ship(package, out / "packages")
        built = _packages(out, [*items, *wholes], precisions, form, progress)
        campaign = KitCampaign(
            items=items, wholes=wholes, built=built, precisions=precisions, form=form, shipped=shipped
        )
        manifest = manifest_of(campaign, preset, compute_units, protocol, choice)
        _keep_only(out / "packages", {package.path for package in manifest.packages})
        copy_mac(out)
        write_text(out / "README.md", readme(manifest))
        write_text(out / MANIFEST, manifest.to_json().decode())
        shutil.rmtree(out / _NOTES)
    except OSError as error:
        raise InputError(
            f"the kit {str(out)!r} cannot be written: {error.strerror}",
            remedy="make room, or choose another folder; the same command then goes on from the last finished package",
        ) from error
    return manifest


def _refuse_finished(out: Path) -> None:
    if (out / MANIFEST).exists():
        raise InputError(
            f"the folder {str(out)!r} already holds a kit", remedy="choose another folder, or move it away"
        )
    if out.exists() and not (out / _NOTES).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} holds something that is not a kit", remedy="choose another folder")


def _packages(
    out: Path, items: Sequence[Item | WholeItem], precisions: Sequence[KitPrecision], form: Form, progress: Progress
) -> dict[tuple[str, str], Built]:
    """Convert what is not there yet."""
    built: dict[tuple[str, str], Built] = {}
    total = len(items) * len(precisions)
    with _scratch(out / _NOTES / "scratch"), _write_errors():
        for item in items:
            progress(len(built), total, item.key)
            notes = {precision: _note(out, item, precision, form) for precision in precisions}
            if not all(note and (out / note.package.path).exists() for note in notes.values()):
                notes = dict(_convert(out, item, precisions, form))
            built.update({(item.key, precision): cast(Built, note) for precision, note in notes.items()})
    progress(total, total, "done")
    return built


def _convert(
    out: Path, item: Item | WholeItem, precisions: Sequence[KitPrecision], form: Form
) -> Iterator[tuple[KitPrecision, Built]]:
    for precision, converted in _converted(item, precisions, form):
        note = Built(
            made_of=_made_of(item, precision, form),
            package=_store(out, converted),
            state_bytes=converted.state_bytes,
            peak_bytes=converted.peak_bytes,
        )
        write_text(_note_path(out, item, precision), msgspec.json.encode(note).decode())
        yield precision, note


def _converted(
    item: Item | WholeItem, precisions: Sequence[KitPrecision], form: Form
) -> Iterator[tuple[KitPrecision, CoreMLItem | ConvertedProgram]]:
    from s2search.exporters.coreml.contents import palettize
    from s2search.measurement.coreml_item import convert_item

    if isinstance(item, WholeItem):
        yield from ((precision, convert_whole(item, precision, form)) for precision in precisions)
        return
    whole = convert_item(item, form.layout, form.state)
    for precision in precisions:
        model = whole.model if precision == "float16" else palettize(whole.model, *_bits(item))
        yield precision, dataclasses.replace(whole, model=model).kept_by(form.state)


def _bits(item: Item) -> tuple[dict[str, int], int]:
    """Return bits of special weights and of all others: 8 for text, the switches and the two ends, else 4.

    As the exporter's `bits=4` has them.
    """
    return ({}, 8) if item.role in ("switch", "fixed") else (_TEXT_WEIGHTS, 4)


def _store(out: Path, converted: CoreMLItem | ConvertedProgram) -> KitPackage:
    """Save a package under its digest, unless an equal one is there."""
    from s2search.exporters.coreml.contents import read_contents

    model = converted.model
    spec = model.get_spec()
    contents = read_contents(spec)
    partial = out / _NOTES / "partial.mlpackage"
    shutil.rmtree(partial, ignore_errors=True)
    model.save(str(partial))
    weights = partial / _WEIGHTS
    program = type(spec)()
    program.CopyFrom(spec)
    program.description.ClearField("metadata")  # the date of conversion is no content
    digest = digest_of(program.SerializeToString(deterministic=True), _file_hash(weights))
    path = f"packages/{digest[7:23]}.mlpackage"
    if not (out / path).exists():
        partial.rename(out / path)
        weights = out / path / _WEIGHTS
    return KitPackage(
        digest=digest,
        path=path,
        weight_bytes=weights.stat().st_size if weights.exists() else 0,
        operations=contents.operations,
        inputs=[_input(name, tensor, converted.exact) for name, tensor in converted.inputs.items()],
        outputs=[feature.name for feature in contents.outputs],
        states=list(converted.states),
        parity_db=round(min(converted.parity_db, 999.0), 1),
    )


def _input(name: str, x: Tensor, exact: Sequence[str]) -> Input:
    return Input(
        name=name,
        shape=list(x.shape),
        dtype="float32" if name in exact else "float16",
        low=round(x.min().item(), 4),
        high=round(x.max().item(), 4),
    )


def _note(out: Path, item: Item | WholeItem, precision: KitPrecision, form: Form) -> Built | None:
    """Return the note of a package that was made before by the same versions, if there is one."""
    path = _note_path(out, item, precision)
    if not path.exists():
        return None
    note = msgspec.json.decode(read_regular(path), type=Built)
    return note if note.made_of == _made_of(item, precision, form) else None


def _note_path(out: Path, item: Item | WholeItem, precision: KitPrecision) -> Path:
    name = hashlib.sha256(f"{item.key} {precision}".encode()).hexdigest()[:16]
    return out / _NOTES / f"{name}.json"


def _made_of(item: Item | WholeItem, precision: KitPrecision, form: Form) -> dict[str, str]:
    what = {"item": item.key, "shape": repr(item.shape), "precision": precision}
    return {**what, "layout": form.layout, "state": form.state, **converter()}


def _keep_only(folder: Path, paths: set[str]) -> None:
    """Remove packages that no row needs: those of a killed command with other options."""
    for package in folder.iterdir():
        if f"packages/{package.name}" not in paths:
            shutil.rmtree(package)


def copy_mac(out: Path) -> None:
    """Copy the runner and the Swift sources."""
    for name, target in (("runner", "runner"), ("swift", "swift")):
        shutil.rmtree(out / target, ignore_errors=True)
        with as_file(files("s2search.kit") / name) as source:
            shutil.copytree(source, out / target, ignore=shutil.ignore_patterns("__pycache__"))


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Keep coremltools' temporary packages in the kit, where the next command removes what a killed one left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _write_errors() -> Iterator[None]:
    """Raise what coremltools' writer of weights says as the OSError that it is."""
    try:
        yield
    except RuntimeError as error:
        if "FileWriter" not in str(error):
            raise
        raise OSError(errno.EIO, str(error)) from error


def _file_hash(path: Path) -> bytes:
    if not path.exists():
        return b""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").digest()

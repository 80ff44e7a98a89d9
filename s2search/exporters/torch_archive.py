"""A program of torch as a file (.pt2), searched before torch opens it, and opened as what was searched.

`torch.export.load` unpickles example inputs, objects and odd tensors, looks operators and types up by names of Python,
imports the modules that enumerations name, and writes files where a program says `aten.save` or `aten.from_file`. So an
archive here holds raw tensors, ATen operators from tensors to tensors, and fixed sizes; all else is refused.

A zip file can say two things: torch's reader takes the first of two records of one name and does not tell `A` from `a`,
Python's takes the last. So no name may stand twice, and what was searched is written into a new archive, which is what
torch opens.

Source of the format: torch 2.13, torch/export/pt2_archive and torch/_export/serde.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from s2search.border.regular_file import open_regular
from s2search.errors import CheckError, InputError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_MODEL = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = {kind: f"data/{kind}/model_{kind}_config.json" for kind in ("weights", "constants")}
_PAYLOADS = {"weights": re.compile(r"weight_\d+"), "constants": re.compile(r"tensor_\d+")}
_KEPT = ("archive_format", "archive_version", "byteorder", "version", ".data/version")
_LEFT = re.compile(r"\.data/\w+")  # of torch's writer, which its reader does not need
_RAW = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+")
_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)|_operator\.getitem")
_ROOT = "program"
#: Kinds of arguments that are values; the others are code, or are computed from text.
_ARGUMENTS = frozenset(
    f"as_{one}"
    for one in (
        *("none", "name", "tensor", "tensors", "optional_tensor", "optional_tensors", "nested_tensors"),
        *("int", "ints", "int_lists", "float", "floats", "float_lists", "bool", "bools", "string", "strings"),
        *("complex", "sym_int", "sym_ints", "sym_float", "sym_floats", "sym_bool", "sym_bools"),
        *("scalar_type", "memory_format", "layout", "device"),
    )
)
_EMPTY = ("range_constraints", "guards_code", "metadata", "treespec_namedtuple_fields", "custom_obj", "token")
_TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_RESULTS = re.compile(r"Tensor|List\[Tensor\]|Tuple\[(Tensor, )*Tensor\]")
_ONE_MESSAGE = 200


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """A tensor of an archive as it says: its record, sizes, and the number of its type in torch's files."""

    record: str
    sizes: tuple[int, ...]
    dtype: int


class TorchArchive:
    """What was found in a file, all of it searched; see `open_archive`.

    Attributes:
        weights: The tensors by name.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._records = self._searched_records()
        self._configs = {kind: json.loads(self._read(record)) for kind, record in _CONFIGS.items()}
        self.weights = self._searched_tensors("weights")
        self._searched_tensors("constants")
        self._program = json.loads(self._read(_MODEL))
        self._search_program()

    def read(self, record: str) -> bytes:
        """Return the bytes of a tensor's record."""
        return self._read(record)

    def load(self) -> ExportedProgram:
        """Let torch load what was searched, from a new archive."""
        import torch

        with tempfile.TemporaryFile() as file:
            self._write(file)
            file.seek(0)
            return torch.export.load(file)

    def _write(self, file: IO[bytes]) -> None:
        documents = {_MODEL: self._program, **{_CONFIGS[kind]: config for kind, config in self._configs.items()}}
        with zipfile.ZipFile(file, "w") as fresh:
            for name in _KEPT:
                if name in self._records:
                    fresh.writestr(f"{_ROOT}/{name}", self._read(name))
            fresh.writestr(f"{_ROOT}/{_SAMPLES}", b"")
            for name, document in documents.items():
                fresh.writestr(f"{_ROOT}/{name}", json.dumps(document))
            for name, info in self._records.items():
                if _RAW.fullmatch(name):
                    place = zipfile.ZipInfo(f"{_ROOT}/{name}")
                    with self._archive.open(info) as source, fresh.open(place, "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target, 2**24)

    def _read(self, name: str) -> bytes:
        return self._archive.read(self._records[name])

    def _searched_records(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._archive.infolist()
        root = infos[0].filename.partition("/")[0] + "/"
        found: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            # What stands before a zero byte is what some readers take for the name.
            name = info.orig_filename
            if name.casefold() in {one.casefold() for one in found}:
                raise self._refused(f"the record {name!r} twice")
            found[name] = info
        for name, info in found.items():
            own, raw = name.removeprefix(root), bool(_RAW.fullmatch(name.removeprefix(root)))
            known = own in (*_KEPT, _MODEL, _SAMPLES, *_CONFIGS.values()) or raw or _LEFT.fullmatch(own)
            if not name.startswith(root) or not known or (own == _SAMPLES and info.file_size):
                raise self._refused(f"the record {own!r}")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.external_attr >> 28 not in (0, 8):
                raise self._refused(f"the record {own!r} compressed, locked, or as a link")
        if sum(info.file_size for info in infos) > self._path.stat().st_size:
            raise self._refused("more in its records than it has bytes")
        return {name.removeprefix(root): info for name, info in found.items()}

    def _searched_tensors(self, kind: str) -> dict[str, StoredArray]:
        import torch
        from torch._export.serde.serialize import deserialize_scalar_type

        found, folder = dict[str, StoredArray](), _CONFIGS[kind].rpartition("/")[0]
        for name, entry in self._configs[kind]["config"].items():
            if entry["use_pickle"] is not False:
                raise self._refused(f"the pickled tensor {name!r}")
            record, meta = f"{folder}/{entry['path_name']}", entry["tensor_meta"]
            if not _PAYLOADS[kind].fullmatch(entry["path_name"]):
                raise self._refused(f"the tensor {name!r} in the record {record!r}")
            sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
            numbers = [*sizes, *strides, meta["storage_offset"]["as_int"]]
            if any(type(number) is not int or number < 0 for number in numbers) or meta["device"]["type"] != "cpu":
                raise self._refused(f"the tensor {name!r} of the sizes {sizes} on {meta['device']['type']!r}")
            size_bytes = math.prod(sizes) * torch.empty((), dtype=deserialize_scalar_type(meta["dtype"])).itemsize
            if numbers[-1] or size_bytes != self._records[record].file_size or strides != _contiguous(sizes):
                raise self._refused(f"the tensor {name!r} as {size_bytes} bytes that are not those of its record")
            found[name] = StoredArray(record=record, sizes=tuple(sizes), dtype=meta["dtype"])
        return found

    def _search_program(self) -> None:
        for node in self._program["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {}  # where an operator came from: names that torch would look up
        for key, value in _entries(self._program):
            if key == "target" and not _is_operator(value):
                raise self._refused(f"the operator {str(value)[:60]!r}")
            if (key.startswith("as_") or key == "expr_str") and key not in _ARGUMENTS and value is not None:
                raise self._refused(f"the field {key!r}")
            if key in _EMPTY and value:
                raise self._refused(f"the field {key!r}")
            if key in ("in_spec", "out_spec"):
                self._search_tree(json.loads(value)[1])

    def _search_tree(self, tree: Any) -> None:
        """Inputs and outputs come in tuples, lists and dictionaries; other types bring what torch would import."""
        pending = [tree]
        while pending:
            item = pending.pop()
            context = json.loads(item["context"]) if isinstance(item["context"], str) else item["context"]
            words = context if isinstance(context, list) else []
            if item["type"] not in _TREES or not (context is None or all(isinstance(word, str) for word in words)):
                raise self._refused(f"inputs or outputs of the type {str(item['type'])[:60]!r}")
            if context is not None and not isinstance(context, list):
                raise self._refused("inputs or outputs with a context")
            pending += item["children_spec"]

    def _refused(self, what: str) -> CheckError:
        return CheckError(
            f"{str(self._path)!r} holds {what}",
            allowed="raw tensors, ATen operators and fixed sizes, each record once: all else may run code when loaded",
            remedy="export it again, and do not use this file",
            path=self._path.name,
        )


@contextmanager
def open_archive(path: Path) -> Iterator[TorchArchive]:
    """Open a program's file and search it; loading it can then run nothing but ATen operators on tensors.

    Raises:
        InputError: It cannot be read.
        CheckError: It names what is refused.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield TorchArchive(path, archive)
    except (InputError, CheckError):
        raise
    except Exception as error:  # what a damaged archive leads zipfile, json and torch to
        problem = str(error).strip().splitlines()[0][:_ONE_MESSAGE] if str(error).strip() else type(error).__name__
        raise InputError(f"{str(path)!r} is not a program of torch: {problem}", remedy="export it again") from error


def _contiguous(sizes: list[int]) -> list[int]:
    """Return the strides of a tensor whose numbers stand as torch writes them.

    >>> _contiguous([2, 3, 5])
    [15, 5, 1]
    """
    return [math.prod(max(size, 1) for size in sizes[axis + 1 :]) for axis in range(len(sizes))]


def _is_operator(target: Any) -> bool:
    """Whether a program may call what this names: an operator of ATen that computes tensors and changes nothing.

    >>> _is_operator("torch.ops.aten.linear.default"), _is_operator("torch.ops.aten.from_file.default")
    (True, False)
    """
    import torch

    match = _OPERATOR.fullmatch(target) if isinstance(target, str) else None
    if match is None or match[1] is None:
        return match is not None
    operator = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
    schema = getattr(operator, "_schema", None)
    if schema is None or schema.is_mutable or match[1].startswith("_test"):
        return False
    if any(one.name == "filename" or str(one.type) in ("Storage", "Stream", "Any") for one in schema.arguments):
        return False
    results = [str(one.type) for one in schema.returns]
    return all(_RESULTS.fullmatch(one) for one in results) and (bool(results) or match[1].startswith("_assert"))


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys of a JSON document with their values."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            yield from item.items()
            pending += item.values()
        elif isinstance(item, list):
            pending += item

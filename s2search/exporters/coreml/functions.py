"""Several Core ML packages of one function each as one package, whose functions share what is equal.

coremltools' own way (`save_multifunction`) reads the weights of all packages into memory before it shares them. Here
they go from file to file, each once, and a package can be removed as soon as it is added.

weight.bin begins with 64 bytes: u32 blobs, u32 version (2). A blob is a header of 64 bytes, which the program names by
its offset, and its numbers behind it, both aligned to 64 bytes. The header: u32 0xDEADBEEF, u32 kind of numbers, u64
bytes, u64 offset of the numbers, u64 bits of padding in the last byte.

Source: coremltools 9.0, mlmodel/src/MILBlob/Blob/StorageFormat.hpp.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from s2search.errors import CheckError
from s2search.mil.library import load_coremltools, quiet_coremltools

_FILE = struct.Struct("<II56x")
_BLOB = struct.Struct("<IIQQQ32x")
_SENTINEL, _VERSION, _ALIGNMENT = 0xDEADBEEF, 2, 64
_CHUNK_BYTES = 1 << 23
_WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


class SharedFunctions:
    """A package under construction.

    Args:
        folder: Where its weights are collected; empty.

    Attributes:
        specification: The protobuf of the package's model.mlmodel, as far as functions were added.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._weights = _WeightWriter(folder / "weight.bin")
        self.specification: Any = None

    def add(self, function: str, package: Path) -> None:
        """Add the only function of a package under a name, and write those of its weights that are new."""
        with quiet_coremltools():
            spec = load_coremltools().utils.load_spec(str(package))
        (program,) = spec.mlProgram.functions.values()
        with (package / _WEIGHTS).open("rb") as file:
            for value in _file_values(program):
                size = tuple(axis.constant.size for axis in value.type.tensorType.dimensions)
                value.blobFileValue.offset = self._weights.add(file, value.blobFileValue.offset, size)
        if self.specification is None:
            self.specification = type(spec)(specificationVersion=spec.specificationVersion)
            self.specification.mlProgram.version = spec.mlProgram.version
        self.specification.mlProgram.functions[function].CopyFrom(program)
        described = self.specification.description.functions.add(name=function)
        for field in ("input", "output", "state"):
            getattr(described, field).extend(getattr(spec.description, field))

    def save(self, path: Path, *, default: str, metadata: dict[str, str]) -> None:
        """Write the package.

        Args:
            path: Of the package.
            default: The function that runs if none is named.
            metadata: What the package says of itself.
        """
        self._weights.close()
        self.specification.description.defaultFunctionName = default
        self.specification.description.metadata.userDefined.update(metadata)
        load_coremltools().utils.save_spec(self.specification, str(path), weights_dir=str(self._folder))


class _WeightWriter:
    """A weight.bin that holds equal numbers of one shape once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(_FILE.pack(0, _VERSION))
        self._offsets: dict[Any, int] = {}

    def add(self, source: BinaryIO, offset: int, size: tuple[int, ...]) -> int:
        """Return the offset of a blob of another weight.bin; it is copied where it is new."""
        source.seek(offset)
        sentinel, kind, count, start, padding = _BLOB.unpack(source.read(_BLOB.size))
        if sentinel != _SENTINEL:
            raise CheckError(f"a weight at byte {offset} begins with {sentinel:#010x}", allowed=f"{_SENTINEL:#010x}")
        digest = hashlib.sha256()
        for chunk in _chunks(source, start, count):
            digest.update(chunk)
        key = (kind, size, digest.digest())
        if key not in self._offsets:
            self._file.write(bytes(-self._file.tell() % _ALIGNMENT))
            place = self._file.tell()
            self._file.write(_BLOB.pack(_SENTINEL, kind, count, place + _BLOB.size, padding))
            for chunk in _chunks(source, start, count):
                self._file.write(chunk)
            self._offsets[key] = place
        return self._offsets[key]

    def close(self) -> None:
        """Write how many blobs there are."""
        self._file.seek(0)
        self._file.write(_FILE.pack(len(self._offsets), _VERSION))
        self._file.close()


def _chunks(file: BinaryIO, start: int, count: int) -> Iterator[bytes]:
    file.seek(start)
    while count:
        chunk = file.read(min(count, _CHUNK_BYTES))
        if not chunk:
            raise CheckError(f"a weight at byte {start} lies beyond the end of its file")
        count -= len(chunk)
        yield chunk


def _file_values(function: Any) -> Iterator[Any]:
    """Yield the values of a function whose numbers are in weight.bin, in the order of its operations."""
    blocks = list(function.block_specializations.values())
    while blocks:
        block = blocks.pop(0)
        for operation in block.operations:
            blocks += operation.blocks
            given = [operation.attributes[name] for name in sorted(operation.attributes)]
            for name in sorted(operation.inputs):
                given += [one.value for one in operation.inputs[name].arguments if one.WhichOneof("binding") == "value"]
            yield from (value for value in given if value.WhichOneof("value") == "blobFileValue")

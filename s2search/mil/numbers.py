"""The numbers of a Core ML program: small ones in the protobuf, large ones in weight.bin.

weight.bin begins with 64 bytes of which nothing is needed. A blob's header, at the offset that the program names, is
five little-endian numbers: u32 0xDEADBEEF, u32 kind, u64 bytes, u64 offset of the data, u64 bits of padding at its end.
Numbers of fewer than 8 bits are packed from the lowest bit of the first byte on, and may cross bytes.

Source: coremltools 9.0, mlmodel/src/MILBlob (StorageFormat.hpp, Bf16.hpp, SubByteTypes.hpp).
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2search.border.regular_file import open_regular
from s2search.errors import InputError

_BLOB = struct.Struct("<IIQQQ")
_SENTINEL = 0xDEADBEEF
_REMEDY = "export the package again"
_IMMEDIATE = {"floats": np.float32, "ints": np.int32, "bools": np.bool_, "longInts": np.int64, "doubles": np.float64}

#: An array of numbers, or text.
Numbers = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How numbers of one type are stored: bits each, the numpy type they are read as, the type's code in weight.bin."""

    bits: int
    dtype: np.dtype[Any]
    blob_code: int

    def unpack(self, data: Any, count: int) -> Numbers:
        """Return the first numbers of some bytes, which must hold at least so many."""
        if self.bits >= 8:
            return np.frombuffer(data, dtype=self.dtype, count=count)
        packed = np.frombuffer(data, dtype=np.uint8, count=self.bytes_of(count))
        bits = np.unpackbits(packed, count=count * self.bits, bitorder="little").reshape(count, self.bits)
        values = np.packbits(bits, axis=1, bitorder="little")[:, 0]
        if self.dtype.kind == "i":
            sign = 1 << (self.bits - 1)
            return ((values ^ sign).astype(np.int16) - sign).astype(self.dtype)
        return values

    def bytes_of(self, count: int) -> int:
        """Return the bytes that so many numbers take."""
        return -(-count * self.bits // 8)


def _kind(bits: int, dtype: str, blob_code: int) -> Kind:
    return Kind(bits=bits, dtype=np.dtype(dtype), blob_code=blob_code)


#: By the names of the protobuf's `DataType`, in small letters. Core ML stores no truth values in weight.bin.
KINDS = {
    "float16": _kind(16, "<f2", 1),
    "float32": _kind(32, "<f4", 2),
    "uint8": _kind(8, "u1", 3),
    "int8": _kind(8, "i1", 4),
    "int16": _kind(16, "<i2", 6),
    "uint16": _kind(16, "<u2", 7),
    "int4": _kind(4, "i1", 8),
    "uint1": _kind(1, "u1", 9),
    "uint2": _kind(2, "u1", 10),
    "uint4": _kind(4, "u1", 11),
    "uint3": _kind(3, "u1", 12),
    "uint6": _kind(6, "u1", 13),
    "int32": _kind(32, "<i4", 14),
    "uint32": _kind(32, "<u4", 15),
    "int64": _kind(64, "<i8", -1),
    "float64": _kind(64, "<f8", -1),
    "bool": _kind(8, "?", -1),
}


#: The least and the largest whole number of types that are narrower than what is computed with.
RANGES = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
}


@dataclass(frozen=True, kw_only=True)
class TensorType:
    """A type of the program: its name as in `KINDS`, and its axes; None is an axis of any size.

    Text is a `string`; a `dictionary` or a `list`, which only operations without cover give, has no axes.
    """

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def count(self) -> int | None:
        """How many numbers; None where an axis may have any size."""
        sizes = [size for size in self.shape if size is not None]
        return math.prod(sizes) if len(sizes) == len(self.shape) else None

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join('?' if size is None else str(size) for size in self.shape) or 'scalar'}"


class WeightFile:
    """A weight.bin, read where it is needed.

    Raises:
        InputError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file:
                empty = file.seek(0, 2) == 0
                self._data = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise InputError(f"the weights {str(path)!r} cannot be read: {problem}", remedy=_REMEDY) from error

    def read(self, offset: int, type_: TensorType) -> Numbers:
        """Return the numbers whose header is at an offset.

        Raises:
            InputError: There is no such header, or it tells of other numbers.
        """
        kind, count = KINDS[type_.dtype], type_.count or 0
        start = self._start(offset, type_)
        data = memoryview(self._data)[start : start + kind.bytes_of(count)]
        return kind.unpack(data, count).reshape(_sizes(type_))

    def check(self, offset: int, type_: TensorType) -> None:
        """Look whether there are such numbers, and read none of them.

        Raises:
            InputError: As `read` does.
        """
        self._start(offset, type_)

    def _start(self, offset: int, type_: TensorType) -> int:
        where = f"weights at byte {offset} of {self.path.name}"
        if offset + _BLOB.size > len(self._data):
            raise InputError(f"the {where} lie behind its end at {len(self._data)}", remedy=_REMEDY)
        sentinel, code, size, start, _ = _BLOB.unpack_from(self._data, offset)
        kind, count = KINDS[type_.dtype], type_.count or 0
        if sentinel != _SENTINEL:
            raise InputError(f"the {where} begin with {sentinel:#010x}", allowed=f"{_SENTINEL:#010x}", remedy=_REMEDY)
        if code != kind.blob_code or size != kind.bytes_of(count):
            raise InputError(
                f"the {where} are {size} bytes of kind {code}",
                allowed=f"{kind.bytes_of(count)} bytes of kind {kind.blob_code} for {type_}",
                remedy=_REMEDY,
            )
        if start + size > len(self._data):
            raise InputError(f"the {where} end behind the file's end at {len(self._data)}", remedy=_REMEDY)
        return int(start)


def immediate(tensor: Any, type_: TensorType) -> Numbers | str:
    """Return the numbers, or the text, that stand in a protobuf's TensorValue.

    Raises:
        InputError: They are not as many as the type says, or of another type.
    """
    field, count = tensor.WhichOneof("value"), type_.count
    if type_.dtype == "string":
        texts = tensor.strings.values
        if field != "strings" or len(texts) != 1 or count != 1:
            raise InputError(f"a text is stored as {len(texts)} texts", allowed="one", remedy=_REMEDY)
        return str(texts[0])
    kind = KINDS[type_.dtype]
    if field == "bytes":
        data = tensor.bytes.values
        if len(data) != kind.bytes_of(count or 0):
            raise InputError(f"{type_} is stored in {len(data)} bytes", remedy=_REMEDY)
        return kind.unpack(data, count or 0).reshape(_sizes(type_))
    if field not in _IMMEDIATE:
        raise InputError(f"{type_} is stored as {field}", remedy=_REMEDY)
    values = getattr(tensor, field).values
    if len(values) != count:
        raise InputError(f"{type_} is stored as {len(values)} numbers", remedy=_REMEDY)
    with np.errstate(over="ignore"):
        return np.array(values, dtype=_IMMEDIATE[field]).astype(kind.dtype).reshape(_sizes(type_))


def _sizes(type_: TensorType) -> tuple[int, ...]:
    return tuple(size or 0 for size in type_.shape)

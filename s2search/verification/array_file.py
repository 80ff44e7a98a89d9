"""Files of arrays (.npz) for a function's inputs and states: nothing is unpickled, and nothing is read that cannot fit.

A name, a shape and a type are looked at before the numbers, so a file that claims a petabyte costs none.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2search.border.regular_file import open_regular
from s2search.document import check_writable
from s2search.errors import InputError
from s2search.mil.function import Function, Named

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
_HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_KINDS = {"f": "f", "i": "iu", "u": "iu", "b": "b"}
_DAMAGED = (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
_INT32 = np.iinfo(np.int32)


def read_arrays(given: Path | Mapping[str, Any], function: Function) -> Arrays:
    """Return arrays as a function takes them: float32, int32 or bool, by the names of its inputs and states.

    Args:
        given: A file, or the arrays. Floating numbers of any size go for floating ones, whole ones for whole ones.
        function: Which takes them; of its states none, some or all may be given.

    Raises:
        InputError: It is no such file, or a name, a shape or a type is another one.
    """
    wanted = {one.name: one for one in (*function.inputs, *function.states)}
    if not isinstance(given, Path):
        arrays = {name: np.asarray(array) for name, array in given.items()}
        _check_names(set(arrays), wanted, function, "the inputs")
        return {name: _taken(array, wanted[name], "the inputs") for name, array in arrays.items()}
    where = str(given)
    with _legible(where), open_regular(given) as file:
        with zipfile.ZipFile(file) as archive:
            heads = dict(_head(archive, info) for info in archive.infolist())
        _check_names(set(heads), wanted, function, repr(where))
        for name, (shape, dtype) in heads.items():
            _check_fits(shape, dtype, wanted[name], repr(where))
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays_of_file:
            return {name: _taken(arrays_of_file[name], wanted[name], repr(where)) for name in heads}


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a file of arrays, all or nothing, and the same bytes for the same numbers.

    Raises:
        InputError: It cannot be written there.
    """
    check_writable(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.save(member, np.ascontiguousarray(array), allow_pickle=False)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}", remedy="choose another path") from error


@contextmanager
def _legible(where: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except _DAMAGED as error:
        problem = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise InputError(
            f"{where!r} is not a file of arrays: {problem}", remedy="write it with numpy.savez, without objects"
        ) from error


def _head(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    with archive.open(info) as member:
        version: tuple[int, int] = np.lib.format.read_magic(member)  # type: ignore[no-untyped-call]
        if version not in _HEADERS:
            raise ValueError(f"{info.filename} is of version {version}")
        shape, _, dtype = _HEADERS[version](member)
    return info.filename.removesuffix(".npy"), (shape, dtype)


def _check_names(given: set[str], wanted: Mapping[str, Named], function: Function, where: str) -> None:
    missing = [one.name for one in function.inputs if one.name not in given]
    unknown = sorted(given - wanted.keys())
    if missing or unknown:
        faults = [f"lack {', '.join(missing)}"] if missing else []
        faults += [f"have {', '.join(unknown)} more"] if unknown else []
        states = "; states, if they shall not start at zeros: " + _listed(function.states) if function.states else ""
        raise InputError(
            f"the arrays of {where} {' and '.join(faults)}",
            allowed=f"the function {function.name!r} takes {_listed(function.inputs)}{states}",
            remedy="give these",
        )


def _listed(values: tuple[Named, ...]) -> str:
    return ", ".join(f"{one.name} ({one.type})" for one in values) or "nothing"


def _check_fits(shape: tuple[int, ...], dtype: np.dtype[Any], wanted: Named, where: str) -> None:
    sizes = wanted.type.shape
    same = len(shape) == len(sizes) and all(b in (None, a) for a, b in zip(shape, sizes, strict=True))
    kind = "i" if "int" in wanted.type.dtype else wanted.type.dtype[0]
    if not same or dtype.kind not in _KINDS.get(kind, ""):
        text = "x".join(map(str, shape)) or "scalar"
        raise InputError(f"{wanted.name!r} in {where} is {dtype} {text}", allowed=f"it takes {wanted.type}")


def _taken(array: NDArray[Any], wanted: Named, where: str) -> NDArray[Any]:
    _check_fits(array.shape, array.dtype, wanted, where)
    if array.dtype.kind == "b":
        return np.array(array)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.array(array, dtype=np.float32)
    if array.size and not (_INT32.min <= int(array.min()) and int(array.max()) <= _INT32.max):
        raise InputError(
            f"{wanted.name!r} in {where} has numbers from {int(array.min())} to {int(array.max())}",
            allowed=f"{_INT32.min} to {_INT32.max}",
        )
    return np.array(array, dtype=np.int32)

"""Weight files tensor by tensor: written while the tensors are made, and read as memory of the file.

Source of the format: safetensors, README, "Format": u64 size of the header, the header as JSON, then the tensors'
bytes without holes; little-endian.

Why a file: docs/decisions/export.md, "Exports are made from a file of weights, not from a model in memory".
"""

from __future__ import annotations

import hashlib
import json
import mmap
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from s2search.border.regular_file import open_regular
from s2search.errors import InputError

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_ALIGNMENT = 64  # bytes
_PERIOD_S = 0.2


def write_tensors(
    path: Path, shapes: Mapping[str, Tensor], tensors: Iterable[tuple[str, Tensor]], metadata: Mapping[str, str]
) -> None:
    """Write a weight file from tensors that come one after another, in any order; one is in memory at a time.

    Args:
        path: The file.
        shapes: Every tensor by name, on the meta device.
        tensors: The same names, with their numbers.
        metadata: For the header.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    places: dict[str, int] = {}
    end = 0
    # Sizes that keep what follows them aligned come first.
    for name, tensor in sorted(shapes.items(), key=lambda item: (item[1].nbytes % _ALIGNMENT != 0, item[0])):
        places[name], end = end, end + tensor.nbytes
        offsets = [places[name], end]
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    path.unlink(missing_ok=True)
    with path.open("xb") as file:  # what a link there leads to is not written to
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors:
            file.seek(8 + len(text) + places.pop(name))
            file.write(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    assert not places, f"no values were given for {', '.join(places)}"


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors that are in memory as a safetensors file.

    Raises:
        InputError: The disk does not take them; nothing is left.
    """
    try:
        save_file(tensors, path, metadata=metadata)
        _sort_metadata(path)
    except (OSError, SafetensorError) as error:
        path.unlink(missing_ok=True)
        raise InputError(f"{str(path)!r} cannot be written: {error}", remedy="make room, or choose another") from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors makes files that only their owner reads


def _sort_metadata(path: Path) -> None:
    """Put the words of a header in order: safetensors has another one in every process, and files would differ."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        words = header.pop("__metadata__", {})
        text = json.dumps({"__metadata__": dict(sorted(words.items())), **header}, separators=(",", ":"))
        if len(text) <= size:  # words in other letters are written shorter there, and stay as they are
            file.seek(8)
            file.write(text.encode().ljust(size))


def weights_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return a hash of weights by name, in any order: of their names, number formats, shapes and numbers.

    >>> one, other = ("a", torch.zeros(2)), ("b", torch.ones(3))
    >>> weights_digest([one, other]) == weights_digest([other, one])
    True
    """
    lines = sorted(f"{name} {tensor.dtype} {tuple(tensor.shape)} {_sha256(tensor)}" for name, tensor in tensors)
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"


def _sha256(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()


class MappedTensors:
    """The tensors of a weight file as memory of the file: read where they are needed, and never written.

    Whoever writes to one ends the process.

    Args:
        path: A weight file that safetensors opens: the header is trusted.

    Attributes:
        tensors: By name.

    Raises:
        InputError: It has numbers of a type that no model has.
    """

    def __init__(self, path: Path) -> None:
        with open_regular(path) as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(start - 8))
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header.pop("__metadata__", None)
        if odd := {entry["dtype"] for entry in header.values()} - _DTYPES.keys():
            raise InputError(f"the weights {str(path)!r} are {odd.pop()}", allowed=", ".join(_DTYPES))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            self.tensors = {name: self._tensor(entry, start) for name, entry in header.items()}

    def __deepcopy__(self, memo: object) -> Self:
        return self  # a copy of a model, whose modules are changed, reads the same file

    @contextmanager
    def released(self) -> Iterator[None]:
        """Keep giving back what was read: else a process that reads everything seems to hold everything."""
        done = threading.Event()
        thread = threading.Thread(target=self._release_until, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def release(self) -> None:
        """Give back what was read of the file; what is needed again comes from the system's cache of it."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._memory.madvise(mmap.MADV_DONTNEED)

    def _release_until(self, done: threading.Event) -> None:
        while not done.wait(_PERIOD_S):
            self.release()

    def _tensor(self, entry: Mapping[str, Any], start: int) -> Tensor:
        dtype, (begin, end) = _DTYPES[entry["dtype"]], entry["data_offsets"]
        count = (end - begin) // dtype.itemsize
        return torch.frombuffer(self._memory, dtype=dtype, count=count, offset=start + begin).view(entry["shape"])

"""The weights that a package's own files hold, tensor by tensor, whatever wrote them.

A reader yields every stored tensor with its name in the file. Nothing is unpickled, and one tensor is in memory at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2search.errors import CheckError
from s2search.export.package import Package
from s2search.verify.subject import CannotRunError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFIX = "model."  # of the names of weights in packages


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        file: Path inside the package.
        name: In the file.
        values: As numbers, however they are stored.
        step: Distance of neighbouring values where they were quantised; 0 where every number of its type can be stored.
    """

    file: str
    name: str
    values: NDArray[Any]
    step: float = 0.0


Reader = Callable[[Package], Iterator[StoredTensor]]


def stored_tensors(package: Package) -> Iterator[StoredTensor]:
    """Yield all tensors that the package's own files hold; the same numbers at the same place come once.

    Raises:
        CannotRunError: Nobody reads such files.
        CheckError: A file cannot be read.
    """
    exporter = package.manifest.exporter
    if exporter not in READERS:
        raise CannotRunError(f"nothing here reads the weights of {exporter!r}; read are: {', '.join(READERS)}")
    return READERS[exporter](package)


def onnx_tensors(package: Package) -> Iterator[StoredTensor]:
    """Yield the initialisers of all graphs."""
    import onnx
    from onnx import external_data_helper, numpy_helper

    seen: set[tuple[str, ...]] = set()
    for file in dict.fromkeys(function.file for function in package.manifest.functions):
        for tensor in read_onnx(package, file).graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                place = external_data_helper.ExternalDataInfo(tensor)
                key = (tensor.name, str(place.location), str(place.offset), str(place.length), str(list(tensor.dims)))
                if key in seen:
                    continue
                seen.add(key)
            try:
                values = numpy_helper.to_array(tensor, base_dir=str(package.folder))
            except Exception as error:  # what onnx raises shares no base
                raise CheckError(f"{tensor.name!r} in {file!r} cannot be read: {error}", path=file) from error
            yield StoredTensor(file=file, name=tensor.name, values=values)


def read_onnx(package: Package, file: str) -> Any:
    """Return a graph of the package as onnx's protobuf, its external tensors not loaded.

    Raises:
        CannotRunError: onnx is not installed.
        CheckError: The file is no graph.
    """
    try:
        import onnx
    except ImportError as error:
        raise CannotRunError("onnx is not installed; install the extra s2search[onnxruntime]") from error
    try:
        return onnx.load(package.folder / file, load_external_data=False)
    except Exception as error:  # what onnx raises shares no base
        raise CheckError(f"{file!r} of the package cannot be read: {error}", path=file) from error


READERS: dict[str, Reader] = {"onnx": onnx_tensors}

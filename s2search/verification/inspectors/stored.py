"""The weights that a package's own files hold, tensor by tensor, whatever wrote them.

A reader yields every stored tensor with its name in the file. Nothing is unpickled, and one tensor is in memory at a
time.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from s2search.errors import CheckError
from s2search.exporters.package import Package
from s2search.verification.inspectors.coreai import coreai_tensors
from s2search.verification.inspectors.coreml import coreml_tensors
from s2search.verification.inspectors.executorch import executorch_tensors
from s2search.verification.inspectors.stored_tensor import StoredTensor
from s2search.verification.opened import CannotRunError

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


def torch_tensors(package: Package) -> Iterator[StoredTensor]:
    """Yield the weights of programs of torch, from their raw bytes: nothing is loaded by torch, nothing unpickled."""
    for file in dict.fromkeys(function.file for function in package.manifest.functions):
        try:
            with zipfile.ZipFile(package.folder / file) as archive:
                (config,) = (name for name in archive.namelist() if name.endswith("weights/model_weights_config.json"))
                for name, entry in json.loads(archive.read(config))["config"].items():
                    meta, folder = entry["tensor_meta"], config.rpartition("/")[0]
                    sizes = tuple(size["as_int"] for size in meta["sizes"])
                    if meta["dtype"] != _TORCH_FLOAT32 or entry["use_pickle"]:
                        raise CheckError(f"{name!r} in {file!r} is no plain float32 tensor", path=file)
                    raw = archive.read(f"{folder}/{entry['path_name']}")
                    numbers = np.frombuffer(raw, "<f4", count=int(np.prod(sizes)))
                    yield StoredTensor(file=file, name=name, values=numbers.reshape(sizes))
        except (OSError, zipfile.BadZipFile, KeyError, TypeError, AttributeError, ValueError) as error:
            raise CheckError(f"the weights in {file!r} cannot be read: {error}", path=file) from error


_TORCH_FLOAT32 = 7  # of torch's serialised programs
READERS: dict[str, Reader] = {
    "onnx": onnx_tensors,
    "torch_program": torch_tensors,
    "coreml": coreml_tensors,
    "executorch": executorch_tensors,
    "coreai": coreai_tensors,
}

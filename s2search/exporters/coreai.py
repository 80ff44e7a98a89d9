"""coreai: a package for Core AI, Apple's runtime after Core ML, float32: one asset with an entry point per function.

    model.aimodel    a program as MLIR bytecode, of iOS 27 and macOS 27 on

Core AI's compiler and its runtime for the processor also run on Linux: a package is verified by Apple's own kernels.
On Linux float16 is computed number by number, which only tiny blocks bear; so numbers are float32 here. Attention stays
one operation, as the library asks; the depthwise convolution is a grouped 2-D one (`BandedConv2d`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from s2search.border.printable import printable
from s2search.border.regular_file import open_regular
from s2search.errors import CheckError, InputError, missing_extra
from s2search.exporters.base import Exporter, Runtime, Written
from s2search.exporters.package import Package, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s2search.exporters.step import Steps

_FILE = "model.aimodel"
#: Reads an asset, its program and its functions, as `LoadedCoreAI` and its inspector do.
_READING = """
import asyncio, pathlib, sys
from coreai.authoring import AIModelAsset
async def load(asset):
    async with asset.executable() as model:
        for name in sys.argv[2:]:
            model.load_function(name)
asset = AIModelAsset.load(pathlib.Path(sys.argv[1]))
if not asset.program._module._mlir_module.operation.verify():
    raise SystemExit("its module is not valid")
asyncio.run(load(asset))
"""
_MODULES = ("coreai_torch", "coreai")
_LIBRARIES = ("torch", "coreai-torch", "coreai-core")
_LONGEST_S = 1800.0  # that loading an asset may take


@dataclass(frozen=True, kw_only=True)
class CoreAIExporter(Exporter):
    """Exports Core AI assets, and runs them in Core AI's runtime on this machine's processor."""

    @override
    def why_not(self) -> str | None:
        missing = missing_extra(*_MODULES, "torch")
        return str(missing) if missing else None

    @override
    def write(self, steps: Steps, folder: Path, progress: Progress) -> Written:
        from s2search.exporters.functions import trace_functions
        from s2search.exporters.graph import decompositions

        with silent():
            from coreai.runtime import AIModelAssetMetadata
            from coreai_torch import TorchConverter, get_decomp_table
        # Theirs keeps attention and norms whole; ours takes apart what is left.
        programs = trace_functions(steps, dict(get_decomp_table()) | decompositions(), progress, further=2)
        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        config = steps.model.config
        with silent():
            progress(2, 4, "converting")
            for function, program in programs.items():
                names = {"input_names": steps.inputs(function), "output_names": steps.outputs(function)}
                converter.add_exported_program(program, entrypoint_name=function, **names)
            converted = converter.to_coreai()
            progress(3, 4, f"writing {_FILE}")
            metadata = AIModelAssetMetadata()
            metadata.set_custom("s2search.model", config.digest)
            metadata.set_custom("s2search.plan", config.plan_digest or "none")
            converted.save_asset(folder / _FILE, metadata)
        progress(4, 4, "")
        return Written(files=dict.fromkeys(programs, _FILE), facts={name: version(name) for name in _LIBRARIES})

    @override
    def open(self, package: Package) -> Runtime:
        if problem := self.why_not():
            raise InputError(problem)
        path, names = package.only_file(), tuple(function.name for function in package.manifest.functions)
        try:
            check_readable(path, names)
        except CheckError as error:
            raise InputError(f"Core AI cannot load {str(path)!r}: {error.problem}", remedy="export it again") from error
        return LoadedCoreAI(package)


class LoadedCoreAI(Runtime):
    """A loaded asset. Core AI answers from an event loop; here that is a thread of its own, so that any caller may ask.

    Raises:
        InputError: Core AI refuses the asset.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="Core AI").start()
        path = package.only_file()
        try:
            with silent():
                from coreai.authoring import AIModelAsset

                self._model = self._wait(self._loaded(AIModelAsset.load(path)))
        except Exception as error:  # its errors share no base
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"Core AI cannot load {str(path)!r}: {problem}", remedy="export it again") from error
        self._functions: dict[str, Any] = {}

    @override
    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        outputs, spec = self.all_outputs(function, inputs), self._package.manifest.function(function)
        return {one.name: outputs[one.name].astype(one.dtype).reshape(one.shape) for one in spec.outputs}

    def all_outputs(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return what a function gives, beyond what the manifest names as well."""
        from coreai.runtime import NDArray as Array

        spec = self._package.manifest.function(function)
        with silent():
            if function not in self._functions:
                self._functions[function] = self._model.load_function(function)
            given = {one.name: Array(inputs[one.name]) for one in spec.inputs}
            outputs = self._wait(self._called(function, given))
        return {name: array.numpy().copy() for name, array in outputs.items()}

    async def _loaded(self, asset: Any) -> Any:
        async with asset.executable() as model:  # what it compiles to is needed until it is loaded
            for function in self._package.manifest.functions:
                model.load_function(function.name)
            return model

    async def _called(self, function: str, inputs: Mapping[str, Any]) -> Any:
        return await self._functions[function](inputs)

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def check_readable(path: Path, functions: Sequence[str]) -> None:
    """Let another process read an asset first: Core AI ends the process where it does not understand one.

    Raises:
        CheckError: It cannot be read.
    """
    try:
        digests = tuple(_digest(file) for file in sorted(path.iterdir()))
    except OSError as error:
        raise CheckError(f"{path.name!r} cannot be read: {error.strerror}", path=path.name) from error
    if problem := _problem(str(path), tuple(functions), digests):
        raise CheckError(f"{path.name!r} is not an asset that it reads: {problem}", path=path.name)


def _digest(file: Path) -> str:
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@functools.lru_cache(maxsize=64)
def _problem(path: str, functions: tuple[str, ...], digests: tuple[str, ...]) -> str:
    """Return why an asset of files with these contents cannot be read; empty where it can."""
    # What lies in the folder here is not imported.
    command = [sys.executable, "-P", "-c", _READING, path, *functions]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it was not loaded after {_LONGEST_S:.0f} s"
    if done.returncode < 0:
        return f"it ends the process (signal {-done.returncode})"
    lines = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else printable(lines[-1] if lines else f"exit {done.returncode}")[:200]


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Silence Core AI: its converter prints bars, and its runtime writes to the process's own output; errors raise."""
    from s2search.mil.library import quiet

    sys.stdout.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)
        os.close(nowhere)

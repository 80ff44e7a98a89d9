"""coreml: a package for Core ML on iOS 18, float16: one model of four functions that share their weights.

    model.mlpackage    functions first, denoise (the default), commit and advance

All weights, activations and tensors of the state are float16, but for what float16 cannot hold: the noise level and its
sinusoids (1000 s in float16 errs by whole radians), and the sums of LCHA, which grow with the stream. They come in,
are added up and go out in float32. The state is passed as plain inputs and outputs: Core ML's own states must be
float16, and belong to one function. Depthwise convolutions are one grouped 2-D convolution each. Layouts are those of
the blocks, tokens before channels (B, N, D), not the BC1S that the Neural Engine likes best.

Source of the palettes: S2DiT, table A3 (4-bit weights, 8-bit where text and latents come in and out). Activations stay
float16: 8-bit ones need calibration.
"""

from __future__ import annotations

import gc
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from s2search.errors import InputError
from s2search.export.base import Exporter, Runtime, Written
from s2search.export.package import NumberType, Package, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s2search.export.step import FunctionName, Steps

_FILE = "model.mlpackage"
_DEFAULT = "denoise"
_EIGHT_BITS = ("cross_attention_key", "cross_attention_value", "stem_patch", "head_patch")
#: What may be computed between an exact input and the first product: the rest of the network is float16.
_EXACT_OPERATIONS = {
    *("add", "sub", "mul", "real_div", "cos", "sin"),
    *("concat", "split", "select", "slice_by_index", "stack"),
    *("reshape", "squeeze", "expand_dims", "transpose", "tile", "identity"),
}


@dataclass(frozen=True, kw_only=True)
class CoreML(Exporter):
    """Exports Core ML packages anywhere, and runs them on a Mac.

    Attributes:
        bits: Of most weights: 16, or 4 (palettes of 16 values; of 256 where text and latents come in and out).
        palette: How the 16 values are found: `kmeans`, or spaced evenly, which is quicker (`uniform`).
    """

    name: ClassVar[str] = "coreml"

    bits: Literal[16, 4] = 16
    palette: Literal["kmeans", "uniform"] = "kmeans"

    @property
    def precision(self) -> str:
        """Of weights and activations. See the base class."""
        return "float16" if self.bits == 16 else "w4a16"

    def why_not(self) -> str | None:
        """Return None: coremltools is always there. See the base class."""
        return None

    def dtype(self, name: str, steps: Steps) -> NumberType:
        """Return the type of an input or output. See the base class."""
        return "float32" if name.removeprefix("new_") in steps.exact else "float16"

    def write(self, steps: Steps, folder: Path, progress: Progress) -> Written:
        """Write the package. See the base class."""
        from s2search.export.coreml import palettize
        from s2search.export.coreml_functions import SharedFunctions
        from s2search.export.functions import trace_functions
        from s2search.export.graph import decompositions

        programs = trace_functions(steps, decompositions(), progress, further=5)
        with tempfile.TemporaryDirectory(dir=folder) as shared:
            several = SharedFunctions(Path(shared))
            for done, (function, program) in enumerate(programs.items()):
                progress(2 + done, 7, f"converting {function}")
                with _temporary_files_in(folder) as part:
                    model = self._converted(steps, function, program)
                    if self.bits < 16:
                        model = palettize(model, dict.fromkeys(_EIGHT_BITS, 8), self.bits, self.palette)
                    model.save(str(part / _FILE))
                    del model
                    gc.collect()  # programs refer to themselves, and hold all their weights
                    several.add(function, part / _FILE)
            progress(6, 7, "writing the package")
            config = steps.model.config
            metadata = {"s2search.model": config.digest, "s2search.plan": config.plan_digest or "none"}
            several.save(folder / _FILE, default=_DEFAULT, metadata=metadata)
        progress(7, 7, "")
        facts = {"target": "iOS18", **{name: version(name) for name in ("torch", "coremltools")}}
        return Written(files=dict.fromkeys(programs, _FILE), facts=facts)

    def open(self, package: Package) -> Runtime:
        """Load the package on a Mac. See the base class."""
        if (system := platform.system()) != "Darwin":
            raise InputError(
                f"Core ML does not run on {system}",
                remedy="take the package to a Mac; s2search verify evaluates it here",
            )
        return CoreMLPackage(package)

    def _converted(self, steps: Steps, function: FunctionName, program: Any) -> Any:
        import numpy as np

        from s2search.export.coreml import load_coremltools, quiet
        from s2search.export.coreml_precision import quick_questions

        coremltools = load_coremltools()
        type_of = {"float16": np.float16, "float32": np.float32}

        def features(names: tuple[str, ...]) -> list[Any]:
            return [coremltools.TensorType(name=name, dtype=type_of[self.dtype(name, steps)]) for name in names]

        with quiet(), quick_questions():
            return coremltools.convert(
                program,
                inputs=features(steps.inputs(function)),
                outputs=features(steps.outputs(function)),
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target.iOS18,
                compute_precision=coremltools.transform.FP16ComputePrecision(op_selector=_Halved(steps.exact)),
                skip_model_load=True,
            )


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[Path]:
    """Let coremltools leave its copies of all weights here, not where temporary files may be memory, nor until the end.

    A killed export leaves them in the folder that the next one removes.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=folder) as part:
        tempfile.tempdir = part
        try:
            yield Path(part)
        finally:
            tempfile.tempdir = before


class _Halved:
    """Says which operations are float16: all but those between an exact input and the first product."""

    def __init__(self, exact: tuple[str, ...]) -> None:
        self._exact = {*exact}

    def __call__(self, operation: Any) -> bool:
        given = (value if isinstance(value, (list, tuple)) else (value,) for value in operation.inputs.values())
        names = {value.name for values in given for value in values if value is not None}
        exact = operation.op_type in _EXACT_OPERATIONS and not names.isdisjoint(self._exact)
        if exact:
            self._exact |= {value.name for value in operation.outputs}
        return not exact


class CoreMLPackage(Runtime):
    """Core ML's own models, one per function, each loaded when it is first called. It takes a Mac."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._models: dict[str, Any] = {}

    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run a function. See the base class."""
        from s2search.export.coreml import load_coremltools

        spec = self._package.manifest.function(function)
        if function not in self._models:
            path = str(self._package.folder / spec.file)
            self._models[function] = load_coremltools().models.MLModel(path, function_name=function)
        outputs = self._models[function].predict({one.name: inputs[one.name] for one in spec.inputs})
        return {one.name: outputs[one.name].astype(one.dtype).reshape(one.shape) for one in spec.outputs}

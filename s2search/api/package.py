"""The command `package`: Core ML packages of anybody, held against what is known of the Neural Engine, and run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2search.api.values import PathText
from s2search.document import check_writable
from s2search.errors import InputError, require

if TYPE_CHECKING:
    from s2search.mil.evaluator import Mode
    from s2search.verification.any_package import Evaluated, PackageFindings


def package_lint(path: PathText) -> PackageFindings:
    """Hold a Core ML package against what is known to keep one from the Neural Engine.

    Args:
        path: An .mlpackage of anybody, or a folder that `export` wrote: then all in it.

    Raises:
        InputError: There is no such package, or it is damaged.
    """
    require("torch", "coremltools")
    from s2search.verification.any_package import lint_any

    return lint_any(Path(path))


def package_evaluate(
    path: PathText,
    inputs: PathText | Mapping[str, Any],
    *,
    mode: Mode = "float16",
    function: str | None = None,
    out: PathText | None = None,
) -> Evaluated:
    """Run a function of a Core ML package once, without Core ML.

    Args:
        path: An .mlpackage of anybody, or a folder that `export` wrote.
        inputs: An .npz file, or arrays, by the names of inputs and states; other states start at zeros.
        mode: `float32` rounds nothing, `float16` what every float16 operation returns, `pessimistic` also what it adds
            up.
        function: Its name; by default the package's own choice.
        out: An .npz file for outputs and states.

    Raises:
        InputError: There is no such package or function, it has operations that nothing here computes, the arrays
            do not fit, or `out` is the file of the inputs.
    """
    if out is not None:
        _check_out(Path(out), inputs)
    require("torch", "coremltools")
    from s2search.verification.any_package import evaluate_any
    from s2search.verification.array_file import write_arrays

    given = inputs if isinstance(inputs, Mapping) else Path(os.fspath(inputs))
    found = evaluate_any(Path(path), given, mode, function or "")
    if out is not None:
        write_arrays(Path(out), {**found.outputs, **found.states})
    return found


def _check_out(out: Path, inputs: PathText | Mapping[str, Any]) -> None:
    """Refuse a place that cannot be written, and the file of the inputs, which would be lost."""
    if not isinstance(inputs, Mapping) and Path(os.fspath(inputs)).exists() and out.exists() and out.samefile(inputs):
        raise InputError(f"{str(out)!r} is the file of the inputs, which would be lost", remedy="choose another path")
    check_writable(out)

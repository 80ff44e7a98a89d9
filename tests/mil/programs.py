"""Programs of few operations, built with coremltools' own builder and saved as packages."""

from __future__ import annotations

import contextlib
import gc
import inspect
from pathlib import Path

import numpy as np

from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.mil.program import Program

_TYPES = {"float32": "fp32", "float16": "fp16", "int32": "int32"}


class _Builder:
    """The builder of coremltools, which is imported when the first program is built, not when tests are collected."""

    def __getattr__(self, name):
        def operation(**inputs):
            load_coremltools()
            from coremltools.converters.mil import Builder

            return getattr(Builder, name)(**inputs)

        return operation


def builder():
    """Return coremltools' builder."""
    return _Builder()


def save(path: Path, build, inputs, states=(), *, passes=False) -> Path:
    """Save a package.

    Args:
        path: Where.
        build: Takes the inputs and then the states by name, and returns the output or outputs.
        inputs: Examples of the inputs, in the order of `build`: arrays of float32, float16 or int32.
        states: Shapes of float16 states.
        passes: Whether coremltools may rewrite the program.
    """
    coremltools = load_coremltools()
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

    specs = [mb.TensorSpec(x.shape, dtype=types.string_to_builtin(_TYPES[str(x.dtype)])) for x in inputs] + [
        mb.StateTensorSpec(shape, dtype=types.fp16) for shape in states
    ]
    with quiet_coremltools(), few_objects():
        program = mb.program(input_specs=specs, opset_version=coremltools.target.iOS18)(build)
        options = {} if passes else {"pass_pipeline": coremltools.PassPipeline.EMPTY}
        model = coremltools.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS18,
            compute_precision=coremltools.precision.FLOAT32,
            skip_model_load=True,
            **options,
        )
        model.save(str(path))
    return path


@contextlib.contextmanager
def few_objects():
    """Hide what lives from the collector: coremltools collects in every conversion, among all of torch's objects."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def load(tmp_path: Path, build, inputs, states=()) -> Program:
    """Save a package and read it."""
    return Program.load(save(tmp_path / "one.mlpackage", build, inputs, states))


def named(build, inputs):
    """Return the inputs as tensors by the names that the builder gave them."""
    import torch

    names = list(inspect.signature(build).parameters)
    return {name: torch.from_numpy(np.array(x)) for name, x in zip(names, inputs, strict=False)}

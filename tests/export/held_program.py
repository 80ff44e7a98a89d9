"""A small Core ML package with the names of a streaming step: two functions that share a ring and a tail."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from s2search.exporters.coreml.state import hold_states
from s2search.exporters.package import FunctionSpec, TensorSpec
from s2search.mil.library import load_coremltools, quiet_coremltools
from tests.mil.programs import builder, few_objects, save

HELD = ("keys_00", "tail_01")
SHAPES = {"x": (1, 2), "keys_00": (1, 4), "tail_01": (1, 2), "sum_01": (1, 2), "velocity": (1, 2)}
FILE = "model.mlpackage"
MODEL = "Data/com.apple.CoreML/model.mlmodel"


def denoise(x, keys_00, tail_01, sum_01):
    """Return what reads all of the state."""
    mb = builder()
    seen = mb.add(x=mb.reduce_sum(x=keys_00, axes=[1], keep_dims=True), y=mb.add(x=tail_01, y=sum_01))
    return mb.add(x=x, y=seen, name="velocity")


def advance(x, keys_00, tail_01, sum_01):
    """Return the same, and the state with x in it."""
    mb = builder()
    later = mb.slice_by_index(x=keys_00, begin=[0, 2], end=[1, 4])
    return (
        denoise(x, keys_00, tail_01, sum_01),
        mb.concat(values=[later, x], axis=1, name="new_keys_00"),
        mb.mul(x=mb.add(x=x, y=tail_01), y=np.float16(0.5), name="new_tail_01"),
        mb.add(x=sum_01, y=x, name="new_sum_01"),
    )


def first(x):
    """Return what reads no state."""
    return builder().mul(x=x, y=np.float16(2), name="velocity")


FUNCTIONS = {"first": first, "denoise": denoise, "advance": advance}


def make_package(folder: Path, *, held=HELD):
    """Save the program, and return what stands for its package."""
    coremltools = load_coremltools()
    descriptor = coremltools.utils.MultiFunctionDescriptor()
    for name, build in FUNCTIONS.items():
        inputs = [np.zeros(SHAPES[one], np.float16) for one in taken(name)]
        descriptor.add_function(str(save(folder / f"{name}.mlpackage", build, inputs)), "main", name)
    descriptor.default_function_name = "denoise"
    with quiet_coremltools(), few_objects():
        coremltools.utils.save_multifunction(descriptor, str(folder / FILE))
    edit(folder, lambda specification: hold_states(specification, held))
    functions = {
        name: FunctionSpec(name=name, file=FILE, inputs=specs(taken(name)), outputs=specs(returned(name)))
        for name in FUNCTIONS
    }
    states = specs(("keys_00", "tail_01", "sum_01"))
    every = tuple(functions.values())
    manifest = SimpleNamespace(
        held=held,
        states=states,
        function=functions.__getitem__,
        functions=every,
        stored_functions=every,
        chain=(),
        host=None,
    )
    return SimpleNamespace(folder=folder, manifest=manifest)


def edit(folder: Path, change) -> None:
    """Change the saved specification."""
    specification = load_coremltools().utils.load_spec(str(folder / FILE))
    change(specification)
    (folder / FILE / MODEL).write_bytes(specification.SerializeToString())


def taken(function: str) -> tuple[str, ...]:
    return ("x",) if function == "first" else ("x", "keys_00", "tail_01", "sum_01")


def returned(function: str) -> tuple[str, ...]:
    return ("velocity",) + (("new_keys_00", "new_tail_01", "new_sum_01") if function == "advance" else ())


def specs(names) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, shape=SHAPES[name.removeprefix("new_")], dtype="float16") for name in names)

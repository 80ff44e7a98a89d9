"""Small .mlpackages: each but the clean ones breaks one rule, as a stranger's may."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.mil.programs import builder, few_objects, save

mb = builder()
_rng = np.random.default_rng(0)


def half(*shape: int) -> np.ndarray:
    """Return random float16 numbers."""
    return _rng.normal(size=shape).astype(np.float16)


X = half(1, 32, 8, 64)
KERNEL = half(32, 32, 1, 1)
_WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def convolved(x):
    return mb.relu(x=mb.conv(x=x, weight=KERNEL))


def in_float32(x):
    """Compute two operations in float32, and one in float16."""
    wide = mb.sqrt(x=mb.exp(x=mb.cast(x=x, dtype="fp32"), name="first_wide"))
    return mb.relu(x=mb.cast(x=wide, dtype="fp16"))


def two_states(x, left, right):
    for state in (left, right):
        mb.coreml_update_state(state=state, value=mb.add(x=mb.read_state(input=state), y=x))
    return mb.relu(x=x)


def one_state(x, held):
    """Add to a state, whatever its width; x has its own."""
    total = mb.add(x=mb.read_state(input=held), y=np.float16(1))
    mb.coreml_update_state(state=held, value=total)
    return mb.relu(x=x)


def ring(x, held):
    """Join a state with what is new, and keep its end."""
    joined = mb.concat(values=(mb.read_state(input=held), x), axis=2, name="joined")
    end = mb.slice_by_index(x=joined, begin=[0, 0, 8, 0], end=[1, 32, 24, 64])
    mb.coreml_update_state(state=held, value=end)
    return mb.relu(x=x)


def plain_ring(x, cache):
    """Do the same with a cache that goes in and out."""
    joined = mb.concat(values=(mb.slice_by_index(x=cache, begin=[0, 0, 8, 0], end=[1, 32, 16, 64]), x), axis=2)
    return mb.relu(x=x), mb.identity(x=joined)


def _palette(scaled: bool):
    table, indices = half(1, 1, 1, 1, 16, 1), _rng.integers(0, 16, size=(32, 32, 1, 1)).astype(np.uint8)
    from coremltools.converters.mil.mil import types

    weight = mb.constexpr_lut_to_dense(indices=indices.astype(types.nptype_from_builtin(types.uint4)), lut=table)
    return mb.constexpr_blockwise_shift_scale(data=weight, scale=half(32, 1, 1, 1)) if scaled else weight


def palette(x):
    return mb.conv(x=x, weight=_palette(scaled=False))


def palette_and_state(x, held):
    return mb.conv(x=one_state(x, held), weight=_palette(scaled=False))


def scaled_palette(x):
    return mb.conv(x=x, weight=_palette(scaled=True))


def five_axes(x):
    return mb.reshape(x=mb.relu(x=mb.reshape(x=x, shape=(1, 4, 8, 8, 64))), shape=(1, 32, 8, 64))


def unknown(x):
    return mb.reverse_sequence(x=x, lengths=np.array([8], np.int32), seq_axis=2, batch_axis=0)


def packed_state(x, held):
    """Assign a slice of one state, as Apple advises."""
    new = mb.slice_update(x=mb.read_state(input=held), update=x, begin=[0, 0, 8, 0], end=[1, 32, 16, 64])
    mb.coreml_update_state(state=held, value=new)
    return mb.relu(x=x)


def read_only_cache(x, cache):
    """Read a cache, and return what is new alone."""
    new = mb.conv(x=x, weight=KERNEL)
    tokens, past = (mb.reshape(x=y, shape=(1, 32, 8 * 64)) for y in (new, cache))
    score = mb.softmax(x=mb.matmul(x=tokens, y=past, transpose_x=True), axis=-1)
    mixed = mb.matmul(x=past, y=score, transpose_y=True)
    return mb.reshape(x=mixed, shape=(1, 32, 8, 64)), mb.identity(x=new, name="new_keys")


def float32_border(x):
    """Compute in float16 what is given and wanted in float32."""
    return mb.cast(x=convolved(mb.cast(x=x, dtype="fp16")), dtype="fp32")


def tail(x, held):
    """Join a state with what is new, and keep of it what is new alone: no ring."""
    joined = mb.concat(values=(mb.read_state(input=held), x), axis=2)
    end = mb.slice_by_index(x=joined, begin=[0, 0, 8, 0], end=[1, 32, 16, 64])
    mb.coreml_update_state(state=held, value=end)
    return mb.relu(x=x)


def _built(build: Callable, *inputs: np.ndarray, states: tuple = ()) -> Callable[[Path], Path]:
    return lambda path: save(path, build, inputs, states)


def _grown(size: int) -> Callable[[Path], Path]:
    """Make a package whose weight file has so many bytes, most of them a hole that takes no room."""

    def make(path: Path) -> Path:
        save(path, convolved, [X])
        os.truncate(path / _WEIGHTS, size)
        return path

    return make


def _six_axes(path: Path) -> Path:
    """Make a package of five axes have six, which coremltools refuses to build."""
    from coremltools.proto import Model_pb2

    file = save(path, five_axes, [X]) / "Data/com.apple.CoreML/model.mlmodel"
    model = Model_pb2.Model.FromString(file.read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    for output in (output for operation in block.operations for output in operation.outputs):
        tensor = output.type.tensorType
        if tensor.rank == 5:
            tensor.rank = 6
            tensor.dimensions.add().constant.size = 1
    file.write_bytes(model.SerializeToString())
    return path


def convert_torch(path: Path, module, x, **options) -> Path:
    """Convert a module of torch as most people do."""
    import torch

    from s2search.mil.library import load_coremltools, quiet_coremltools

    coremltools = load_coremltools()
    alias = {torch.ops.aten.alias.default: lambda y: torch.ops.aten.clone(y)}  # which coremltools does not know
    with torch.no_grad(), quiet_coremltools(), few_objects():
        program = torch.export.export(module.eval(), (x,)).run_decompositions(alias)
        coremltools.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS18,
            skip_model_load=True,
            **options,
        ).save(str(path))
    return path


def _torch(path: Path) -> Path:
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.SiLU(), nn.Conv2d(32, 32, 1))
    return convert_torch(path, network, torch.randn(1, 32, 8, 64))


#: Packages by the one rule that they break.
BROKEN = {
    "float32_operation": _built(in_float32, X),
    "states": _built(two_states, X, states=(X.shape, X.shape)),
    "state_width": _built(one_state, X, states=((1, 32, 8, 40),)),
    "io_width": _built(convolved, half(1, 32, 8, 40)),
    "ring_by_concat": _built(ring, X, states=((1, 32, 16, 64),)),
    "weight_file_size": _grown(2**31 + 1),
    "package_size": _grown(10**9 + 1),
    "palette_with_state": _built(palette_and_state, X, states=(X.shape,)),
    "tool_version": _built(scaled_palette, X),
    "no_cover": _built(unknown, X),
    "rank_above_5": _six_axes,
    "rank_above_4": _built(five_axes, X),
}
#: Packages that break none.
CLEAN = {
    "convolution": _built(convolved, X),
    "palette": _built(palette, X),
    "state by slices": _built(packed_state, X, states=((1, 32, 16, 64),)),
    "tail": _built(tail, X, states=(X.shape,)),
    "read-only cache": _built(read_only_cache, X, half(1, 32, 8, 64)),
    "float32 at the border": _built(float32_border, X.astype(np.float32)),
    "torch": _torch,
}

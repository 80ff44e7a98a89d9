"""One item as the exporter's default writes it: what it remembers comes packed by the host, only what is new goes out.

A block's program takes the tensors of a package of one such layer (`exporters/host.py`): `keys`, `values`, `tails` and
`sums`, in float16, with last axes of a multiple of 32; its commit takes none of them and returns what is new. The stem
takes the sinusoids of the noise level. What remembers nothing has the form of `step_call`.

Axes: B batch (1)  T frames  H W rows and columns  D channels  S tokens  E text channels  W text tokens
      R frames of a ring or tail  G tokens of a frame  C chunks  A heads  K channels per head  F frequencies
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from s2search.block import Block, KeptRing, KeptSums, KeptTail, LinearState, Shape, Stream
from s2search.exporters.coreml.channels_first_layer import channels_first_part
from s2search.exporters.coreml.packed_layer import PackedOwnLayoutLayer, PackedTwinLayer, packed_layer
from s2search.exporters.coreml.packed_state import PackedState, trimmed, widened
from s2search.exporters.host import Host, HostForm, padded
from s2search.exporters.package import NEW
from s2search.exporters.past import PAST_BIAS, StepShape, Tensors, layer_past
from s2search.measurement.base import Item
from s2search.measurement.step_call import StepCall, contiguous, part_returned, step_call, step_shape, tokens_last
from s2search.measurement.torch_call import TorchCall, torch_call
from s2search.preset import PATCH

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Layer = PackedTwinLayer | PackedOwnLayoutLayer
_NUMPY = {torch.float64: np.float64, torch.float32: np.float32}


@torch.no_grad()
def packed_call(item: Item, dtype: torch.dtype = torch.float32) -> StepCall:
    """Return an item in this form, with the weights, inputs and state of its `torch_call`.

    Raises:
        InputError: A block has no such form.
    """
    if isinstance(item.part, Block):
        return step_call(item, "bc1s", dtype) if item.scenario == "clip" else _block_call(item, item.part, dtype)
    if item.part.name == "stem":
        return _stem_call(item, dtype)
    return step_call(item, "bc1s", dtype)


class _Read(nn.Module):
    """Reads as `denoise` does."""

    def __init__(self, layer: _Layer, form: HostForm) -> None:
        super().__init__()
        self.layer, self._way, self._packed = layer.module, layer, PackedState(form)
        self.eval()

    def forward(self, x_1D1S: Tensor, modulation_1M11: Tensor, text: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        past = dict(zip(self._packed.names, state, strict=True))
        given = self._packed.layers(past).get(0, {})
        return (self._way.read(x_1D1S, modulation_1M11, text, text, given),)


class _Commit(nn.Module):
    """Returns what the host shall keep of a chunk, as `commit` does."""

    def __init__(self, layer: _Layer, form: HostForm) -> None:
        super().__init__()
        self.layer, self._way, self._packed = layer.module, layer, PackedState(form)
        self.eval()

    def forward(self, x_1D1S: Tensor, modulation_1M11: Tensor) -> tuple[Tensor, ...]:
        new = self._way.new(x_1D1S, modulation_1M11)
        return tuple(self._packed.new({0: new}, {}).values())


class _Stem(nn.Module):
    """The stem as a package calls it: of padded latents and sinusoids."""

    def __init__(self, stem: Any, columns: int) -> None:
        super().__init__()
        self.stem, self._columns = stem, columns
        self.eval()

    def forward(self, latents_1CRX: Tensor, time_111F: Tensor) -> tuple[Tensor, ...]:
        time_1F11 = trimmed(time_111F, int(self.stem.time_channels)).reshape(1, -1, 1, 1)
        returned: tuple[Tensor, ...] = tuple(self.stem.embedded(trimmed(latents_1CRX, self._columns), time_1F11))
        return returned


def _block_call(item: Item, block: Block, dtype: torch.dtype) -> StepCall:
    call = torch_call(item, torch.device("cpu"), dtype)
    module: Any = call.module.block if item.role == "commit" else call.module
    step = step_shape(item.shape, block.stream)
    empty = module.initial_state(1, step.grid, step.window, torch.device("cpu"), dtype)
    layer = packed_layer(block, module, empty, 0, step, step.grid)
    form = _form(layer, item.shape, step)
    x_BTHWD, modulation_BT6D = call.arguments["x"], call.arguments["modulation"]
    arguments = {"x": tokens_last(x_BTHWD), "modulation": modulation_BT6D.reshape(1, -1, 1, 1)}
    if item.role == "commit":
        new = _new(form, module, call, empty, step)
        return StepCall(
            module=_Commit(layer, form),
            arguments=contiguous(arguments),
            outputs=tuple(new),
            state=(),
            expected=tuple(new.values()),
            kept_bytes=form.state_bytes,
        )
    text_1WE = call.arguments["text"]
    arguments["text"] = text_1WE if layer.own_layout else text_1WE.transpose(1, 2)[:, :, None]
    state = _past(form, Host(form, _NUMPY[dtype], _NUMPY[dtype]), _tensors_of(call.state, empty, step))
    return StepCall(
        module=_Read(layer, form),
        arguments=contiguous(arguments | state),
        outputs=("y",),
        state=tuple(name for name in state if name != PAST_BIAS),
        expected=(tokens_last(call()),),
        kept_bytes=form.state_bytes,
    )


def _stem_call(item: Item, dtype: torch.dtype) -> StepCall:
    call = torch_call(item, torch.device("cpu"), dtype)
    stem = channels_first_part(item.part, call.module, step_shape(item.shape, Stream.HIGH))
    if not hasattr(stem, "embedded"):
        return step_call(item, "bc1s", dtype)
    latents_1CTYX, channels = call.arguments["latents"], int(stem.time_channels)  # type: ignore[arg-type]
    columns = latents_1CTYX.shape[-1]
    time_F = torch.from_numpy(_sinusoids(channels, float(call.arguments["time"][0, 0]))).to(dtype)
    return StepCall(
        module=_Stem(stem, columns),
        arguments={
            "latents": widened(latents_1CTYX.flatten(2, 3), padded(columns)).contiguous(),
            "time": widened(time_F.reshape(1, 1, 1, -1), padded(channels)).contiguous(),
        },
        outputs=("x", "modulation", "time_embedding"),
        state=(),
        expected=part_returned(item, call),
    )


def _sinusoids(channels: int, s: float) -> NDArray[Any]:
    form = HostForm(
        latents=(1, 1, 1, 1), text=(1, 1), time_channels=channels, residual=False, channels=1, slots=1, sink_frames=0,
        chunk_slots=1, sink_chunks=0,
    )  # fmt: skip
    return Host(form).sinusoids(s)


def _form(layer: _Layer, shape: Shape, step: StepShape) -> HostForm:
    """Return what a host must know of a package of this layer alone."""
    return HostForm(
        latents=(1, shape.frames, PATCH[1] * shape.height, PATCH[2] * shape.width),
        text=(shape.text_tokens, shape.text_channels),
        time_channels=0,
        residual=False,
        channels=shape.channels,
        slots=step.slots,
        sink_frames=step.window.sink_frames,
        chunk_slots=step.chunk_slots,
        sink_chunks=-(-step.window.sink_frames // step.frames),
        rings=tuple(one for one in layer.kept if isinstance(one, KeptRing)),
        tails=tuple(one for one in layer.kept if isinstance(one, KeptTail)),
        sums=tuple(one for one in layer.kept if isinstance(one, KeptSums)),
    )


def _tensors_of(state: Any, empty: Any, step: StepShape) -> Tensors:
    """Return a block's state as the tensors of a step's layer 0."""
    past = layer_past(0, empty, step)
    bias = {PAST_BIAS: torch.zeros(step.slots)}
    return past.write(past.empty() | bias, state)


def _past(form: HostForm, host: Host, tensors: Tensors) -> Tensors:
    """Return what a program is given of a full window."""
    shapes, kind = form.shapes(), host.kind
    state: dict[str, NDArray[Any]] = {"frames": np.full(1, form.slots, host.exact)}
    for name, source in (("keys", "keys_00"), ("values", "values_00"), ("tails", "tail_00")):
        if name in shapes:
            state[name] = widened(_channels_first(tensors[source]), shapes[name][3]).numpy().astype(kind)
    if form.sums:
        rows_1CXK = _sums(tensors, form.slots_of(form.sums[0]))
        state["sums"] = widened(rows_1CXK, shapes["new_sums"][3]).numpy().astype(host.exact)
    return {name: torch.from_numpy(array) for name, array in host.past(state).items()}


def _new(form: HostForm, module: Any, call: TorchCall, empty: Any, step: StepShape) -> Tensors:
    """Return what a commit shall give: of the block's own state after it, what is new; of sums, those of one chunk."""
    shapes, after = form.shapes(), _tensors_of(call(), empty, step)
    new: Tensors = {}
    for name, source, frames in (
        ("new_keys", "keys_00", form.ring_frames),
        ("new_values", "values_00", form.ring_frames),
        ("new_tails", "tail_00", form.tail_frames(form.tails[0]) if form.tails else 0),
    ):
        if name in shapes:
            new[name] = widened(_channels_first(after[source][:, -frames:]), shapes[name][3])
    if form.sums:
        (one,) = form.sums
        alone = module.commit(call.arguments["x"], call.arguments["modulation"], empty)
        assert isinstance(alone, LinearState)
        assert alone.sum_BCAKK is not None
        assert alone.norm_BCAK is not None
        rows_1CXK = _sums({"sum_00": alone.sum_BCAKK[:, -1], "norm_00": alone.norm_BCAK[:, -1]}, 1)
        share = one.decay if one.memory == "decay" else 1.0
        new["new_sums"] = widened(rows_1CXK / share, shapes["new_sums"][3])
    return {NEW + name: new[NEW + name] for name in ("keys", "values", "tails", "sums") if NEW + name in new}


def _channels_first(x_BRGD: Tensor) -> Tensor:
    """Return (1, D, 1, R G)."""
    return x_BRGD.flatten(1, 2).transpose(1, 2)[:, :, None]


def _sums(tensors: Tensors, slots: int) -> Tensor:
    """Return S transposed and z of every head (1, C, A (K + 1), K)."""
    sum_BCKK, norm_BCK = tensors["sum_00"], tensors["norm_00"]
    rows = torch.cat((sum_BCKK.transpose(2, 3), norm_BCK[:, :, None]), dim=2)
    return rows.reshape(1, slots, -1, rows.shape[3])

"""A model as a package would compute it with quantised matrices, without a package: fake quantisation.

Numbers are rounded as coremltools rounds them, by its own functions, and then used in float32. So what quantisation
costs can be measured in seconds, and before anything is exported. Rounding of all else to float16 is left out: it is
20 dB below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s2search.block import LinearState, RingState, Stream
from s2search.errors import InputError
from s2search.exporters.prompt_tokens import PromptTokens
from s2search.exporters.step import StepShape
from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.network.network import LayerStates, S2DiT
from s2search.network.walk import Pass
from s2search.precision.documents import Palette
from s2search.precision.part import LEAST_NUMBERS, PartPrecision, blob_bytes, part_of
from s2search.streaming.sampler_of import briefly
from s2search.streaming.state import StreamState

_LOWEST, _HIGHEST = -128, 127
_LEAST_HALF = 2.0**-14  # smallest normal number of float16


def matrices(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers whose matrices are large enough to be compressed, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.numel() > LEAST_NUMBERS
    }


@torch.no_grad()
def rounded_weight(weight_OI: Tensor, precision: PartPrecision, palette: Palette) -> Tensor:
    """Return a matrix with the values that a package stores, in float32."""
    if precision.weight_bits == 16 or weight_OI.numel() <= LEAST_NUMBERS:
        return weight_OI.half().float()
    load_coremltools()
    from coremltools.optimize.coreml import _quantization_passes

    passes = _quantization_passes.palettize_weights
    rows = weight_OI.shape[0]
    group = precision.group if precision.tables(rows) > 1 else 0
    with quiet_coremltools():
        table = passes.blockwise_compress(
            weight_OI.half().numpy(),
            palette.upper(),
            precision.weight_bits,
            [group, 0],
            channel_axis=0,
        )
        return torch.from_numpy(passes.decompress(table).astype(np.float16)).float()


@dataclass(frozen=True, kw_only=True)
class InputRange:
    """The values that a matrix was multiplied with: the smallest and the largest."""

    low: float
    high: float

    @property
    def scale_and_zero(self) -> tuple[float, int]:
        """Distance of the 256 values, as float16 holds it, and which of them, from -128 on, stands for 0.

        Source: Jacob et al., "Quantization and Training of Neural Networks" (2018), section 3: 0 is exact.
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = float(np.float16(max((high - low) / (_HIGHEST - _LOWEST), _LEAST_HALF)))
        return scale, round(min(max(_LOWEST - low / scale, _LOWEST), _HIGHEST))

    def rounded(self, x: Tensor) -> Tensor:
        """Return the nearest of the 256 values."""
        scale, zero = self.scale_and_zero
        return ((x / scale).round() + zero).clamp(_LOWEST, _HIGHEST).sub(zero).mul(scale)

    def joined(self, x: Tensor) -> InputRange:
        """Return the range with some more values."""
        low, high = x.aminmax()
        return InputRange(low=min(self.low, low.item()), high=max(self.high, high.item()))

    def over(self, other: InputRange) -> InputRange:
        """Return the smallest range that covers two."""
        return InputRange(low=min(self.low, other.low), high=max(self.high, other.high))


Ranges = Mapping[str, InputRange]


@contextmanager
def quantised(
    model: S2DiT, parts: Mapping[str, PartPrecision], palette: Palette, ranges: Ranges, cache: dict[Any, Tensor]
) -> Iterator[None]:
    """Let a model compute with quantised matrices and inputs of matrices; afterwards it is what it was.

    Args:
        model: In float32.
        parts: Precision by part; those that are left out stay float32.
        palette: How tables are found.
        ranges: Of inputs, by linear layer; needed where activations have 8 bits.
        cache: Keeps rounded matrices from call to call, in float16.
    """
    with ExitStack() as undo:
        for name, linear in matrices(model).items():
            precision = parts.get(part_of(name))
            if precision is None:
                continue
            key = (name, precision.weight_bits, precision.group)
            if key not in cache:
                cache[key] = rounded_weight(linear.weight, precision, palette).half()
            undo.callback(setattr, linear.weight, "data", linear.weight.data)
            linear.weight.data = cache[key].float()
            if precision.rounds_inputs:
                handle = linear.register_forward_pre_hook(_rounding(ranges[name]))
                undo.callback(handle.remove)
        yield


def _rounding(span: InputRange) -> Any:
    return lambda module, inputs: (span.rounded(inputs[0]),)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A stream that a model made: what it was asked in every pass, and its answers.

    `passes` holds (latents, s, what was asked) in their order, and `velocities` the answers of those that read.
    """

    text_BSE: Tensor
    shape: StepShape
    passes: tuple[tuple[Tensor, Tensor, Pass], ...]
    velocities: tuple[Tensor, ...]

    @torch.no_grad()
    def noise(self, model: S2DiT) -> float:
        """Return the noise power of a model's velocities relative to the signal, for the same passes.

        Teacher forcing: the model reads and commits the recorded latents, into a state of its own.
        """
        noise = signal = 0.0
        for wanted_BCTYX, got_BCTYX in zip(self.velocities, self._answers(model), strict=True):
            noise += (wanted_BCTYX - got_BCTYX).double().square().sum().item()
            signal += wanted_BCTYX.double().square().sum().item()
        if not np.isfinite(noise) or signal == 0:
            raise InputError(
                f"the velocities have the power {signal:g} and the noise {noise:g}",
                remedy="check the weights: the model gives nothing to compare with",
            )
        return noise / signal

    def _answers(self, model: S2DiT) -> Iterator[Tensor]:
        state: LayerStates = model.initial_state(1, self.shape.grid, window=self.shape.window)
        for latents_BCTYX, s_BT, what in self.passes:
            if what == "advance":
                velocity_BCTYX, state = model.advance(latents_BCTYX, s_BT, self.text_BSE, state)
                yield velocity_BCTYX
            elif what == "commit":
                state = model.commit(latents_BCTYX, s_BT, self.text_BSE, state)
            else:
                yield model(latents_BCTYX, s_BT, self.text_BSE, state)


class Recorder:
    """A model that notes what it is asked and what it answers, for a sampler."""

    def __init__(self, model: S2DiT) -> None:
        self._model, self.config = model, model.config
        self.parameters, self.weights_digest = model.parameters, model.weights_digest
        self.initial_state = model.initial_state
        self.passes: list[tuple[Tensor, Tensor, Pass]] = []
        self.velocities: list[Tensor] = []

    def began(self, latents_BCTYX: Tensor, s_BT: Tensor, what: Pass) -> None:
        """Note what is asked."""
        self.passes.append((latents_BCTYX, s_BT, what))

    def answered(self, velocity_BCTYX: Tensor) -> None:
        """Note the answer."""
        self.velocities.append(velocity_BCTYX)

    def __call__(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates | None = None
    ) -> Tensor:
        """Return the velocity."""
        self.began(latents_BCTYX, s_BT, "read")
        velocity_BCTYX: Tensor = self._model(latents_BCTYX, s_BT, text_BSE, state)
        self.answered(velocity_BCTYX)
        return velocity_BCTYX

    def commit(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> LayerStates:
        """Return the state with this chunk added."""
        self.began(latents_BCTYX, s_BT, "commit")
        return self._model.commit(latents_BCTYX, s_BT, text_BSE, state)

    def advance(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> tuple[Tensor, LayerStates]:
        """Return the velocity, and the state with this chunk added."""
        self.began(latents_BCTYX, s_BT, "advance")
        velocity_BCTYX, new = self._model.advance(latents_BCTYX, s_BT, text_BSE, state)
        self.answered(velocity_BCTYX)
        return velocity_BCTYX, new


@torch.no_grad()
def record(model: S2DiT, shape: StepShape, *, chunks: int, seed: int, prompts: PromptTokens | None = None) -> Recording:
    """Let a model stream as it was trained, from noise that depends on the seed alone; note every pass.

    The text is the prompt that ranges do not come from: by default a hashed one.
    """
    recorder, sampler = Recorder(model), briefly(model.config)
    text_BSE = (prompts or PromptTokens.hashed(model.config.preset)).held_out
    state = StreamState.start(recorder, shape.grid, seed=seed, window=shape.window)
    for _ in range(chunks):
        _, state = sampler.next_chunk(recorder, text_BSE, state, frames=shape.frames)
    return Recording(
        text_BSE=text_BSE, shape=shape, passes=tuple(recorder.passes), velocities=tuple(recorder.velocities)
    )


def weights_digest(model: nn.Module) -> str:
    """Return a hash of all weights: the digest of a model's config is that of its sizes and layout only."""
    found = hashlib.sha256()
    for name, x in model.state_dict().items():
        found.update(name.encode())
        found.update(x.detach().contiguous().numpy().data)
    return f"sha256:{found.hexdigest()}"


def part_bytes(model: S2DiT, part: str, precision: PartPrecision) -> int:
    """Return the bytes of a part's matrices as a package stores them."""
    return sum(
        precision.matrix_bytes(*linear.weight.shape)
        for name, linear in matrices(model).items()
        if part_of(name) == part
    )


def rest_bytes_by_name(model: S2DiT, frames: int) -> dict[str, int]:
    """Return the bytes of every weight that stays float16; depthwise kernels as bands over the frames of a chunk."""
    counts = {name: x.numel() for name, x in model.named_parameters()}
    for name in matrices(model):
        del counts[f"{name}.weight"]
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv3d):
            counts[f"{name}.weight"] *= frames * (frames + module.kernel_size[0] - 1) // module.kernel_size[0]
            if module.bias is not None:
                counts[f"{name}.bias"] *= frames
    return {name: blob_bytes(2 * count) for name, count in counts.items()}


def rest_bytes(model: S2DiT, frames: int) -> int:
    """Return the bytes of all weights that stay float16."""
    return sum(rest_bytes_by_name(model, frames).values())


@dataclass(frozen=True, kw_only=True)
class GridConstants:
    """What a layer's program holds beside weights: tables by kind, tokens and channels; and zeros, in bytes."""

    tables: frozenset[tuple[str, int, int]] = frozenset()
    zeros: int = 0

    def joined(self, other: GridConstants) -> GridConstants:
        """Return what a program of both holds: tables that are equal once, and the most zeros."""
        return GridConstants(tables=self.tables | other.tables, zeros=max(self.zeros, other.zeros))

    @property
    def bytes(self) -> int:
        """Bytes of all of them: cosines and sines of every table."""
        return self.zeros + sum(2 * blob_bytes(2 * count * channels) for _, count, channels in self.tables)


def grid_constants(model: S2DiT, shape: StepShape, twins: Container[int] = ()) -> list[GridConstants]:
    """Return the constants that every layer has beside the weights: they grow with the grid.

    Tables of rotary embeddings (cosines and sines of each token and pair of channels, of queries and of keys), and the
    zeros that a first chunk's convolution reads. Layers with channels first, whose numbers are `twins`, have tables of
    every channel.
    """
    (rows, columns), found = shape.grid, []
    states = model.initial_state(1, shape.grid, window=shape.window)
    for number, (stream, state) in enumerate(zip(model.streams, states, strict=True)):
        shared = 1 if number in twins else 2  # channels that a row of a table serves
        tables, zeros = set[tuple[str, int, int]](), 0
        if isinstance(state, RingState):
            height, width, _, channels = state.keys_BTHWAK.shape[2:]
            queries = shape.frames * (rows * columns if stream is Stream.HIGH else height * width)
            spans = {"keys": (shape.slots + shape.frames) * height * width, "queries": queries, "first": queries}
            tables = {(f"{kind} {stream}", count, channels // shared) for kind, count in spans.items()}
        elif isinstance(state, LinearState):
            if state.norm_BCAK is not None:
                tables.add(("linear", shape.frames * rows * columns, state.norm_BCAK.shape[-1] // shared))
            if state.tail_BTHWD is not None:
                zeros = blob_bytes(2 * state.tail_BTHWD.numel())
        found.append(GridConstants(tables=frozenset(tables), zeros=zeros))
    return found

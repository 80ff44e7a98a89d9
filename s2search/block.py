"""What a block is: a specification that knows its costs without torch, and makes its module in every form with it.

A part of the model (a block, the stem, the head, a switch between streams) declares its parameters, its activation
peak and its floating-point operations as formulas, and `build` makes the `torch.nn.Module` that they describe. The
formulas are tested against counted ones. A block also names the stream it runs in and the bytes of its streaming state.

The same specification makes the module's other forms: `fused`, for running fast, and `channels_first`, for phones. A
module knows nothing of its forms, so every arrow runs from the specification over a form to the module.

Axes, here and in blocks/:  B batch  T latent frames  H W token rows and columns  D channels  N tokens (T*H*W)
                            A heads  K channels per head  S text tokens  E text channels
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from s2search.errors import InputError, UnknownNameError
from s2search.registry import Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn

Scenario = Literal["stream", "clip"]
_LEAST_SUM_BYTES = 4


class Stream(IntEnum):
    """The two resolutions of the sandwich. A switch stands wherever consecutive layers differ in it."""

    HIGH = 0
    LOW = 1


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes that decide what one call of a part costs.

    `frames`, `height` and `width` count tokens of the high-resolution stream: for the published phone model one latent
    frame of 36x64 in patches of 2x2 is 18x32 tokens, and a chunk has 3 frames. `context_frames` are the past latent
    frames that softmax attention still sees (window chunks times chunk frames); 0 where attention is bidirectional
    over the whole clip.
    """

    frames: int
    height: int
    width: int
    channels: int
    heads: int
    feed_forward: int
    text_tokens: int
    text_channels: int
    context_frames: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "context_frames" else 1
            if value < least:
                raise InputError(f"{field.name} is {value}", allowed=f"at least {least}", remedy="correct the shape")
        if self.channels % self.heads:
            raise InputError(
                f"{self.channels} channels do not divide into {self.heads} heads", remedy="correct the shape"
            )

    @property
    def tokens(self) -> int:
        """Tokens of the high-resolution stream, N."""
        return self.frames * self.height * self.width

    @property
    def low_height(self) -> int:
        """Token rows of the low-resolution stream; an odd grid is padded by one row."""
        return -(-self.height // 2)

    @property
    def low_width(self) -> int:
        """Token columns of the low-resolution stream; an odd grid is padded by one column."""
        return -(-self.width // 2)

    @property
    def low_tokens(self) -> int:
        """Tokens of the low-resolution stream."""
        return self.frames * self.low_height * self.low_width

    @property
    def head_channels(self) -> int:
        """Channels per head, K."""
        return self.channels // self.heads

    @property
    def grid(self) -> str:
        """The token grid as people write it: frames x rows x columns."""
        return f"{self.frames}x{self.height}x{self.width}"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How many parameters a part has, by how precisely a phone must keep them.

    `matrix`: projections and feed-forwards of layers. `text`: projections that read text tokens. `boundary`: matrices
    that all tokens pass through: the model's two ends with its time embedding, and the switches between streams.
    `small`: norms, biases, gates, tables, feature maps, depthwise kernels.
    """

    matrix: int = 0
    text: int = 0
    boundary: int = 0
    small: int = 0

    @property
    def count(self) -> int:
        """All parameters."""
        return self.matrix + self.text + self.boundary + self.small


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Bits per stored number. Linear-attention sums are float32 in every precision, so they are not listed here.

    `w4a8` follows the phone of the paper: most weights 4-bit, in/out projections and text layers 8-bit, activations
    8-bit (Source: S2DiT, table A3). That switches and time embedding have 8 bits as well, and that small parameters and
    attention rings stay float16, is our choice: so the exporter `coreml` writes them. `w4a16` has the same weights and
    float16 activations: what Core ML's palettes give without calibration.
    """

    name: str
    matrix_bits: int
    text_bits: int
    boundary_bits: int
    small_bits: int
    activation_bits: int
    ring_bits: int

    @classmethod
    def named(cls, name: str) -> Precision:
        """Return a known precision.

        >>> Precision.named("w4a8").weight_bytes(Parameters(matrix=1000, small=10))
        520
        """
        if name not in PRECISIONS:
            raise UnknownNameError("precision", name, PRECISIONS)
        return PRECISIONS[name]

    def weight_bytes(self, parameters: Parameters) -> int:
        """Return the bytes of stored weights, rounded up."""
        bits = (
            self.matrix_bits * parameters.matrix
            + self.text_bits * parameters.text
            + self.boundary_bits * parameters.boundary
            + self.small_bits * parameters.small
        )
        return -(-bits // 8)


def _uniform(name: str, bits: int) -> Precision:
    return Precision(
        name=name,
        matrix_bits=bits,
        text_bits=bits,
        boundary_bits=bits,
        small_bits=bits,
        activation_bits=bits,
        ring_bits=bits,
    )


def _compressed(weight_bits: int, activation_bits: int) -> Precision:
    return Precision(
        name=f"w{weight_bits}a{activation_bits}",
        matrix_bits=weight_bits,
        text_bits=8,
        boundary_bits=8,
        small_bits=16,
        activation_bits=activation_bits,
        ring_bits=16,
    )


_KNOWN = (
    *(_uniform(name, bits) for name, bits in (("float32", 32), ("float16", 16), ("bfloat16", 16))),
    *(_compressed(weight_bits, activation_bits) for weight_bits in (4, 6, 8) for activation_bits in (8, 16)),
)
PRECISIONS = {precision.name: precision for precision in _KNOWN}


class Part(Plugin, ABC):
    """A piece of the model with a cost. Subclasses are frozen keyword-only dataclasses; their fields are options."""

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name: so they tell one table row from another."""
        return dict(sorted(super().options.items()))

    @abstractmethod
    def parameters(self, shape: Shape) -> Parameters:
        """Count the parameters of the module that `build` makes; they do not depend on the token grid."""

    @abstractmethod
    def peak_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of all activations alive at the worst moment of one call, input and output included."""

    @abstractmethod
    def flops(self, shape: Shape) -> int:
        """Floating-point operations of one call: two per multiply-add of matrix products and convolutions."""

    @abstractmethod
    def build(self, shape: Shape) -> nn.Module:
        """Make the module. Imports torch."""

    def channels_first(self, module: Any, frames: int, grid: tuple[int, int], window: Window) -> nn.Module | None:
        """Return what `build` made again with channels before tokens, (1, D, 1, S), from the same weights.

        Args:
            module: What `build` made.
            frames: Latent frames of a chunk.
            grid: Rows and columns of a block's own stream; for the other parts, of the high stream.
            window: The past that a stream sees.

        Returns:
            A module for this chunk length, grid and window, whose weights have the module's names; None where there is
            no such form.
        """
        return None


class Block(Part):
    """A layer that the search may place.

    The module that `build` makes keeps this contract:
      `forward(x_BTHWD, modulation_BT6D, text_BSE, state=None) -> x_BTHWD` reads: it never changes the state. Without a
      state attention is bidirectional over the T frames given; with one, the frames are a chunk that also sees what
      the state remembers. `modulation` has one entry per frame, or one for all (T = 1).
      `initial_state(batch, grid, window, device, dtype) -> state` remembers nothing yet. `grid` has the rows and
      columns of the block's own stream.
      `commit(x_BTHWD, modulation_BT6D, state) -> state` returns what a later chunk may see of this one.
      Optionally `advance(x_BTHWD, modulation_BT6D, text_BSE, state) -> (x_BTHWD, state)` returns what `forward` and
      `commit` return, and makes what both need once.
      Optionally `read_text(text_BSE) -> words` is called once per prompt: `forward` and `advance` take the words in
      the text's place.
    States are frozen dataclasses of tensors and plain values. One module serves every grid, chunk length and window.
    Blocks of the low stream get and give the low-resolution grid; the switches stand between.

    The module that `channels_first` makes of it keeps this one. `state` is what it remembers, empty: tensors by name,
      `sum` and `norm` in float32. `forward(x_1D1S, modulation_1M11, text_1E1W, past)` reads, where `past` is such a
      dictionary, or None before the first chunk, and `commit(x_1D1S, modulation_1M11, past)` returns the next one.
      Where `reads_bias` is true, `past` also has `bias`, what is added to the scores of every frame of a full ring, and
      `full`, 1 once all its frames are there. A block without this form runs as it is, between two transpositions.
    Where the host keeps the state (`s2search/exporters/host.py`), the same module says in `kept` what that is, a tuple
      of `KeptRing`, `KeptTail` and `KeptSums`. `read(x_1D1S, modulation_1M11, text_1E1W, given)` reads what the host
      gives: for a ring `keys` and `values` (1, D, 1, R G), frame after frame, and `bias` (1, 1, 1, R G + T G), what is
      added to the scores of the ring's keys and the chunk's own; a `tail` (1, D, 1, R G); `sums` (1, A, K + 2, K); or
      None before the first chunk. `new(x_1D1S, modulation_1M11)` returns what is new: `keys` and `values` (1, D, 1, T
      G), the chunk's last frames as `tail`, at most as many as are kept, and its `sums` (1, A, K + 1, K).
    """

    symbol: ClassVar[str]
    stream: ClassVar[Stream]

    @abstractmethod
    def state_bytes(self, shape: Shape, precision: Precision) -> int:
        """Bytes of streaming state for batch 1 once the window is full; 0 where `context_frames` is 0."""

    def fused(self, module: Any) -> nn.Module:
        """Return what `build` made again for running fast: the same contract, the same numbers but for rounding.

        It shares the module's weights, or copies those that it lays out otherwise. By default it is the module itself.
        """
        return module  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which past latent frames a stream may still see: the latest `frames` (None: all) and its first `sink_frames`.

    Source: sinks as in Xiao et al., "StreamingLLM" (2024): a sink stands right before the window, however long ago
    it was, so that positions stay in the range that training saw.
    """

    frames: int | None
    sink_frames: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "sink_frames"):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"{name} of the window is {getattr(self, name)}", allowed="at least 0")


@dataclass(frozen=True, kw_only=True)
class KeptRing:
    """Raw keys and values of a window's frames, kept for a layer by who runs a package.

    Attributes:
        layer: Its number.
        frame_tokens: Keys of a frame, G.
    """

    layer: int = 0
    frame_tokens: int


@dataclass(frozen=True, kw_only=True)
class KeptTail:
    """The last frames that a causal convolution still reaches.

    Attributes:
        layer: Its number.
        frames: How many.
        frame_tokens: Tokens of a frame, G.
    """

    layer: int = 0
    frames: int
    frame_tokens: int


@dataclass(frozen=True, kw_only=True)
class KeptSums:
    """S and z of linear attention, per head.

    Of every head they are K + 1 rows of K numbers: S transposed, a row per channel of values, then z. Where they are
    read there is one row more: see `s2search/exporters/host.py`.

    Attributes:
        layer: Its number.
        heads: A; every head has K = D / A channels.
        memory: `running` adds chunks up, `decay` weighs what was there by `decay` when one is added, `window` keeps
            those of the window's and the sink's chunks.
        decay: Of `decay`.
    """

    layer: int = 0
    heads: int
    memory: Literal["running", "window", "decay"] = "running"
    decay: float = 1.0


Kept = KeptRing | KeptTail | KeptSums


def largest_share(frames: int) -> float:
    """Return what a chunk's sums are multiplied with where little or nothing came before, a power of 2.

    z is the features' mean over a frame's tokens, times the frames: divided by four times as much it is of the size of
    a feature over four, so that its products with features fit float16.

    >>> largest_share(3)
    0.0625
    """
    return 2.0 ** -math.ceil(math.log2(4 * frames))


@dataclass(frozen=True, kw_only=True)
class RingState:
    """What softmax attention remembers: raw (unrotated) keys and values of the sink's and the window's frames.

    Shapes: `keys_BTHWAK`, `values_BTHWAK` with T at most the frames of both, oldest first, on the grid that the block
    keeps. `bias_T` is added to the scores of every frame's keys: a graph of fixed shapes hides the frames that are not
    there yet so (None: all are seen).
    """

    keys_BTHWAK: Tensor
    values_BTHWAK: Tensor
    window: Window
    bias_T: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class LinearState:
    """What linear attention remembers: sums in float32 at least, and the convolution's tail.

    Shapes: `sum_BCAKK` holds sum_j phi(k_j) v_j^T, `norm_BCAK` holds sum_j phi(k_j), both divided by the tokens of one
    frame (which cancels, and keeps float16 copies in range). C is 1 where all past chunks are added up, and counts the
    chunks remembered where each keeps sums of its own. `tail_BTHWD` holds the last frames that a causal convolution
    still reaches. `chunk_frames` is how many frames each chunk has where that decides which sums the window keeps; null
    before the first.
    """

    sum_BCAKK: Tensor | None
    norm_BCAK: Tensor | None
    tail_BTHWD: Tensor | None
    window: Window
    chunk_frames: int | None = None

    def __post_init__(self) -> None:
        for sums in (self.sum_BCAKK, self.norm_BCAK):
            if sums is not None and sums.dtype.itemsize < _LEAST_SUM_BYTES:
                raise InputError(
                    f"a linear state has sums of {sums.dtype}",
                    allowed="float32 or wider: shorter sums drift without limit",
                    remedy="convert keys, values and tails only",
                )

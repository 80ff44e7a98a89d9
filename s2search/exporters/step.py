"""One streaming step of a model as functions of named tensors with fixed shapes: what every runtime can be given.

Functions: `first` and `denoise` return a velocity, without and with a past; `commit` returns the state with this chunk
added; `advance` returns both from one pass. `reuse_last` streams by `denoise` and `advance`, `clean_pass` by `denoise`
and `commit`. All read `latents` (1, C, T, Y, X), `s` (1, 1) and `text` (1, S, E), and all but `first` the state.

The state has the size of a full window from the start. Frames stand at its end, the newest last, and `past_bias` hides
the frames that are not there yet: it is 0 or MASKED per frame, and added to the scores of the frame's keys. So the
first chunks run through the same functions as all others. Softmax attention counts positions from the oldest slot
instead of the oldest frame; only offsets matter, so the numbers are the same. Sums that are not there yet are 0.

Per layer: `keys_07`, `values_07` (1, frames, tokens, D) of softmax attention; `sum_07` (1, chunks * heads, K, K),
`norm_07` (1, chunks * heads, K), both float32 at least, and `tail_07` (1, frames, tokens, D) of LCHA. What a function
returns for `keys_07` is called `new_keys_07`. No tensor of a function's border has more than five axes.

Axes: B batch (1)  C latent channels  T frames  Y X latent rows and columns  S text tokens  E text channels  D channels
      R slots of frames or chunks  N tokens of a frame  A heads  K channels per head
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from s2search.exporters.host import MASKED, HostForm
from s2search.exporters.package import NEW
from s2search.exporters.past import FUNCTIONS, PAST_BIAS, FunctionName, StepShape, Tensors, layer_past
from s2search.network.network import S2DiT
from s2search.preset import PATCH

if TYPE_CHECKING:
    from s2search.exporters.prompt_tokens import PromptTokens

__all__ = [
    "FUNCTIONS",
    "MASKED",
    "PAST_BIAS",
    "VELOCITY",
    "FunctionName",
    "StepFunction",
    "StepShape",
    "Steps",
    "Tensors",
    "layer_past",
]

VELOCITY = "velocity"


class Link(Protocol):
    """A package of a chain, and its own functions; see `exporters/chain.py`."""

    @property
    def layers(self) -> tuple[int, int]:
        """The first layer in it, and the one after the last."""

    @property
    def hands_on(self) -> tuple[str, ...]:
        """Outputs that later links take."""

    @property
    def form(self) -> HostForm:
        """What a host must know of these layers."""

    def inputs(self, function: FunctionName) -> tuple[str, ...]:
        """Return the names of what a function takes, in their order."""

    def outputs(self, function: FunctionName) -> tuple[str, ...]:
        """Return the names of what a function returns, in their order."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all inputs and outputs by name."""


class Steps:
    """The functions of one model at one shape. They share its weights.

    Attributes:
        model: In evaluation mode.
        shape: Grid, frames and window.
        functions: Those that are wanted; by default all.
        state: An empty state, by name and in the order of the functions' inputs.

    Raises:
        InputError: The window is unlimited, or a layer's state is of no known type.
    """

    #: What a host must know, where functions return only what is new.
    form: HostForm | None = None
    #: The packages that they are written as, where these are several.
    links: Sequence[Link] = ()
    #: What is known of the tokens that the model reads; without it they are random.
    prompts: PromptTokens | None = None

    def __init__(self, model: S2DiT, shape: StepShape, functions: tuple[FunctionName, ...] = FUNCTIONS) -> None:
        self.model, self.shape, self.functions = model, shape, functions
        empty = model.initial_state(1, shape.grid, window=shape.window)
        self.layers = tuple(layer_past(layer, state, shape) for layer, state in enumerate(empty))
        weight = next(model.parameters())
        self._kind, self._exact = weight.dtype, torch.promote_types(weight.dtype, torch.float32)
        self.state: Tensors = {}
        if any(layer.reads_bias for layer in self.layers):
            self.state[PAST_BIAS] = torch.full((shape.slots,), MASKED, dtype=self._kind)
        for layer in self.layers:
            self.state |= layer.empty()

    @property
    def exact(self) -> tuple[str, ...]:
        """The inputs that stay float32 where all else is shorter: the noise level and the sums of LCHA."""
        return ("s", *(name for name in self.state if name.startswith(("sum_", "norm_"))))

    @property
    def stored(self) -> nn.Module:
        """The module whose weights a package stores: by the model's names, in the shapes of this layout."""
        return self.model

    def blank(self, function: FunctionName) -> Tensors:
        """Return inputs to trace with, which cost nothing to make: random ones, and an empty state."""
        state = {} if function == "first" else self.state
        return self.example("first") | {name: tensor.contiguous() for name, tensor in state.items()}

    def example(self, function: FunctionName, *, seed: int = 0) -> Tensors:
        """Return inputs to run with: random ones, and a state that such chunks left."""
        config, (rows, columns) = self.model.config, self.shape.grid
        preset, cells = config.preset, (self.shape.frames, PATCH[1] * rows, PATCH[2] * columns)
        generator = torch.Generator().manual_seed(seed)

        def noise(*size: int) -> Tensor:
            return torch.randn(size, generator=generator, dtype=torch.float64).to(self._kind)

        inputs = {
            "latents": noise(1, config.latent_channels, *cells),
            "s": torch.rand(1, 1, generator=generator, dtype=torch.float64).to(self._exact),
            "text": noise(1, preset.text_tokens, preset.text_channels),
        }
        if self.prompts is not None:
            inputs["text"] = self.prompts.held_out.to(self._kind)
        if function == "first":
            return inputs
        return inputs | self.left([inputs, inputs])

    def left(self, chunks: Iterable[Tensors]) -> Tensors:
        """Return the state that chunks leave, each given by the inputs of `first`."""
        commit, state = self.function("commit"), self.state
        with torch.no_grad():
            for given in chunks:
                state = dict(zip(state, commit(*given.values(), *state.values()), strict=True))
        return {name: tensor.contiguous() for name, tensor in state.items()}

    def inputs(self, function: FunctionName) -> tuple[str, ...]:
        """Return the names of what a function takes, in their order."""
        return ("latents", "s", "text", *(() if function == "first" else self.state))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all inputs and outputs by name."""
        inputs = self.example("first")
        shapes = {name: tuple(tensor.shape) for name, tensor in (inputs | self.state).items()}
        return shapes | {VELOCITY: shapes["latents"]} | {NEW + name: shapes[name] for name in self.state}

    def outputs(self, function: FunctionName) -> tuple[str, ...]:
        """Return the names of what a function returns, in their order."""
        velocity = () if function == "commit" else (VELOCITY,)
        return velocity + (() if function in ("first", "denoise") else tuple(NEW + name for name in self.state))

    def to_source(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return inputs or outputs, arrays of numpy by name, as this class has them: other layouts differ."""
        return dict(arrays)

    def given_to(self, model: nn.Module, arrays: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Let the source compute with what inputs here say more exactly than its own do, as long as this is open."""
        return nullcontext()

    def from_source(self, arrays: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Return outputs of the source as functions here return them.

        Args:
            arrays: Its outputs.
            given: Its inputs: what is new follows from both.
        """
        return dict(arrays)

    def function(self, function: FunctionName) -> nn.Module:
        """Return a function as a module of positional inputs: `latents`, `s`, `text`, and the state in its order."""
        return StepFunction(self, function)


class StepFunction(nn.Module):
    """One function of a step. Its weights are the model's, under `model.`."""

    def __init__(self, steps: Steps, function: FunctionName) -> None:
        super().__init__()
        self.model = steps.model
        self.function, self._steps = function, steps
        self.eval()

    def forward(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `Steps.outputs`."""
        inputs = (latents_BCTYX, s_BT, text_BSE)
        if self.function == "first":
            return (self.model(*inputs),)
        past = dict(zip(self._steps.state, state, strict=True))
        layers = tuple(layer.read(past) for layer in self._steps.layers)
        if self.function == "denoise":
            return (self.model(*inputs, layers),)
        if self.function == "commit":
            return self._written(past, self.model.commit(*inputs, layers))
        velocity_BCTYX, new = self.model.advance(*inputs, layers)
        return (velocity_BCTYX, *self._written(past, new))

    def _written(self, past: Tensors, layers: Iterable[Any]) -> tuple[Tensor, ...]:
        frames, new = self._steps.shape.frames, Tensors()
        bias_R = past.get(PAST_BIAS)
        if bias_R is not None:
            new[PAST_BIAS] = torch.cat((bias_R, bias_R.new_zeros(frames)))[-len(bias_R) :].clone()
        for layer, state in zip(self._steps.layers, layers, strict=True):
            new |= layer.write(past, state)
        return tuple(new[name] for name in past)

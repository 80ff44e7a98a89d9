"""The planned model: stem, layers in two streams with switches and the long skip between them, and head.

Axes: B batch  T frames  C latent channels  Y X latent rows and columns  H W token rows and columns (Y/2, X/2)
      D channels  S text tokens  E text channels  6: see blocks/s2search_blocks/layer/module.py

Source: S2DiT, section 3 (streams and long skip) and section 4 (patches of 1x2x2); arXiv 2601.12719.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from s2search.block import Block, Stream, Window
from s2search.errors import InputError
from s2search.network.config import ModelConfig, VelocityForm
from s2search.network.pretrained import Pretrained
from s2search.network.walk import LAYER_PASSES, Pass, walk
from s2search.network.weight_file import weights_digest
from s2search.preset import Preset
from s2search.space import Space, layout_labels

if TYPE_CHECKING:
    from s2search.planner.plan import Plan

#: What the layers of one model remember, first to last: frozen dataclasses of tensors, never changed in place.
LayerStates = tuple[Any, ...]


def realize(plan: Plan, preset: Preset, *, velocity: VelocityForm = "plain") -> S2DiT:
    """Build the model that a plan describes, at a preset's sizes, with random weights.

    Under `torch.device("meta")` nothing is allocated.

    Args:
        plan: Gives the layout.
        preset: Gives the sizes.
        velocity: What the model predicts.

    Raises:
        InputError: The plan has another depth than the preset.
    """
    if plan.depth != preset.depth:
        raise InputError(
            f"the plan has {plan.depth} layers and the preset {preset.name!r} {preset.depth}",
            remedy=f"plan with --depth {preset.depth}, or choose another preset",
        )
    config = ModelConfig.new(preset, plan.layout, velocity=velocity, plan_digest=plan.digest)
    return S2DiT(config, plan=plan)


class Switched(nn.Module):
    """A network whose modules `down` and `up` switch between the streams, as a route asks for it."""

    down: nn.Module
    up: nn.Module

    def lowered(self, x_BTHWD: Tensor) -> Tensor:
        """Return a high stream brought down. See `Sandwich`."""
        low_BThwD: Tensor = self.down(x_BTHWD)
        return low_BThwD

    def raised(self, x_BThwD: Tensor, size: torch.Size) -> Tensor:
        """Return a low stream brought up to the size of the stem's tokens. See `Sandwich`."""
        high_BTHWD: Tensor = self.up(x_BThwD, *size[2:4])
        return high_BTHWD


class S2DiT(Switched, Pretrained):
    """A sandwich diffusion transformer over video latents.

    One set of weights serves every resolution, chunk length and window. `forward` reads and `commit` writes the
    streaming state; neither changes the one it is given, so a state can be kept, forked and read again.

    Attributes:
        config: Sizes and layout.
        plan: What it was realized from; None for a preset's own layout.
        parts: The specifications of its parts, by their names here: `stem`, `layers.0`, ..., `head`, `down`, `up`.
        streams: Of its layers.
    """

    def __init__(self, config: ModelConfig, *, plan: Plan | None = None) -> None:
        super().__init__()
        self.config, self.plan, self.parts = config, plan, config.parts
        self.streams = tuple(Stream(block.stream) for block in self.blocks)
        build = part_builders(config)
        self.stem = build["stem"]()
        self.layers = nn.ModuleList(build[f"layers.{layer}"]() for layer in range(len(config.layout)))
        self.head = build["head"]()
        self.text = nn.ModuleDict({name: build[f"text.{name}"]() for name in config.text_widths})
        if Stream.LOW in self.streams:
            self.down, self.up = build["down"](), build["up"]()

    @classmethod
    def from_preset(cls, preset: Preset, layout: str = "", **rest: Any) -> S2DiT:
        """Build a model without a plan: of the layout given, as people write it, or of the preset's own.

        Args:
            preset: Gives the sizes.
            layout: One block per layer.
            rest: Further fields of its `ModelConfig`.

        Raises:
            InputError: The layout cannot be read, or has another depth.
        """
        if text := layout or preset.layout:
            return cls(ModelConfig.new(preset, layout_labels(text), **rest))
        pair = Space.parse("lcha,ssa", depth=preset.depth)
        high = round(preset.depth * 3 / 7)
        choice_L = pair.interleave([high, preset.depth - high])
        labels = tuple(pair.candidates[c].label for c in choice_L)
        return cls(ModelConfig.new(preset, labels, **rest))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The specifications of its layers, first to last."""
        return tuple(part for part in self.parts.values() if isinstance(part, Block))

    @property
    def parameter_count(self) -> int:
        """All parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates | None = None
    ) -> Tensor:
        """Return the predicted velocity v = eps - z (B, C, T, Y, X), and leave the state as it is.

        Args:
            latents_BCTYX: Noisy latents x_s = (1 - s) z + s eps; Y and X are even.
            s_BT: Flow time in [0, 1], float32 or better; one per frame, or one for all (T = 1).
            text_BSE: Text tokens.
            state: What past chunks left; without one, attention is bidirectional over the frames given.
        """
        velocity_BCTYX, _ = self._pass("read", latents_BCTYX, s_BT, text_BSE, state)
        assert velocity_BCTYX is not None
        return velocity_BCTYX

    def read_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the tokens of several text encoders side by side (B, S, E), projected where the config says so.

        Args:
            tokens: text_BSE by the encoder's name, such as `{"clip": ..., "gemma": ...}`.

        Raises:
            InputError: Tokens have another width than the model reads from that encoder.
        """
        for name, text_BSE in tokens.items():
            wanted = self.config.text_widths.get(name, self.config.preset.text_channels)
            if text_BSE.shape[-1] != wanted:
                raise InputError(
                    f"tokens of {name!r} have {text_BSE.shape[-1]} channels, and the model reads {wanted} of it",
                    remedy="choose the text encoder that the model was trained with",
                )
        read = [self.text[name](x) if name in self.text else x for name, x in tokens.items()]
        return torch.cat(read, dim=1)

    def initial_state(
        self,
        batch: int,
        grid: tuple[int, int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        *,
        window: Window | None = None,
    ) -> LayerStates:
        """Return a state that remembers nothing yet.

        Args:
            batch: B.
            grid: Token rows and columns, H and W.
            device: Where it lives.
            dtype: Of keys, values and convolution tails, by default the weights'; sums are float32 at least.
            window: Past frames that softmax attention sees; by default the preset's chunks.
        """
        where, kind = torch.device(device), dtype or next(self.parameters()).dtype
        low = (-(-grid[0] // 2), -(-grid[1] // 2))
        window = window or self.config.preset.window
        return tuple(
            layer.initial_state(batch, grid if stream is Stream.HIGH else low, window, where, kind)  # type: ignore[operator]
            for layer, stream in zip(self.layers, self.streams, strict=True)
        )

    def commit(self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates) -> LayerStates:
        """Return the state with this chunk added; what comes after the last layer's keys and values is not computed."""
        return self._pass("commit", latents_BCTYX, s_BT, text_BSE, state)[1]

    def advance(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> tuple[Tensor, LayerStates]:
        """Return what `forward` and `commit` return for the same chunk; keys, values and sums are made once."""
        velocity_BCTYX, new = self._pass("advance", latents_BCTYX, s_BT, text_BSE, state)
        assert velocity_BCTYX is not None
        return velocity_BCTYX, new

    def weights_digest(self) -> str:
        """Return a hash of all weights in their number format: states name the weights that they belong to by it."""
        return weights_digest(self.state_dict().items())

    def fused(self) -> S2DiT:
        """Return the same model with its layers in the form for running fast; all other parts are shared."""
        fused = S2DiT.__new__(S2DiT)
        nn.Module.__init__(fused)
        fused.config, fused.plan, fused.parts, fused.streams = self.config, self.plan, self.parts, self.streams
        fused.training = self.training
        layers = nn.ModuleList(block.fused(layer) for block, layer in zip(self.blocks, self.layers, strict=True))
        for name, module in self.named_children():
            fused.add_module(name, layers if name == "layers" else module)
        return fused

    def _pass(
        self, what: Pass, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates | None
    ) -> tuple[Tensor | None, LayerStates]:
        past = (None,) * len(self.layers) if state is None else state

        def visit(what: Pass, number: int, x_BTHWD: Tensor, modulation_BT6D: Tensor) -> tuple[Tensor, Any]:
            return LAYER_PASSES[what](self.layers[number], x_BTHWD, modulation_BT6D, text_BSE, past[number])

        return walk(self, what, latents_BCTYX, s_BT, visit)


def part_builders(config: ModelConfig) -> dict[str, Callable[[], nn.Module]]:
    """Return what builds each part of a model, by its name there, in the order in which parts draw random weights."""
    shape = config.preset.shape("16x16", "stream")  # modules do not depend on the grid
    build: dict[str, Callable[[], nn.Module]] = {
        name: partial(part.build, shape) for name, part in config.parts.items()
    }
    switches = {name: build.pop(name) for name in ("down", "up") if name in build}
    text = {
        f"text.{name}": partial(nn.Linear, width, shape.text_channels) for name, width in config.text_widths.items()
    }
    return build | text | switches

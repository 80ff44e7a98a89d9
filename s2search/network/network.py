"""The planned model: stem, layers in two streams with switches and the long skip between them, and head.

Axes: B batch  T frames  C latent channels  Y X latent rows and columns  H W token rows and columns (Y/2, X/2)
      D channels  S text tokens  E text channels  6: see blocks/s2search_blocks/layer/module.py

Source: S2DiT, section 3 (streams and long skip) and section 4 (patches of 1x2x2); arXiv 2601.12719.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from s2search import registry
from s2search.block import Stream, Window
from s2search.errors import InputError
from s2search.network.config import ModelConfig
from s2search.network.pretrained import Pretrained
from s2search.preset import Preset
from s2search.space import Space, layout_labels

if TYPE_CHECKING:
    from s2search.planner.plan import Plan

#: What the layers of one model remember, first to last: frozen dataclasses of tensors, never changed in place.
LayerStates = tuple[Any, ...]


def realize(plan: Plan, preset: Preset) -> S2DiT:
    """Build the model that a plan describes, at a preset's sizes, with random weights.

    Under `torch.device("meta")` nothing is allocated.

    Raises:
        InputError: The plan has another depth than the preset.
    """
    if plan.depth != preset.depth:
        raise InputError(
            f"the plan has {plan.depth} layers and the preset {preset.name!r} {preset.depth}",
            remedy=f"plan with --depth {preset.depth}, or choose another preset",
        )
    return S2DiT(ModelConfig(preset=preset, layout=plan.layout, plan_digest=plan.digest), plan=plan)


class S2DiT(nn.Module, Pretrained):
    """A sandwich diffusion transformer over video latents.

    One set of weights serves every resolution, chunk length and window. `forward` reads and `commit` writes the
    streaming state; neither changes the one it is given, so a state can be kept, forked and read again.

    Attributes:
        config: Sizes and layout.
        plan: What it was realized from; None for a preset's own layout.
    """

    def __init__(self, config: ModelConfig, *, plan: Plan | None = None) -> None:
        super().__init__()
        self.config, self.plan = config, plan
        self.streams = tuple(Stream(registry.create("blocks", label).stream) for label in config.layout)
        build = part_builders(config)
        self.stem = build["stem"]()
        self.layers = nn.ModuleList(build[f"layers.{layer}"]() for layer in range(len(config.layout)))
        self.head = build["head"]()
        self.text = nn.ModuleDict({name: build[f"text.{name}"]() for name in config.text_widths})
        if Stream.LOW in self.streams:
            self.down, self.up = build["down"](), build["up"]()

    @classmethod
    def from_preset(cls, preset: Preset, layout: str = "") -> S2DiT:
        """Build a model without a plan: of the layout given, as people write it, or of the preset's own.

        Raises:
            InputError: The layout cannot be read, or has another depth.
        """
        if text := layout or preset.layout:
            return cls(ModelConfig(preset=preset, layout=layout_labels(text)))
        pair = Space.parse("lcha,ssa", depth=preset.depth)
        high = round(preset.depth * 3 / 7)
        choice_L = pair.interleave([high, preset.depth - high])
        return cls(ModelConfig(preset=preset, layout=tuple(pair.candidates[c].label for c in choice_L)))

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
        x_BTHWD, modulation_BT6D, time_BTD = self.stem(latents_BCTYX, s_BT)
        route = Route(self, x_BTHWD)
        for layer, stream, past in self._layers(state):
            route.x = layer(route.enter(stream), modulation_BT6D, text_BSE, past)
        return self._velocity(route, time_BTD)

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
        x_BTHWD, modulation_BT6D, _ = self.stem(latents_BCTYX, s_BT)
        route, new = Route(self, x_BTHWD), []
        for layer, stream, past in self._layers(state):
            x_BTHWD = route.enter(stream)
            new.append(layer.commit(x_BTHWD, modulation_BT6D, past))
            if len(new) < len(self.layers):
                route.x = layer(x_BTHWD, modulation_BT6D, text_BSE, past)
        return tuple(new)

    def advance(
        self, latents_BCTYX: Tensor, s_BT: Tensor, text_BSE: Tensor, state: LayerStates
    ) -> tuple[Tensor, LayerStates]:
        """Return what `forward` and `commit` return for the same chunk, from one pass."""
        x_BTHWD, modulation_BT6D, time_BTD = self.stem(latents_BCTYX, s_BT)
        route, new = Route(self, x_BTHWD), []
        for layer, stream, past in self._layers(state):
            x_BTHWD = route.enter(stream)
            new.append(layer.commit(x_BTHWD, modulation_BT6D, past))
            route.x = layer(x_BTHWD, modulation_BT6D, text_BSE, past)
        return self._velocity(route, time_BTD), tuple(new)

    def _layers(self, state: LayerStates | None) -> Iterator[tuple[Any, Stream, Any]]:
        past = (None,) * len(self.layers) if state is None else state
        return zip(self.layers, self.streams, past, strict=True)

    def _velocity(self, route: Route, time_BTD: Tensor) -> Tensor:
        velocity_BCTYX: Tensor = self.head(route.leave(), time_BTD)
        return velocity_BCTYX


def part_builders(config: ModelConfig) -> dict[str, Callable[[], nn.Module]]:
    """Return what builds each part of a model, by its name there, in the order in which parts draw random weights."""
    shape = config.preset.shape("16x16", "stream")  # modules do not depend on the grid
    blocks = [registry.create("blocks", label) for label in config.layout]
    ends = {name: registry.create("parts", name).build for name in ("stem", "head", "down", "up")}
    layers = {f"layers.{layer}": block.build for layer, block in enumerate(blocks)}
    build = {"stem": ends["stem"]} | layers | {"head": ends["head"]}
    builders: dict[str, Callable[[], nn.Module]] = {name: partial(method, shape) for name, method in build.items()}
    for name, width in config.text_widths.items():
        builders[f"text.{name}"] = partial(nn.Linear, width, shape.text_channels)
    if Stream.LOW in {block.stream for block in blocks}:
        builders |= {name: partial(ends[name], shape) for name in ("down", "up")}
    return builders


class Route:
    """The stream on its way through the layers: switched where the next layer runs at the other resolution.

    The stem feeds the high stream. On the way down the high stream is kept and added when the low one comes up again,
    except at the head. Source: S2DiT, section 3.
    """

    def __init__(self, network: S2DiT, x_BTHWD: Tensor) -> None:
        self.x, self._stream, self._network = x_BTHWD, Stream.HIGH, network
        self._grid, self._skip_BTHWD = x_BTHWD.shape[2:4], x_BTHWD

    def enter(self, stream: Stream) -> Tensor:
        """Return the input of a layer of this stream."""
        if stream is self._stream:
            return self.x
        if stream is Stream.LOW:
            self._skip_BTHWD, self.x = self.x, self._network.down(self.x)
        else:
            self.x = self._network.up(self.x, *self._grid) + self._skip_BTHWD
        self._stream = stream
        return self.x

    def leave(self) -> Tensor:
        """Return the input of the head."""
        return self.x if self._stream is Stream.HIGH else self._network.up(self.x, *self._grid)

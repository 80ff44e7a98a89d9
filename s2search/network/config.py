"""What makes two models the same: sizes, layout and the plan behind them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import msgspec

from s2search import registry
from s2search.block import Block, Part, Stream
from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.preset import LATENT_CHANNELS, Preset

#: What a model predicts: its velocity itself, or what it adds to that of unit Gaussian latents.
VelocityForm = Literal["plain", "residual"]


@dataclass(frozen=True, kw_only=True)
class CausalForm:
    """How a model was trained to stream; chunk and window are its preset's.

    Attributes:
        commit: What it sees of past chunks: `reuse_last`, as the last step saw them, or `clean_pass`.
        level: Noise level at which it sees them: the last step's, or 0.
        schedule: Noise levels of the few steps that it was trained for; null where it follows the flow in many.
    """

    commit: CommitPolicy
    level: float
    schedule: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.level < 1 or (self.level > 0) != (self.commit == "reuse_last"):
            raise InputError(
                f"past chunks committed by {self.commit} at the noise level {self.level:g}",
                allowed="clean_pass at 0, reuse_last above 0 and below 1",
                remedy="correct it; one step sees nothing but noise, and needs clean_pass",
            )


#: The files of a saved model.
WEIGHTS, CONFIG, PLAN = "model.safetensors", "config.json", "plan.json"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and layout of a model; the content of its config.json.

    `layout` names the block of every layer, first to last. `plan_digest` is null for a preset's own layout.
    `text_widths` has the width of the tokens of text encoders that the model projects to its own, such as
    `{"gemma": 2560}`; tokens of all others come as wide as the preset's `text_channels`. `latent_channels` are those of
    the codec whose latents it denoises. `causal` says how it was trained to stream, null where it was not. Models saved
    before there was a `head_skip`, a `velocity`, `latent_channels` or `causal` have none: what is left out of a file is
    as it was then. `new` makes today's.

    With `head_skip` a low last layer hands the head its stream with the long skip, as every other way up has it; the
    paper's output lacks it. Why: docs/decisions/blocks.md, "The head has the long skip". With `velocity` "residual"
    the head's output is added to the velocity of unit Gaussian latents: see `flow.unit_gaussian_gain`.
    """

    schema: Literal["s2search.model/1"] = "s2search.model/1"
    preset: Preset
    layout: tuple[str, ...]
    plan_digest: str | None = None
    text_widths: dict[str, int] = field(default_factory=dict)
    head_skip: bool = False
    velocity: VelocityForm = "plain"
    latent_channels: int = LATENT_CHANNELS
    causal: CausalForm | None = None

    def __post_init__(self) -> None:
        if len(self.layout) != self.preset.depth:
            raise InputError(
                f"the layout has {len(self.layout)} layers and the preset {self.preset.name!r} {self.preset.depth}",
                remedy="correct one of them",
            )

    @classmethod
    def new(cls, preset: Preset, layout: tuple[str, ...], **rest: Any) -> Self:
        """Return the config of a model made today."""
        return cls(preset=preset, layout=layout, head_skip=True, **rest)

    @property
    def parts(self) -> dict[str, Part]:
        """The specifications of a model's parts by their names there: `stem`, `layers.0`, ..., `head`, `down`, `up`."""
        blocks: list[Block] = [registry.create("blocks", label) for label in self.layout]
        ends = (f"{name}[latent_channels={self.latent_channels}]" for name in ("stem", "head"))
        stem, head = (registry.create("parts", end) for end in ends)
        layers = {f"layers.{layer}": block for layer, block in enumerate(blocks)}
        low = Stream.LOW in {block.stream for block in blocks}
        switches = {name: registry.create("parts", name) for name in ("down", "up") if low}
        return {"stem": stem} | layers | {"head": head} | switches

    @property
    def digest(self) -> str:
        """A hash of everything here: weights, states and packages name the model that they belong to by it."""
        content = msgspec.to_builtins(self)
        for name in (
            "head_skip",
            "velocity",
            "latent_channels",
            "causal",
        ):  # without them, models of before keep their digest
            if getattr(self, name) == self.__dataclass_fields__[name].default:
                content.pop(name, None)
        return f"sha256:{hashlib.sha256(msgspec.json.encode(content, order='sorted')).hexdigest()}"

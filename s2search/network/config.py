"""What makes two models the same: sizes, layout and the plan behind them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from s2search.errors import InputError
from s2search.preset import Preset

#: The files of a saved model.
WEIGHTS, CONFIG, PLAN = "model.safetensors", "config.json", "plan.json"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and layout of a model; the content of its config.json.

    `layout` names the block of every layer, first to last. `plan_digest` is null for a preset's own layout.
    `text_widths` has the width of the tokens of text encoders that the model projects to its own, such as
    `{"gemma": 2560}`; tokens of all others come as wide as the preset's `text_channels`.
    """

    schema: Literal["s2search.model/1"] = "s2search.model/1"
    preset: Preset
    layout: tuple[str, ...]
    plan_digest: str | None = None
    text_widths: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.layout) != self.preset.depth:
            raise InputError(
                f"the layout has {len(self.layout)} layers and the preset {self.preset.name!r} {self.preset.depth}",
                remedy="correct one of them",
            )

    @property
    def digest(self) -> str:
        """A hash of everything here: weights, states and packages name the model that they belong to by it."""
        return f"sha256:{hashlib.sha256(msgspec.json.encode(self, order='sorted')).hexdigest()}"

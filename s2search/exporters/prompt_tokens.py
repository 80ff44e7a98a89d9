"""Tokens of prompts, as a model was trained to read them: ranges of 8-bit activations and checks are made with them.

Trained weights answer to tokens as they are in use: a begin and an end mark at their places, words between them. To
others, of the same mean and variance, they answer with other numbers: docs/decisions/export.md, "Ranges are those of
the model's own streams".

Axes: P prompts  S text tokens  E text channels
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from s2search.border.regular_file import check_regular
from s2search.errors import InputError
from s2search.network.weight_file import save_tensors
from s2search.preset import Preset
from s2search.text.base import TextEncoder
from s2search.text.hashing import Hashing

#: What streams show where nobody says otherwise: long and short ones, and none. The last is for checks.
PROMPTS = (
    "",
    "rain",
    "a red car turns the corner of a narrow street and drives slowly towards the camera, evening light",
    "two people talk at a table by the window",
    "a dog runs along the beach",
)
_FILE, _NAME, _ENCODER = "prompts.safetensors", "text", "encoder"
_LEAST_HASHED = 3  # tokens that the hashing encoder makes at least


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptTokens:
    """Prompts as tokens.

    Attributes:
        text_PSE: Of every prompt.
        encoder: What made them, for people.

    Raises:
        InputError: There is none, or they are no finite numbers.
    """

    text_PSE: Tensor
    encoder: str

    def __post_init__(self) -> None:
        text_PSE = self.text_PSE
        if text_PSE.ndim != 3 or not len(text_PSE) or not torch.is_floating_point(text_PSE):
            raise InputError(f"the tokens of prompts are {text_PSE.dtype} of the shape {tuple(text_PSE.shape)}")
        if not text_PSE.isfinite().all():
            raise InputError("the tokens of prompts are no finite numbers", remedy="check the text encoder's weights")

    @classmethod
    def of(cls, encoder: TextEncoder, prompts: tuple[str, ...] = PROMPTS) -> Self:
        """Return what a text encoder makes of prompts."""
        loaded = encoder.load(torch.device("cpu"), torch.float32)
        return cls(text_PSE=torch.cat([loaded.encode([prompt]) for prompt in prompts]), encoder=encoder.label)

    @classmethod
    def hashed(cls, preset: Preset) -> Self:
        """Return tokens where nobody says what a model reads: hashed words, as wide as it takes them."""
        count = preset.text_tokens
        found = cls.of(Hashing(channels=preset.text_channels, tokens=max(count, _LEAST_HASHED)))
        return cls(text_PSE=found.text_PSE[:, :count], encoder=found.encoder)

    @property
    def for_ranges(self) -> Tensor:
        """All prompts but the last; where there is one only, that one."""
        return self.text_PSE[:-1] if len(self.text_PSE) > 1 else self.text_PSE

    @property
    def held_out(self) -> Tensor:
        """The last prompt (1, S, E), which checks stream with."""
        return self.text_PSE[-1:]

    def check(self, preset: Preset) -> None:
        """Raise unless a model of these sizes reads such tokens.

        Raises:
            InputError: It reads others.
        """
        wanted, found = (preset.text_tokens, preset.text_channels), tuple(self.text_PSE.shape[1:])
        if found != wanted:
            raise InputError(
                f"{self.encoder} makes {found[0]} tokens of {found[1]} channels, and the model reads {wanted[0]} of "
                f"{wanted[1]}",
                remedy="choose the text encoder that the model was trained with",
            )

    def save(self, folder: Path) -> None:
        """Write them beside a model's weights."""
        save_tensors({_NAME: self.text_PSE.contiguous()}, folder / _FILE, {_ENCODER: self.encoder})

    @classmethod
    def beside(cls, folder: Path) -> Self | None:
        """Read what stands beside a model's weights; None where there are no prompts.

        Raises:
            InputError: It is no such file.
        """
        path = folder / _FILE
        if not path.exists():
            return None
        check_regular(path)
        try:
            with safe_open(path, "pt") as file:
                return cls(text_PSE=file.get_tensor(_NAME), encoder=(file.metadata() or {}).get(_ENCODER, ""))
        except SafetensorError as error:
            raise InputError(f"{str(path)!r} holds no prompts: {error}", remedy="export the package again") from error

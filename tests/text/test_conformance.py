"""The conformance suite finds every broken promise of a text encoder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from s2search.testing.texts import check_text_encoder
from s2search.text.base import LoadedText, TextEncoder
from s2search.text.hashing import Hashing

Encode = Callable[[Callable[[Sequence[str]], Tensor], Sequence[str]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Broken(TextEncoder):
    """Hashing, but for what `encode` does with it."""

    name: ClassVar[str] = "broken"

    change: Encode
    channels: int = 16
    tokens: int = 12

    def load(self, device: torch.device, dtype: torch.dtype) -> LoadedText:
        sound = Hashing(channels=16, tokens=12).load(device, dtype)
        broken = type("LoadedBroken", (LoadedText,), {"encode": lambda _, prompts: self.change(sound.encode, prompts)})
        return broken()


def from_memory() -> Encode:
    memory: dict[tuple[str, ...], Tensor] = {}
    return lambda encode, prompts: memory.setdefault(tuple(prompts), encode(prompts))


def counting() -> Encode:
    calls = itertools.count()
    return lambda encode, prompts: encode(prompts) + next(calls)


def drawing(encode: Callable[[Sequence[str]], Tensor], prompts: Sequence[str]) -> Tensor:
    torch.rand(1)
    return encode(prompts)


def without_gradients(encode: Callable[[Sequence[str]], Tensor], prompts: Sequence[str]) -> Tensor:
    with torch.inference_mode():
        return encode(prompts) * 1


def test_the_sound_encoder_passes() -> None:
    check_text_encoder(Broken(change=lambda encode, prompts: encode(prompts)))


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        (lambda encode, prompts: encode(prompts)[:, :-1], "the shape is"),
        (lambda encode, prompts: encode(prompts)[..., :-1], "the shape is"),
        (lambda encode, prompts: encode(prompts)[:1], "the shape is"),
        (lambda encode, prompts: encode(prompts).double(), "the tokens are torch.float64"),
        (lambda encode, prompts: encode(prompts).to("meta"), "the tokens are on meta"),
        (lambda encode, prompts: encode(prompts) / 0, "a token is not finite"),
        (lambda encode, prompts: encode(prompts).requires_grad_(), "a gradient flows"),
        (without_gradients, "use no_grad, not inference_mode"),
        (lambda encode, prompts: encode(prompts) + torch.rand(1), "loaded again, it answers differently"),
        (from_memory(), "shares memory"),
        (counting(), "it answers differently"),
        (drawing, "it draws from the global random state"),
        (lambda encode, prompts: encode(prompts) * len(prompts), "alone and among others are not encoded alike"),
        (lambda encode, prompts: encode([" ".join(sorted(p.split())) for p in prompts]), "are the same"),
        (lambda encode, prompts: encode([p.encode("ascii", "ignore").decode() for p in prompts]), "are the same"),
        (lambda encode, prompts: encode([p or "a cat" for p in prompts]), "are the same"),
        (lambda encode, prompts: encode(prompts) + torch.tensor([len(p) for p in prompts])[:, None, None], "not cut"),
        (lambda encode, prompts: encode([p[-50:] if len(p) > 100 else p for p in prompts]), "not cut"),
        (lambda encode, prompts: encode([p if len(p) < 100 else "" for p in prompts]), "beginning does not count"),
    ],
)
def test_a_broken_promise_is_found(change: Encode, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_text_encoder(Broken(change=change))

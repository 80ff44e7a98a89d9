"""Conformance suite of text encoders: `check_text_encoder(MyTextEncoder())`."""

from __future__ import annotations

import torch
from torch import Tensor

from s2search.text.base import LoadedText, TextEncoder

_PROMPTS = (
    *("", "a cat", "a dog", "a cat chases a dog", "a dog chases a cat"),
    *(
        "雪の中の猫 🐈",
        "el niño pequeño",
        "two lines\nand a tab\t",
        "100 % of <b>it</b> & \\0",
        "\u202ebackwards\x00",
        "half a \ud83d",
    ),
)


def check_text_encoder(
    encoder: TextEncoder,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    tolerance: float = 1e-5,
) -> None:
    """Hold a text encoder against its contract; AssertionError at the first broken promise.

    Args:
        encoder: The encoder to check; its weights are loaded twice.
        device: Where to load it; the CPU unless told.
        dtype: What to load it in.
        tolerance: By how much an answer may differ with the size of the batch, which changes the order of sums.
    """
    device = device or torch.device("cpu")
    assert encoder.name.splitlines() == [encoder.name], "a text encoder needs a name"
    assert hash(encoder) == hash(encoder), "a text encoder is a frozen value"
    loaded = encoder.load(device, dtype)
    text_BSE = loaded.encode(_PROMPTS)
    assert text_BSE.shape == (len(_PROMPTS), encoder.tokens, encoder.channels), f"the shape is {text_BSE.shape}"
    assert text_BSE.device.type == device.type, f"the tokens are on {text_BSE.device}"
    assert text_BSE.dtype == dtype, f"the tokens are {text_BSE.dtype}"
    assert text_BSE.isfinite().all(), "a token is not finite"
    assert not text_BSE.requires_grad, "a gradient flows into the encoder"
    assert not text_BSE.is_inference(), "the tokens cannot stand in a graph: use no_grad, not inference_mode"
    _check_same_answer(encoder.load(device, dtype), loaded, text_BSE, tolerance)
    _check_differences(text_BSE)
    _check_cut(loaded, encoder.tokens)


def _check_same_answer(again: LoadedText, loaded: LoadedText, text_BSE: Tensor, tolerance: float) -> None:
    """The answer is a function of the prompt."""
    assert torch.equal(again.encode(_PROMPTS), text_BSE), "loaded again, it answers differently"
    state = torch.random.get_rng_state()
    kept_BSE = text_BSE.clone()
    text_BSE.zero_()
    assert torch.equal(loaded.encode(_PROMPTS), kept_BSE), "the second answer differs, or shares memory with the first"
    text_BSE.copy_(kept_BSE)
    assert torch.equal(torch.random.get_rng_state(), state), "it draws from the global random state"
    for prompt, text_SE in zip(_PROMPTS, text_BSE, strict=True):
        alone_SE = loaded.encode([prompt])[0]
        close = torch.allclose(alone_SE.float(), text_SE.float(), rtol=tolerance, atol=tolerance)
        assert close, f"{prompt!r} alone and among others are not encoded alike"


def _check_differences(text_BSE: Tensor) -> None:
    for index, first in enumerate(_PROMPTS):
        for other in range(index):
            assert not torch.equal(text_BSE[index], text_BSE[other]), f"{first!r} and {_PROMPTS[other]!r} are the same"


def _check_cut(loaded: LoadedText, tokens: int) -> None:
    """What lies behind the limit does not count; what lies before it does."""
    long = "cat " * 4 * tokens
    long_SE, longer_SE, other_SE = loaded.encode([long, long + "and a dog", "a dog " + long])
    assert torch.equal(long_SE, longer_SE), "a prompt is not cut at the limit"
    assert not torch.equal(long_SE, other_SE), "a long prompt's beginning does not count"

"""The offline text encoder gives the same tokens everywhere, and different ones to different words."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from s2search import registry
from s2search.errors import InputError
from s2search.testing.texts import check_text_encoder
from s2search.text.hashing import Hashing, words

SMALL = Hashing(channels=16, tokens=12)
PROMPT = "A sailing boat, at dusk: 夕暮れ"


def encode(encoder: Hashing, *prompts: str) -> Tensor:
    return encoder.load(torch.device("cpu"), torch.float32).encode(prompts)


def digest(text_BSE: Tensor) -> str:
    return hashlib.sha256(text_BSE.numpy().astype("<f4").tobytes()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_it_keeps_the_contract(dtype: torch.dtype) -> None:
    check_text_encoder(Hashing(), dtype=dtype)
    check_text_encoder(SMALL, dtype=dtype, tolerance=0)


def test_it_is_installed_with_the_width_and_length_of_clip() -> None:
    encoder = registry.create("texts", "hashing")
    assert (encoder.channels, encoder.tokens) == (768, 77)
    assert registry.create("texts", "hashing[channels=16,tokens=12]") == SMALL


def test_a_token_is_the_sum_of_two_hashes() -> None:
    def value(symbol: str, channel: int) -> float:
        raw = hashlib.shake_256(symbol.encode()).digest(32)
        return int.from_bytes(raw[2 * channel : 2 * channel + 2], "little") - (2**16 - 1) / 2

    text_SE = encode(SMALL, PROMPT)[0]
    places = ("begin", *(f"word {word}" for word in ("a", "sailing", "boat", ",", "at", "dusk", ":", "夕暮れ")), "end")
    variance = (2**32 - 1) / 12
    for place, symbol in enumerate((*places, "end", "end")):
        for channel in range(16):
            wanted = (value(symbol, channel) + value(f"position {place}", channel)) / math.sqrt(2 * variance)
            assert text_SE[place, channel].item() == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_the_tokens_are_those_that_models_were_trained_with() -> None:
    # Whoever changes this number makes every model that was trained with the encoder useless.
    assert digest(encode(Hashing(), PROMPT)) == "30f3821ccadf302979bb3a6997c0ad98d8710ba905cbedf000c04cd9b2ce460f"


def test_another_process_gives_the_same_tokens() -> None:
    program = (
        "import torch; from s2search.text.hashing import Hashing; import hashlib\n"
        f"text = Hashing().load(torch.device('cpu'), torch.float32).encode([{PROMPT!r}])\n"
        "print(hashlib.sha256(text.numpy().astype('<f4').tobytes()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == digest(encode(Hashing(), PROMPT))


def test_tokens_have_mean_nought_and_variance_one() -> None:
    text_SE = encode(Hashing(), " ".join(f"word{number}" for number in range(75)))[0]
    assert text_SE.mean().abs() < 0.02
    assert text_SE.var() == pytest.approx(1.0, abs=0.02)
    assert text_SE.abs().max() <= math.sqrt(6)  # the sum of two uniform values


@given(
    st.lists(st.text("abcdeß夕🐈", min_size=1), max_size=10), st.lists(st.text("abcdeß夕🐈", min_size=1), max_size=10)
)
def test_prompts_of_other_words_get_other_tokens(first: list[str], other: list[str]) -> None:
    first_SE, other_SE = encode(SMALL, " ".join(first), " ".join(other))
    same_words = words(" ".join(first))[:10] == words(" ".join(other))[:10]
    assert torch.equal(first_SE, other_SE) == same_words


@given(st.text())
def test_any_text_is_a_prompt(prompt: str) -> None:
    text_BSE = encode(SMALL, prompt, prompt)
    assert text_BSE.shape == (2, 12, 16)
    assert text_BSE.isfinite().all()


def test_half_a_character_is_a_prompt_too() -> None:
    assert not torch.equal(encode(SMALL, "\ud83d"), encode(SMALL, "\udc08"))


def test_case_spacing_and_composition_do_not_count() -> None:
    text_BSE = encode(SMALL, "a café", "A   CAFÉ\n", "a cafe\u0301")
    assert torch.equal(text_BSE[0], text_BSE[1])
    assert torch.equal(text_BSE[0], text_BSE[2])


def test_a_word_is_not_taken_for_the_end_mark() -> None:
    empty_SE, end_SE = encode(SMALL, "", "end")
    assert not torch.equal(empty_SE, end_SE)


def test_the_words_before_the_limit_count_and_those_behind_do_not() -> None:
    ten = " ".join("abcdefghij")
    kept, cut, changed = encode(SMALL, ten, ten + " k", " ".join("abcdefghix"))
    assert torch.equal(kept, cut)
    assert (kept != changed).any(-1).nonzero().flatten().tolist() == [10]


def test_no_prompts_are_no_tokens() -> None:
    assert encode(SMALL).shape == (0, 12, 16)


@pytest.mark.parametrize(("channels", "tokens"), [(0, 77), (768, 2), (-1, -1)])
def test_a_size_without_room_for_a_word_is_refused(channels: int, tokens: int) -> None:
    with pytest.raises(InputError, match=f"channels={channels}, tokens={tokens}; channels from 1, tokens from 3"):
        Hashing(channels=channels, tokens=tokens)

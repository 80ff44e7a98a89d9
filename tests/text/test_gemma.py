"""Gemma's language model is read from folders in the Hub's layouts, and padding does not reach its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from s2search import registry
from s2search.errors import InputError
from s2search.testing.texts import check_text_encoder
from s2search.text.gemma import Gemma

pytest.importorskip("transformers", reason="the extra video is not installed")
from tests.text.tiny import gemma_model, gemma_vocabulary, save_gemma_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Any:
    return gemma_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Any) -> Path:
    """A repository of the language model alone, such as google/gemma-3-1b-it."""
    path = tmp_path_factory.mktemp("gemma")
    model.save_pretrained(path)
    save_gemma_tokenizer(path)
    return path


def unpadded(language_model: Any, *words: str) -> Tensor:
    """What the model says about these words alone."""
    ids_BS = torch.tensor([[gemma_vocabulary()[word] for word in ("<bos>", *words)]])
    with torch.no_grad():
        return language_model(ids_BS).last_hidden_state[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_keeps_the_contract(folder: Path, dtype: torch.dtype) -> None:
    check_text_encoder(Gemma(folder=str(folder)), dtype=dtype, tolerance=1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_words_are_encoded_as_without_padding_and_padding_is_nought(tmp_path: Path, bidirectional: bool) -> None:
    model = gemma_model(bidirectional=bidirectional)
    model.save_pretrained(tmp_path)
    save_gemma_tokenizer(tmp_path)
    prompts = {"": (), "a cat": ("a", "▁", "cat"), "dog ÿ": ("dog", "▁", "<0xC3>", "<0xBF>")}
    text_BSE = Gemma(folder=str(tmp_path), tokens=9).load(CPU, torch.float32).encode(list(prompts))
    for text_SE, words in zip(text_BSE, prompts.values(), strict=True):
        length = 1 + len(words)
        torch.testing.assert_close(text_SE[:length], unpadded(model.model, *words), rtol=0, atol=1e-5)
        assert (text_SE[length:] == 0).all()


def test_a_long_prompt_keeps_its_first_words(folder: Path, model: Any) -> None:
    text_SE = Gemma(folder=str(folder), tokens=9).load(CPU, torch.float32).encode(["dog" * 100])[0]
    torch.testing.assert_close(text_SE, unpadded(model.model, *["dog"] * 8), rtol=0, atol=1e-5)


def test_it_knows_its_width_without_its_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    encoder = registry.create("texts", f"gemma[folder={tmp_path},tokens=20]")
    assert (encoder.channels, encoder.tokens) == (32, 20)


@pytest.mark.parametrize("names", ["as on the Hub", "as in memory"])
def test_a_repository_of_text_and_pictures_gives_its_language_model(tmp_path: Path, names: str) -> None:
    from safetensors.torch import load_file, save_file

    both = gemma_model(pictures=True)
    both.save_pretrained(tmp_path)
    save_gemma_tokenizer(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("language_model.model.layers.") for name in stored)
    if names == "as in memory":
        renamed = {
            f"model.{name}".replace("model.language_model.model.", "model.language_model."): weight
            for name, weight in stored.items()
        }
        assert set(renamed) <= set(both.state_dict())
        save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    encoder = Gemma(folder=str(tmp_path), tokens=9)
    assert encoder.channels == 32
    text_SE = encoder.load(CPU, torch.float32).encode(["a cat"])[0]
    wanted_SE = unpadded(both.model.language_model, "a", "▁", "cat")
    torch.testing.assert_close(text_SE[:4], wanted_SE, rtol=0, atol=1e-5)


def test_weights_in_several_files_are_read(tmp_path: Path, folder: Path, model: Any) -> None:
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    save_gemma_tokenizer(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").exists()
    here, there = (Gemma(folder=str(path)).load(CPU, torch.float32).encode(["a cat"]) for path in (tmp_path, folder))
    assert torch.equal(here, there)


def test_a_length_without_room_for_a_word_is_refused() -> None:
    with pytest.raises(InputError, match="tokens is 1; at least 2"):
        Gemma(folder="anywhere", tokens=1)

"""CLIP is read from folders in the Hub's layouts, and gives what a plain CLIP gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from s2search import registry
from s2search.testing.texts import check_text_encoder
from s2search.text.clip import CLIP

pytest.importorskip("transformers", reason="the extra video is not installed")
from tests.text.tiny import clip_model, clip_vocabulary, save_clip_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Any:
    return clip_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Any) -> Path:
    """A repository of the text model alone."""
    path = tmp_path_factory.mktemp("clip")
    model.save_pretrained(path)
    save_clip_tokenizer(path)
    return path


def plain_clip(weights: dict[str, Tensor], ids_S: Tensor) -> Tensor:
    """Two layers of Radford et al. (2021) in plain torch: pre-norm, causal, quick GELU, a last norm. 2 heads of 16."""

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    length = len(ids_S)
    x_SE = (
        weights["embeddings.token_embedding.weight"][ids_S] + weights["embeddings.position_embedding.weight"][:length]
    )
    later_SS = torch.ones(length, length).triu(1).bool()
    for layer in ("encoder.layers.0", "encoder.layers.1"):
        y_SE = norm(x_SE, f"{layer}.layer_norm1")
        q, k, v = (linear(y_SE, f"{layer}.self_attn.{part}_proj").view(length, 2, 16).transpose(0, 1) for part in "qkv")
        weight_HSS = (q @ k.mT / 4).masked_fill(later_SS, -math.inf).softmax(-1)
        x_SE = x_SE + linear((weight_HSS @ v).transpose(0, 1).flatten(1), f"{layer}.self_attn.out_proj")
        y_SE = linear(norm(x_SE, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
        x_SE = x_SE + linear(y_SE * torch.sigmoid(1.702 * y_SE), f"{layer}.mlp.fc2")
    return norm(x_SE, "final_layer_norm")


def ids(*words: str) -> Tensor:
    vocabulary = clip_vocabulary()
    known = [vocabulary[word] for word in ("<|startoftext|>", *words)]
    return torch.tensor(known + [vocabulary["<|endoftext|>"]] * (77 - len(known)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_keeps_the_contract(folder: Path, dtype: torch.dtype) -> None:
    check_text_encoder(CLIP(folder=str(folder)), dtype=dtype, tolerance=1e-5 if dtype == torch.float32 else 0.05)


def test_its_tokens_are_those_of_a_plain_clip(folder: Path, model: Any) -> None:
    weights = {name: weight.detach() for name, weight in model.state_dict().items()}
    text_BSE = CLIP(folder=str(folder)).load(CPU, torch.float32).encode(["A  cat", "", "dog ÿ"])
    for text_SE, ids_S in zip(text_BSE, (ids("a</w>", "cat</w>"), ids(), ids("dog</w>", "Ã", "¿</w>")), strict=True):
        torch.testing.assert_close(text_SE, plain_clip(weights, ids_S), rtol=0, atol=1e-4)


def test_a_long_prompt_keeps_its_first_words_and_the_end_mark(folder: Path, model: Any) -> None:
    weights = {name: weight.detach() for name, weight in model.state_dict().items()}
    text_BSE = CLIP(folder=str(folder)).load(CPU, torch.float32).encode(["cat " * 100])
    torch.testing.assert_close(text_BSE[0], plain_clip(weights, ids(*["cat</w>"] * 75)), rtol=0, atol=1e-4)


def test_it_knows_its_width_and_length_without_its_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    encoder = registry.create("texts", f"clip[folder={tmp_path}]")
    assert (encoder.channels, encoder.tokens) == (32, 77)


def test_a_repository_of_text_and_pictures_gives_its_text_half(tmp_path: Path, model: Any) -> None:
    both = clip_model(pictures=True)
    both.save_pretrained(tmp_path)
    save_clip_tokenizer(tmp_path)
    encoder = CLIP(folder=str(tmp_path))
    text_BSE = encoder.load(CPU, torch.float32).encode(["a cat"])
    assert (encoder.channels, encoder.tokens) == (32, 77)
    weights = {name: weight.detach() for name, weight in both.text_model.state_dict().items()}
    torch.testing.assert_close(text_BSE[0], plain_clip(weights, ids("a</w>", "cat</w>")), rtol=0, atol=1e-4)


def test_a_pipelines_folder_is_read_too(tmp_path: Path, folder: Path, model: Any) -> None:
    model.save_pretrained(tmp_path / "text_encoder")
    save_clip_tokenizer(tmp_path / "tokenizer")
    here, there = (CLIP(folder=str(path)).load(CPU, torch.float32).encode(["a cat"]) for path in (tmp_path, folder))
    assert torch.equal(here, there)


def test_a_tokenizer_in_one_file_is_the_same_tokenizer(tmp_path: Path, folder: Path, model: Any) -> None:
    from transformers import CLIPTokenizer

    model.save_pretrained(tmp_path)
    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    here, there = (CLIP(folder=str(path)).load(CPU, torch.float32).encode(["a cat"]) for path in (tmp_path, folder))
    assert torch.equal(here, there)

"""The smallest text models with random weights, saved as the Hugging Face Hub stores the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

CLIP_WORDS = ("<|startoftext|>", "<|endoftext|>")
CLIP_MERGES = (("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"))
GEMMA_MARKS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
GEMMA_MERGES = (("c", "a"), ("ca", "t"), ("d", "o"), ("do", "g"))


def clip_vocabulary() -> dict[str, int]:
    """Bytes, bytes at a word's end, merged pairs, marks: in the order of CLIP's own."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    words = (*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in CLIP_MERGES), *CLIP_WORDS)
    return {word: number for number, word in enumerate(words)}


def save_clip_tokenizer(folder: Path) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json, the files of openai/clip-vit-large-patch14."""
    folder.mkdir(parents=True, exist_ok=True)
    start, end = CLIP_WORDS
    marks = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    options = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **marks}
    (folder / "vocab.json").write_text(json.dumps(clip_vocabulary(), ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in CLIP_MERGES))
    (folder / "tokenizer_config.json").write_text(json.dumps(options))


def clip_model(*, pictures: bool = False) -> Any:
    """A text model, or the whole CLIP of text and pictures, in which every weight is random."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig

    size = len(clip_vocabulary())
    width = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = CLIPTextConfig(
        vocab_size=size,
        num_hidden_layers=2,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
        **width,
    )
    if not pictures:
        return randomised(CLIPTextModel(text))
    vision = CLIPVisionConfig(num_hidden_layers=1, image_size=28, patch_size=14, **width)
    return randomised(CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict())))


def gemma_vocabulary() -> dict[str, int]:
    """Marks, bytes, letters and merged pairs: in the order of Gemma's own."""
    letters = ("▁", *"abcdefghijklmnopqrstuvwxyz")
    data = (f"<0x{number:02X}>" for number in range(256))
    return {
        word: number for number, word in enumerate((*GEMMA_MARKS, *data, *letters, *("".join(p) for p in GEMMA_MERGES)))
    }


def save_gemma_tokenizer(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, two of the files of google/gemma-3-4b-it."""
    from transformers import GemmaTokenizer

    GemmaTokenizer(vocab=gemma_vocabulary(), merges=list(GEMMA_MERGES), add_bos_token=True).save_pretrained(folder)


def gemma_model(*, pictures: bool = False, bidirectional: bool = False) -> Any:
    """A language model, or the whole Gemma 3 of text and pictures, in which every weight is random.

    `bidirectional` is how EmbeddingGemma reads.
    """
    from transformers import (
        Gemma3Config,
        Gemma3ForCausalLM,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    text = Gemma3TextConfig(
        vocab_size=len(gemma_vocabulary()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=4,
        use_bidirectional_attention=bidirectional,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    if not pictures:
        return randomised(Gemma3ForCausalLM(text))
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = Gemma3Config(text_config=text.to_dict(), vision_config=vision.to_dict(), mm_tokens_per_image=4)
    return randomised(Gemma3ForConditionalGeneration(config))


def randomised(model: Any) -> Any:
    """Give norms and biases values too, so that none of them can be left out unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model.eval()

"""umt5: the encoder of UMT5 as Wan's transformers read it, from a local folder; UMT5-XXL's tokens have width 4096."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.text.base import LoadedText
from s2search.text.pretrained import PretrainedText, token_ids

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 8  # prompts: scores of 64 heads between 512 tokens are 1 GB in float32


@dataclass(frozen=True, kw_only=True)
class UMT5(PretrainedText):
    """UMT5's last hidden state. Padding is masked inside, and zero outside.

    The tokenizer is what tokenizer.json says. The class that pipelines name, T5's, keeps the vocabulary alone and makes
    the rest anew, which UMT5's is not: letters beyond the vocabulary become bytes there, and the unknown token here.

    Attributes:
        tokens: Tokens of a prompt, with the mark of its end.

    Source: Chung et al., "UniMax" (2023), arXiv 2304.09151; `WanPipeline` of diffusers.
    """

    example: ClassVar[str] = "Wan-AI/Wan2.2-T2V-A14B-Diffusers"
    model_types: ClassVar[tuple[str, ...]] = ("umt5",)
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]] = (("tokenizer.json",),)
    config_class: ClassVar[str] = "UMT5Config"
    model_class: ClassVar[str] = "UMT5EncoderModel"
    tokenizer_class: ClassVar[str] = "PreTrainedTokenizerFast"

    tokens: int = 512

    def _loaded(self, tokenizer: Any, model: Any) -> LoadedText:
        return LoadedUMT5(tokenizer, model, self.tokens)


class LoadedUMT5(LoadedText):
    """UMT5 that is ready to work."""

    def __init__(self, tokenizer: Any, model: Any, tokens: int) -> None:
        self._tokenizer, self._model, self._tokens = tokenizer, model, tokens

    @override
    def encode(self, prompts: Sequence[str]) -> Tensor:
        return padded(self.read(prompts), self._tokens)

    def read(self, prompts: Sequence[str]) -> list[Tensor]:
        """Return text_SE of every prompt, without padding."""
        some = [prompts[start : start + _AT_ONCE] for start in range(0, len(prompts), _AT_ONCE)]
        return [text_SE for few in some for text_SE in self._read(few)]

    def _read(self, prompts: Sequence[str]) -> list[Tensor]:
        ids_BS, kept_BS = token_ids(self._tokenizer, prompts, self._tokens, self._model.config.vocab_size)
        device = self._model.device
        text_BSE = self._model(input_ids=ids_BS.to(device), attention_mask=kept_BS.to(device)).last_hidden_state
        return [text_SE[:count].clone() for text_SE, count in zip(text_BSE, kept_BS.sum(1).tolist(), strict=True)]


def padded(texts: Sequence[Tensor], tokens: int) -> Tensor:
    """Return text_BSE of texts of several lengths: zeros behind their tokens."""
    text_BSE = texts[0].new_zeros(len(texts), tokens, texts[0].shape[1])
    for row_SE, text_SE in zip(text_BSE, texts, strict=True):
        row_SE[: len(text_SE)] = text_SE
    return text_BSE

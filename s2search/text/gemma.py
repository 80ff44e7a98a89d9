"""gemma: the language model of Gemma 3, from a local folder; Gemma-3-4B's tokens have width 2560."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.errors import InputError
from s2search.text.base import LoadedText
from s2search.text.pretrained import PretrainedText, token_ids

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gemma(PretrainedText):
    """Gemma's last hidden state, behind its last norm, in its own width; a projection belongs to the video model.

    Padding is masked inside and zero outside, as Wan pads the tokens of T5: a causal model has nothing to say about it.
    Of a model of text and pictures, the language model alone is read.

    Attributes:
        tokens: Tokens of a prompt, with the mark of its beginning; 77 are as many as CLIP's.

    Source: Gemma Team, "Gemma 3 Technical Report" (2025), arXiv 2503.19786.
    """

    example: ClassVar[str] = "google/gemma-3-4b-it"
    model_types: ClassVar[tuple[str, ...]] = ("gemma3", "gemma3_text")
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]] = (("tokenizer.json",),)
    config_class: ClassVar[str] = "Gemma3TextConfig"
    model_class: ClassVar[str] = "Gemma3TextModel"
    tokenizer_class: ClassVar[str] = "GemmaTokenizer"
    renamed: ClassVar[Mapping[str, str]] = {r"^(model\.)?language_model\.(model\.)?": ""}

    tokens: int = 77

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise InputError(
                f"tokens is {self.tokens}",
                allowed="at least 2: the mark of the beginning and a word",
                remedy="correct the text encoder's option",
            )

    def _loaded(self, tokenizer: Any, model: Any) -> LoadedText:
        return _LoadedGemma(tokenizer, model, self.tokens)


class _LoadedGemma(LoadedText):
    def __init__(self, tokenizer: Any, model: Any, tokens: int) -> None:
        self._tokenizer, self._model, self._tokens = tokenizer, model, tokens

    @override
    def encode(self, prompts: Sequence[str]) -> Tensor:
        ids_BS, kept_BS = token_ids(self._tokenizer, prompts, self._tokens, self._model.config.vocab_size)
        kept_BS = kept_BS.to(self._model.device)
        text_BSE: Tensor = self._model(
            input_ids=ids_BS.to(self._model.device), attention_mask=kept_BS, use_cache=False
        ).last_hidden_state
        return text_BSE.masked_fill(kept_BS[..., None] == 0, 0)

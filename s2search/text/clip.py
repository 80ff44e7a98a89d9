"""clip: the text half of CLIP, from a local folder; CLIP-L gives 77 tokens of width 768."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.text.base import LoadedText, TextComponent
from s2search.text.pretrained import PretrainedText, token_ids

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CLIP(PretrainedText):
    """CLIP's last hidden state, behind its last LayerNorm.

    Padding is CLIP's own, the end mark, and is not masked: as Stable Diffusion reads it.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021).
    """

    example: ClassVar[str] = "openai/clip-vit-large-patch14"
    model_types: ClassVar[tuple[str, ...]] = ("clip", "clip_text_model")
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]] = (("vocab.json", "merges.txt"), ("tokenizer.json",))
    config_class: ClassVar[str] = "CLIPTextConfig"
    model_class: ClassVar[str] = "CLIPTextModel"
    tokenizer_class: ClassVar[str] = "CLIPTokenizer"

    @property
    @override
    def tokens(self) -> int:
        tokens: int = self._config().max_position_embeddings
        return tokens

    @override
    def component(self) -> TextComponent:
        import torch

        from s2search.text.clip_module import CLIPModule

        loaded = self.load(torch.device("cpu"), torch.float32)
        assert isinstance(loaded, _LoadedCLIP)
        return TextComponent(
            loaded=loaded,
            module=CLIPModule(loaded.model, self.tokens),
            ids=lambda prompt: loaded.ids([prompt]).to(torch.int32),
            sources=self._sources(),
        )

    def _loaded(self, tokenizer: Any, model: Any) -> LoadedText:
        return _LoadedCLIP(tokenizer, model)


class _LoadedCLIP(LoadedText):
    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer, self.model = tokenizer, model

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Return ids_BS."""
        config = self.model.config
        return token_ids(self._tokenizer, prompts, config.max_position_embeddings, config.vocab_size)[0]

    @override
    def encode(self, prompts: Sequence[str]) -> Tensor:
        text_BSE: Tensor = self.model(input_ids=self.ids(prompts).to(self.model.device)).last_hidden_state
        return text_BSE

"""CLIP's text half as a module that exporters take.

Axes: B prompts  S tokens  E channels
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_HIDDEN = -1e4  # float16 holds it, and its exponential is 0 in every precision


class CLIPModule(nn.Module):
    """From numbers of tokens to tokens, with a mask that every runtime takes.

    Args:
        model: transformers' network; attention is written out from here on, as converters refuse what its mask becomes.
        tokens: Of a prompt.
    """

    def __init__(self, model: Any, tokens: int) -> None:
        super().__init__()
        model.set_attn_implementation("eager")
        self.model = model
        # CLIP's own mask of what comes later is minus infinity in float16, and takes operators that Core ML lacks.
        self.later_11SS = torch.full((1, 1, tokens, tokens), _HIDDEN).triu(1)

    def forward(self, ids_BS: Tensor) -> tuple[Tensor, ...]:
        """Return text_BSE."""
        return (self.model(input_ids=ids_BS.long(), attention_mask=self.later_11SS).last_hidden_state,)

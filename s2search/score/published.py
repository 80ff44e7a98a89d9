"""published: the paper's evaluation losses, the same at every layer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search.errors import ScoreError
from s2search.score.base import Score
from s2search.space import Space

#: Evaluation loss of models made of a single block type. Source: S2DiT (Zhao et al., 2026), table 3.
EVAL_LOSS = {"full": 0.252, "kv_compressed": 0.255, "lcha": 0.259, "ssa": 0.269}


@dataclass(frozen=True, kw_only=True)
class Published(Score):
    """Minus the published loss of each single-type model, spread evenly over the layers.

    It is position-free, so it ranks block types and not layouts: it cannot know that the published sandwich (.256) is
    better than LCHA alone (.259).

    >>> space = Space.parse("lcha,ssa", depth=28)
    >>> Published().score_LC(space).sum(axis=0).round(6)
    array([-0.259, -0.269])
    """

    statement = (
        "eval loss of single-type models, position-free: it ranks block types, not layouts, and cannot know that the "
        "published sandwich (.256) beats LCHA alone (.259)"
    )

    @property
    @override
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(msgspec.json.encode(EVAL_LOSS, order='sorted')).hexdigest()}"

    @override
    def score_LC(self, space: Space) -> NDArray[np.float64]:
        for block in space.candidates:
            if block.label not in EVAL_LOSS:
                raise ScoreError(
                    f"the score {self.name!r} has no value for {block.label!r}",
                    allowed=f"it has: {', '.join(EVAL_LOSS)}",
                    remedy="choose among these candidates, or give --score FILE",
                )
        loss_C = np.array([EVAL_LOSS[block.label] for block in space.candidates])
        return np.tile(-loss_C / space.depth, (space.depth, 1))

"""Conformance suite of scores: `check_score(MyScore(), space)`."""

from __future__ import annotations

import numpy as np

from s2search.score.base import Score
from s2search.space import Space


def check_score(score: Score, space: Space) -> None:
    """Hold a score against its contract on a space that it can rank; AssertionError at the first broken promise."""
    values_LC = score.score_LC(space)
    assert values_LC.shape == (space.depth, len(space.candidates)), f"the shape is {values_LC.shape}"
    assert not np.isinf(values_LC).any(), "a score is not finite"
    assert not np.isnan(values_LC).all(axis=1).any(), "a layer may have no candidate"
    assert np.array_equal(score.score_LC(space), values_LC, equal_nan=True), "the same question got another answer"
    pair_LCC = score.pair_score_LCC(space)
    if pair_LCC is not None:
        assert pair_LCC.shape == (*values_LC.shape, values_LC.shape[1]), f"the shape of pairs is {pair_LCC.shape}"
        assert np.isfinite(pair_LCC).all(), "a pair's score is not finite"
        assert not pair_LCC[0].any(), "nothing stands before the first layer"
    assert len(score.name.splitlines()) == 1, "a score needs a name"
    assert len(score.statement.splitlines()) == 1, "a score says in one line where it comes from"
    assert score.digest.startswith("sha256:"), "a score's digest is its provenance"

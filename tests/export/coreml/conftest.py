"""What tests of Core ML's forms of a step share."""

from __future__ import annotations

import math

import pytest
from s2search_blocks.pieces.channels_first import norms


@pytest.fixture(scope="module")
def undivided():
    """Divide no token of a norm: that moves its epsilon, by which tests/blocks/test_channels_first.py holds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "limit", lambda channels: math.inf)
        yield

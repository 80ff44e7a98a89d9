"""Conformance suite of qualities: `check_quality(MyQuality(), settings)`."""

from __future__ import annotations

from collections.abc import Sequence

from s2search.quality.base import Quality, Setting, compare

_INVERSE = {"better": "worse", "worse": "better", "equal": "equal", "incomparable": "incomparable"}


def check_quality(quality: Quality, settings: Sequence[Setting]) -> None:
    """Hold a quality against its contract on designs; AssertionError at the first broken promise.

    Args:
        quality: To be held.
        settings: Designs, of which it knows one at least.
    """
    judged = [quality.judge(setting) for setting in settings]
    assert any(found is not None for found in judged), "it knows none of these designs"
    assert judged == [quality.judge(setting) for setting in settings], "the same question got another answer"
    for found in filter(None, judged):
        assert len(found.scale.splitlines()) == 1, "a judgement says in one line what it is of"
        assert len(found.source.splitlines()) == 1, "a judgement says in one line where it comes from"
        assert compare(found, found) == "equal", "a design is not equal to itself"
        for other in judged:
            assert compare(other, found) == _INVERSE[compare(found, other)], "which is better depends on who is asked"
    for layout in quality.layouts:
        assert layout, "a layout that was judged has layers"
        assert all(isinstance(label, str) for label in layout), "a layout is the labels of blocks"
    for one in settings:
        for found_of in quality.evidence(one, settings[0]):
            axis = found_of.axis
            assert getattr(one, axis) != getattr(settings[0], axis), f"evidence of {axis}, in which two do not differ"
    assert len(quality.name.splitlines()) == 1, "a quality needs a name"
    assert len(quality.statement.splitlines()) == 1, "a quality says in one line where it comes from"
    assert quality.digest.startswith("sha256:"), "a quality's digest is its provenance"

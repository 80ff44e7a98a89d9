"""doom: walks through the maps of Freedoom, seen by nobody and drawn by ViZDoom; unlimited, and free to use.

A walk does one thing all the time, and its caption says which. It begins where a random stroll from the map's start has
led, so that walks of one map begin in different places. Maps are what training and held-out clips are divided by.

ViZDoom (Wydmuch et al., 2018, "ViZDoom Competitions") is MIT licensed and carries the Freedoom maps (BSD).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from s2search.codec.video import Frames, scaled
from s2search.errors import InputError, require
from s2search.training.data.base import ClipSource, Cut, Footage, Geometry, digest_of, random_of

MAPS = 32
_TURN = 2.5  # degrees a tic
#: What a walk does, in words and in buttons: forward, back, left, right, and degrees of turning.
DEEDS: dict[str, tuple[float, ...]] = {
    "walking forward": (1, 0, 0, 0, 0),
    "walking back": (0, 1, 0, 0, 0),
    "stepping left": (0, 0, 1, 0, 0),
    "stepping right": (0, 0, 0, 1, 0),
    "turning left": (0, 0, 0, 0, -_TURN),
    "turning right": (0, 0, 0, 0, _TURN),
    "walking forward and turning left": (1, 0, 0, 0, -_TURN),
    "walking forward and turning right": (1, 0, 0, 0, _TURN),
}
_BUTTONS = ("MOVE_FORWARD", "MOVE_BACKWARD", "MOVE_LEFT", "MOVE_RIGHT", "TURN_LEFT_RIGHT_DELTA")
_PICTURES = ((256, 144), (512, 288), (1024, 576))
_STROLL_TICS = 350  # ten seconds


@dataclass(frozen=True, kw_only=True)
class Doom(ClipSource):
    """Walks through Freedoom's maps.

    Attributes:
        maps: How many maps, from the first.
        walks: Through each.
        length: Frames of a walk.
        tics: Of the game from one frame to the next; it has 35 a second.
        seed: Of what each walk does, and where it begins.
    """

    statement: ClassVar[str] = "walks through the maps of Freedoom, drawn by ViZDoom"

    maps: int = 24
    walks: int = 60
    length: int = 66
    tics: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, most in (("maps", MAPS), ("walks", 100_000), ("length", 2000), ("tics", 35)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise InputError(f"{name} of doom is {value}", allowed=f"1 to {most}", remedy="correct the option")

    @override
    def recordings(self) -> Sequence[Footage]:
        require("vizdoom")
        return tuple(self._walk(number, walk) for number in range(1, self.maps + 1) for walk in range(self.walks))

    def _walk(self, number: int, walk: int) -> DoomWalk:
        level = f"MAP{number:02}"
        deed = list(DEEDS)[int(random_of("doom", self.seed, level, walk).integers(len(DEEDS)))]
        return DoomWalk(
            name=f"{level}-{self.seed}-{walk:05}",
            digest=digest_of("doom/1", level, self.seed, walk, deed, self.length, self.tics),
            caption=deed,
            group=level,
            level=level,
            frames=self.length,
            tics=self.tics,
            games=self._games,
        )

    @cached_property
    def _games(self) -> _Games:
        return _Games()


@dataclass(frozen=True, kw_only=True)
class DoomWalk(Footage):
    """One walk; the game is played anew for it, the same every time."""

    level: str
    frames: int
    tics: int
    games: _Games

    @override
    def length(self) -> int:
        return self.frames

    @override
    def clips(self, cuts: Sequence[Cut], geometry: Geometry) -> Iterator[Frames]:
        rows, columns = geometry.size
        wanted = max(cut.last(geometry.frames) for cut in cuts) + 1
        pictures = [scaled(picture, geometry.video) for picture in self._played(wanted, geometry)]
        for cut in cuts:
            seen = np.stack(pictures[cut.start : cut.last(geometry.frames) + 1 : cut.stride])
            top = round(cut.top * (seen.shape[1] - rows))
            left = round(cut.left * (seen.shape[2] - columns))
            yield seen[:, top : top + rows, left : left + columns]

    def _played(self, frames: int, geometry: Geometry) -> Iterator[Frames]:
        game = self.games.at(self.level, geometry)
        rng = random_of("walk", self.digest)
        game.set_seed(int(rng.integers(2**31)))
        game.new_episode()
        for _ in range(_STROLL_TICS // 10):  # forward mostly, and another way now and then
            game.make_action([1, 0, 0, 0, float(rng.choice((0, 0, -1, 1)) * rng.uniform(1, 6))], 10)
        for _ in range(frames):
            if game.is_episode_finished():
                raise InputError(f"the walk {self.name!r} left its map", remedy="take another seed")
            yield game.get_state().screen_buffer.copy()
            game.make_action(list(DEEDS[self.caption]), self.tics)


class _Games:
    """The game of one map at a time, since starting it takes longer than a walk."""

    def __init__(self) -> None:
        self._key: tuple[str, tuple[int, int]] | None = None
        self._game: Any = None

    def at(self, level: str, geometry: Geometry) -> Any:
        """Return the running game of a map, in pictures that are no smaller than a clip's where there are such."""
        rows, columns = geometry.size
        picture = next((one for one in _PICTURES if one[0] >= columns and one[1] >= rows), _PICTURES[-1])
        if self._key != (level, picture):
            if self._game is not None:
                self._game.close()
            self._game, self._key = _started(level, picture), (level, picture)
        return self._game


def _started(level: str, picture: tuple[int, int]) -> Any:
    import vizdoom

    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
    game.set_doom_map(level)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, "RES_{}X{}".format(*picture)))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for part in ("hud", "weapon", "crosshair", "messages"):
        getattr(game, f"set_render_{part}")(False)
    game.set_available_buttons([getattr(vizdoom.Button, name) for name in _BUTTONS])
    game.add_game_args("-nomonsters")
    game.set_window_visible(False)
    game.set_episode_timeout(0)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_doom_config_path(os.devnull)  # it writes its settings when it ends
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # and leaves files where it is started
        game.init()
    return game

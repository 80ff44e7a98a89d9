"""shapes: discs, squares and triangles that move over a plain ground and turn back at the edges.

Everything about a scene is drawn from its seed, so a data set of any size is there at once, and its captions are true:
what a model learnt can be asked for by colour, form and direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from s2search.codec.video import Frames
from s2search.errors import InputError
from s2search.training.data.base import ClipSource, Cut, Footage, Geometry, digest_of, random_of

COLOURS = {
    "red": (214, 48, 49),
    "green": (32, 178, 92),
    "blue": (45, 98, 220),
    "yellow": (245, 200, 50),
    "purple": (142, 68, 173),
    "white": (240, 240, 240),
}
_GROUNDS = {"black": (16, 16, 18), "grey": (112, 112, 116), "brown": (96, 64, 44)}
_HEADINGS = ("right", "down", "left", "up")
_LENGTH = 240

#: How far a point is outside of a form of half-width 1 at the origin; negative inside.
FORMS: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {
    "disc": lambda x, y: np.hypot(x, y) - 1,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.85,
    "triangle": lambda x, y: np.maximum(np.abs(x) * 0.87 + y * 0.5, -y - 0.2) - 0.5,
}


@dataclass(frozen=True, kw_only=True)
class Shapes(ClipSource):
    """Scenes of moving shapes.

    Attributes:
        count: How many scenes; each is a recording of its own.
        most: Shapes in a scene, 1 to so many.
        speed: How far a shape moves in a frame at most, in parts of the picture's height.
        seed: Of everything that is drawn.
    """

    statement: ClassVar[str] = "moving discs, squares and triangles, drawn from a seed"

    count: int = 200
    most: int = 2
    speed: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.most < 1:
            raise InputError(f"{self.count} scenes of up to {self.most} shapes", allowed="1 or more of each")
        if not 0 <= self.speed <= 1:
            raise InputError(f"the speed of shapes is {self.speed:g}", allowed="0 to 1, of the height in a frame")

    @override
    def recordings(self) -> Sequence[Footage]:
        return tuple(self._scene(number) for number in range(self.count))

    def _scene(self, number: int) -> Scene:
        rng = random_of("shapes", self.seed, number)
        ground = str(rng.choice(list(_GROUNDS)))
        colours = rng.permutation(list(COLOURS))[: int(rng.integers(1, self.most + 1))]
        shapes = tuple(
            _Shape(
                form=str(rng.choice(list(FORMS))),
                colour=str(colour),
                size=float(rng.uniform(0.12, 0.22)),
                heading=int(rng.integers(4)),
                speed=float(rng.uniform(0.3, 1.0)) * self.speed,
                x=float(rng.uniform()),
                y=float(rng.uniform()),
            )
            for colour in colours
        )
        told = " and ".join(f"a {shape.colour} {shape.form} moving {_HEADINGS[shape.heading]}" for shape in shapes)
        return Scene(
            name=f"{self.seed}-{number:06}",
            digest=digest_of("shapes/1", ground, *shapes),
            caption=f"{told} on {ground}",
            ground=ground,
            shapes=shapes,
        )


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """Sizes and speeds are parts of the picture's height; x and y are parts of the room that the shape has."""

    form: str
    colour: str
    size: float
    heading: int
    speed: float
    x: float
    y: float

    def centre(self, frame: int, width: float) -> tuple[float, float]:
        """Return where it is in a picture of height 1."""
        dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[self.heading]
        return (
            _bounced(self.x, dx * self.speed * frame, width - 2 * self.size) + self.size,
            _bounced(self.y, dy * self.speed * frame, 1 - 2 * self.size) + self.size,
        )


@dataclass(frozen=True, kw_only=True)
class Scene(Footage):
    """One scene. It is drawn at the clips' own size, so there is no room to cut from: places are left aside."""

    ground: str
    shapes: tuple[_Shape, ...]

    @override
    def length(self) -> int:
        return _LENGTH

    @override
    def clips(self, cuts: Sequence[Cut], geometry: Geometry) -> Iterator[Frames]:
        for cut in cuts:
            frames = range(cut.start, cut.last(geometry.frames) + 1, cut.stride)
            yield np.stack([self._drawn(frame, *geometry.size) for frame in frames])

    def _drawn(self, frame: int, height: int, width: int) -> Frames:
        y_H1, x_1W = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width)[None] + 0.5) / height
        picture_HWC = np.broadcast_to(np.array(_GROUNDS[self.ground], float), (height, width, 3))
        for shape in self.shapes:
            x, y = shape.centre(frame, width / height)
            outside_HW = FORMS[shape.form]((x_1W - x) / shape.size, (y_H1 - y) / shape.size) * shape.size * height
            cover_HW1 = np.clip(0.5 - outside_HW, 0, 1)[..., None]  # edges are a pixel wide
            picture_HWC = picture_HWC + cover_HW1 * (np.array(COLOURS[shape.colour], float) - picture_HWC)
        return picture_HWC.round().astype(np.uint8)


def _bounced(part: float, way: float, room: float) -> float:
    """Return where in a room something is that began at a part of it, went some way, and turned back at its ends.

    >>> [round(_bounced(0.5, way, 2.0), 3) for way in (0.0, 0.5, 1.5, 3.5)]
    [1.0, 1.5, 1.5, 0.5]
    """
    at = (part * room + way) % (2 * room)
    return min(at, 2 * room - at)

"""Noise of every part in every precision, wherever a block may stand: from sweeps of several layouts.

A sweep knows the blocks of one layout at their layers. A search that also chooses the layout asks for others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from s2search.errors import InputError
from s2search.precision.documents import Palette, PrecisionChoice, Sensitivity

#: What a block costs in noise at a layer where no swept layout has it: it is refused, or its mean over all layers.
Elsewhere = Literal["refuse", "mean"]
ELSEWHERE: tuple[Elsewhere, ...] = ("refuse", "mean")
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What sweeps of several layouts say together.

    Where several swept the same block at the same layer, the noisiest counts: a limit is to hold.

    Attributes:
        sweeps: Of models of one depth, at one video size, with tables of values found alike.
        elsewhere: What is answered for a block at a layer where no sweep has it.

    Raises:
        InputError: There is no sweep, or two of them are of different models, sizes or palettes.
    """

    sweeps: tuple[Sensitivity, ...]
    elsewhere: Elsewhere = "refuse"

    def __post_init__(self) -> None:
        if self.elsewhere not in ELSEWHERE:
            raise InputError(
                f"noise elsewhere is {self.elsewhere!r}", allowed=", ".join(ELSEWHERE), remedy="choose one of them"
            )
        if not self.sweeps:
            raise InputError("there is no sweep to take noise from", remedy="give one: --sensitivity sensitivity.json")
        first = self.sweeps[0]
        for other in self.sweeps[1:]:
            for name, here, there in (
                ("grid", first.grid, other.grid),
                ("palette", first.palette, other.palette),
                ("depth", _depth(first), _depth(other)),
            ):
                if here != there:
                    raise InputError(
                        f"two sweeps differ: {name} is {here} in one and {there} in another",
                        remedy="sweep layouts of one model with the same options",
                    )

    @property
    def palette(self) -> Palette:
        """How tables of values were found."""
        return self.sweeps[0].palette

    @property
    def grid(self) -> tuple[int, int]:
        """Token rows and columns."""
        return self.sweeps[0].grid

    @property
    def depth(self) -> int:
        """Layers of the swept models."""
        return _depth(self.sweeps[0])

    @property
    def rest_bytes(self) -> int:
        """Bytes of all that stays float16: the most of any sweep."""
        return max(sweep.rest_bytes for sweep in self.sweeps)

    @property
    def digest(self) -> str:
        """A hash of all sweeps; of one alone its own."""
        found = sorted({sweep.digest for sweep in self.sweeps})
        return found[0] if len(found) == 1 else f"sha256:{hashlib.sha256(' '.join(found).encode()).hexdigest()}"

    def knows_part(self, part: str) -> bool:
        """Tell whether some sweep has a part."""
        return any(name == part for name, _, _ in self._swept)

    def assumes(self, part: str, block: str, precision: str) -> bool:
        """Tell whether an answer is a mean over other layers."""
        return (part, block, precision) not in self._swept

    def choice(self, part: str, block: str, precision: str) -> PrecisionChoice:
        """Return bytes and noise of a part in a precision; `block` is what stands there, "" for parts of no layer.

        Raises:
            KeyError: Nothing is known of it; `check` says so before.
        """
        if found := self._swept.get((part, block, precision)):
            return max(found, key=lambda choice: choice.noise)
        anywhere = self._anywhere[block, precision]
        mean = math.fsum(choice.noise for choice in anywhere) / len(anywhere)
        return PrecisionChoice(precision=precision, bytes=max(choice.bytes for choice in anywhere), noise=mean)

    def spread_db(self, block: str, precision: str) -> float:
        """Return how many dB lie between the noisiest and the quietest layer of a block; 0 where all are exact."""
        noises = [choice.noise for choice in self._anywhere[block, precision] if choice.noise > 0]
        return 10 * math.log10(max(noises) / min(noises)) if noises else 0.0

    def check(self, asked: Iterable[tuple[str, str, str]]) -> None:
        """Raise where something that is asked (part, block, precision) is neither swept nor may be a mean.

        Raises:
            InputError: The message names what is missing, and what to sweep.
        """
        missing = [one for one in asked if not self._knows(*one)]
        if not missing:
            return
        offered = sorted({precision for _, _, precision in self._swept})
        for _, _, precision in missing:
            if precision not in offered:
                raise InputError(
                    f"no sweep has the precision {precision!r}",
                    allowed=f"swept: {', '.join(offered)}",
                    remedy=f"sweep it: s2search sensitivity --precision {precision}",
                )
        raise InputError(
            f"no sweep knows the noise of {_written(missing)}",
            remedy=self._remedy(missing),
        )

    def _knows(self, part: str, block: str, precision: str) -> bool:
        if (part, block, precision) in self._swept:
            return True
        return self.elsewhere == "mean" and bool(block) and (block, precision) in self._anywhere

    def _remedy(self, missing: Sequence[tuple[str, str, str]]) -> str:
        swept = {block for block, _ in self._anywhere}
        layout = "a layout that has them there" if any(block for _, block, _ in missing) else "a layout that has them"
        if all(block in swept for _, block, _ in missing):
            return (
                f"sweep {layout} (s2search sensitivity --layout), or take the mean of other layers "
                "(--noise-elsewhere mean)"
            )
        return f"sweep {layout} (s2search sensitivity --layout)"

    @cached_property
    def _swept(self) -> dict[tuple[str, str, str], list[PrecisionChoice]]:
        found: dict[tuple[str, str, str], list[PrecisionChoice]] = {}
        for sweep in self.sweeps:
            for offer in sweep.parts:
                for choice in offer.choices:
                    found.setdefault((offer.part, offer.block, choice.precision), []).append(choice)
        return found

    @cached_property
    def _anywhere(self) -> dict[tuple[str, str], list[PrecisionChoice]]:
        found: dict[tuple[str, str], list[PrecisionChoice]] = {}
        for (_, block, precision), choices in self._swept.items():
            if block:
                found.setdefault((block, precision), []).extend(choices)
        return found


def _depth(sweep: Sensitivity) -> int:
    return sum(bool(offer.block) for offer in sweep.parts)


def _written(missing: Sequence[tuple[str, str, str]]) -> str:
    """Write parts without their precisions, the first few of them."""
    names = list(dict.fromkeys(f"{block} at {part}" if block else part for part, block, _ in missing))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

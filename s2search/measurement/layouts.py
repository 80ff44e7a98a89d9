"""Which whole layouts are timed beside single parts: random ones, and blocks in the context of others.

A layout is written as its layers from first to last, equal neighbours together: `lcha*2,ssa*4`. What it is made of is
known: stem and head once, every block as often as it stands there, a switch for every change of stream.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Container, Sequence

from s2search.block import Block, Stream
from s2search.errors import InputError
from s2search.space import Space

#: One layout of so many is for the fit: a correction has few numbers, and a median error needs many layouts.
FIT_EVERY = 3

_MOST_DRAWS = 1000
_EQUAL_LAYERS = (2, 3)  # with the difference a block's own time, without the ends


def layout_text(layers: Sequence[Block]) -> str:
    """Write a layout with the names of its blocks; `space.layout_labels` reads it.

    >>> layout_text(Space.parse("lcha,ssa", depth=2).candidates)
    'lcha*1,ssa*1'
    """
    runs = itertools.groupby(block.label for block in layers)
    return ",".join(f"{label}*{len(list(group))}" for label, group in runs)


def parts_of(layers: Sequence[Block]) -> Counter[str]:
    """Return how often a pass through a layout calls every part: its blocks, its switches and the two ends.

    >>> sorted(parts_of(Space.parse("lcha,ssa", depth=2).candidates).items())
    [('down', 1), ('head', 1), ('lcha', 1), ('ssa', 1), ('stem', 1), ('up', 1)]
    """
    return parts_of_link(layers, 0, len(layers))


def parts_of_link(layers: Sequence[Block], first: int, after: int) -> Counter[str]:
    """Return the same of one package of a chain: its layers, and the switches before them.

    Args:
        layers: All layers of the model.
        first: The first in the package.
        after: The one after the last.
    """
    ends = (["stem"] if first == 0 else []) + (["head"] if after == len(layers) else [])
    streams = _streams(layers)[first : after + 1 + (after == len(layers))]
    return _counted(layers[first:after], streams) + Counter(ends)


def blocks_and_switches(layers: Sequence[Block]) -> Counter[str]:
    """Return how often a pass calls its blocks and switches, without the ends."""
    return _counted(layers, _streams(layers))


def _streams(layers: Sequence[Block]) -> list[Stream]:
    """Return the stream before every layer, then that of the head.

    Source: S2DiT, section 3; the first and the last part work in high resolution.
    """
    return [Stream.HIGH, *(Stream(block.stream) for block in layers), Stream.HIGH]


def _counted(layers: Sequence[Block], streams: Sequence[Stream]) -> Counter[str]:
    found = Counter(block.label for block in layers)
    found.update({"down": streams_changed(streams, Stream.LOW), "up": streams_changed(streams, Stream.HIGH)})
    return +found


def streams_changed(streams: Sequence[Stream], to: Stream) -> int:
    """Return how often a pass changes into a stream."""
    return sum(before != after == to for before, after in itertools.pairwise(streams))


def context_layouts(candidates: Sequence[Block]) -> list[tuple[Block, ...]]:
    """Return every block as two and as three equal layers, and every two different ones in both orders.

    What a block adds is then a difference of programs that are large enough to run where whole models run.

    >>> blocks = Space.parse("lcha,ssa", depth=3).candidates
    >>> [layout_text(one) for one in context_layouts(blocks)]
    ['lcha*2', 'lcha*3', 'ssa*2', 'ssa*3', 'lcha*1,ssa*1', 'ssa*1,lcha*1']
    """
    equal = [(block,) * layers for block in candidates for layers in _EQUAL_LAYERS]
    return equal + list(itertools.permutations(candidates, 2))


def draw_layouts(space: Space, count: int, seed: int) -> list[tuple[int, ...]]:
    """Draw different layouts: first how much of every candidate, evenly among all shares, then the layers.

    So layouts of nearly one block occur as well, which layers drawn one by one would hardly ever give. Among those for
    the fit, every candidate is in one layout at least, and in one at least it is not.

    >>> space = Space.parse("lcha,ssa", depth=6)
    >>> [space.write_layout(one) for one in draw_layouts(space, 6, seed=0)]
    ['S6', 'S4L2', 'L4S2', 'L6', 'S3LS2', 'L2SL2S']

    Raises:
        InputError: The space has fewer layouts, or the layouts for the fit cannot hold every candidate.
    """
    if space.layouts < count:
        raise InputError(
            f"{count} layouts are asked for, and {_several(len(space.candidates), 'block')} at "
            f"{_several(space.depth, 'layer')} can make {space.layouts}",
            remedy="ask for fewer layouts, or for deeper ones"
            if len(space.candidates) > 1
            else "name more blocks with --candidates",
        )
    rng, found = random.Random(seed), dict[tuple[int, ...], None]()
    places = range(len(space.candidates))
    fitted = len(range(0, count, FIT_EVERY))
    for number in range(fitted):
        held = [c for c in places if (c + 1) % fitted == number]
        offered = [c for c in places if c % fitted != number]
        if len(held) > space.depth or fitted < 2:
            raise InputError(
                f"of {_several(count, 'layout')} every third is for the fit, and {fitted} of "
                f"{_several(space.depth, 'layer')} cannot show what {_several(len(places), 'block')} take",
                remedy="ask for more layouts, 4 at least, or name fewer --candidates",
            )
        found[_drawn(rng, offered, space.depth, held, found)] = None
    for _ in range(count - fitted):
        found[_drawn(rng, places, space.depth, (), found)] = None
    layouts = list(found)
    fits, others = iter(layouts[:fitted]), iter(layouts[fitted:])
    return [next(others if number % FIT_EVERY else fits) for number in range(count)]


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _drawn(
    rng: random.Random, offered: Sequence[int], depth: int, held: Sequence[int], found: Container[tuple[int, ...]]
) -> tuple[int, ...]:
    """Draw a layout of the blocks on offer that holds some of them and was not found yet."""
    draws = 0
    while True:
        shares = [rng.expovariate(1.0) for _ in offered]  # normed, they are uniform on the simplex
        if (draws := draws + 1) > _MOST_DRAWS:
            shares = [1.0 for _ in offered]
        choice_L = rng.choices(offered, shares, k=depth)
        if not set(held) <= set(choice_L):
            for layer, c in zip(rng.sample(range(depth), len(held)), held, strict=True):
                choice_L[layer] = c
        if tuple(choice_L) not in found:
            return tuple(choice_L)

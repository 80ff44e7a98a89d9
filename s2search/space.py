"""Space: which blocks may stand at which layer, how layouts are written, and how many there are.

A layout of `depth` layers is made of groups of `group_size` equal blocks (source: S2DiT, section 3). On paper it is
written with the blocks' symbols and run lengths, `L4S8L4S8L4`, or with names, `lcha*4,ssa*8,lcha*4,ssa*8,lcha*4`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from s2search import registry
from s2search.block import Block, Stream
from s2search.errors import InputError, UnknownNameError

DEFAULT_CANDIDATES = "lcha,ssa"
_MOST_LAYERS = 1000


@dataclass(frozen=True, kw_only=True)
class Space:
    """The candidates, and the depth at which they are placed.

    >>> space = Space.parse("lcha,ssa", depth=28)
    >>> space.layouts
    268435456
    >>> "".join(space.candidates[c].symbol for c in space.parse_layout("L4S8L4S8L4"))
    'LLLLSSSSSSSSLLLLSSSSSSSSLLLL'
    """

    candidates: tuple[Block, ...]
    depth: int
    group_size: int = 1

    def __post_init__(self) -> None:
        if not self.candidates:
            raise InputError("there are no candidate blocks", remedy="name at least one, for example lcha,ssa")
        labels = [block.label for block in self.candidates]
        for label in labels:
            if labels.count(label) > 1:
                raise InputError(f"the candidate {label!r} is named twice", remedy="name it once")
        if not 1 <= self.depth <= _MOST_LAYERS:
            raise InputError(f"the depth is {self.depth}", allowed=f"1 to {_MOST_LAYERS}", remedy="correct the depth")
        if self.group_size < 1 or self.depth % self.group_size:
            raise InputError(
                f"a depth of {self.depth} does not divide into groups of {self.group_size}",
                allowed=f"group sizes: {', '.join(str(k) for k in _divisors(self.depth))}",
                remedy="choose one of them",
            )

    @classmethod
    def parse(cls, candidates: str, *, depth: int, group_size: int = 1) -> Space:
        """Read candidates as they are written on the command line: `lcha,ssa` or `lcha[gate=false],ssa`."""
        return cls(candidates=parse_blocks(candidates), depth=depth, group_size=group_size)

    @property
    def groups(self) -> int:
        """How many groups of equal blocks a layout has."""
        return self.depth // self.group_size

    @property
    def layouts(self) -> int:
        """How many layouts there are."""
        return int(len(self.candidates) ** self.groups)

    @property
    def by_label_C(self) -> tuple[int, ...]:
        """The candidates in the order of their labels, which does not depend on how they were given."""
        return tuple(sorted(range(len(self.candidates)), key=lambda c: self.candidates[c].label))

    def parse_layout(self, text: str) -> tuple[int, ...]:
        """Read a hand-written layout as candidate indices, one per layer.

        Raises:
            InputError: The text cannot be read, names a block that is not a candidate, or has another depth.
        """
        choice_L = self.parse_layers(text)
        if len(choice_L) != self.depth:
            raise InputError(
                f"the layout {text!r} has {len(choice_L)} layers, not {self.depth}",
                remedy=f"write {self.depth} layers, or give --depth {len(choice_L)}",
            )
        groups = [choice_L[i : i + self.group_size] for i in range(0, self.depth, self.group_size)]
        if any(len(set(group)) > 1 for group in groups):
            raise InputError(
                f"the layout {text!r} mixes blocks inside a group of {self.group_size}",
                remedy="give --group-size 1, or keep the groups equal",
            )
        return choice_L

    def parse_layers(self, text: str) -> tuple[int, ...]:
        """Read any number of neighbouring layers, written like a layout, as candidate indices.

        Raises:
            InputError: The text cannot be read, names a block that is not a candidate, or has too many layers.
        """
        runs = [(self._index(word), count) for word, count in _runs(text)]
        if (layers := sum(count for _, count in runs)) > _MOST_LAYERS:
            raise InputError(f"the layout {text!r} has {layers} layers", allowed=f"at most {_MOST_LAYERS}")
        return tuple(itertools.chain.from_iterable([c] * count for c, count in runs))

    def _index(self, word: str) -> int:
        names = {block.label: i for i, block in enumerate(self.candidates)}
        symbols = {block.symbol: i for i, block in reversed(list(enumerate(self.candidates)))}
        index = names.get(word, symbols.get(word))
        if index is None:
            raise UnknownNameError("candidate of this layout", word, [*names, *symbols], listed_as="candidates")
        return index

    def write_layout(self, choice_L: Sequence[int]) -> str:
        """Write candidate indices as people do; the inverse of `parse_layout`.

        >>> Space.parse("lcha,ssa", depth=4).write_layout([0, 1, 1, 0])
        'LS2L'
        """
        symbols = [block.symbol for block in self.candidates]
        runs = [(c, len(list(group))) for c, group in itertools.groupby(choice_L)]
        if len(set(symbols)) == len(symbols):
            return "".join(f"{symbols[c]}{count if count > 1 else ''}" for c, count in runs)
        return ",".join(f"{self.candidates[c].label}*{count}" for c, count in runs)

    def interleave(self, counts_C: Sequence[int], *, runs: int | None = None) -> tuple[int, ...]:
        """Place given numbers of layers per candidate as evenly as possible, groups kept whole; see `interleave`.

        >>> space = Space.parse("lcha,ssa", depth=7)
        >>> space.write_layout(space.interleave([3, 4]))
        'LS2LS2L'
        """
        groups_C = [count // self.group_size for count in counts_C]
        choice_G = interleave(groups_C, [block.stream for block in self.candidates], runs=runs)
        return tuple(c for c in choice_G for _ in range(self.group_size))


def parse_blocks(text: str) -> tuple[Block, ...]:
    """Read blocks as they are written on the command line, separated by commas.

    >>> [block.label for block in parse_blocks("lcha[gate=false],ssa")]
    ['lcha[gate=false]', 'ssa']
    """
    return tuple(registry.create("blocks", item) for item in _items(text) if item.strip())


def layout_labels(text: str) -> tuple[str, ...]:
    """Read a layout of any installed blocks, by symbol, name, or name and options, as one label per layer.

    >>> layout_labels("L2S"), layout_labels("lcha[gate=false],ssa*2")
    (('lcha', 'lcha', 'ssa'), ('lcha[gate=false]', 'ssa', 'ssa'))
    """
    symbols = {registry.create("blocks", name).symbol: name for name in sorted(registry.installed("blocks"))}
    runs = [(registry.create("blocks", symbols.get(word, word)).label, count) for word, count in _runs(text)]
    if (layers := sum(count for _, count in runs)) > _MOST_LAYERS:
        raise InputError(f"the layout {text!r} has {layers} layers", allowed=f"at most {_MOST_LAYERS}")
    return tuple(label for label, count in runs for _ in range(count))


def interleave(counts_C: Sequence[int], stream_C: Sequence[int], *, runs: int | None = None) -> tuple[int, ...]:
    """Return the most even order of given counts that begins and ends in high resolution.

    The low-resolution groups stand in as many `runs` as fit between high-resolution ones, or in so many; the runs of
    either kind differ by one at most. A single high-resolution group is the last one. Several candidates of one stream
    are mixed among themselves, each as evenly as possible.
    Source: the interleaving is S2DiT's sandwich; the ends are ours, measured: docs/decisions/solver.md, "The fastest of
    all that tie, with high ends".

    >>> interleave([3, 4], [0, 1]), interleave([3, 4], [0, 1], runs=1)
    ((0, 1, 1, 0, 1, 1, 0), (0, 1, 1, 1, 1, 0, 0))
    """
    high = _mix({c: n for c, n in enumerate(counts_C) if stream_C[c] == Stream.HIGH})
    low = _mix({c: n for c, n in enumerate(counts_C) if stream_C[c] != Stream.HIGH})
    if not high or not low:
        return tuple(high or low)
    if len(high) == 1:
        return (*low, *high)
    runs = max(1, min(len(low), len(high) - 1, runs or len(low)))
    order = [c for n in range(runs) for c in (*_part(high, n, runs + 1), *_part(low, n, runs))]
    return (*order, *_part(high, runs, runs + 1))


def _part(values: list[int], n: int, of: int) -> list[int]:
    """Return the n-th of so many parts of nearly equal length."""
    return values[len(values) * n // of : len(values) * (n + 1) // of]


def _mix(counts: dict[int, int]) -> list[int]:
    """Spread the first candidate evenly over all places, the next over what is left, and so on."""
    order = [-1] * sum(counts.values())
    for c, n in counts.items():
        free = [m for m, choice in enumerate(order) if choice < 0]
        for place in _places(n, len(free)):
            order[free[place]] = c
    return order


def _places(n: int, of: int) -> list[int]:
    return [(2 * i + 1) * of // (2 * n) for i in range(n)]


def _runs(text: str) -> list[tuple[str, int]]:
    """Split a layout into (word, count) runs."""
    if re.fullmatch(r"(?:[A-Z]\d*)+", text.strip()):
        return [(word, int(count or 1)) for word, count in re.findall(r"([A-Z])(\d*)", text)]
    runs = []
    for item in _items(text):
        match = re.fullmatch(r"\s*([\w.\-]+(?:\[.*\])?)\s*(?:\*\s*(\d+))?\s*", item)
        if match is None:
            raise InputError(
                f"the layout {text!r} cannot be read at {item!r}", remedy="write for example L4S8L4S8L4 or lcha*4,ssa*8"
            )
        runs.append((match[1], int(match[2] or 1)))
    return runs


def _items(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    return re.split(r",(?![^\[]*\])", text)


def _divisors(number: int) -> list[int]:
    return [k for k in range(1, number + 1) if number % k == 0]

"""Constraints: what a layout must be, whatever it costs. Counts, fixed ends, few switches, nearness to another layout.

Sources: S2DiT, section 3 (groups, counts per block type); a layout near an existing one keeps most trained weights.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError
from s2search.solver.problem import Problem
from s2search.space import Space


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What a layout must be. Blocks are named by their labels.

    Args:
        counts: The least and the most layers that a block takes.
        first: The blocks of the first layers, as many as are fixed.
        last: The blocks of the last layers.
        max_switches: The most stream changes, those after the stem and before the head included; None for any number.
        like: A layout to stay near.
        max_changes: The most layers in which the answer may differ from it.

    >>> space = Space.parse("lcha,ssa", depth=28)
    >>> Constraints.parse(space, counts=["ssa=16"], first="L2").statements
    ('16 ssa', 'first lcha*2')
    """

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    max_switches: int | None = None
    like: tuple[str, ...] | None = None
    max_changes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_switches", "max_changes"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise InputError(f"{name} is {value}", allowed="0 or more", remedy="correct it")
        if self.like is None and self.max_changes is not None:
            raise InputError(
                f"at most {self.max_changes} changes are asked for, but not from which layout",
                remedy="give --like plan.json with --max-changes",
            )
        if self.like is not None and self.max_changes is None:
            raise InputError(
                "a layout to stay near is given, but not how near", remedy="give --max-changes 3 with --like"
            )

    @classmethod
    def parse(
        cls,
        space: Space,
        *,
        counts: Sequence[str] = (),
        first: str | None = None,
        last: str | None = None,
        max_switches: int | None = None,
        like: Sequence[str] | None = None,
        max_changes: int | None = None,
    ) -> Constraints:
        """Read constraints as they are written on the command line: `ssa=16`, `lcha=10..14`, `lcha*2`.

        Raises:
            InputError: A text cannot be read, names no candidate, or counts a block twice.
        """
        labels = [block.label for block in space.candidates]
        return cls(
            counts=_parse_counts(counts),
            first=tuple(labels[c] for c in space.parse_layers(first)) if first is not None else (),
            last=tuple(labels[c] for c in space.parse_layers(last)) if last is not None else (),
            max_switches=max_switches,
            like=None if like is None else tuple(like),
            max_changes=max_changes,
        )

    @property
    def statements(self) -> tuple[str, ...]:
        """Every constraint in a few words."""
        return (
            *(f"{_range(*asked)} {label}" for label, asked in self.counts.items()),
            *([f"first {write_runs(self.first)}"] if self.first else []),
            *([f"last {write_runs(self.last)}"] if self.last else []),
            *([] if self.max_switches is None else [f"at most {_many(self.max_switches, 'switch')}"]),
            *([] if self.max_changes is None else [f"at most {_many(self.max_changes, 'changed layer')}"]),
        )

    def broken(self, layout: Sequence[str], *, switches: int) -> tuple[str, ...]:
        """Return what a layout with so many stream changes does not keep, in a few words each."""
        last = len(layout) - len(self.last)
        said = []
        for label, (low, high) in self.counts.items():
            if not low <= layout.count(label) <= high:
                said.append(f"{_range(low, high)} {label} (it has {layout.count(label)})")
        if tuple(layout[: len(self.first)]) != self.first:
            said.append(f"first {write_runs(self.first)}")
        if tuple(layout[last:]) != self.last:
            said.append(f"last {write_runs(self.last)}")
        if self.max_switches is not None and switches > self.max_switches:
            said.append(f"at most {_many(self.max_switches, 'switch')} (it has {switches})")
        changes = len(self.changes(layout))
        if self.max_changes is not None and changes > self.max_changes:
            said.append(f"at most {_many(self.max_changes, 'changed layer')} (it has {changes})")
        return tuple(said)

    def changes(self, layout: Sequence[str]) -> tuple[int, ...]:
        """Return the layers in which a layout differs from the one to stay near."""
        return tuple(i for i, (old, new) in enumerate(zip(self.like or (), layout, strict=False)) if old != new)

    def check(self, space: Space) -> None:
        """Raise where no layout of a space can keep the constraints, as far as that can be seen without a search.

        Raises:
            InputError: An unknown block, another depth, fixed layers that overlap, or counts that cannot be met.
        """
        labels = [block.label for block in space.candidates]
        for where, named in {
            "a count": self.counts,
            "the first layers": self.first,
            "the last layers": self.last,
            "the layout to stay near": self.like or (),
        }.items():
            for label in named:
                if label not in labels:
                    raise InputError(
                        f"{label!r} in {where} is not a candidate",
                        allowed=f"candidates: {', '.join(labels)}",
                        remedy="correct it, or add it to --candidates",
                    )
        if self.like is not None and len(self.like) != space.depth:
            raise InputError(
                f"the layout to stay near has {len(self.like)} layers, not {space.depth}",
                remedy=f"give --depth {len(self.like)}, or a plan of {space.depth} layers",
            )
        if len(self.first) + len(self.last) > space.depth:
            raise InputError(
                f"{len(self.first)} first and {len(self.last)} last layers are fixed, and there are {space.depth}",
                remedy="fix fewer layers",
            )
        self._check_counts(space)

    def _check_counts(self, space: Space) -> None:
        size = space.group_size
        grouped_GC = self.allowed_LC(space).reshape(space.groups, size, -1).min(axis=1)
        if not grouped_GC.any(axis=1).all():
            raise InputError(
                f"the fixed layers put different blocks into one group of {size}",
                remedy="keep the groups equal, or give --group-size 1",
            )
        only_G = grouped_GC.sum(axis=1) == 1
        least = most = 0
        for c, block in enumerate(space.candidates):
            fixed, possible = size * int(grouped_GC[only_G, c].sum()), size * int(grouped_GC[:, c].sum())
            low, high = self.counts.get(block.label, (fixed, possible))
            counts = [n for n in range(fixed, possible + 1, size) if low <= n <= high]
            if not counts:
                steps = f" in steps of {size}" if size > 1 else ""
                raise InputError(
                    f"{block.label} is to take {_range(low, high)} layers",
                    allowed=f"{_range(fixed, possible)}{steps}, as depth, groups and fixed layers allow",
                    remedy="correct the count",
                )
            least, most = least + counts[0], most + counts[-1]
        if not least <= space.depth <= most:
            raise InputError(
                f"the counts ask for {_range(least, most)} layers, and there are {space.depth}",
                remedy="make the counts add up to the depth",
            )

    def allowed_LC(self, space: Space) -> NDArray[np.bool_]:
        """Return which candidate may stand at which layer."""
        labels = np.array([block.label for block in space.candidates])
        allowed_LC = np.ones((space.depth, len(labels)), np.bool_)
        for layer, label in enumerate(self.first):
            allowed_LC[layer] &= labels == label
        for layer, label in enumerate(self.last, start=space.depth - len(self.last)):
            allowed_LC[layer] &= labels == label
        return allowed_LC

    def put_on(self, problem: Problem, space: Space) -> Problem:
        """Return a search problem with these constraints added."""
        index = {block.label: c for c, block in enumerate(space.candidates)}
        return dataclasses.replace(
            problem,
            allowed_LC=problem.allowed_LC & self.allowed_LC(space),
            counts={index[label]: asked for label, asked in self.counts.items()},
            max_switches=self.max_switches,
            reference_L=None if self.like is None else tuple(index[label] for label in self.like),
            max_changes=self.max_changes,
        )


def write_runs(labels: Sequence[str]) -> str:
    """Write neighbouring layers by their blocks' names.

    >>> write_runs(["lcha", "lcha", "ssa"])
    'lcha*2,ssa'
    """
    runs = [(label, len(list(group))) for label, group in groupby(labels)]
    return ",".join(f"{label}*{count}" if count > 1 else label for label, count in runs)


def _parse_counts(texts: Sequence[str]) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for text in texts:
        match = re.fullmatch(r"\s*([\w.\-]+(?:\[[^\]]*\])?)\s*=\s*(\d{1,6})(?:\s*\.\.\s*(\d{1,6}))?\s*", text)
        if match is None:
            raise InputError(f"the count {text!r} cannot be read", remedy="write for example ssa=16 or ssa=10..14")
        label, low, high = match[1], int(match[2]), int(match[3] or match[2])
        if low > high:
            raise InputError(f"the count {text!r} falls", remedy=f"write {label}={high}..{low}")
        if label in counts:
            raise InputError(f"{label!r} is counted twice", remedy=f"give one count, such as {label}=10..14")
        counts[label] = (low, high)
    return counts


def _range(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _many(count: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("ch") else "s")
    return f"{count} {noun if count == 1 else plural}"

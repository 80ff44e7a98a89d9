"""Noise levels of a cache: how a clip's are divided over a teacher's experts.

Source: S2DiT, section 4.2; one level in each equal part of an expert's share is ours (docs/decisions/distil.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from s2search.errors import InputError
from s2search.network.flow import shift
from s2search.training.teachers.base import Expert


def levels_of(experts: Sequence[Expert], levels: int, a: float) -> tuple[int, ...]:
    """Return how many of a clip's noise levels each expert gets: its share of them, and one at least.

    Raises:
        InputError: There are fewer levels than experts.

    >>> two = (Expert(name="low", high=0.875), Expert(name="high", low=0.875))
    >>> [levels_of(two, levels, 12.0) for levels in (2, 4, 8)]
    [(1, 1), (1, 3), (3, 5)]
    """
    if levels < len(experts):
        raise InputError(
            f"{levels} noise levels of each clip, and the teacher has {len(experts)} experts",
            allowed=f"{len(experts)} or more: one for each",
            remedy="give a larger --levels",
        )
    shares = [part_of(expert, a) * levels for expert in experts]
    counts = [max(1, int(share)) for share in shares]
    while sum(counts) < levels:
        counts[max(range(len(counts)), key=lambda n: shares[n] - counts[n])] += 1
    while sum(counts) > levels:
        counts[max((n for n in range(len(counts)) if counts[n] > 1), key=lambda n: counts[n] - shares[n])] -= 1
    return tuple(counts)


def part_of(expert: Expert, a: float) -> float:
    """Return the part of all noise levels, drawn evenly and then shifted, that an expert answers."""
    return unshifted(expert.high, a) - unshifted(expert.low, a)


def unshifted(s: float, a: float) -> float:
    """Return the level that a shift by `a` brings to `s`."""
    return shift(s, 1 / a)


def level_at(u: float, a: float, expert: Expert) -> float:
    """Return a shifted level in float32, on the expert's side of its ends whatever is rounded."""
    s = float(torch.tensor(shift(u, a), dtype=torch.float64).float())
    while not expert.answers(s):
        towards = 0.0 if s >= expert.high else 1.0
        s = float(torch.nextafter(torch.tensor(s, dtype=torch.float32), torch.tensor(towards)))
    return s

"""Which samples of a step fall to a process, and the random numbers of each.

A step is a pure function of weights, seed, and the samples that it is asked for: nothing iterates in hiding. So a run
goes on where it was killed, to the bit, and a batch gives the same whether one process computes it or several do, in
one part or in four.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2search.training.data.base import digest_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Share:
    """Samples of one step.

    Attributes:
        seed: Of the run.
        step: Its number, from 0.
        batch: Samples of the whole step, over all processes.
        numbers: Those that are asked for, from 0 to below `batch`.
    """

    seed: int
    step: int
    batch: int
    numbers: range

    def clips(self, count: int) -> list[int]:
        """Return the places of these samples' clips among so many: all of them once, in a new order, then again."""
        places = (self.step * self.batch + number for number in self.numbers)
        return [_order(self.seed, place // count, count)[place % count] for place in places]

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Return a generator for each sample, on the processor; another purpose is another one."""
        return [generator(self.seed, self.step, number, purpose) for number in self.numbers]

    def common(self, purpose: str) -> torch.Generator:
        """Return a generator that all samples of the step share, in whichever process."""
        return generator(self.seed, self.step, "all", purpose)

    def normal(self, purpose: str, size: Sequence[int]) -> Tensor:
        """Return standard normal numbers, a first axis of samples before `size`, in float32."""
        import torch

        return torch.stack([torch.randn(*size, generator=one) for one in self.generators(purpose)])

    def uniform(self, purpose: str) -> Tensor:
        """Return a number from 0 to below 1 per sample, in float64."""
        import torch

        drawn = [torch.rand((), generator=one, dtype=torch.float64) for one in self.generators(purpose)]
        return torch.stack(drawn)


def generator(*words: object) -> torch.Generator:
    """Return a generator on the processor that these words alone seed."""
    import torch

    return torch.Generator().manual_seed(int(digest_of(*words).removeprefix("sha256:")[:15], 16))


def shares(share: Share, parts: int) -> list[Share]:
    """Divide samples into equal parts, in their order.

    >>> [one.numbers for one in shares(Share(seed=0, step=0, batch=8, numbers=range(4, 8)), 2)]
    [range(4, 6), range(6, 8)]
    """
    size, left = divmod(len(share.numbers), parts)
    assert not left, f"{len(share.numbers)} samples in {parts} parts"
    first = share.numbers.start
    return [
        Share(seed=share.seed, step=share.step, batch=share.batch, numbers=range(start, start + size))
        for start in range(first, first + size * parts, size)
    ]


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    import torch

    order: list[int] = torch.randperm(count, generator=generator(seed, "order", epoch)).tolist()
    return order

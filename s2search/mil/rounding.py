"""How products and sums are accumulated: in float32, or, for the worst case, in float16.

How the Neural Engine accumulates is not published. `HalfSums` adds 16 terms exactly and rounds the running sum to
float16 after each 16: a multiplier array with a tree of adders behind it and a float16 register behind that. A product
over 1,536 channels is so rounded 96 times, and overflows where its running sum does. Rounding after every term would be
worse than any array; 32 terms, the other usual width, would round half as often.

Tensors here are float32 throughout; those of a float16 program hold float16 values.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TERMS = 16
_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def half(x: Tensor) -> Tensor:
    """Round to float16 values; what is beyond 65,504 becomes infinite."""
    return x.half().float()


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """How a kernel moves over its input: strides, dilations and groups."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int


class Sums(ABC):
    """Accumulates the products and sums of one operation."""

    @abstractmethod
    def inner(self, x: Tensor) -> Tensor:
        """Return an inner value of an operation as it is held."""

    @abstractmethod
    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """Multiply matrices."""

    @abstractmethod
    def einsum(self, equation: str, x: Tensor, y: Tensor) -> Tensor:
        """Multiply as an equation says."""

    @abstractmethod
    def total(self, x: Tensor, axes: Sequence[int], keep_axes: bool) -> Tensor:
        """Sum over axes."""

    @abstractmethod
    def convolve(self, x: Tensor, weight: Tensor, kernel: Kernel) -> Tensor:
        """Convolve a padded input."""

    def mean(self, x: Tensor, axes: Sequence[int], keep_axes: bool) -> Tensor:
        """Sum over axes, then divide."""
        count = math.prod(x.shape[axis] for axis in axes)
        return self.inner(self.total(x, axes, keep_axes) / max(1, count))

    def softmax(self, x: Tensor, axis: int) -> Tensor:
        """Return exponentials over their sum, the largest of them 1."""
        powers = self.inner((x - x.amax(dim=axis, keepdim=True)).exp())
        return self.inner(powers / self.total(powers, [axis], True))


class WideSums(Sums):
    """Accumulates in float32 and rounds nothing."""

    def inner(self, x: Tensor) -> Tensor:
        """Return it as it is."""
        return x

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """Multiply matrices."""
        return x @ y

    def einsum(self, equation: str, x: Tensor, y: Tensor) -> Tensor:
        """Multiply as an equation says."""
        return torch.einsum(equation, x, y)

    def total(self, x: Tensor, axes: Sequence[int], keep_axes: bool) -> Tensor:
        """Sum over axes."""
        return x.sum(dim=list(axes), keepdim=keep_axes) if axes else x

    def convolve(self, x: Tensor, weight: Tensor, kernel: Kernel) -> Tensor:
        """Convolve a padded input."""
        convolution = _CONVOLUTIONS[weight.ndim - 2]
        return convolution(x, weight, stride=kernel.strides, dilation=kernel.dilations, groups=kernel.groups)


class HalfSums(Sums):
    """Accumulates in float16, 16 terms at a time, and rounds every inner value."""

    def inner(self, x: Tensor) -> Tensor:
        """Round it."""
        return half(x)

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """Multiply matrices, 16 columns of the first at a time."""
        pairs = zip(torch.split(x, TERMS, dim=-1), torch.split(y, TERMS, dim=-2), strict=True)
        total = None
        for a, b in pairs:
            total = half(a @ b) if total is None else half(total + a @ b)
        return x @ y if total is None else total

    def einsum(self, equation: str, x: Tensor, y: Tensor) -> Tensor:
        """Multiply as an equation says, 16 places of the axis that is summed at a time."""
        (first, second), result = equation.split("->")[0].split(","), equation.split("->")[1]
        summed = [letter for letter in first if letter in second and letter not in result]
        if len(summed) != 1:
            raise ValueError(f"the equation {equation} sums over {len(summed)} axes, not over one")
        pairs = zip(
            torch.split(x, TERMS, first.index(summed[0])), torch.split(y, TERMS, second.index(summed[0])), strict=True
        )
        total = torch.zeros(())
        for a, b in pairs:
            total = half(total + torch.einsum(equation, a, b))
        return total

    def total(self, x: Tensor, axes: Sequence[int], keep_axes: bool) -> Tensor:
        """Sum over axes, 16 numbers at a time."""
        if not axes or not x.is_floating_point():
            return WideSums().total(x, axes, keep_axes)
        places = sorted(axis % x.ndim for axis in axes)
        moved = x.movedim(places, list(range(-len(places), 0))).flatten(-len(places))
        total = torch.zeros(moved.shape[:-1])
        for part in torch.split(moved, TERMS, dim=-1):
            total = half(total + part.sum(dim=-1))
        if keep_axes:
            for axis in places:
                total = total.unsqueeze(axis)
        return total

    def convolve(self, x: Tensor, weight: Tensor, kernel: Kernel) -> Tensor:
        """Convolve a padded input as a product of matrices."""
        dims, groups = weight.ndim - 2, kernel.groups
        seen = windows(x, weight.shape[2:], kernel.strides, kernel.dilations)
        out = seen.shape[2 : 2 + dims]
        by_group = torch.unflatten(seen, 1, (groups, -1)).flatten(3, 2 + dims)  # B, G, C/G, places, *kernel
        columns = by_group.movedim(3, -1).flatten(2, -2)  # B, G, terms, places
        rows = torch.unflatten(weight.flatten(1), 0, (groups, -1))  # G, O/G, terms
        return torch.unflatten(self.matmul(rows, columns).flatten(1, 2), -1, out)


def windows(x: Tensor, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """Return what a kernel sees at each place: batch, channels, places of each axis, then the kernel's axes."""
    for axis, (size, stride, dilation) in enumerate(zip(sizes, strides, dilations, strict=True)):
        x = x.unfold(2 + axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
    return x

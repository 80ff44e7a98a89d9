"""What a package must store for a source, and in what a stored tensor differs from it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from s2search.exporters.graph import BandedConv2d
from s2search.verification.inspectors.stored_tensor import PREFIX, StoredTensor, digest_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENDING = re.compile(r"(_to_fp16|_palettized|_quantized|_promoted|_\d+)+$")
HALF_ROUNDING, LEAST_HALF = 2.0**-10, 2.0**-24  # of float16
_NAMED = 20  # differing tensors that a report names
_MOST_OVER_EVEN = 1.25  # places of even values are found in float16
_MOST = 0.5  # of the numbers of a weight: a constant with more of them is a copy that was changed


class Expected:
    """What a package must store for a source: its tensors by name, and depthwise convolutions as bands.

    Args:
        source: The model.
        stored: The same weights by the same names, in the shapes of the package's layout.
        frames: Of a chunk.
        by_content: Whether stored tensors are flat and called by the digest of their numbers.
        folds: Whether the converter computes with constants before it stores them.
        shares: Whether it stores equal tensors once, and leaves out what changes nothing.
    """

    def __init__(
        self,
        source: nn.Module,
        stored: nn.Module,
        frames: int,
        *,
        by_content: bool = False,
        folds: bool = False,
        shares: bool = False,
    ) -> None:
        self.folds, self.shares = folds, shares
        self._tensors: dict[str, torch.Tensor] = {**source.state_dict(), **stored.state_dict()}
        known = {name: (name, tensor) for name, tensor in self._tensors.items()}
        for name, module in stored.named_modules():
            if isinstance(module, nn.Conv3d):
                band = BandedConv2d(module, frames + module.kernel_size[0] - 1).convolution
                for part, parameter in band.named_parameters():
                    known[f"{name}.convolution.{part}"] = (f"{name}.{part}", parameter)
        self._known: dict[str, tuple[tuple[str, ...], torch.Tensor]] = {}
        if by_content:
            for name, tensor in known.values():
                for form in _forms(tensor):
                    digest = digest_of(form.numpy())
                    names, _ = self._known.get(digest, ((), form))
                    self._known[digest] = ((*names, name), form)
        else:
            self._known = {f"{PREFIX}{name}": ((found,), tensor) for name, (found, tensor) in known.items()}
            self._known |= {f"p_{name}".replace(".", "_").lower(): found for name, found in self._known.items()}

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The source's tensors, in the order of the model."""
        return self._tensors

    def source_names(self, stored: str) -> tuple[str, ...]:
        """Return the source's tensors behind a stored one: several of the same numbers; none where it is no weight."""
        found = self._known.get(stored) or self._known.get(plain(stored))
        return found[0] if found else ()

    def of(self, stored: str) -> NDArray[Any]:
        """Return the numbers that a stored weight must have, in float32."""
        _, tensor = self._known.get(stored) or self._known[plain(stored)]
        numbers: NDArray[Any] = tensor.detach().numpy()
        return numbers


def _forms(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return a tensor flat; matrices also transposed, kernels of 2-D convolutions also with their channels last."""
    turned = {2: (1, 0), 4: (0, 2, 3, 1)}
    orders = [tuple(range(tensor.ndim)), *([turned[tensor.ndim]] if tensor.ndim in turned else [])]
    return [tensor.detach().permute(order).flatten() for order in orders]


def plain(name: str) -> str:
    """Return a name as converters write it, without what they put behind."""
    return _ENDING.sub("", name)


def difference(wanted: NDArray[Any], tensor: StoredTensor) -> str:
    """Return in what a stored tensor differs from the numbers that it must have; empty where it does not.

    >>> stored = StoredTensor(file="a", name="b", values=np.array([1.0, 2.5], np.float32))
    >>> difference(np.array([1.0, 2.0], np.float32), stored)
    'differs in 1 of 2 numbers, by up to 0.5,'
    """
    values = tensor.values
    if values.shape != wanted.shape:
        return f"has the shape {values.shape}, not {wanted.shape},"
    rounded = wanted.astype(values.dtype).astype(np.float64)
    apart = np.abs(rounded - values)
    if tensor.tables_GV is not None:
        wrong = _is_not_nearest(rounded, values.astype(np.float64), tensor.tables_GV)
        count = int(wrong.sum())
        worst = float(apart.max(where=wrong, initial=0.0))
        if count:
            return f"is not the nearest of its table in {count:,} of {wrong.size:,} numbers, by up to {worst:.3g} off,"
        over_even = _noise_over_even(rounded, values.astype(np.float64), tensor.tables_GV)
        return f"has a table with {over_even:.1f} times the noise of even ones," if over_even > _MOST_OVER_EVEN else ""
    # Half a step, and what float16 rounds of tables and weights near the middle between two values.
    room = 0.5 * tensor.step + HALF_ROUNDING * (np.abs(rounded) + tensor.step)
    wrong = ~(apart <= room) if tensor.step else ~(rounded == values)
    count = int(wrong.sum())
    return f"differs in {count:,} of {wrong.size:,} numbers, by up to {apart.max():.3g}," if count else ""


def _is_not_nearest(wanted: NDArray[Any], stored: NDArray[Any], tables_GV: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a table has a value that is clearly nearer than the stored one, or the stored one is not in it.

    coremltools finds places of evenly spaced values in float16, and may miss the nearest by a rounding of their range.
    """
    wrong = np.zeros(wanted.shape, np.bool_)
    rows = wanted.shape[0] // len(tables_GV)
    for group, table_V in enumerate(tables_GV):
        block = slice(group * rows, (group + 1) * rows)
        above = np.searchsorted(table_V, wanted[block]).clip(1, max(len(table_V) - 1, 1))
        pair = table_V[above - 1], table_V[np.minimum(above, len(table_V) - 1)]
        least = np.minimum(*(np.abs(wanted[block] - one) for one in pair))
        room = 3 * HALF_ROUNDING * np.ptp(table_V) + LEAST_HALF
        wrong[block] = np.abs(wanted[block] - stored[block]) > least + room
    return wrong


def _noise_over_even(wanted: NDArray[Any], stored: NDArray[Any], tables_GV: NDArray[Any]) -> float:
    """Return how much more noise the worst group has than with as many values, spaced evenly over its numbers.

    Such values are what the plainest palette has, and k-means does better: where even they are missed, a table does not
    fit its group, though every number may have the nearest value that it offers.
    """
    found, rows = 0.0, wanted.shape[0] // len(tables_GV)
    for group, table_V in enumerate(tables_GV):
        own, got = (x[group * rows : (group + 1) * rows] for x in (wanted, stored))
        step = max(float(np.ptp(own)) / max(len(table_V) - 1, 1), LEAST_HALF)
        even = own.min() + step * np.round((own - own.min()) / step)
        rounding = (HALF_ROUNDING * np.abs(own).max()) ** 2 + LEAST_HALF**2
        found = max(found, float(((own - got) ** 2).mean() / (((own - even) ** 2).mean() + rounding)))
    return found


def changes_nothing(weight: NDArray[Any]) -> bool:
    """Return whether a weight is all 1 or all 0: converters leave out the product or the sum, and the weight with it.

    >>> changes_nothing(np.ones(3)), changes_nothing(np.zeros(3)), changes_nothing(np.array([1.0, 0.0]))
    (True, True, False)
    """
    return bool((weight == 0).all() or (weight == 1).all())


def half_digest(numbers: NDArray[Any]) -> bytes:
    """Return what is the same for the same float16 numbers: converters store equal tensors once, under one name."""
    with np.errstate(over="ignore"):
        halves = np.ascontiguousarray(numbers, np.float16)
    return hashlib.blake2b(halves.data, person=str(numbers.shape)[:16].encode()).digest()


def harmed(weight: torch.Tensor, others: list[StoredTensor]) -> str:
    """Return what is wrong with a weight that is not stored: where a constant has most of its numbers, in what."""
    flat = weight.detach().flatten().numpy()
    for tensor in others:
        if tensor.values.size == flat.size and (tensor.values.ravel() == flat).mean() > _MOST:
            return f"{difference(flat, replace(tensor, values=tensor.values.ravel()))} in {tensor.file}"
    return "is not stored, and nothing that is computed of it alone."


def told(differing: dict[str, str], expected: int, others: int) -> str:
    """Return in a sentence which weights differ, the first of them with its problem.

    Args:
        differing: Problems, by weight.
        expected: How many weights the source has.
        others: How many stored constants are none of them.
    """
    beside = f"; {others} stored constants have no source: parity covers them" if others else ""
    if not differing:
        return f"all {expected} tensors of the source are stored{beside}"
    (first, problem), *rest = differing.items()
    also = f"; also: {', '.join(name for name, _ in rest[:_NAMED])}" if rest else ""
    return f"{first} {problem} {len(differing)} of {expected} tensors differ{also}"

"""Whether every stored weight is the source's, tensor by tensor.

Digests do not say so: whoever changes a weight can write the digests anew. Nor does parity: a small parameter changed
by 1 % leaves the signal-to-noise ratio of a whole block as it was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from s2search.exporters.graph import BandedConv2d
from s2search.verification.check import Check
from s2search.verification.inspectors.executorch import digest_of
from s2search.verification.inspectors.stored import stored_tensors
from s2search.verification.inspectors.stored_tensor import PREFIX, StoredTensor
from s2search.verification.opened import Opened
from s2search.verification.reference import folded
from s2search.verification.result import CheckResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENDING = re.compile(r"(_to_fp16|_palettized|_quantized|_promoted|_\d+)+$")
_FOLDING = ("coreml", "executorch", "coreai")
_SHARING = ("coreml",)  # equal tensors are stored once, and what changes nothing is left out
_NAMED_BY_CONTENT = ("executorch", "coreai")
_HALF_ROUNDING, _LEAST_HALF = 2.0**-10, 2.0**-24  # of float16
_NAMED = 20  # differing tensors that a report names
_MOST = 0.5  # of the numbers of a weight: a constant with more of them is a copy that was changed


@dataclass(frozen=True, kw_only=True)
class WeightsCheck(Check):
    """Every tensor of the source is stored, and every stored tensor of that name has its numbers.

    Stored numbers are the source's rounded to the type of the file, so nothing is allowed for rounding; of a table's
    values each is the nearest to the source's; other quantised ones are within half a step.
    """

    name: ClassVar[str] = "weights"
    unit: ClassVar[str] = "tensors differ"

    def run(self, opened: Opened) -> Iterator[CheckResult]:
        """Compare. See the base class."""
        manifest = opened.package.manifest
        contents = manifest.exporter in _NAMED_BY_CONTENT
        expected = Expected(opened.source, opened.exported.stored, manifest.chunk_frames, contents=contents)
        stored: set[str] = set()
        differing: dict[str, str] = {}
        furthest: dict[str, float] = {}
        others: list[StoredTensor] = []
        shares = manifest.exporter in _SHARING
        digests: set[bytes] = set()
        for tensor in stored_tensors(opened.package):
            names = expected.source_names(tensor.name)
            if not names:
                others.append(tensor)
                continue
            stored.update(names)
            if shares:
                digests.add(half_digest(tensor.values))
            wanted = expected.of(tensor.name)
            if problem := difference(wanted, tensor):
                differing |= {name: f"{problem} in {tensor.file}" for name in names if name not in differing}
                if wanted.shape == tensor.values.shape:
                    apart = float(np.abs(wanted - tensor.values).max())
                    furthest |= {name: max(furthest.get(name, 0.0), apart) for name in names}
        constants = [tensor.values for tensor in others]
        for name in expected.tensors.keys() - stored:
            wanted = expected.tensors[name].detach().numpy()
            if shares and (changes_nothing(wanted) or half_digest(wanted) in digests):
                continue
            if not _is_folded(opened, name, expected.tensors[name], constants):
                differing[name] = harmed(expected.tensors[name], others)
        differing = {name: differing[name] for name in expected.tensors if name in differing}
        yield self.judge(
            opened,
            len(differing),
            0,
            where=next(iter(differing), ""),
            why=told(differing, len(expected.tensors), len(others)),
            parts=dict(sorted(furthest.items(), key=lambda item: -item[1])[:_NAMED]),
        )


class Expected:
    """What a package must store for a source: its tensors by name, and depthwise convolutions as bands.

    Args:
        source: The model.
        stored: The same weights by the same names, in the shapes of the package's layout.
        frames: Of a chunk.
        contents: Whether stored tensors are flat and called by the digest of their numbers: ExecuTorch's, Core AI's.
    """

    def __init__(self, source: nn.Module, stored: nn.Module, frames: int, *, contents: bool = False) -> None:
        self._tensors: dict[str, torch.Tensor] = {**source.state_dict(), **stored.state_dict()}
        known = {name: (name, tensor) for name, tensor in self._tensors.items()}
        for name, module in stored.named_modules():
            if isinstance(module, nn.Conv3d):
                band = BandedConv2d(module, frames + module.kernel_size[0] - 1).convolution
                for part, parameter in band.named_parameters():
                    known[f"{name}.convolution.{part}"] = (f"{name}.{part}", parameter)
        self._known: dict[str, tuple[tuple[str, ...], torch.Tensor]] = {}
        if contents:
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
        found = self._known.get(stored) or self._known.get(_plain(stored))
        return found[0] if found else ()

    def of(self, stored: str) -> NDArray[Any]:
        """Return the numbers that a stored weight must have, in float32."""
        _, tensor = self._known.get(stored) or self._known[_plain(stored)]
        numbers: NDArray[Any] = tensor.detach().numpy()
        return numbers


def _forms(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return a tensor flat; matrices also transposed, kernels of 2-D convolutions also with their channels last."""
    turned = {2: (1, 0), 4: (0, 2, 3, 1)}
    orders = [tuple(range(tensor.ndim)), *([turned[tensor.ndim]] if tensor.ndim in turned else [])]
    return [tensor.detach().permute(order).flatten() for order in orders]


def _plain(name: str) -> str:
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
        return (
            f"is not the nearest of its table in {count:,} of {wrong.size:,} numbers, by up to {worst:.3g} off,"
            if count
            else ""
        )
    # Half a step, and what float16 rounds of tables and weights near the middle between two values.
    room = 0.5 * tensor.step + _HALF_ROUNDING * (np.abs(rounded) + tensor.step)
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
        room = 3 * _HALF_ROUNDING * np.ptp(table_V) + _LEAST_HALF
        wrong[block] = np.abs(wanted[block] - stored[block]) > least + room
    return wrong


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


def _is_folded(opened: Opened, name: str, weight: torch.Tensor, stored: list[NDArray[Any]]) -> bool:
    """Return whether a converter stored what follows from a weight: its rows, or all that is read of it.

    Converters compute with constants before they store them. What is as large as the weight must be there, or all rows.
    """
    if opened.package.manifest.exporter not in _FOLDING:
        return False
    if weight.ndim > 1 and _rows_are_stored(weight, stored, opened.source):
        return True
    if _is_among(torch.sigmoid(weight), stored):  # of a gate: what most converters fold, found without a trace
        return True
    whole = (x for x in folded(opened.programs["advance"], name) if x.shape == weight.shape)
    return any(_is_among(x, stored) for x in whole)


def _rows_are_stored(weight: torch.Tensor, stored: list[NDArray[Any]], source: nn.Module) -> bool:
    """Return whether all rows of a table are stored, or what they are once a bias before them and 1 are added.

    Core AI's compiler joins the additions of constants: the head adds its rows to a biased product, and 1 to a scale.
    """
    alike = [bias for bias in source.state_dict().values() if bias.shape == weight.shape[1:]]
    return any(
        all(_is_among(row + shift, stored) or _is_among(row + shift + 1, stored) for row in weight.unbind(0))
        for shift in (torch.zeros(()), *alike)
    )


def harmed(weight: torch.Tensor, others: list[StoredTensor]) -> str:
    """Return what is wrong with a weight that is not stored: where a constant has most of its numbers, in what."""
    flat = weight.detach().flatten().numpy()
    for tensor in others:
        if tensor.values.size == flat.size and (tensor.values.ravel() == flat).mean() > _MOST:
            return f"{difference(flat, replace(tensor, values=tensor.values.ravel()))} in {tensor.file}"
    return "is not stored, and nothing that is computed of it alone."


def _is_among(wanted: torch.Tensor, stored: list[NDArray[Any]]) -> bool:
    numbers = wanted.detach().to(torch.float32).numpy().ravel()
    return any(
        array.size == numbers.size and np.allclose(array.ravel(), numbers, rtol=_HALF_ROUNDING, atol=_LEAST_HALF)
        for array in stored
    )


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

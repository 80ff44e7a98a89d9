"""Whether every stored weight is the source's, tensor by tensor.

Digests do not say so: whoever changes a weight can write the digests anew. Nor does parity: a small parameter changed
by 1 % leaves the signal-to-noise ratio of a whole block as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from s2search.verification.check import Check
from s2search.verification.expected import (
    HALF_ROUNDING,
    LEAST_HALF,
    changes_nothing,
    difference,
    half_digest,
    harmed,
    told,
)
from s2search.verification.inspectors.stored_tensor import StoredTensor
from s2search.verification.opened import Opened
from s2search.verification.reference import folded
from s2search.verification.result import CheckResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAMED = 20  # distances that a report names


@dataclass(frozen=True, kw_only=True)
class WeightsCheck(Check):
    """Every tensor of the source is stored, and every stored tensor of that name has its numbers.

    Stored numbers are the source's rounded to the type of the file, so nothing is allowed for rounding; of a table's
    values each is the nearest to the source's, and these serve as well as evenly spaced ones; other quantised ones are
    within half a step.
    """

    name: ClassVar[str] = "weights"
    unit: ClassVar[str] = "tensors differ"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        manifest = opened.package.manifest
        inspector = opened.inspector
        expected = inspector.expects(opened.source, opened.exported.stored, manifest.chunk_frames)
        stored: set[str] = set()
        differing: dict[str, str] = {}
        furthest: dict[str, float] = {}
        others: list[StoredTensor] = []
        digests: set[bytes] = set()
        for tensor in inspector.stored_tensors(opened.package):
            names = expected.source_names(tensor.name)
            if not names:
                others.append(tensor)
                continue
            stored.update(names)
            if expected.shares:
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
            if expected.shares and (changes_nothing(wanted) or half_digest(wanted) in digests):
                continue
            if not (expected.folds and _is_folded(opened, name, expected.tensors[name], constants)):
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


def _is_folded(opened: Opened, name: str, weight: torch.Tensor, stored: list[NDArray[Any]]) -> bool:
    """Return whether a converter stored what follows from a weight: its rows, or all that is read of it.

    Converters compute with constants before they store them. What is as large as the weight must be there, or all rows.
    """
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


def _is_among(wanted: torch.Tensor, stored: list[NDArray[Any]]) -> bool:
    numbers = wanted.detach().to(torch.float32).numpy().ravel()
    return any(
        array.size == numbers.size and np.allclose(array.ravel(), numbers, rtol=HALF_ROUNDING, atol=LEAST_HALF)
        for array in stored
    )

"""A known device: an additive model of its layouts' latency, with drift taken out, and the noise around it.

Axes: T measurements in order, N layouts, L layers, D known devices, Q quantiles, F features (one per layer and block,
and the constant).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2search.errors import TableError
from s2search.transfer.additive import indicators_TF, predicted_ms
from s2search.transfer.blend import Items
from s2search.transfer.drift import SMOOTHNESSES, fit_smooth
from s2search.transfer.runs import MeasuredLayouts

_Array = NDArray[np.float64]
_QUANTILES = np.linspace(0.0025, 0.9975, 200)
_NEIGHBOURS = 2.0  # layers: how far along the network blocks of one number misfit alike


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownDevice:
    """An additive model fitted to a run on one device; it no longer holds the run.

    Attributes:
        name: What messages call it.
        blocks: The blocks that stood at every layer.
        effect_F: Effects in ms.
        floor_ms: The least latency that was seen.
        noise_Q: Quantiles of a measured latency over the model's; drift counts as noise here.
    """

    name: str
    blocks: tuple[NDArray[np.int64], ...]
    effect_F: _Array
    floor_ms: float
    noise_Q: _Array

    @classmethod
    def fit(cls, layouts: MeasuredLayouts, *, name: str) -> KnownDevice:
        """Fit the model to a run in the order of measuring; in another order drift is not found, but survived.

        Rows in another unit are left out.
        """
        layouts = layouts.in_unit()
        blocks = tuple(np.unique(block_T) for block_T in layouts.layout_TL.T)
        feature_TF = indicators_TF(layouts.layout_TL)
        drifting = fit_smooth(feature_TF, layouts.latency_ms_T, max(SMOOTHNESSES))
        steady_ms_T = drifting.latency_ms_T / drifting.drift_T
        return cls(
            name=name,
            blocks=blocks,
            effect_F=drifting.effect_F,
            floor_ms=float(layouts.latency_ms_T.min()),
            noise_Q=np.asarray(np.quantile(layouts.latency_ms_T / steady_ms_T, _QUANTILES)),
        )

    def latency_ms(self, layout_NL: NDArray[np.int64]) -> _Array:
        """Predict layouts in ms, without drift.

        Raises:
            TableError: The layouts have another depth, or a block that this device never ran at that layer.
        """
        self._check(layout_NL)
        return predicted_ms(indicators_TF(layout_NL, self.blocks), self.effect_F, floor_ms=self.floor_ms)

    def _check(self, layout_NL: NDArray[np.int64]) -> None:
        if layout_NL.shape[1] != len(self.blocks):
            raise TableError(
                f"the known device {self.name!r} has layouts of {len(self.blocks)} layers, not {layout_NL.shape[1]}",
                remedy="use devices that ran the same layouts",
            )
        for layer, (block_N, known) in enumerate(zip(layout_NL.T, self.blocks, strict=True)):
            if len(unknown := np.setdiff1d(block_N, known)):
                raise TableError(
                    f"the known device {self.name!r} never ran the block {unknown[0]} at layer {layer}",
                    allowed=f"there it ran {', '.join(map(str, known))}",
                    remedy="leave that block out, or leave out that device",
                )


def layout_items(known: Sequence[KnownDevice], layout_NL: NDArray[np.int64]) -> Items:
    """Return layouts as items: every known device's predictions, and traits by which they err alike.

    Layouts err alike as far as the same blocks stand at the same layers or, less so, at neighbouring ones.
    """
    known_ms_ND = np.column_stack([device.latency_ms(layout_NL) for device in known])
    names = np.unique(np.concatenate([block_C for device in known for block_C in device.blocks]))
    centred_NLB = (layout_NL[:, :, None] == names) - 1 / len(names)
    layer_L = np.arange(layout_NL.shape[1])
    blur_LL = np.exp(-(((layer_L[:, None] - layer_L) / _NEIGHBOURS) ** 2))
    trait_NLB = np.einsum("nlb,lm->nmb", centred_NLB, blur_LL)
    average = (blur_LL**2).sum() * (1 - 1 / len(names))  # squared length where every block is as likely as another
    return Items(known_ms_ND=known_ms_ND, trait_NF=trait_NLB.reshape(len(layout_NL), -1) / np.sqrt(max(average, 1.0)))

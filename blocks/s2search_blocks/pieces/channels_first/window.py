"""What a full ring holds, with its slots on axis 2. Axes: C channels  R slots of the ring  T slots added."""

from __future__ import annotations

import torch
from torch import Tensor


def remembered(old_1CR: Tensor, new_1CT: Tensor, sinks: int, full: Tensor | None) -> Tensor:
    """Return a ring of the same size with the newest slots at its end.

    Args:
        old_1CR: Its slots, the newest last; it has its whole size from the start.
        new_1CT: What is added.
        sinks: First slots of the stream that stay for ever.
        full: With sinks, 1 where all slots are in use and 0 where not: until then the first slots are no sinks, and the
            ring moves up as a whole.
    """
    size = old_1CR.shape[2]
    all_1CR = torch.cat((old_1CR, new_1CT), dim=2)
    moved_1CR = all_1CR[:, :, all_1CR.shape[2] - size :]
    if sinks == 0 or full is None:
        return moved_1CR
    kept_1CR = torch.cat((all_1CR[:, :, :sinks], all_1CR[:, :, all_1CR.shape[2] - size + sinks :]), dim=2)
    return full * kept_1CR + (1 - full) * moved_1CR

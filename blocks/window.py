"""The sliding window of a stream: which frames a state keeps. Axes: B batch  T frames."""

from __future__ import annotations

import torch
from torch import Tensor


def latest_frames(past_BT: Tensor, new_BT: Tensor, frames: int) -> Tensor:
    """Return the last `frames` frames of both, oldest first, in memory of their own.

    >>> latest_frames(torch.tensor([[1, 2]]), torch.tensor([[3]]), 2)
    tensor([[2, 3]])
    """
    kept = max(0, frames - new_BT.shape[1])
    return torch.cat((past_BT[:, max(0, past_BT.shape[1] - kept) :], new_BT[:, max(0, new_BT.shape[1] - frames) :]), 1)

"""The sliding window of a stream: what a state keeps. Axes: B batch  T frames, or chunks."""

from __future__ import annotations

import torch
from torch import Tensor


def remembered(past_BT: Tensor, new_BT: Tensor, *, latest: int | None, first: int = 0) -> Tensor:
    """Return the stream's first entries and its latest ones (None: all), oldest first, in memory of their own.

    >>> remembered(torch.tensor([[1, 2, 3]]), torch.tensor([[4]]), latest=2, first=1)
    tensor([[1, 3, 4]])
    """
    all_BT = torch.cat((past_BT, new_BT), dim=1)
    if latest is None or all_BT.shape[1] <= first + latest:
        return all_BT
    if first == 0:
        return all_BT[:, all_BT.shape[1] - latest :].clone()
    return torch.cat((all_BT[:, :first], all_BT[:, all_BT.shape[1] - latest :]), dim=1)

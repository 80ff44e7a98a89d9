"""Several linear maps of one input as one matrix product."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def joined(*maps: nn.Linear) -> nn.Linear:
    """Return one map whose outputs are those of several maps, side by side; its weights are copies of theirs.

    >>> first, second = nn.Linear(2, 3), nn.Linear(2, 5)
    >>> joined(first, second)(torch.ones(1, 2)).shape
    torch.Size([1, 8])
    """
    outputs = sum(each.out_features for each in maps)
    one = nn.Linear(maps[0].in_features, outputs, device="meta")
    one.weight = nn.Parameter(torch.cat([each.weight for each in maps]))
    one.bias = nn.Parameter(torch.cat([each.bias for each in maps]))
    return one

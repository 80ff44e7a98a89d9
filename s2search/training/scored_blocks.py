"""The blocks that were trained when a score was measured, for networks that are built of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s2search.border.regular_file import check_regular
from s2search.errors import InputError
from s2search.network.network import S2DiT
from s2search.training.scores import BLOCKS, block_file

_LAYER = "layers.0."  # of the weights in a block's file; the others are its switches'


def check_block(model: S2DiT, folder: Path, layer: int, label: str) -> None:
    """Raise unless a candidate was trained for a layer, or is the model's own there.

    Raises:
        InputError: Its file is not there.
    """
    if label == model.config.layout[layer]:
        return
    path = _path(folder, layer, label)
    try:
        check_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def trained_block(model: S2DiT, folder: Path, layer: int, label: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a candidate's weights at a layer by their names in it, and its switches' by their names in a network.

    Args:
        model: The score was measured on it; where the candidate is its own there, the weights are its own.
        folder: Of the score.
        layer: Which, from 0.
        label: The candidate, as people write it.

    Raises:
        InputError: The block's file cannot be read.
    """
    if label == model.config.layout[layer]:
        return dict(model.layers[layer].state_dict()), {}
    check_block(model, folder, layer, label)
    path = _path(folder, layer, label)
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    block = {name.removeprefix(_LAYER): tensor for name, tensor in found.items() if name.startswith(_LAYER)}
    return block, {name: tensor for name, tensor in found.items() if not name.startswith(_LAYER)}


def ends(model: S2DiT) -> dict[str, Tensor]:
    """Return the weights of a model that belong to no layer, with their names."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("layers.")}


def mean_switches(several: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the one switch down, and the one up, that stand in for those that blocks learned with: their mean."""
    found: dict[str, list[Tensor]] = {}
    for switches in several:
        for name, tensor in switches.items():
            found.setdefault(name, []).append(tensor)
    return {name: torch.stack(tensors).mean(0) for name, tensors in found.items()}


def _path(folder: Path, layer: int, label: str) -> Path:
    return folder / BLOCKS / block_file(layer, 1, label)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"the block {str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}",
        remedy="measure the score with this candidate, and name its folder",
    )

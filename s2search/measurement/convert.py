"""From items to the .tflite files that phones and labs time, through litert-torch.

litert-torch 0.10 needs an environment of its own. A depthwise Conv3d is written as one grouped Conv2d, which is exact:
over a Conv3d the converter dies of a segmentation fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from s2search.errors import InputError, require
from s2search.measurement.base import Item
from s2search.measurement.litert import model_name


def write_tflite(
    items: Sequence[Item], folder: str | Path, progress: Callable[[Item], None] = lambda item: None
) -> None:
    """Convert items to float32 .tflite files, named as `adb` and the labs look for them; files that are there stay.

    Args:
        items: What to convert; see `campaign_items`.
        folder: Where the files go; it is made.
        progress: Called before each conversion.

    Raises:
        InputError: litert-torch is not installed, or an item is a commit, which LiteRT is not asked to time.
    """
    require("litert_torch", "torch")
    if commit := next((item for item in items if item.role == "commit"), None):
        raise InputError(f"LiteRT does not time {commit.key!r}", remedy="leave the role commit out")
    Path(folder).mkdir(parents=True, exist_ok=True)
    for item in items:
        file = Path(folder, model_name(item))
        if not file.exists():
            progress(item)
            _convert(item, file)


def _convert(item: Item, file: Path) -> None:
    import litert_torch
    import torch

    from s2search.exporters.graph import banded
    from s2search.measurement.tensor_call import TensorCall
    from s2search.measurement.torch_call import torch_call

    call = TensorCall(torch_call(item, torch.device("cpu"), torch.float32))
    unfinished = file.with_suffix(".unfinished")
    litert_torch.convert(banded(call, call.inputs).eval(), call.inputs).export(str(unfinished))
    unfinished.rename(file)

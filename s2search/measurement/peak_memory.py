"""Counts the bytes of activations alive at the worst moment of a call, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_activation_bytes(call: Callable[[], object], inputs: Iterable[Tensor] = ()) -> int:
    """Run `call` once and return the largest sum of bytes of tensors alive at the same time.

    Counted: every storage that an operator of the call makes, from its birth until nothing refers to it, and the
    storages of `inputs` all along, since the caller holds them. Not counted: what existed before the call (weights,
    streaming state), the workspace inside a kernel, and the slack of an allocator; so the number is the same on a CPU
    and on a GPU that run the same operators. Call it under `torch.no_grad()` to measure inference.

    Args:
        call: What to measure. The tensors that it returns count until it returns.
        inputs: The activations that the call reads. Several views of one storage count once.

    >>> import torch
    >>> x = torch.zeros(1000)
    >>> peak_activation_bytes(lambda: (x + 1) * 2, [x])
    12000
    """
    live = _LiveStorages()
    with live:
        for tensor in inputs:
            live.add(tensor.untyped_storage())
        call()
    return live.peak_bytes


class _LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds a storage when an operator makes it, subtracts it when it dies."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak_bytes = 0
        self._known: set[int] = set()

    def add(self, storage: UntypedStorage) -> None:
        identity = storage._cdata
        if identity in self._known:
            return
        self._known.add(identity)
        self.bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.bytes)
        # torch keeps one Python object per storage for as long as the storage lives, so its end is the storage's end.
        weakref.finalize(storage, self._remove, identity, storage.nbytes())

    def _remove(self, identity: int, nbytes: int) -> None:
        self._known.discard(identity)
        self.bytes -= nbytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        older = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in older:
                self.add(leaf.untyped_storage())
        return out

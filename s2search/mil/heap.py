"""Freed arrays go back to the system while a large program is evaluated."""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE_BYTES = 4 * 1024**2


def give_large_arrays_back() -> bool:
    """Let arrays of 4 MiB and more have pages of their own, which leave with them, in this process; say if it is so.

    glibc raises that size to 32 MiB as soon as such an array is freed (mallopt(3), M_MMAP_THRESHOLD); from then on
    activations lie on the heap, between small objects that hold their pages: 16 GB after one call of s2dit-1.8b.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_MMAP_THRESHOLD, _LARGE_BYTES) == 1

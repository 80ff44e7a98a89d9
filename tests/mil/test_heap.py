"""What a large program's activations leave behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CALLS = """
import ctypes
import torch
from s2search.mil.heap import give_large_arrays_back

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd f1 f2 f3 f4 f5".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap


def own_pages_bytes():
    # What gets pages of its own leaves with them. Of an array of 16 MiB, in bytes:
    torch.ones(7 * 2**20)  # 28 MiB, freed at once: from now on, glibc keeps on its heap what is smaller
    before = libc.mallinfo2().hblkhd
    activations = torch.ones(2**22)
    return libc.mallinfo2().hblkhd - before


assert own_pages_bytes() == 0
assert give_large_arrays_back()
assert own_pages_bytes() >= 2**24
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_activations_have_pages_of_their_own():
    subprocess.run([sys.executable, "-c", _CALLS], check=True)

"""What a large program's activations leave behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CALLS = """
import ctypes, sys
import torch
from s2search.mil.heap import give_large_arrays_back

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd f1 f2 f3 f4 f5".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap
if sys.argv[1] == "given back":
    assert give_large_arrays_back()
torch.ones(7 * 2**20)  # 28 MiB, freed at once: from now on, glibc keeps on its heap what is smaller
before = libc.mallinfo2().hblkhd
activations = torch.ones(2**22)
print(libc.mallinfo2().hblkhd - before)
"""


def own_pages_bytes(how):
    """Return how many bytes got pages of their own, which leave with them, for an array of 16 MiB."""
    ran = subprocess.run([sys.executable, "-c", _CALLS, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_activations_have_pages_of_their_own():
    assert own_pages_bytes("kept") == 0
    assert own_pages_bytes("given back") >= 2**24

"""What a large program's activations leave behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CALLS = """
import ctypes
import sys
import torch
from s2search.mil.heap import give_large_arrays_back

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd f1 f2 f3 f4 f5".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap


if sys.argv[1] == "given back":
    assert give_large_arrays_back()
torch.ones(7 * 2**20)  # 28 MiB, freed at once: glibc by itself keeps what is smaller on its heap from now on
libc.malloc_trim(0)  # and what the heap has free serves before new pages do
before = libc.mallinfo2().hblkhd
activations = torch.ones(2**22)  # 16 MiB
print(libc.mallinfo2().hblkhd - before)
"""


def _own_pages_bytes(case: str) -> int:
    # What gets pages of its own leaves with them. A process each, since what one freed would serve the other.
    ran = subprocess.run([sys.executable, "-c", _CALLS, case], check=True, capture_output=True, text=True)
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_activations_have_pages_of_their_own():
    assert _own_pages_bytes("as ever") == 0
    assert _own_pages_bytes("given back") >= 2**24

"""What a large program's activations leave behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CALLS = """
import re, sys
from pathlib import Path
import torch
from s2search.verify.heap import give_large_arrays_back

def resident_bytes():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

if sys.argv[1] == "given back":
    assert give_large_arrays_back()
torch.ones(7 * 2**20)  # 28 MB: from now on, glibc keeps on its heap what is smaller
before, small = resident_bytes(), []
for number in range(40):
    activations = torch.ones(2**22 + 1000 * number)  # 16 MiB, and no hole of the last ones fits
    small.append(torch.ones(2**16))
    del activations
print(resident_bytes() - before)
"""


def left_bytes(how):
    ran = subprocess.run([sys.executable, "-c", _CALLS, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_freed_activations_go_back_to_the_system():
    assert left_bytes("kept") > 200e6
    assert left_bytes("given back") < 40e6

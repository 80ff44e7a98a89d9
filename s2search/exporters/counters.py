"""What the kernel says of this process's memory, on Linux: what is resident, and the most that ever was.

VmRSS is the resident set, VmHWM the largest so far; pages that other processes have as well count in full in both. PSS
counts such a page by the number of its users: it would change with whatever else runs (the same program took 9 MB or
14 MB, loaded, by whether somebody else ran ONNX Runtime). Android's tools are watched from outside, by PSS and VmHWM.
"""

from __future__ import annotations

import re
from pathlib import Path

#: The words for them in a table's `memory_counter`.
RSS_AND_HWM, PSS_AND_HWM = "rss+vm_hwm", "pss+vm_hwm"
_STATUS = Path("/proc/self/status")


def why_no_counters() -> str | None:
    """Return None where this machine has them, else why not."""
    return None if _STATUS.exists() else "this system has no /proc/self/status, which says what a process takes"


def process_bytes() -> dict[str, int]:
    """Return `rss` and `peak` (the largest RSS so far) of this process, bytes."""
    status = _STATUS.read_text(encoding="utf-8")
    return {"rss": kernel_bytes(status, "VmRSS"), "peak": kernel_bytes(status, "VmHWM")}


def kernel_bytes(text: str, field: str) -> int:
    r"""Return one figure of a file that the kernel writes in kB, which are kibibytes.

    >>> kernel_bytes("VmPeak:     100 kB\nVmHWM:\t      12 kB\n", "VmHWM")
    12288

    Raises:
        LookupError: The file does not have it.
    """
    match = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    if match is None:
        raise LookupError(field)
    return 1024 * int(match[1])

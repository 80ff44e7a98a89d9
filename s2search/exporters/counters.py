"""What the kernel says of this process's memory, on Linux: its share of what is resident, and the most that ever was.

PSS counts a page that several processes have by their number, so that the runtime's library is not charged twice;
VmHWM is the largest resident set so far, shared pages in full. Android has both under the same names.
"""

from __future__ import annotations

import re
from pathlib import Path

#: The word for both in a table's `memory_counter`.
PSS_AND_HWM = "pss+vm_hwm"
_STATUS, _ROLLUP = Path("/proc/self/status"), Path("/proc/self/smaps_rollup")


def why_no_counters() -> str | None:
    """Return None where this machine has them, else why not."""
    return None if _ROLLUP.exists() else "this system has no /proc/self/smaps_rollup, which says what a process takes"


def process_bytes() -> dict[str, int]:
    """Return `pss`, `rss` and `peak` (the largest RSS so far) of this process, bytes."""
    status, rollup = _STATUS.read_text(encoding="ascii"), _ROLLUP.read_text(encoding="ascii")
    return {
        "pss": kernel_bytes(rollup, "Pss"),
        "rss": kernel_bytes(status, "VmRSS"),
        "peak": kernel_bytes(status, "VmHWM"),
    }


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

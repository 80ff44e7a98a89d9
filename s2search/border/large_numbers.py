"""Integers in files that no sum in 64 bits would hold; they are refused where the file is read."""

from __future__ import annotations

import re

import msgspec

_LONG = re.compile(rb"\d{19}")


def large_number(content: bytes) -> str:
    """Return the first integer of a JSON document that 64 bits do not hold, of which no sum would be right; else "".

    >>> large_number(b'{"latency_us": 9223372036854775808}'), large_number(b'["9223372036854775808", 5, 1e30]')
    ('9223372036854775808', '')
    """
    pending = [msgspec.json.decode(content)] if _LONG.search(content) else []
    while pending:
        item = pending.pop()
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            return str(item)
        pending += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return ""

"""TOML that others wrote: whatever is wrong with it is one kind of error."""

from __future__ import annotations

import tomllib
from typing import Any


def parsed_toml(text: str) -> dict[str, Any]:
    """Return what a TOML document says.

    Raises:
        ValueError: It is no TOML, is nested too deeply, or has a whole number beyond 64 bits.
    """
    try:
        found = tomllib.loads(text)
        _check(found)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:  # of Python's int, beyond 4300 digits, as well
        raise ValueError("a whole number has more than 64 bits") from None
    return found


def _check(value: Any) -> None:
    """Raise unless whole numbers are such as TOML has; what is larger may not even be printed."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check(inner)

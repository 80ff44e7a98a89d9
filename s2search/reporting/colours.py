"""One colour per block, the same in the terminal and in figures."""

from __future__ import annotations

from collections.abc import Iterable

#: Okabe and Ito's palette (2008), which colour-blind readers can tell apart.
_NAMED = {"lcha": "#D55E00", "ssa": "#0072B2", "full": "#CC79A7", "kv_compressed": "#009E73"}
_OTHERS = ("#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F", "#6B4C9A", "#B2912F")


def block_colours(labels: Iterable[str]) -> dict[str, str]:
    """Return a colour (hex) for each block label; the built-in blocks always have theirs.

    >>> block_colours(["lcha", "lcha[gate=false]", "ssa"])
    {'lcha': '#D55E00', 'lcha[gate=false]': '#E69F00', 'ssa': '#0072B2'}
    """
    others = iter(_OTHERS * 10)
    return {label: _NAMED[label] if label in _NAMED else next(others) for label in labels}

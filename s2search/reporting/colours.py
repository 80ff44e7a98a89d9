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


def ink_on(colour: str) -> str:
    """Return white, or all but black: the one that is read better on a colour, by WCAG's ratio of luminances.

    >>> ink_on("#0072B2"), ink_on("#CC79A7")
    ('#fff', '#040404')
    """
    return "#040404" if luminance(colour) > 0.182 else "#fff"  # where both have a contrast of 4.53


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour such as `#0072B2`, as WCAG 2.2 defines it.

    >>> luminance("#ffffff"), luminance("#000000")
    (1.0, 0.0)
    """
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

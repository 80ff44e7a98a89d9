"""Durations in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a duration in words.

    >>> duration(75), duration(8000)
    ('1 min 15 s', '2 h 13 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {rest} s"

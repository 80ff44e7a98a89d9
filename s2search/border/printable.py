"""Text that others wrote, made harmless for a terminal: what would move its cursor or turn its text around is shown.

Names and sentences come from tables, manifests and plans of strangers. An escape sequence in one can rewrite lines that
were printed before, set a window's title or fill the clipboard; marks of direction let a name read as another.
"""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"  # all but the tab and the newline
_DIRECTIONS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_HARMFUL = re.compile(f"[{_CONTROLS}{_DIRECTIONS}]")
_PICTURE = 0x2400  # Unicode's pictures of the control characters


def printable(text: str) -> str:
    r"""Return a text in which every harmful character is a visible one of one column.

    >>> printable("a\x1b[2Jb\u202ec")
    'a␛[2Jb�c'
    """
    return _HARMFUL.sub(_shown, text)


def printable_json(text: str) -> str:
    r"""Return JSON of the same value whose strings have no harmful character.

    >>> printable_json('{"a": "\x9b2J"}')
    '{"a": "\\u009b2J"}'
    """
    return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(_PICTURE + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"

"""Pictures that a page carries inside: only their pixels come in, as small as the page needs them.

A file of a stranger is decoded and written anew (JPEG, by Pillow), so that nothing but pixels gets in. Pictures are
drawn when the rest of the page is there: what is left of its size is theirs, and where it is too little for all of
them they are made smaller, together, and the page says so.
"""

from __future__ import annotations

import base64
import io
import struct
from dataclasses import dataclass, field

from s2search.errors import MissingExtraError, extras_named
from s2search.reporting.report.markup import Html, element, paragraph

#: No page needs larger ones: bytes of a file, and pixels of a picture.
MOST_FILE, MOST_PIXELS = 32_000_000, 20_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_QUALITY = 82
_SCALES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15)
_HOLD = "\x00picture {}\x00"  # no text of the page has this character: `markup.text` shows it as another one


@dataclass(kw_only=True)
class Pictures:
    """The pictures of a page, which hold their places until its size is known."""

    _pngs: list[bytes] = field(default_factory=list)
    why_not: list[str] = field(default_factory=list)

    def figure(self, png: bytes, alt: str, caption: str) -> Html:
        """Return a picture's place with its caption; why it is not shown, where its file is no picture.

        Args:
            png: The file.
            alt: What it shows, for those who do not see it.
            caption: What stands below.
        """
        if why := refused(png):
            self.why_not.append(f"{caption}: {why}")
            return paragraph(f"{caption}: not shown, {why}.", class_="none")
        self._pngs.append(png)
        place = element("img", src="{}", alt=alt).replace("{}", _HOLD.format(len(self._pngs) - 1))
        return element("figure", Html(place), element("figcaption", caption))

    def fill(self, page: str, most_bytes: int) -> tuple[str, str]:
        """Return a page with its pictures in their places, and what was done to them; empty where nothing was.

        Args:
            page: With places.
            most_bytes: That the page may have.
        """
        room = most_bytes - len(page.encode())
        for scale in _SCALES:
            found = [_inside(png, scale) for png in self._pngs]
            if sum(map(len, found)) <= room:
                said = (
                    ""
                    if scale == 1
                    else f"Pictures are shown at {100 * scale:g} % of their size, to keep the page small"
                )
                return self._filled(page, found), said
        blank = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
        return self._filled(page, [blank] * len(self._pngs)), "Pictures are left out: there is no room for them"

    def _filled(self, page: str, pictures: list[str]) -> str:
        for place, data in enumerate(pictures):
            page = page.replace(_HOLD.format(place), data)
        return page


def refused(png: bytes) -> str:
    """Return why a file is not shown; empty where it is.

    >>> refused(b"GIF89a")
    'it is no PNG picture'
    """
    if len(png) > MOST_FILE:
        return f"its file has more than {MOST_FILE // 1_000_000} MB"
    if png[:8] != _PNG or len(png) < 33 or png[12:16] != b"IHDR":
        return "it is no PNG picture"
    width, height = struct.unpack(">II", png[16:24])
    if not 0 < width * height <= MOST_PIXELS:
        return f"it has {width}x{height} pixels"
    try:
        with extras_named():
            _inside(png, 1.0)
    except MissingExtraError as error:
        return str(error)
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        return f"it cannot be read: {error}"
    return ""


def _inside(png: bytes, scale: float) -> str:
    """Return a picture's pixels as a data URI."""
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        plain = image.convert("RGB")
    plain.info.clear()  # or a comment of the file would be written again
    if scale != 1:
        size = max(1, round(plain.width * scale)), max(1, round(plain.height * scale))
        plain = plain.resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    plain.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"

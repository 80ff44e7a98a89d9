"""Markup that is safe by construction: whatever is no `Html` is a stranger's text, and is escaped.

Names, notes and sentences come from tables, plans and manifests that others wrote. No section of the page puts text
together with markup by itself: all of it goes through `element`, which escapes text and quotes attributes, and makes
characters visible that would turn text around.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from s2search.border.printable import printable

#: Elements without content.
_VOID = {"br", "img", "meta"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def text(words: str) -> Html:
    r"""Return a text as markup that shows it.

    >>> text("<b>&\u202e")
    '&lt;b&gt;&amp;�'
    """
    return Html(escape(_writable(words)))


def borrowed(markup: str) -> Html:
    """Return markup of a function that escapes what it was given by itself; its characters are made visible too."""
    return Html(_writable(markup))


def _writable(words: str) -> str:
    return printable(words).encode("utf-8", "replace").decode()  # half a character of UTF-16 cannot be written


def element(tag: str, *content: str, **attributes: str | int | float | None) -> Html:
    """Return an element; what of its content is no `Html` is escaped, and so are its attributes.

    Args:
        tag: Its name.
        content: Text, or markup.
        attributes: `_` stands for `-`, and one at the end is dropped, for Python's own words; None leaves one out.

    >>> element("a", "1 < 2", class_="n", href="#o1")
    '<a class="n" href="#o1">1 &lt; 2</a>'
    """
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{words}>" if tag in _VOID else f"<{tag}{words}>{joined(content)}</{tag}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Return parts one after another, text escaped."""
    return Html(text(between).join(part if isinstance(part, Html) else text(part) for part in parts))


def paragraph(*content: str, class_: str | None = None) -> Html:
    """Return a paragraph."""
    return element("p", *content, class_=class_)


def bullets(lines: Iterable[str]) -> Html:
    """Return lines as a list; nothing where there are none."""
    found = [element("li", line) for line in lines]
    return element("ul", *found) if found else Html()


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return what there is to say, by name."""
    return element("dl", *(element("div", element("dt", name), element("dd", said)) for name, said in pairs))


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1, last_words: int = 0
) -> Html:
    """Return a table that scrolls sideways by itself where the page is narrow; each row begins with its heading.

    Args:
        caption: What it shows.
        heads: Of the columns.
        rows: Cells, as many as there are columns.
        words: So many of the first columns are words, and stand to the left.
        last_words: And so many of the last.
    """
    side = ["w" if place < words or place >= len(heads) - last_words else None for place in range(len(heads))]
    head = element("tr", *(element("th", one, scope="col", class_=at) for one, at in zip(heads, side, strict=True)))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", class_=side[0]),
            *(element("td", cell, class_=at) for cell, at in zip(row[1:], side[1:], strict=True)),
        )
        for row in rows
    ]
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", whole, class_="scroll", role="region", tabindex=0, aria_label=caption)


def folded(summary: str, *content: str) -> Html:
    """Return what is there for those who ask: closed on a screen, open on paper."""
    return element("details", element("summary", summary), *content)


def section(anchor: str, heading: str, *content: str) -> Html:
    """Return a section of the page, which its heading names."""
    return element(
        "section", element("h2", heading, id=f"{anchor}-h"), *content, id=anchor, aria_labelledby=f"{anchor}-h"
    )


def verdict(kind: str, *content: str) -> Html:
    """Return a sentence that says in a sign and a word how things stand, and then why: `good`, `doubt` or `bad`."""
    sign, word = {"good": ("✓", "Good"), "doubt": ("?", "Doubt"), "bad": ("✗", "Problem")}[kind]
    mark = element("strong", element("span", sign, aria_hidden="true"), f" {word}: ")
    return element("p", mark, *content, class_=f"verdict {kind}")

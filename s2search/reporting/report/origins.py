"""Where every number of the page comes from: the number is a link to its origin, and is described by it.

A pointer that rests on a number, and the keyboard's focus, show the origin beside it; screen readers read it after the
number, without any script; on paper and in a PDF it is a note. Numbers of one column share one origin.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from s2search.reporting.report.markup import Html, element


@dataclass(kw_only=True)
class Origins:
    """The origins that numbers were given so far, in the order of the page."""

    _number: dict[str, int] = field(default_factory=dict)

    def number(self, shown: str, origin: str) -> Html:
        """Return a number, or a phrase with numbers, that leads to its origin.

        Args:
            shown: As it is read.
            origin: A file, what of it, and how that came about.
        """
        if not shown:
            return Html()
        name = self.anchor(origin)
        return element("a", shown, class_="n", href=f"#{name}", aria_describedby=name, data_o=name[1:])

    def anchor(self, origin: str) -> str:
        """Return where an origin stands on the page, for what leads elsewhere and is described by it."""
        return f"o{self._number.setdefault(origin, len(self._number) + 1)}"

    def lines(self, shown: str, origin: str) -> Html:
        """Return a text of several lines, each leading to the origin that they share."""
        return Html(element("br").join(self.number(line, origin) for line in shown.split("\n")))

    def listed(self) -> Html:
        """Return all origins, numbered."""
        return element("ol", *(element("li", told, id=f"o{n}", tabindex=-1) for told, n in self._number.items()))

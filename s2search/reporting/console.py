"""The one door by which answers reach a terminal: text that others wrote moves no cursor there."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typing_extensions import override

from s2search.border.printable import printable


class PrintableConsole(Console):
    """Rich's console, which adds its own colours to text in which every control character is a visible one."""

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

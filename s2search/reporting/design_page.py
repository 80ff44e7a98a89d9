"""Designs as one interactive page: a single file that loads nothing. A cell of the matrix shows its design."""

from __future__ import annotations

from collections.abc import Sequence

from s2search.designer.document import Design
from s2search.reporting.report.campaign import GivenPart
from s2search.reporting.report.design import designs_html
from s2search.reporting.report.file import page_file
from s2search.reporting.report.markup import element, joined, paragraph, section
from s2search.reporting.report.origins import Origins


def design_html(designs: Sequence[Design]) -> str:
    """Return a page with the matrix of every design, and where all of its numbers come from."""
    origins = Origins()
    given = [GivenPart(part=design, name=design.provenance.table) for design in designs]
    devices = " and ".join(dict.fromkeys(design.provenance.device for design in designs))
    matrices = section("designs", "What is possible", designs_html(given, origins))
    content = joined(
        [
            element("a", "Skip to the content", href="#main", class_="skip"),
            element("header", element("h1", f"What {devices} can do"), paragraph(_subject(designs))),
            element(
                "main",
                matrices,
                section("origins", "Where the numbers come from", origins.listed()),
                id="main",
                tabindex=-1,
            ),
            element(
                "footer", f"Made by s2search {designs[0].provenance.s2search}. This file loads nothing from anywhere."
            ),
        ]
    )
    return page_file(f"What {devices} can do: s2search", content)


def _subject(designs: Sequence[Design]) -> str:
    origins = dict.fromkeys(f"{one.provenance.table}: {one.provenance.table_statement}" for one in designs)
    return "; ".join(origins)

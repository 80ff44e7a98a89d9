"""What tables are installed: their names, devices, and what they can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s2search.document import Document
from s2search.preset import video_size
from s2search.tables.card import ProvenanceKind
from s2search.tables.table import LatencyTable, installed_tables

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class ListedTable:
    """An installed table.

    Attributes:
        name: Of its folder.
        digest: Of its content.
        folder: Where it is.
        kind: Where its latencies come from.
        device: What it was measured on, or derived for.
        runtime: With its version.
        date: Of the last sample.
        rows: How many.
        videos: Video sizes, by scenario, of rows of blocks.
        precisions: Of its rows.
        compute_units: Of its rows.
        pipeline: Whether it answers `fps` budgets.
        marks: What was wrong with its run; empty for a good one.
    """

    name: str
    digest: str
    folder: str
    kind: ProvenanceKind
    device: str
    runtime: str
    date: str
    rows: int
    videos: dict[str, list[str]]
    precisions: list[str]
    compute_units: list[str]
    pipeline: bool
    marks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TableList(Document):
    """The installed tables, by name."""

    schema: Literal["s2search.table_list/1"] = "s2search.table_list/1"
    tables: list[ListedTable]

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.table_list_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.text_html(self)


def list_tables() -> TableList:
    """Return the installed tables, by name.

    Raises:
        TableError: One of them cannot be read.
    """
    found = sorted(installed_tables().items())
    return TableList(tables=[_listed(LatencyTable.load(folder), str(folder)) for _, folder in found])


def _listed(table: LatencyTable, folder: str) -> ListedTable:
    card, blocks = table.card, table.rows.having(role="block")
    videos: dict[str, list[str]] = {}
    for scenario in sorted(blocks.different("scenario")):
        grids = sorted(blocks.having(scenario=scenario).different("height", "width"))
        videos[scenario] = [video_size(*grid) for grid in grids]
    return ListedTable(
        name=table.name,
        digest=table.digest,
        folder=folder,
        kind=card.provenance.kind,
        device=card.device,
        runtime=f"{card.runtime} {card.runtime_version}".strip(),
        date=card.date,
        rows=len(table.rows),
        videos=videos,
        precisions=sorted(table.rows.different("precision")),
        compute_units=sorted(table.rows.different("compute_unit")),
        pipeline=card.pipeline is not None,
        marks=card.marks,
    )

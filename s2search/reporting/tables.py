"""Tables in the terminal, made for 80 columns: what was imported, what a table holds, what two of them say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes, format_us
from s2search.lint.base import Finding
from s2search.reporting.lint import lint_text
from s2search.reporting.origin import mark_lines
from s2search.reporting.terminal import table_text
from s2search.tables.compare import ComparedRow, Comparison, TableName
from s2search.tables.foreign import PLACES, ImportedRow, ImportedTable
from s2search.tables.listing import ListedTable, TableList
from s2search.tables.table import LatencyTable

_ROWS_SHOWN = 20
_VALUE = 60
_LONG = ("protocol", "assumptions", "columns", "sources")


def show_text(table: LatencyTable | ImportedTable) -> RenderableType:
    """Return a table's rows and where they come from."""
    if isinstance(table, ImportedTable):
        return Group(Text(), _rows(table), Text(), _facts(imported_facts(table)), Text())
    card = table.card
    facts = [
        ("device", f"{card.device}, {card.chip}"),
        ("runtime", f"{card.runtime} {card.runtime_version}"),
        ("origin", f"{card.provenance.kind}, {card.date}: {card.provenance.source}"),
        *(("assumed", line) for line in card.assumptions),
    ]
    return Group(table_text(table), _facts(facts), Text())


def list_text(found: TableList) -> RenderableType:
    """Return the installed tables, one after another, with what they can be asked."""
    parts: list[RenderableType] = []
    for table in found.tables:
        parts += [Text(), Text(f"{table.name} ({table.digest[7:19]})", style="bold"), _facts(_listed_facts(table))]
    return Group(*parts, *([] if parts else [Text("no table is installed")]), Text())


def _listed_facts(table: ListedTable) -> list[tuple[str, str]]:
    marked = " in a marked run" if table.marks else ""
    return [
        ("  origin", f"{table.kind}{marked}, {table.date}"),
        ("  device", f"{table.device}; {table.runtime}"),
        *(("  video", f"{scenario}: {', '.join(sizes)}") for scenario, sizes in table.videos.items()),
        ("  rows", f"{table.rows:,}: {', '.join(table.precisions)}; {', '.join(table.compute_units)}"),
        ("  budgets", "latency, memory, fps" if table.pipeline else "latency, memory; no fps without its pipeline"),
        *(("  marked", line) for line in mark_lines(table.marks)),
    ]


def import_text(table: ImportedTable, findings: Sequence[Finding]) -> RenderableType:
    """Return what was imported, and what the linter says of it."""
    return Group(Text(), _facts(imported_facts(table)), lint_text(list(findings)) if findings else Text())


def imported_facts(table: ImportedTable) -> list[tuple[str, str]]:
    """Return what there is to say of an imported table, as (name, text)."""
    card, parts = table.card, dict.fromkeys(row.part for row in table.rows)
    timed = sum(row.latency_ms is not None for row in table.rows)
    shown = ", ".join(list(parts)[:6]) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")
    return [
        ("table", f"{table.name} ({table.digest[7:19]})"),
        ("rows", f"{len(table.rows):,}, of which {timed:,} with a latency; parts: {shown}"),
        *(
            (place.replace("_", " "), getattr(card, place) + (" (as told)" if place in card.told else ""))
            for place in PLACES
        ),
        *(("source", f"{source.file} ({source.digest[7:19]}), {source.origin}") for source in card.sources),
        ("origin", card.provenance.statement),
        *(("assumed", line) for line in card.assumptions),
    ]


def comparison_text(found: Comparison) -> RenderableType:
    """Return the rows of both, those furthest from the common ratio first, and what else differs."""
    ranked = sorted(found.rows, key=lambda row: -_distance(row, found.ratio or 1.0))
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("part", overflow="fold")
    for heading in ("before", "after", "ratio", "error", ""):
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in ranked[:_ROWS_SHOWN]:
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        error = "" if row.ratio_std is None else f"{row.ratio_std:.3f}"
        says = {None: "", True: "differs", False: "same"}[row.differs]
        grid.add_row(row.part, _latency(row.before_ms), _latency(row.after_ms), ratio, error, says)
    if len(ranked) > _ROWS_SHOWN:
        grid.add_row(f"{len(ranked) - _ROWS_SHOWN:,} more; --json lists all")
    shown: list[RenderableType] = [grid, Text()] if found.rows else []
    return Group(Text(), *shown, _facts(_comparison_facts(found)), Text())


def _comparison_facts(found: Comparison) -> list[tuple[str, str]]:
    known = [row for row in found.rows if row.differs is not None]
    differ = sum(bool(row.differs) for row in known)
    facts = [
        ("before", _table(found.before)),
        ("after", _table(found.after)),
        ("rows", f"{len(found.rows):,} in both"),
    ]
    if found.ratio is not None:
        facts.append(("ratio", f"{found.ratio:.3f} in the geometric mean, after over before"))
    if found.spearman is not None:
        facts.append(("ranks", f"Spearman {found.spearman:.3f}"))
    if known:
        facts.append(("noise", f"{differ} of {len(known)} differ beyond it, 95 % sure for all together"))
    if unknown := len(found.rows) - len(known):
        facts.append(("noise", f"{unknown:,} cannot be judged: a table states no spread of timings"))
    for name, parts in (("only before", found.only_before), ("only after", found.only_after)):
        if parts:
            facts.append((name, _listed(parts)))
    told = {field: values for field, values in found.card.items() if field.split(".")[0] not in _LONG}
    facts += [("card", f"{field}: {_cut(before)} -> {_cut(after)}") for field, (before, after) in told.items()]
    if more := len(found.card) - len(told):
        facts.append(("card", f"{more} further fields of {', '.join(_LONG)}; --json lists them"))
    return facts


def _table(table: TableName) -> str:
    return "\n".join([f"{table.name} ({table.digest[7:19]})", *mark_lines(table.marks)])


def _distance(row: ComparedRow, common: float) -> float:
    """Return how far a ratio is from the common one, as a factor; rows without one come last."""
    return 0.0 if row.ratio is None else max(row.ratio / common, common / row.ratio)


def _rows(table: ImportedTable) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("part", overflow="fold")
    for heading in ("latency", "std", "samples", "memory"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in table.rows[:_ROWS_SHOWN]:
        std = "" if row.latency_std_ms is None else _latency(row.latency_std_ms)
        latency = "" if row.latency_ms is None else _latency(row.latency_ms)
        grid.add_row(table.label(row), latency, std, "" if row.samples is None else f"{row.samples:,}", _memory(row))
    if len(table.rows) > _ROWS_SHOWN:
        grid.add_row(f"{len(table.rows) - _ROWS_SHOWN:,} more in table.csv")
    return grid


def _memory(row: ImportedRow) -> str:
    if row.memory_bytes is None:
        return ""
    least = "" if row.memory_least_bytes is None else f"{format_bytes(row.memory_least_bytes)} to "
    return least + format_bytes(row.memory_bytes)


def _latency(milliseconds: float) -> str:
    return format_us(1000 * milliseconds)


def _facts(facts: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    before = None
    for name, line in facts:
        grid.add_row("" if name == before else name, line)
        before = name
    return grid


def _listed(parts: Sequence[str]) -> str:
    more = f"; {len(parts) - 3:,} more" if len(parts) > 3 else ""
    return f"{len(parts):,}: " + "; ".join(parts[:3]) + more


def _cut(value: str) -> str:
    return value if len(value) <= _VALUE else f"{value[: _VALUE - 3]}..."

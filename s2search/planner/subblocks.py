"""A search problem from imported subblocks: at every layer one attention and one feed-forward, each from several.

Puzzletron's `subblock_stats.json`, imported, states latency and memory of every subblock at every layer. That is all
that a `Problem` needs besides a score, which is the user's: how much is lost where a subblock stands in for the
original. Rows need a column `layer`; those without a layer stand for all. What is no subblock (`non_block`) is in
every layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from s2search.block import Stream
from s2search.errors import TableError
from s2search.solver.problem import UNLIMITED, Problem
from s2search.tables.foreign import ImportedRow, ImportedTable

#: Scores a subblock at a layer: (layer, part, subblock as JSON) -> larger is better.
SubblockScore = Callable[[int, str, str], float]

_FIXED = "non_block"


@dataclass(frozen=True, kw_only=True)
class SubblockProblem:
    """A problem, and what its layers and candidates are.

    Attributes:
        problem: One of its layers per slot.
        slots: Layer and part that is to be filled, such as (3, "FFNConfig").
        subblocks: Part and subblock of each candidate.
    """

    problem: Problem
    slots: tuple[tuple[int, str], ...]
    subblocks: tuple[tuple[str, str], ...]

    def chosen(self, choice_L: Sequence[int]) -> dict[tuple[int, str], str]:
        """Return the subblock in each slot of a solver's choice."""
        return {slot: self.subblocks[c][1] for slot, c in zip(self.slots, choice_L, strict=True)}


def subblock_problem(
    table: ImportedTable,
    score: SubblockScore,
    *,
    where: Mapping[str, str] = MappingProxyType({}),
    latency_budget_ms: float | None = None,
    memory_budget_bytes: int | None = None,
) -> SubblockProblem:
    """Make a problem of one scenario of a table of subblocks.

    Args:
        table: Imported subblocks.
        score: How good a subblock is at a layer.
        where: Cells that choose the scenario, such as `{"batch_size": "8"}`; not needed where there is only one.
        latency_budget_ms: Limit on the latency of a layout, `non_block` included.
        memory_budget_bytes: Limit on its memory.

    Raises:
        TableError: Rows of several scenarios are left, or a row has no latency, a negative one or no memory.
    """
    rows = _scenario(table, where)
    fixed = [row for row in rows if row.part == _FIXED]
    costs = _by_slot(table, [row for row in rows if row.part != _FIXED])
    slots = tuple(sorted({(layer, part) for layer, part, _ in costs}))
    subblocks = tuple(dict.fromkeys((part, subblock) for _, part, subblock in costs))
    shape = (len(slots), len(subblocks))
    score_LC, allowed_LC = np.zeros(shape), np.zeros(shape, bool)
    latency_us_LC, memory_bytes_LC = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for (layer, part, subblock), row in costs.items():
        place = slots.index((layer, part)), subblocks.index((part, subblock))
        latency_us_LC[place], memory_bytes_LC[place] = _cost(row, f"{part} {subblock} at layer {layer}")
        allowed_LC[place], score_LC[place] = True, score(layer, part, subblock)
    fixed_costs = [_cost(row, row.part) for row in fixed]
    problem = Problem(
        score_LC=score_LC,
        latency_us_LC=latency_us_LC,
        memory_bytes_LC=memory_bytes_LC,
        peak_bytes_LC=np.zeros(shape, np.int64),
        allowed_LC=allowed_LC,
        stream_C=np.full(len(subblocks), int(Stream.HIGH)),
        switch_us_SS=np.zeros((len(Stream), len(Stream)), np.int64),
        fixed_us=sum(microseconds for microseconds, _ in fixed_costs),
        fixed_bytes=sum(size for _, size in fixed_costs),
        latency_budget_us=UNLIMITED if latency_budget_ms is None else math.floor(1000 * latency_budget_ms + 1e-6),
        memory_budget_bytes=UNLIMITED if memory_budget_bytes is None else memory_budget_bytes,
        label_C=tuple(f"{part} {subblock}" for part, subblock in subblocks),
    )
    return SubblockProblem(problem=problem, slots=slots, subblocks=subblocks)


def _scenario(table: ImportedTable, where: Mapping[str, str]) -> list[ImportedRow]:
    """Return the rows that are asked for, all of one scenario."""
    for column in ("layer", "subblock", *where):
        if column not in table.card.columns:
            raise TableError(
                f"the table {table.name!r} has no column {column!r}",
                allowed=f"it has: {', '.join(table.card.columns)}",
                remedy="import a table of subblocks",
            )
    rows = [row for row in table.rows if where.items() <= table.about(row).items()]
    for column in table.card.columns:
        values = dict.fromkeys(table.about(row)[column] for row in rows)
        if len(values) > 1 and column not in ("layer", "subblock", *table.card.facts):
            raise TableError(
                f"rows of {table.name!r} have {len(values)} values of {column!r}: {', '.join(values)}"[:1000],
                remedy="choose one by where={" + f"{column!r}: {next(iter(values))!r}" + "}",
            )
    if not rows:
        raise TableError(f"no row of {table.name!r} has {dict(where)}", remedy="look at its table.csv")
    return rows


def _by_slot(table: ImportedTable, rows: list[ImportedRow]) -> dict[tuple[int, str, str], ImportedRow]:
    """Return the rows by layer, part and subblock; one for a single layer goes before one for all."""
    found: dict[tuple[int, str, str], ImportedRow] = {}
    told = [(table.about(row), row) for row in rows]
    layers = sorted({int(about["layer"]) for about, _ in told if about["layer"]})
    if not layers:
        raise TableError(f"no row of {table.name!r} states a layer", remedy="add the layers to the source")
    for about, row in sorted(told, key=lambda pair: bool(pair[0]["layer"])):
        for layer in [int(about["layer"])] if about["layer"] else layers:
            found[layer, row.part, about["subblock"]] = row
    return found


def _cost(row: ImportedRow, where: str) -> tuple[int, int]:
    if row.latency_ms is None or row.latency_ms < 0 or row.memory_bytes is None:
        raise TableError(
            f"{where} has a latency of {row.latency_ms} ms and {row.memory_bytes} bytes",
            allowed="a latency and a memory, 0 or more",
            remedy="choose a scenario with runtimes, or measure the subblock",
        )
    return round(1000 * row.latency_ms), row.memory_bytes

"""Chooses which blocks of a campaign to time, so that known devices' tables foretell the others.

The choice is made anew at every scenario and shape, since `s2search.latency.transfer` foretells each from its own
timings. Switches and the two ends of the model are cheap and always timed; what they tell is counted before a block is
chosen. The sentinel is the first block that is timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from s2search.errors import InputError, MissingRowError
from s2search.measurement.base import Item
from s2search.tables.table import LatencyTable
from s2search.transfer.blend import LEAST_SHOTS, Belief, choose_probes
from s2search.transfer.known_rows import known_ms, row_items
from s2search.transfer.trust import expected_misfit


@dataclass(frozen=True, kw_only=True)
class ShotChoice:
    """What is timed of a campaign, and what is left to be foretold from which tables."""

    shots: int
    timed: tuple[Item, ...]
    foretold: tuple[Item, ...]
    known: tuple[LatencyTable, ...]


def choose_items(
    items: Sequence[Item], shots: int, known: Sequence[LatencyTable], needed: Sequence[str] = ()
) -> ShotChoice:
    """Choose so many blocks at every scenario and shape; all other parts are kept.

    Args:
        items: The whole campaign, in its order.
        shots: Blocks to time at each scenario and shape.
        known: Known devices' tables with every block of the campaign.
        needed: Blocks that plans will use, by label: they are timed before any other; by default all alike.

    Raises:
        InputError: Too few or too many shots, or no known table, or one twice.
        MissingRowError, TableError: A known table lacks a block at a shape.
    """
    if not known:
        raise InputError(f"{shots} shots without a known table", remedy="name one or more with --known")
    digests = [table.digest for table in known]
    if twice := [table.name for table in known if digests.count(table.digest) > 1]:
        raise InputError(f"the known table {twice[0]!r} is named twice", remedy="name it once")
    places = dict.fromkeys((item.scenario, item.shape) for item in items)
    chosen = {
        item.key
        for place in places
        for item in _chosen([item for item in items if (item.scenario, item.shape) == place], shots, known, needed)
    }
    return ShotChoice(
        shots=shots,
        timed=tuple(item for item in items if item.role != "block" or item.key in chosen),
        foretold=tuple(item for item in items if item.role == "block" and item.key not in chosen),
        known=tuple(known),
    )


def _chosen(items: Sequence[Item], shots: int, known: Sequence[LatencyTable], needed: Sequence[str]) -> list[Item]:
    """Choose blocks of one scenario and shape."""
    blocks = [item for item in items if item.role == "block"]
    rows = [known_ms(table, items[0].scenario, items[0].shape) for table in known]
    for table, row_ms in zip(known, rows, strict=True):
        for block in blocks:
            if block.part.label not in row_ms:
                raise MissingRowError(
                    f"the known table {table.name!r} has no row for {block.key!r} with {block.shape.channels} channels",
                    remedy="measure that row, or leave out that known table or that block",
                    part=block.part.name,
                    options=block.part.options_text,
                )
    shared = [item for item in items if item.role != "block" and all(item.part.label in row_ms for row_ms in rows)]
    least = max(1, LEAST_SHOTS - len(shared))
    if not (least <= shots or shots == len(blocks)) or shots > len(blocks):
        raise InputError(
            f"{shots} shots of {len(blocks)} blocks at {items[0].scenario} {items[0].shape.grid}",
            allowed=f"{min(least, len(blocks))} to {len(blocks)}",
            remedy="correct --shots, or name other --candidates",
        )
    if shots == len(blocks):
        return blocks
    first = [block for block in blocks if block.part.label in needed]
    if shots < len(first):
        blocks, first = first, []  # the most telling of those that plans need
    if shots == len(first):
        return first
    others = [block for block in blocks if block not in first]
    offered = row_items(rows, [item.part.label for item in (*others, *first, *shared)])
    belief = Belief(misfit=expected_misfit(offered))
    timed = range(len(others), len(others) + len(first) + len(shared))
    return first + [others[n] for n in choose_probes(offered, shots - len(first), belief, timed=timed)]

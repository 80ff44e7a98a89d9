"""Makes a table again from its samples.jsonl: where the statistics have improved, nothing is timed again."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from s2search import registry
from s2search.block import Shape
from s2search.errors import InputError
from s2search.measurement.base import Item, Profiler
from s2search.measurement.samples import Campaign, Samples, read_samples
from s2search.measurement.tabulate import tabulate
from s2search.tables.table import LatencyTable


def retabulate(folder: str | os.PathLike[str]) -> LatencyTable:
    """Replace a measured table by what its samples say now; what was added to its card by hand stays.

    Raises:
        InputError: The folder has no samples of a finished campaign, or what they were taken of is not installed, or
            the table has rows of further campaigns.
        TableError: The table there cannot be read.
    """
    path = Path(folder)
    old = LatencyTable.load(path)
    if "merged" in old.card.protocol:
        raise InputError(
            f"the table {old.name!r} was merged from {len(old.card.protocol['merged'])} campaigns",
            remedy="make each of them again from its own samples, and merge them again",
        )
    campaign, journal = read_samples(path / "samples.jsonl")
    _check_finished(campaign, journal)
    options = {key: value for key, value in campaign.profiler.items() if key != "name"}
    name = str(campaign.profiler["name"])
    profiler: Profiler = registry.build(registry.load("profilers", name), options, described_as=f"profiler {name!r}")
    new = tabulate(old.name, profiler, campaign, items_of(campaign), journal)
    kept = {field: getattr(old.card, field) for field in ("pipeline", "assumptions", "common_std_relative")}
    table = dataclasses.replace(new, card=dataclasses.replace(new.card, **kept))
    _replace(table, path)
    return table


def items_of(campaign: Campaign) -> tuple[Item, ...]:
    """Build the items that a campaign's first line describes."""
    sizes = {field.name for field in dataclasses.fields(Shape)}
    items = []
    for one in campaign.items:
        scenario, label, *_ = str(one["key"]).split(" ")
        part = registry.create("blocks" if one["role"] in ("block", "commit") else "parts", label)
        shape = Shape(**{key: value for key, value in one.items() if key in sizes})
        items.append(Item(role=one["role"], part=part, scenario=scenario, shape=shape))  # type: ignore[arg-type]
    return tuple(items)


def _check_finished(campaign: Campaign, journal: Samples) -> None:
    counts = Counter(sample.item for sample in journal.samples if sample.name == sample.item and not sample.sentinel)
    missing = [key for one in campaign.items if not counts[key := str(one["key"])]]
    short = campaign.protocol.sustained_s is None and any(count < campaign.protocol.rounds for count in counts.values())
    if missing or short:
        raise InputError(
            f"{str(journal.path)!r} is of a campaign that is not finished",
            remedy="repeat the command that started it",
        )


def _replace(table: LatencyTable, folder: Path) -> None:
    """Write both files beside the old ones, then put them in their place, the card last."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new = Path(scratch, "table")
        table.save(new)
        names: Sequence[str] = ("table.csv", "card.json")
        for name in names:
            os.replace(new / name, folder / name)

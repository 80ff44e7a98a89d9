"""Harmed files: ten thousand for every reader of anything, a clear error or a valid table for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search import registry
from s2search.lint.linter import lint
from s2search.tables.foreign import ImportedTable
from s2search.tables.table import LatencyTable, installed_tables
from s2search.transfer.runs import read_layouts
from tests.mutations import harmed, survives
from tests.readers.samples import SAMPLES, sample, short

FEW, MANY = 50, 10_000
CPU = installed_tables()["amd-epyc.torch-cpu.float32"]
LAYOUTS = (Path(__file__).parents[1] / "data/fbnet_layouts/pixel2.csv").read_bytes()


def reader(name: str) -> Callable[[bytes], object]:
    """Read, and write and read again what was read."""

    def run(content: bytes) -> None:
        table = registry.create("readers", name).table(content, file="harmed")
        with tempfile.TemporaryDirectory() as folder:
            table.save(Path(folder, "table"))
            again = ImportedTable.load(Path(folder, "table"))
        assert (again.rows, again.card) == (table.rows, table.card)

    return run


def file_of(folder: Path, name: str, then: Callable[[Path], object]) -> Callable[[bytes], object]:
    def run(content: bytes) -> object:
        (folder / name).write_bytes(content)
        return then(folder)

    return run


def others(folder: Path) -> dict[str, tuple[Callable[[bytes], object], tuple[bytes, ...]]]:
    """Every other thing that reads files of tables: what runs, on which samples."""
    ours, theirs = Path(shutil.copytree(CPU, folder / "ours")), folder / "theirs"
    (ours / "samples.jsonl").unlink(missing_ok=True)
    registry.create("readers", "ofa").table(sample("ofa"), file="ofa.yaml").save(theirs)
    kinds: tuple[tuple[str, Path, Callable[[Path], object]], ...] = (
        ("ours", ours, LatencyTable.load),
        ("theirs", theirs, ImportedTable.load),
    )
    found: dict[str, tuple[Callable[[bytes], object], tuple[bytes, ...]]] = {}
    for kind, place, load in kinds:
        for name in ("card.json", "table.csv"):
            whole = (place / name).read_bytes()
            for what, then in (("load", load), ("lint", lint)):
                copy = Path(shutil.copytree(place, folder / f"{kind}_{name}_{what}"))
                found[f"{what} {kind} {name}"] = (file_of(copy, name, then), (whole,))
    few = b"\n".join(LAYOUTS.split(b"\n")[:260])
    found["layouts"] = (file_of(folder, "l.csv", lambda place: read_layouts(place / "l.csv")), (few,))
    drifting = registry.create("readers", "hat").table(short("hat"), file="hat").to_csv().encode()
    csvs = (few, short("tfnas"), drifting)
    found["lint csv"] = (file_of(folder, "c.csv", lambda place: lint(place / "c.csv")), csvs)
    return found


OTHERS = (
    *(
        f"{what} {kind} {file}"
        for kind in ("ours", "theirs")
        for file in ("card.json", "table.csv")
        for what in ("load", "lint")
    ),
    "layouts",
    "lint csv",
)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_reader_survives_harmed_files(name: str) -> None:
    survives(reader(name), harmed(short(name)), FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_reader_survives_ten_thousand_harmed_files(name: str) -> None:
    survives(reader(name), harmed(*(short(name, lines) for lines in (5, 40, 120))), MANY)


@pytest.mark.parametrize("what", OTHERS)
def test_what_reads_tables_survives_harmed_files(what: str, tmp_path: Path) -> None:
    run, samples = others(tmp_path)[what]
    survives(run, harmed(*samples), FEW)


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERS)
def test_what_reads_tables_survives_ten_thousand_harmed_files(what: str, tmp_path: Path) -> None:
    run, samples = others(tmp_path)[what]
    survives(run, harmed(*samples), MANY)

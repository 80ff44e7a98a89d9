"""Measured memory is part of a row; tables without it are what they were."""

import dataclasses

import pytest

from s2search.errors import TableError
from s2search.latency.lookup import estimate_of
from s2search.tables.table import LatencyTable, open_table

TOLD = {"memory_load_bytes": 5, "memory_steady_bytes": 7, "memory_peak_bytes": 9, "memory_counter": "phys_footprint"}


def changed(**columns):
    table = open_table("amd-epyc")
    first, *others = table.rows
    return dataclasses.replace(table, rows=(dataclasses.replace(first, **columns), *others))


def test_it_is_written_and_read_back(tmp_path):
    table = changed(**TOLD, resident_bytes=0)
    table.save(tmp_path / "t")
    again = LatencyTable.load(tmp_path / "t")
    assert list(again.rows) == list(table.rows)
    assert again.digest == table.digest != open_table("amd-epyc").digest
    assert again.rows[0].memory_first_bytes is None
    assert again.rows[0].resident_bytes == 0


def test_measured_memory_promises_nothing_and_corrected_memory_does():
    computed = estimate_of(open_table("amd-epyc").rows[0]).cost
    assert estimate_of(changed(**TOLD).rows[0]).cost == computed
    corrected = estimate_of(changed(resident_bytes=123).rows[0]).cost
    assert (corrected.memory_bytes, corrected.peak_bytes) == (123, computed.peak_bytes)


@pytest.mark.parametrize(
    "column", ["memory_load_bytes", "memory_first_bytes", "memory_steady_bytes", "memory_peak_bytes"]
)
def test_a_figure_without_its_counter_is_refused_with_its_line(tmp_path, column):
    changed(**{column: 5, "memory_counter": "pss"}).save(tmp_path / "t")
    file = tmp_path / "t" / "table.csv"
    file.write_text(file.read_text().replace(",pss,", ",,"))
    with pytest.raises(TableError, match=r"line 2 of .*memory of lcha was measured, and memory_counter is empty"):
        LatencyTable.load(tmp_path / "t")


@pytest.mark.parametrize("cell", ["-1", "x", "1.5", "nan"])
def test_what_is_no_number_of_bytes_is_refused(tmp_path, cell):
    changed(memory_peak_bytes=987654321, memory_counter="pss").save(tmp_path / "t")
    file = tmp_path / "t" / "table.csv"
    file.write_text(file.read_text().replace(",987654321,", f",{cell},"))
    with pytest.raises(TableError, match=r"line 2 of .*memory_peak_bytes"):
        LatencyTable.load(tmp_path / "t")

"""What a row takes on a phone: the app's own footprint, of which a row is what it grew by."""

import pytest

from s2search.errors import InputError
from s2search.kit.ingest import ingest
from s2search.tables.table import LatencyTable
from tests.kit.conftest import write_kit
from tests.kit.fake_mac.sizes import row_bytes
from tests.kit.test_ingest import write_results

TOLD = {"before_bytes": 100, "load_bytes": 140, "first_bytes": 180, "steady_bytes": 160, "peak_before_bytes": 150}


def row_of(kit, out, memory):
    def change(line):
        return {**line, "memory": memory} if line["kind"] == "ready" and line["row"] == 1 else line

    (table,) = ingest(write_results(kit, write_kit(kit), change=change), out).tables
    return next(row for row in table.rows if row.part == "ssa")


def moments(row):
    return row.memory_load_bytes, row.memory_first_bytes, row.memory_steady_bytes, row.memory_peak_bytes


def test_a_row_takes_what_the_app_grew_by_whatever_was_there_before(tmp_path):
    row = row_of(tmp_path / "kit", tmp_path / "t", {**TOLD, "peak_bytes": 190})
    assert moments(row) == (40, 80, 60, 90)
    assert row.memory_counter == "phys_footprint"
    assert (row.weight_bytes, row.state_bytes, row.peak_bytes, row.resident_bytes) == (1001, 10, 20, None)


def test_a_peak_that_an_earlier_row_made_is_not_this_rows(tmp_path):
    row = row_of(tmp_path / "kit", tmp_path / "t", {**TOLD, "peak_before_bytes": 900, "peak_bytes": 900})
    assert moments(row) == (40, 80, 60, None)


def test_an_app_that_shrank_took_nothing(tmp_path):
    row = row_of(tmp_path / "kit", tmp_path / "t", {**TOLD, "load_bytes": 50, "peak_bytes": 190})
    assert moments(row)[0] == 0


def test_results_of_before_and_a_phone_that_does_not_tell_leave_memory_empty(tmp_path):
    row = row_of(tmp_path / "kit", tmp_path / "t", None)
    assert moments(row) == (None,) * 4
    assert row.memory_counter is None
    assert "memory_" not in (tmp_path / "t" / "iphone-9.coreml.float16" / "table.csv").read_text()


@pytest.mark.parametrize(
    "memory", [{**TOLD, "peak_bytes": -1}, TOLD, {**TOLD, "peak_bytes": 1.5}, {**TOLD, "peak_bytes": 1, "rss": 1}, 7]
)
def test_a_memory_that_is_none_is_refused_by_its_line(tmp_path, memory):
    with pytest.raises(InputError, match=r"line \d+ of .* is not a result: .*memory"):
        row_of(tmp_path / "kit", tmp_path / "t", memory)


def test_the_phones_figures_come_through_the_runner_into_the_table(mac, tmp_path):
    mac.faults(tells_no_memory=[2])
    mac.run()
    (folder,) = ingest(mac.results, tmp_path).folders
    rows = {row.part: row for row in LatencyTable.load(folder).rows}
    for number, part in enumerate(("lcha", "ssa")):
        assert moments(rows[part]) == tuple(row_bytes(number, one) for one in ("load", "first", "steady", "peak"))
    assert moments(rows["down"]) == (None,) * 4
    assert rows["stem"].memory_steady_bytes == row_bytes(3, "steady")

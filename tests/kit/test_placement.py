"""A row of the kit that did not run where it was asked."""

import json

import pytest

from s2search.errors import InputError
from s2search.kit.ingest import ingest
from s2search.lint.linter import lint_table
from s2search.tables.placement import is_misplaced, unit_asked_by
from tests.command import run_here
from tests.kit.conftest import write_kit
from tests.kit.test_ingest import write_results


def placed(row, operations, cost=None):
    def change(line):
        if line["kind"] != "placement" or line["row"] != row:
            return line
        return {**line, "operations": operations, **({} if cost is None else {"cost": cost})}

    return change


@pytest.fixture
def kit(tmp_path):
    return tmp_path / "kit"


def results_of(kit, operations, cost=None, row=1):
    return write_results(kit, write_kit(kit), change=placed(row, operations, cost))


def test_a_row_that_ran_elsewhere_is_refused_in_one_line_and_nothing_is_written(kit, tmp_path):
    path = results_of(kit, {"cpu": 3, "neural_engine": 1})
    with pytest.raises(InputError) as refusal:
        ingest(path, tmp_path / "tables")
    said = str(refusal.value)
    assert "\n" not in said
    for word in (
        "ssa 3x9x16",
        "asked to run on neural_engine",
        "ran on cpu:0.75,neural_engine:0.25",
        "--keep-misplaced",
    ):
        assert word in said
    assert not (tmp_path / "tables").exists()


def test_kept_it_is_a_row_of_the_unit_that_it_ran_on_and_no_plan_for_the_other_sees_it(kit, tmp_path):
    path = results_of(kit, {"cpu": 3, "neural_engine": 1})
    found = ingest(path, tmp_path / "tables", keep_misplaced=True)
    (table,) = found.tables
    rows = {row.part: row for row in table.rows}
    assert (rows["ssa"].compute_unit, rows["ssa"].unit_asked) == ("cpu", "neural_engine")
    assert rows["ssa"].unit_ran == "cpu:0.75,neural_engine:0.25"
    assert {rows[part].compute_unit for part in ("lcha", "down", "stem", "long_skip")} == {"cpu_and_neural_engine"}
    scope = table.scope("stream", compute_unit="cpu_and_neural_engine")
    assert "ssa" not in {row.part for row in table.in_scope(scope)}
    assert len(found.misplaced) == 1
    assert not [finding for finding in lint_table(table) if finding.rule == "misplaced_row"]


def test_all_misplaced_rows_are_counted_in_the_line(kit, tmp_path):
    def change(line):
        return {**line, "operations": {"gpu": 2}} if line["kind"] == "placement" and line["row"] > 1 else line

    with pytest.raises(InputError, match=r"stream down .* ran on gpu:1 \(and 1 more rows\): its time is not one of"):
        ingest(write_results(kit, write_kit(kit), change=change), tmp_path)


@pytest.mark.parametrize(
    ("operations", "cost", "ran"),
    [
        ({"cpu": 8, "neural_engine": 8}, None, "cpu:0.5,neural_engine:0.5"),  # our own stem, by count
        ({"cpu": 9, "neural_engine": 8}, {"cpu": 0.02, "neural_engine": 0.98}, "neural_engine:0.98,cpu:0.02"),
        ({"cpu": 1, "neural_engine": 8}, {}, "neural_engine:0.8889,cpu:0.1111"),  # the plan estimates nothing
    ],
)
def test_a_row_that_ran_in_part_elsewhere_stays(kit, tmp_path, operations, cost, ran):
    (table,) = ingest(results_of(kit, operations, cost), tmp_path / "tables").tables
    row = next(row for row in table.rows if row.part == "ssa")
    assert (row.compute_unit, row.unit_ran) == ("cpu_and_neural_engine", ran)


def test_cost_decides_and_not_the_number_of_operations(kit, tmp_path):
    path = results_of(kit, {"cpu": 1, "neural_engine": 99}, {"cpu": 0.6, "neural_engine": 0.4})
    with pytest.raises(InputError, match=r"ran on cpu:0\.6,neural_engine:0\.4"):
        ingest(path, tmp_path)


def test_what_is_not_known_is_no_reason_to_refuse(kit, tmp_path):
    path = write_results(kit, write_kit(kit), change=lambda line: None if line["kind"] == "placement" else line)
    (table,) = ingest(path, tmp_path / "tables").tables
    assert {row.unit_ran for row in table.rows} == {None}
    assert {row.unit_asked for row in table.rows if row.part != "long_skip"} == {"neural_engine"}


def test_a_row_that_is_in_no_table_cannot_be_misplaced(kit, tmp_path):
    change = placed(1, {"cpu": 2})

    def hot(line):
        line = change(line)
        return {**line, "thermal": "critical"} if line["kind"] == "sample" and line["row"] == 1 else line

    found = ingest(write_results(kit, write_kit(kit), change=hot), tmp_path / "tables")
    assert [entry.row.part for entry in found.missing] == ["ssa"]


@pytest.mark.parametrize("cost", [{"cpu": -0.1}, {"cpu": 7.0}, {"cpu": "all"}, [1.0]])
def test_a_cost_that_is_none_is_refused_by_its_line(kit, tmp_path, cost):
    with pytest.raises(InputError, match=r"line \d+ of .* is not a result: .*cost"):
        ingest(results_of(kit, {"cpu": 1}, cost), tmp_path)


def test_the_runner_brings_back_what_the_compute_plan_estimates(mac, tmp_path):
    mac.faults(placed={"p1": {"cpu": [0.5, 0.3], "neural_engine": [0.1, 0.05, 0.05]}, "p3": {"gpu": [None, None]}})
    mac.run()
    lines = {line["row"]: line for line in mac.lines("placement")}
    assert lines[0]["cost"] == {"neural_engine": 0.9, "cpu": 0.1}
    assert lines[1]["cost"] == {"cpu": 0.8, "neural_engine": 0.2}
    assert lines[1]["operations"] == {"cpu": 2, "neural_engine": 3}
    assert lines[3] == lines[3] | {"operations": {"gpu": 2}, "cost": {}}
    with pytest.raises(InputError, match=r"ssa .* ran on cpu:0.8,neural_engine:0.2 \(and 1 more rows\)"):
        ingest(mac.results, tmp_path / "tables")
    (table,) = ingest(mac.results, tmp_path / "tables", keep_misplaced=True).tables
    units = {row.part: row.compute_unit for row in table.rows if row.part != "long_skip"}
    asked = "cpu_and_neural_engine"
    assert units == {"lcha": asked, "ssa": "cpu", "down": asked, "stem": "gpu"}
    assert not any(is_misplaced(unit_asked_by(row.compute_unit), row.unit_ran) for row in table.rows)


def test_the_command_refuses_keeps_and_says_what_it_kept(kit, tmp_path):
    path = results_of(kit, {"cpu": 3, "neural_engine": 1})
    words = ["kit", "ingest", str(path), "--out", str(tmp_path / "tables")]
    refused = run_here(words, tmp_path)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    kept = run_here([*words, "--keep-misplaced"], tmp_path)
    assert kept.code == 0
    assert "misplaced: stream ssa" in " ".join(kept.out.split())
    assert json.loads((tmp_path / "tables" / "iphone-9.coreml.float16" / "card.json").read_text())

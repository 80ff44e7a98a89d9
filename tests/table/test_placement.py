"""Where rows ran: shares of units are written, read and judged by laws, and old tables know nothing of them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import TableError
from s2search.tables.merge import merge
from s2search.tables.placement import is_misplaced, is_share_text, parse_shares, ran_on, shares_text, unit_asked_by
from s2search.tables.table import LatencyTable, open_table

UNITS = st.sampled_from(["cpu", "gpu", "neural_engine", "npu"])
WORK = st.dictionaries(UNITS, st.floats(0, 1e9), min_size=1).filter(lambda work: sum(work.values()) > 0)


@given(WORK)
def test_what_is_written_reads_as_the_shares_of_the_work(work):
    shares = parse_shares(shares_text(work))
    total = sum(work.values())
    for unit, amount in work.items():
        assert shares.get(unit, 0.0) == pytest.approx(amount / total, abs=1e-4)
    assert parse_shares(shares_text(shares)) == pytest.approx(shares, abs=2e-4)
    assert work[ran_on(shares_text(work))] >= max(work.values()) * (1 - 1e-3)


@given(WORK, UNITS)
def test_a_row_is_misplaced_where_another_unit_did_more_and_never_on_the_unit_that_did_most(work, asked):
    ran = shares_text(work)
    shares = parse_shares(ran)
    assert is_misplaced(asked, ran) == any(shares[unit] > shares.get(asked, 0.0) for unit in shares)
    assert not is_misplaced(ran_on(ran), ran)
    assert not is_misplaced("any", ran)
    assert not is_misplaced(asked, None)


@given(WORK, st.floats(1e-3, 1e3))
def test_shares_do_not_depend_on_what_work_is_counted_in(work, scale):
    one, other = (parse_shares(shares_text(each)) for each in (work, {u: scale * w for u, w in work.items()}))
    assert one == pytest.approx(other, abs=2e-4)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "cpu",
            "cpu:",
            "cpu:x",
            "cpu:0.5",
            "cpu:0.5,gpu:0.6",
            "cpu:0.5,cpu:0.5",
            "cpu:1,gpu:0",
            "CPU:1",
            "cpu: 1",
        ),
        *("cpu:nan", "cpu:-1,gpu:2", "cpu:1;gpu:0", "cpu:1,"),
    ],
)
def test_what_is_no_share_of_units_is_refused_in_one_line(text):
    assert not is_share_text(text)
    with pytest.raises(TableError, match=r"such as neural_engine:0\.97,cpu:0\.03") as refusal:
        parse_shares(text)
    assert "\n" not in str(refusal.value)


def test_no_work_is_nothing_known():
    assert shares_text({}) is shares_text({"cpu": 0.0}) is None


@pytest.mark.parametrize(
    ("compute_unit", "asked"),
    [
        ("cpu_and_neural_engine", "neural_engine"),
        ("cpu_and_gpu", "gpu"),
        ("cpu_only", "cpu"),
        ("all", "any"),
        ("dsp",) * 2,
    ],
)
def test_permissions_of_core_ml_ask_for_one_unit(compute_unit, asked):
    assert unit_asked_by(compute_unit) == asked


def with_units(table, **columns):
    first, *others = table.rows
    return dataclasses.replace(table, rows=(dataclasses.replace(first, **columns), *others))


@pytest.mark.parametrize("name", ["iphone-16-pro-max", "h100", "amd-epyc"])
def test_a_table_of_before_reads_and_is_written_as_it_was(name, tmp_path):
    table = open_table(name)
    assert {row.unit_ran for row in table.rows} == {row.unit_asked for row in table.rows} == {None}
    table.save(tmp_path / "again")
    assert "unit_" not in (tmp_path / "again" / "table.csv").read_text()
    assert LatencyTable.load(tmp_path / "again").digest == table.digest


def test_units_are_written_back_and_are_part_of_the_digest(tmp_path):
    table = open_table("iphone-16-pro-max")
    placed = with_units(table, unit_asked="neural_engine", unit_ran="neural_engine:0.97,cpu:0.03")
    placed.save(tmp_path / "t")
    again = LatencyTable.load(tmp_path / "t")
    assert list(again.rows) == list(placed.rows)
    assert again.digest == placed.digest != table.digest
    assert list(LatencyTable.from_pandas("t", again.card, again.to_pandas()).rows) == list(placed.rows)


def test_a_cell_that_is_no_share_is_refused_with_its_line(tmp_path):
    placed = with_units(open_table("iphone-16-pro-max"), unit_ran="cpu:1")
    placed.save(tmp_path / "t")
    text = (tmp_path / "t" / "table.csv").read_text()
    (tmp_path / "t" / "table.csv").write_text(text.replace("cpu:1", "cpu:2"))
    with pytest.raises(TableError, match=r"line 2 of .*unit_ran of lcha is 'cpu:2'; .*neural_engine:0\.97"):
        LatencyTable.load(tmp_path / "t")


@pytest.mark.parametrize(
    ("ran", "pooled"),
    [
        (("cpu:1", "cpu:0.5,gpu:0.5"), "cpu:0.75,gpu:0.25"),
        (("cpu:1", None), None),
        (("cpu:1", "gpu:1"), "ran on cpu:1 in one table, and on gpu:1 in another; choose --overlap newer"),
    ],
)
def test_pooled_rows_ran_where_both_did(ran, pooled):
    table = open_table("h100")
    first = next(row for row in table.rows if row.samples)
    tables = [
        dataclasses.replace(
            table, name=f"t{n}", rows=[dataclasses.replace(first, unit_ran=text, latency_std_ms=0.01 + n)]
        )
        for n, text in enumerate(ran)
    ]
    if pooled and "table" in pooled:
        with pytest.raises(TableError, match=pooled):
            merge(tables, name="both", overlap="pool")
    else:
        assert merge(tables, name="both", overlap="pool").rows[0].unit_ran == pooled

"""The rules on plain CSV files: published measurements, small files that trip one rule, near misses, and noise."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.errors import TableError
from s2search.lint.base import Finding, run
from s2search.lint.csv_rules import CSV_RULES
from s2search.lint.linter import lint
from s2search.lint.sheet import Sheet

TFNAS = Path(__file__).parents[1] / "data/tfnas"


def found(text: str) -> list[Finding]:
    return run(CSV_RULES, Sheet.parse(text, where="test.csv"))


def layouts(*, drift: float = 0.0, noise: float = 0.0) -> str:
    rng = random.Random(0)
    lines, wander = ["layer_00,layer_01,layer_02,latency_ms"], 0.0
    for _ in range(200):
        blocks = [rng.randrange(3) for _ in range(3)]
        wander = 0.95 * wander + rng.gauss(0, drift)
        latency = 10 + sum((i + 1) * 0.7 * block for i, block in enumerate(blocks)) + wander + rng.gauss(0, noise)
        lines.append(",".join(map(str, [*blocks, latency])))
    return "\n".join(lines)


@pytest.mark.parametrize(("device", "count"), [("cpu", 84), ("gpu", 88)])
def test_exactly_the_negative_rows_of_tf_nas_are_found(device: str, count: int) -> None:
    path = TFNAS / f"latency_{device}.csv"
    cells = [line.split(",") for line in path.read_text().splitlines()]
    negative = {number for number, line in enumerate(cells, start=1) if line[-1].startswith("-")}
    assert len(negative) == count
    findings = lint(path)
    assert {finding.row for finding in findings} == negative
    assert Counter(finding.rule for finding in findings) == {"negative_latency": count}


TRIPS = [
    pytest.param("op,latency_ms\na,1\nb,0\nc,-0.1\n", "negative_latency", [3, 4], id="zero-and-less"),
    pytest.param("op,latency_ms\na,1\nb,fast\nc,nan\nd,\ne\n", "unreadable_row", [3, 4, 5, 6], id="no-number"),
    pytest.param("op,width,latency_ms\na,1,1\na,3,2\na,2,3\n", "non_monotone", [3], id="wider-and-faster"),
    pytest.param("latency_ms,latency_mean_ms\n1,1010\n1,1.1\n", "unit_mismatch", [2], id="mean-in-us"),
    pytest.param("latency_ms,latency_us\n1,1000\n1,1\n", "unit_mismatch", [3], id="microseconds-in-ms"),
    pytest.param(
        "device,op,latency_ms\np,a,1\np,b,2\np,c,3\nq,a,1\nq,b,2\nq,c,3\n",
        "duplicated_device",
        [5],
        id="a-copied-device",
    ),
    pytest.param(layouts(), "synthetic_as_measured", [None], id="exactly-additive"),
    pytest.param(layouts(drift=0.2, noise=0.1), "spread_hides_drift", [None], id="drift"),
]


@pytest.mark.parametrize("seed", range(10))
def test_layouts_many_orders_of_magnitude_apart_are_judged_without_overflow(seed: int) -> None:
    rng = random.Random(seed)
    lines = ["part,layout,width,depth,heads,latency_ms"]
    for layout in range(60):
        sizes = [rng.choice([0, 10.0 ** rng.randrange(-12, 1)]) for _ in range(3)]
        lines.append(",".join(map(str, ["encoder", layout, *sizes, 10.0 ** rng.randrange(-12, 13)])))
    assert all(finding.row is None or finding.row > 1 for finding in found("\n".join(lines) + "\n"))


@pytest.mark.parametrize(("text", "rule", "rows"), TRIPS)
def test_a_fault_trips_exactly_its_rule_at_its_rows(text: str, rule: str, rows: list[int | None]) -> None:
    findings = found(text)
    assert [finding.row for finding in findings] == rows
    assert {finding.rule for finding in findings} == {rule}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("op,latency_ms\na,1e-9\n", id="nearly-zero"),
        pytest.param("op,latency_ms\n\n\na,1\n", id="empty-lines"),
        pytest.param("op,width,latency_ms\na,1,1\na,2,0.96\n", id="faster-within-noise"),
        pytest.param("op,width,latency_ms\na,1,1\nb,2,0.1\n", id="faster-but-another-op"),
        pytest.param("op,width,latency_ms,latency_std_ms\na,1,1,0.2\na,2,0.5,0.2\n", id="faster-within-its-deviation"),
        pytest.param("op,width,latency_ms\na,1,1\na,base,0.1\n", id="a-size-in-words"),
        pytest.param("latency_ms,latency_mean_ms\n1,5\n", id="a-long-tail"),
        pytest.param("latency_ms,latency_us\n1.0004,1000\n", id="rounded-microseconds"),
        pytest.param("device,op,latency_ms\np,a,1\np,b,2\np,c,3\nq,a,1\nq,b,2\nq,c,3.1\n", id="one-row-of-its-own"),
        pytest.param("device,op,latency_ms\np,a,1\np,b,1\np,c,1\nq,a,1\nq,b,1\nq,c,1\n", id="a-coarse-clock"),
        pytest.param(layouts(noise=0.1), id="additive-but-noisy"),
        pytest.param(layouts(noise=1e-4), id="additive-but-for-a-little-noise"),
    ],
)
def test_a_near_miss_is_no_finding(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty; give a CSV file with a column 'latency_ms'"),
        ("a,b\n1,2\n", "no column 'latency_ms'; its first line is 'a,b'"),
        ("latency_ms\n", "has no rows"),
        ("latency_ms,latency_ms\n1,1\n", "two columns 'latency_ms'"),
        ('latency_ms\n"1', "is not a CSV file"),
    ],
)
def test_what_is_no_such_csv_is_one_clear_error(text: str, complaint: str) -> None:
    with pytest.raises(TableError, match=complaint):
        found(text)


SEEDS = [param.values[0] for param in TRIPS[:-2]] + [layouts()[:2000]]
HARD = [
    "1e308",
    "-1e308",
    "5e-324",
    "inf",
    "nan",
    "-0",
    "",
    '"',
    "\x00",
    "\n",
    ",",
    "\r",
    "9" * 400,
    "é",
    "1_0",
    "\ud800",
]


@settings(max_examples=400)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.one_of(st.sampled_from(HARD), st.text(max_size=4))),
        max_size=5,
    ),
)
def test_any_mutation_gives_findings_or_one_clear_error(seed: str, edits: list[tuple[int, int, str]]) -> None:
    for at, length, text in edits:
        place = at % (len(seed) + 1)
        seed = seed[:place] + text + seed[place + length :]
    try:
        findings = found(seed)
    except TableError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert all(finding.row is None or finding.row >= 2 for finding in findings)
    assert all("\n" not in finding.message for finding in findings)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(("latency_std_ms", cell) for cell in ("nan", "inf", "-5", "yesterday")),
        *(("samples", cell) for cell in ("-1", "many")),
        *(("memory_bytes", cell) for cell in ("inf", "-5")),
        *(("batch", cell) for cell in ("nan", "-8")),
        ("measured_at", "yesterday"),
    ],
)
def test_every_column_with_a_known_name_is_checked(column, cell):
    sheet = Sheet.parse(f"part,latency_ms,{column}\na,1.0,\nb,2.0,{cell}\n", where="x")
    assert [(one.row, one.rule) for one in run(CSV_RULES, sheet)] == [(3, "unreadable_row")]


def with_latency(text: str, line: int, factor: float) -> str:
    """Return a CSV with the last cell of one line (the header is line 1) multiplied."""
    lines = text.split("\n")
    cells, _, latency = lines[line - 1].rpartition(",")
    lines[line - 1] = f"{cells},{float(latency) * factor!r}"
    return "\n".join(lines)


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e6, 60])
@pytest.mark.parametrize("line", [2, 77, 201])
def test_a_layout_in_another_unit_is_found_and_hides_neither_drift_nor_computed_rows(factor: float, line: int) -> None:
    drifting = with_latency(layouts(drift=0.3, noise=0.05), line, factor)
    assert [(finding.rule, finding.row) for finding in found(drifting)] == [
        ("spread_hides_drift", None),
        ("unit_outlier", line),
    ]
    assert {finding.rule for finding in found(with_latency(layouts(), line, factor))} == {
        "synthetic_as_measured",
        "unit_outlier",
    }


def test_a_tenfold_row_hides_neither_drift_nor_computed_rows_and_is_no_other_unit() -> None:
    assert [finding.rule for finding in found(with_latency(layouts(drift=0.3, noise=0.05), 50, 10))] == [
        "spread_hides_drift"
    ]
    computed = found(with_latency(layouts(), 50, 10))
    assert [finding.rule for finding in computed] == ["synthetic_as_measured"]
    assert computed[0].message.startswith("199 of 200 latencies are exact sums")


def test_several_rows_in_another_unit_are_each_found() -> None:
    text, lines = layouts(noise=0.1), [5, 6, 90, 150]
    for line in lines:
        text = with_latency(text, line, 1000)
    assert [(finding.rule, finding.row) for finding in found(text)] == [("unit_outlier", line) for line in lines]


def test_layouts_of_which_one_takes_a_hundred_times_another_are_in_one_unit() -> None:
    rng = random.Random(0)
    blocks = [[rng.randrange(2) for _ in range(8)] for _ in range(300)]
    blocks[7] = [0] * 8
    lines = [",".join(map(str, [*row, (0.5 + 60 * sum(row)) * rng.uniform(0.98, 1.02)])) for row in blocks]
    header = ",".join([*(f"layer_{layer:02d}" for layer in range(8)), "latency_ms"])
    assert not found("\n".join([header, *lines]))


@pytest.mark.parametrize("digits", [3, 6])
def test_sums_that_were_rounded_are_computed_all_the_same(digits: int) -> None:
    header, *lines = layouts().split("\n")
    rounded = [f"{line.rpartition(',')[0]},{float(line.rpartition(',')[2]) / 3:.{digits}f}" for line in lines]
    assert [finding.rule for finding in found("\n".join([header, *rounded]))] == ["synthetic_as_measured"]


def described(*, factor: float = 1.0) -> str:
    """Layouts of a network that two numbers describe, drifting; line 41 is multiplied."""
    rng, wander, lines = random.Random(1), 0.0, ["layout,width,height,latency_ms"]
    for number in range(120):
        width, height = rng.randrange(1, 9), rng.randrange(1, 9)
        wander = 0.95 * wander + rng.gauss(0, 0.02)
        lines.append(f"{number},{width},{height},{2.718 ** (0.1 * width + 0.2 * height + wander)}")
    return with_latency("\n".join(lines), 41, factor)


@pytest.mark.parametrize("factor", [1000, 0.001])
def test_described_layouts_are_judged_alike(factor: float) -> None:
    before, after = ({(one.rule, one.row) for one in found(text)} for text in (described(), described(factor=factor)))
    assert ("spread_hides_drift", None) in before & after
    assert ("unit_outlier", 41) in after - before

"""What others write: files of every form are read alike, and what cannot be right is one line that says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import s2search
from s2search.errors import S2SearchError
from s2search.family.plan import FamilyPlan
from tests.conftest import Outcome

Run = Callable[..., Outcome]

TOML = """
name = "hybrid"
statement = "invented"
depth = 2

[score]
column = "score"
goal = "maximize"
statement = "invented"

[resources.latency]
column = "ms"
unit = "ms"

[resources.memory]
column = "mb"
peak = "act"
unit = "MB"

[[slots]]
name = "attention"
rows = { part = "attention" }

[[slots]]
name = "ffn"
rows = { part = "ffn" }

[[alternatives]]
label = "full"
rows = { part = "attention", op = "full" }

[[alternatives]]
label = "linear"
slots = ["attention"]
rows = { op = "linear" }

[[alternatives]]
each = ["op"]
slots = ["ffn"]
"""
CSV = """part,op,ms,mb,act,score
attention,full,2.5,10,3,1.0
attention,linear,1.25,4,1,0.7
ffn,wide,2,20,2,1.0
ffn,narrow,1,10,1,0.8
"""
STREAMS = (
    TOML.replace('label = "full"', 'label = "full"\nstream = "a"')
    .replace('label = "linear"', 'label = "linear"\nstream = "b"')
    .replace('each = ["op"]', 'each = ["op"]\nstream = ["a", "b"]')
) + '[streams]\nnames = ["a", "b"]\n'


def switch(text: str) -> str:
    return f'{STREAMS}[[switches]]\nbefore = "*"\nafter = "*"\n{text}\n'


def planned(folder: Path, toml: str | bytes = TOML, table: str | bytes = CSV, **asked: object) -> FamilyPlan:
    (folder / "f.toml").write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    (folder / "t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return s2search.plan_family(folder / "f.toml", folder / "t.csv", **asked)  # type: ignore[arg-type]


def backwards(table: str) -> str:
    header, *rows = (",".join(reversed(line.split(","))) for line in table.split())
    return "\n".join([header, *reversed(rows)])


FORMS = {
    "a byte-order mark": (TOML.encode(), b"\xef\xbb\xbf" + CSV.encode()),
    "marks in both": (b"\xef\xbb\xbf" + TOML.encode(), b"\xef\xbb\xbf" + CSV.encode()),
    "CRLF": (TOML.replace("\n", "\r\n").encode(), CSV.replace("\n", "\r\n").encode()),
    "quotes": (TOML.encode(), CSV.replace("full", '"full"').encode()),
    "semicolons": (TOML.encode(), CSV.replace(",", ";").encode()),
    "tabs": (TOML.encode(), CSV.replace(",", "\t").encode()),
    "blanks around cells": (TOML.encode(), CSV.replace(",", " , ").encode()),
    "another order of rows and columns": (
        TOML.encode(),
        "\n".join(
            ",".join(reversed(line.split(","))) for line in [CSV.split()[0], *reversed(CSV.split()[1:])]
        ).encode(),
    ),
    "a column that nobody reads": (TOML.encode(), CSV.replace("\n", ",x\n").replace("score,x", "score,note").encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_files_of_every_form_are_read_alike(tmp_path: Path, form: str) -> None:
    plain = planned(tmp_path, budget="latency:6ms")
    other = planned(tmp_path, *FORMS[form], budget="latency:6ms")
    assert other.slots == plain.slots
    assert other.uses == plain.uses
    assert other.score == plain.score


def in_csv(old: str, new: str) -> tuple[str, str]:
    assert old in CSV
    return TOML, CSV.replace(old, new)


def in_toml(old: str, new: str) -> tuple[str, str]:
    assert old in TOML
    return TOML.replace(old, new), CSV


FILES: dict[str, tuple[tuple[str | bytes, str | bytes], str]] = {
    "an empty table": ((TOML, ""), "it is empty"),
    "a header alone": ((TOML, CSV.split("\n")[0]), "it has no rows"),
    "a short line": ((TOML, CSV + "a,b\n"), "line 6 has 2 cells, the first line 6"),
    "a column twice": (in_csv("mb,act", "ms,act"), "has the column 'ms' twice"),
    "a column without a name": (in_csv("mb,act", ",act"), "column 4 has no name"),
    "UTF-16": ((TOML, CSV.encode("utf-16")), "byte 0 is not UTF-8 text"),
    "an open quote": ((TOML, CSV + 'attention,"x\n'), "it is not CSV"),
    "a missing row": (
        in_csv("attention,linear,1.25,4,1,0.7\n", ""),
        "is for 'linear' in the slot 'attention 0': it would have part 'attention', op 'linear'",
    ),
    "two rows": ((TOML, CSV + "attention,full,9,9,9,9\n"), "lines 2 and 6, which differ in ms, mb, act, score"),
    "two equal rows": ((TOML, CSV + "attention,full,2.5,10,3,1.0\n"), "lines 2 and 6, which are the same"),
    "no score": (in_csv("10,3,1.0", "10,3,"), "score in line 2 of the table"),
    "text for a number": (in_csv("2.5,10", "fast,10"), "ms in line 2"),
    "NaN": (in_csv("2.5,10", "nan,10"), "is 'nan'; a finite decimal number"),
    "infinity": (in_csv("2.5,10", "-inf,10"), "is '-inf'; a finite decimal number"),
    "a negative use": (in_csv("2.5,10", "-2.5,10"), "is -2.5; 0 or more"),
    "a huge number": (in_csv("2.5,10", "1e30,10"), "is '1e30'; a finite decimal number"),
    "a hexadecimal number": (in_csv("2.5,10", "0x10,10"), "is '0x10'"),
    "a number with an underscore": (in_csv("2.5,10", "1_0,10"), "is '1_0'"),
    "a number in other digits": (in_csv("2.5,10", "٣,10"), "is '٣'"),
    "a thousands separator": (in_csv("2.5,10", '"2,500",10'), "is '2,500'"),
    "another column": (in_toml('column = "ms"', 'column = "mss"'), "is called 'mss' (did you mean 'ms'?)"),
    "another key": (in_toml("goal =", "gaol ="), "no key of `score` is called 'gaol' (did you mean 'goal'?)"),
    "another key of a resource": (in_toml('column = "ms"', 'colunm = "ms"'), "no key of a resource is called 'colunm'"),
    "another section": ((f"{TOML}[bla]\n", CSV), "no key of a family is called 'bla'"),
    "no name": (in_toml('name = "hybrid"\n', ""), "missing required field `name`"),
    "another type": (in_toml('name = "hybrid"\n', "name = 3\n"), "Expected `str`, got `int`"),
    "another goal": (in_toml('"maximize"', '"best"'), "Invalid enum value 'best'"),
    "depth 0": (in_toml("depth = 2", "depth = 0"), "depth is 0; 1 to 10,000"),
    "a depth beyond all": (in_toml("depth = 2", "depth = 99999999999999999999"), "more than 64 bits"),
    "no alternatives": ((TOML.split("[[alternatives]]")[0], CSV), "there are no [[alternatives]]"),
    "slots of one name": (in_toml('name = "ffn"', 'name = "attention"'), "2 slots are called 'attention'"),
    "another slot": (in_toml('slots = ["ffn"]', 'slots = ["fnn"]'), "no slot is called 'fnn' (did you mean 'ffn'?)"),
    "alternatives of one label": (in_toml('"linear"\nslots', '"full"\nslots'), "2 alternatives are called 'full'"),
    "a label that moves the cursor": (in_toml('label = "full"', 'label = "\\u001b[2J"'), "printable text on one line"),
    "a label of another column": (
        in_toml('each = ["op"]', 'each = ["op"]\nlabel = "{ops}"'),
        "is called 'ops' (did you",
    ),
    "too many streams": (
        (STREAMS.replace('["a", "b"]\n', f"{['a', 'b', *map(str, range(99))]}\n".replace("'", '"')), CSV),
        "there are 101 streams; at most 100",
    ),
    "a resolution of NaN": (in_toml('unit = "ms"', 'unit = "ms"\nresolution = nan'), "resolution of 'latency' is nan"),
    "a resolution of 0": (in_toml('unit = "ms"', 'unit = "ms"\nresolution = 0.0'), "a number above 0"),
    "too fine a resolution": (in_toml('unit = "ms"', 'unit = "ms"\nresolution = 1e-17'), "is too fine"),
    "a resource with a colon": (in_toml("[resources.latency]", '[resources."a:b"]'), "a resource is called 'a:b'"),
    "a group of two kinds": (in_toml("depth = 2", "depth = 2\ngroup_size = 2"), "which are a group"),
    "groups that do not divide": (in_toml("depth = 2", "depth = 2\ngroup_size = 3"), "groups of 3"),
    "a first that cannot stand": (in_toml("depth = 2", 'depth = 2\nfirst = ["narrow"]'), "where it cannot stand"),
    "two scores": (in_toml('column = "score"', 'column = "score"\nuse = "latency"'), "the score has several sources"),
    "a score with a peak": (in_toml('column = "score"', 'use = "memory"'), "which has a peak"),
    "no score at all": (in_toml('column = "score"\n', ""), "the alternative 'full' has no score"),
    "a stream too many": (in_toml('label = "full"', 'label = "full"\nstream = "x"'), "and there are none"),
    "a stream too few": (
        (f'{TOML}[streams]\nnames = ["a", "b"]\n', CSV),
        "the alternative 'full' has no stream; streams: a, b",
    ),
    "a switch not said": ((STREAMS, CSV), "the switch from 'a' to 'b' uses is not said"),
    "a negative switch": ((switch("cost = { latency = -1 }"), CSV), "from 'a' to 'b' is -1.0"),
    "a switch that is nothing": ((switch(""), CSV), "has neither of rows and cost"),
    "a switch without a row": ((switch('rows = { op = "no" }'), CSV), "is for the switch from 'a' to 'b'"),
    "a switch with a peak": ((switch('rows = { op = "narrow" }'), CSV), "has a peak of memory"),
    "an infinite fixed part": ((f"{TOML}[[fixed]]\ncost = {{ latency = inf }}\n", CSV), "is inf; a finite number"),
    "a fixed part without a row": ((f'{TOML}[[fixed]]\nrows = {{ op = "no" }}\n', CSV), "for the fixed part op 'no'"),
    "a fixed part of two rows": ((f'{TOML}[[fixed]]\nrows = {{ part = "ffn" }}\n', CSV), "lines 4 and 5"),
    "a where of nothing": ((f'{TOML}[rows]\nwhere = {{ op = "no" }}\n', CSV), "has op 'no'"),
    "no TOML": (("][", CSV), "is not TOML"),
    "TOML in UTF-16": ((TOML.encode("utf-16"), CSV), "is not UTF-8 text"),
    "TOML that is deep": (("a=" + "[" * 5000, CSV), "is nested too deeply"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_right_in_a_file_is_one_line_that_says_so(tmp_path: Path, name: str) -> None:
    (toml, table), message = FILES[name]
    with pytest.raises(S2SearchError) as refused:
        planned(tmp_path, toml, table)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("latency:3GB", "is in GB; latency is in ms; write for example latency:12ms"),
        ("latency:3", "is in no unit"),
        ("3parsec", "is in parsec, which no resource is"),
        ("10fps", "is in fps, which no resource is"),
        ("latancy:3ms", "no resource is called 'latancy' (did you mean 'latency'?)"),
        ("latency:nanms", "is not a number, 0 or more"),
        ("latency:-3ms", "is not a number, 0 or more"),
        ("latency:1e99ms", "is not a number, 0 or more"),
        ("", "is not a number, 0 or more"),
    ],
)
def test_a_budget_that_is_none_is_one_line(tmp_path: Path, budget: str, message: str) -> None:
    with pytest.raises(S2SearchError) as refused:
        planned(tmp_path, budget=budget)
    assert message in str(refused.value)


def test_a_budget_without_a_name_needs_a_unit_that_one_resource_has(tmp_path: Path) -> None:
    two = TOML.replace('peak = "act"\nunit = "MB"', 'unit = "us"')
    with pytest.raises(S2SearchError, match=r"may be latency or memory; .* write for example latency:6ms"):
        planned(tmp_path, two, budget="6ms")
    with pytest.raises(S2SearchError, match="latency has two budgets"):
        planned(tmp_path, budget=["6ms", "latency:7ms"])
    by_name = planned(tmp_path, budget="latency:0.006s")
    assert by_name.uses == planned(tmp_path, budget="6ms").uses == planned(tmp_path, budget="6000us").uses


def test_a_unit_of_its_own_is_taken_as_it_is_written(tmp_path: Path) -> None:
    priced = TOML.replace('column = "mb"\npeak = "act"\nunit = "MB"', 'column = "mb"\nunit = "€"')
    assert planned(tmp_path, priced, budget="memory:30€").uses[1].budget == 30
    assert planned(tmp_path, priced, budget="30 €").uses[1].budget == 30
    plain = TOML.replace('column = "mb"\npeak = "act"\nunit = "MB"', 'column = "mb"')
    assert planned(tmp_path, plain, budget="memory:30").uses[1].budget == 30


@pytest.mark.parametrize(
    ("count", "message"),
    [
        ("fulll=1", "no alternative is called 'fulll' (did you mean 'full'?)"),
        ("full=x", "the count of 'full' is 'x'"),
        ("full=3..1", "the count of 'full' is '3..1'"),
        ("full", "the count 'full' is none"),
        ("full=3", "3 slots are to take 'full', and it may stand in 2"),
    ],
)
def test_a_count_that_cannot_be_is_one_line(tmp_path: Path, count: str, message: str) -> None:
    with pytest.raises(S2SearchError) as refused:
        planned(tmp_path, count=count)
    assert message in str(refused.value)


def test_negative_rows_are_left_out_where_the_family_asks_and_said(tmp_path: Path) -> None:
    asked, table = f'{TOML}[rows]\nnegative = "leave out"\n', CSV.replace("2,20", "-2,20")
    found = planned(tmp_path, asked, table)
    assert (found.provenance.rows_left_out, found.counts["narrow"]) == (1, 2)
    assert "1 left out (negative)" in str(found)
    with pytest.raises(S2SearchError, match=r"for 'full' in .* \(1 rows with negative numbers were left out\)"):
        planned(tmp_path, asked, CSV.replace("2.5,10", "-2.5,10"))


def test_what_one_scenario_has_and_another_lacks_is_refused(tmp_path: Path) -> None:
    toml = TOML.replace('unit = "ms"', 'unit = "ms"\nrows = { when = "hot" }')
    toml = toml.replace('unit = "MB"', 'unit = "MB"\nrows = { when = "cold" }')
    toml = toml.replace('column = "score"', 'column = "score"\nrows = { when = "cold" }')
    header, *rows = CSV.splitlines()
    lines = [f"{header},when", *(f"{row},{when}" for row in rows for when in ("cold", "hot"))]
    assert planned(tmp_path, toml, "\n".join(lines)).uses[0].total == 9
    with pytest.raises(S2SearchError, match=r"for 'narrow' in the slot 'ffn 0': it would have .* when 'hot'"):
        planned(tmp_path, toml, "\n".join(lines[:-1]))


def test_a_row_of_a_slot_goes_before_one_for_all(tmp_path: Path) -> None:
    toml = TOML.replace('rows = { part = "ffn" }', 'rows = { part = "ffn", layer = "{layer}" }')
    table = "\n".join(f"{line},{'layer' if n == 0 else ''}" for n, line in enumerate(CSV.splitlines()))
    assert planned(tmp_path, toml, table).uses[0].total == 9
    assert planned(tmp_path, toml, f"{table}\nffn,wide,0.5,20,2,1.0,1\n").uses[0].total == 7.5


def test_labels_in_any_script_are_counted_and_shown(tmp_path: Path) -> None:
    found = planned(tmp_path, TOML.replace('label = "full"', 'label = "完全 ✓"'), count="完全 ✓=1")
    assert found.counts == {"完全 ✓": 1, "linear": 1, "wide": 2}
    assert "完全 ✓" in str(found)


def test_what_a_cell_would_do_to_a_terminal_is_shown_instead(tmp_path: Path) -> None:
    found = planned(tmp_path, TOML, f"{CSV}ffn,\x1b[2Jx,1,1,1,2\n")
    assert "\x1b" not in str(found)
    assert "␛[2Jx" in str(found)


def test_a_thousand_slots_are_planned(tmp_path: Path) -> None:
    found = planned(tmp_path, depth=500, budget=["latency:1.7s", "memory:15GB"])
    assert len(found.slots) == 1000
    assert found.optimal
    with pytest.raises(S2SearchError, match="it has 20,000 slots; at most 10,000"):
        planned(tmp_path, depth=10_000)


def test_what_is_no_file_is_refused(tmp_path: Path, s2search: Run) -> None:
    planned(tmp_path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for bad, reason in (("folder", "Is a directory"), ("pipe", "not a regular file"), ("no", "No such file")):
        for words in (("f.toml", bad), (bad, "t.csv")):
            done = s2search("plan", "--space", words[0], "--table", words[1])
            assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
            assert reason in done.err


def test_the_command_prints_saves_and_says_what_would_do(tmp_path: Path, s2search: Run) -> None:
    found = planned(tmp_path, budget="6ms")
    words = ("plan", "--space", "f.toml", "--table", "t.csv")
    done = s2search(*words, "--budget", "6ms", "--out", "plan.json")
    assert (done.code, done.out.strip(), done.err) == (0, str(found).strip(), "")
    assert (tmp_path / "plan.json").read_text() == found.to_json()
    assert s2search(*words, "--budget", "6ms", "--json").out == found.to_json()
    refused = s2search(*words, "--budget", "4ms", "--json")
    assert refused.code == 3
    assert "ask for latency 4.5 ms" in refused.err
    (limit,) = json.loads(refused.out)["limits"]
    assert limit == {"name": "latency", "unit": "ms", "asked": 4.0, "would_do": 4.5}


@pytest.mark.parametrize("words", [("--video", "512x288"), ("--figure", "x.png"), ("--first", "full"), ("--near", "1")])
def test_options_that_mean_nothing_with_a_space_are_refused(
    tmp_path: Path, s2search: Run, words: tuple[str, str]
) -> None:
    planned(tmp_path)
    done = s2search("plan", "--space", "f.toml", "--table", "t.csv", *words)
    assert (done.code, done.out) == (2, "")
    assert f"{words[0]} means nothing with --space; with it: --table, " in done.err


@pytest.mark.parametrize("tables", [(), ("--table", "t.csv", "--table", "t.csv")])
def test_a_space_needs_one_table(tmp_path: Path, s2search: Run, tables: tuple[str, ...]) -> None:
    planned(tmp_path)
    done = s2search("plan", "--space", "f.toml", *tables)
    assert (done.code, done.out) == (2, "")
    assert "name one CSV file with --table" in done.err


def test_without_a_proof_nothing_is_called_optimal(tmp_path: Path) -> None:
    family = TOML.replace("depth = 2", "depth = 40")
    found = planned(tmp_path, family, budget=["latency:0.13s", "memory:0.9GB"], solver="nsga2")
    assert not found.optimal
    assert found.score.bound >= found.score.value
    assert [use.binds for use in found.uses] == [None, None]
    assert found.ties is None
    assert "none is proven to be better than" in str(found)

"""`s2search design` as it is typed, and the loop that it asks for: measure what would settle it, merge, ask again."""

from __future__ import annotations

import csv
import json

import pytest

from s2search.tables.table import LatencyTable, open_table

SMALL = ["measure", "--profiler", "replay", "--preset", "s2dit-small", "--scenario", "stream"]
ASKED = ["--choose", "video=256x144|512x288,steps=1|2|4", "--text-ms", "4", "--decode-ms", "0", "--budget", "2fps"]


def answer(outcome):
    assert outcome.code == 0, outcome.err
    design = json.loads(outcome.out)
    best = design["designs"][design["answer"]]
    return (best["settings"]["video"], best["settings"]["steps"], best["written"]), design["firmness"]


def test_from_an_answer_that_is_not_firm_to_one_that_is(s2search, tmp_path):
    done = s2search(
        *SMALL, "--video", "256x144", "--role", "block", "--role", "switch", "--role", "fixed", "--out", "some"
    )
    assert done.code == 0, done.err
    told, firm = answer(s2search("design", "--table", "./some", *ASKED, "--out", "design.json", "--json"))
    assert not firm["firm"]
    assert firm["rows"]
    done = s2search(*SMALL, "--video", "512x288", "--only", "design.json", "--out", "more")
    assert done.code == 0, done.err
    timed = LatencyTable.load(tmp_path / "more")
    keys = {f"stream {row.label} {row.shape.grid}" for row in timed.rows if row.label != "long_skip"}
    assert keys == {row["key"] for row in firm["rows"]}
    done = s2search("table", "merge", "./some", "./more", "--out", "both")
    assert done.code == 0, done.err
    found, firm = answer(s2search("design", "--table", "./both", *ASKED, "--json"))
    assert firm["firm"]
    assert found[:2] == answer(s2search("design", "--table", "amd-epyc", *ASKED, "--json"))[0][:2] == told[:2]


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("stream nope 3x9x16", "no row of this campaign is called 'stream nope 3x9x16'"),
        ("no.json", "cannot be read"),
        ("stream lcha 3x18x32", "its rows: "),
    ],
)
def test_rows_that_are_not_there_are_refused_in_one_line(s2search, tmp_path, only, said):
    outcome = s2search(*SMALL, "--video", "256x144", "--only", only, "--out", "t")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert said in outcome.err
    assert not (tmp_path / "t").exists()


def test_a_design_that_needs_no_row_names_none(s2search, tmp_path):
    assert s2search("design", "--budget", "10fps", "--fix", "steps=4", "--out", "firm.json").code == 0
    outcome = s2search(*SMALL, "--only", "firm.json", "--out", "t")
    assert outcome.code == 2
    assert "names no row to measure" in outcome.err


def test_only_what_is_asked_is_measured_and_in_that_order(s2search, tmp_path):
    keys = ["stream up 3x9x16", "stream ssa 3x9x16"]
    outcome = s2search(*SMALL, *(word for key in keys for word in ("--only", key)), "--out", "t", "--rounds", "4")
    assert outcome.code == 0, outcome.err
    rows = [row for row in LatencyTable.load(tmp_path / "t").rows if row.label != "long_skip"]
    assert [row.label for row in rows] == ["up", "ssa"]


def test_files_and_exit_codes(s2search, tmp_path):
    outcome = s2search(
        *("design", "--budget", "10fps", "--budget", "1.5GB", "--out", "d.json", "--csv", "d.csv"),
        *("--figure", "d.png", "--html", "d.html"),
    )
    assert outcome.code == 0, outcome.err
    assert max(map(len, outcome.out.splitlines())) <= 80
    design = json.loads((tmp_path / "d.json").read_text())
    assert design["schema"] == "s2search.design/1"
    lines = list(csv.DictReader((tmp_path / "d.csv").read_text().splitlines()))
    assert len(lines) == len(design["designs"])
    assert [line["is_answer"] for line in lines].count("True") == 1
    page = (tmp_path / "d.html").read_text()
    assert "://" not in page.replace("http://www.w3.org/", "")
    assert (tmp_path / "d.png").read_bytes()[:4] == b"\x89PNG"
    nothing = s2search("design", "--budget", "10fps", "--budget", "100MB")
    assert nothing.code == 1
    assert "no design keeps 10fps and 100MB; the smallest in time takes 1.19" in " ".join(nothing.out.split())


def test_a_file_that_exists_no_folder_for_is_refused_before_anything_is_searched(s2search):
    outcome = s2search("design", "--budget", "10fps", "--csv", "no/where.csv")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1


def test_designs_of_two_tables_are_drawn_together(s2search, tmp_path):
    told = ["--text-ms", "2", "--decode-ms", "12"]
    assert s2search("design", "--table", "h100", *told, "--budget", "30fps", "--out", "h100.json").code == 0
    outcome = s2search(
        "design", "--budget", "10fps", "--beside", "h100.json", "--html", "both.html", "--figure", "b.png"
    )
    assert outcome.code == 0, outcome.err
    page = (tmp_path / "both.html").read_text()
    assert "iPhone 16 Pro Max" in page
    assert "H100" in page


def test_a_design_is_one_file_that_schema_describes(s2search, tmp_path):
    import jsonschema

    assert s2search("design", "--budget", "10fps", "--out", "d.json").code == 0
    schema = json.loads(s2search("schema", "design").out)
    jsonschema.validate(json.loads((tmp_path / "d.json").read_text()), schema)
    assert open_table("iphone-16-pro-max").card.application is None

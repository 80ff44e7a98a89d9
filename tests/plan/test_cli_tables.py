"""`s2search table import`, `compare`, `merge` and `show`, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest

from s2search import registry
from s2search.tables.foreign import ImportedTable
from s2search.tables.table import open_table
from tests.conftest import Outcome
from tests.readers.samples import DATA

Run = Callable[..., Outcome]
HAT = str(DATA / "hat/wmt14ende_cpu_raspberrypi_all.csv")
HUB = str(DATA / "aihub/efficientformer.perf.yaml")
TFNAS = str(DATA / "tfnas/latency_cpu.csv")


def fits(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 80


def test_an_import_says_what_it_read_and_from_where(s2search: Run, tmp_path: Path) -> None:
    done = s2search("table", "import", "hat[device=Raspberry Pi 4,origin=hat @70e5a279]", HAT, "--out", "pi")
    assert (done.code, done.err) == (0, "")
    assert fits(done.out)
    for said in (
        "4,000, of which 4,000 with a latency",
        "Raspberry Pi 4 (as told)",
        "runtime       not stated",
        "hat @70e5a279",
    ):
        assert said in done.out
    table = ImportedTable.load(tmp_path / "pi")
    assert table.card.sources[0].file == "wmt14ende_cpu_raspberrypi_all.csv"
    assert "spread_hides_drift: 2" in done.out
    assert s2search("table", "lint", "pi").code == 1


def test_an_import_keeps_negative_rows_and_shows_that_the_linter_finds_them(s2search: Run) -> None:
    done = s2search("table", "import", "tfnas", TFNAS, "--out", "xeon")
    assert done.code == 0
    assert "negative_latency: 84" in done.out
    assert fits(done.out)
    found = s2search("table", "lint", "xeon", "--json")
    assert found.code == 1
    assert len(json.loads(found.out)["findings"]) == 84


def test_an_import_never_overwrites(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "file", "link"):
        done = s2search("table", "import", "hat", HAT, "--out", name)
        assert (done.code, done.out) == (2, "")
        assert f"{name!r} already exists; choose another folder, or move it away" in done.err
    assert list((tmp_path / "empty").iterdir()) == []
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("import", "hatt", HAT, "--out", "x"), "no reader is called 'hatt' (did you mean 'hat'?); installed: aihub, "),
        (
            ("import", "hat[devise=x]", HAT, "--out", "x"),
            "no option of reader 'hat' is called 'devise' (did you mean 'device'?)",
        ),
        (("import", "hat", "none.csv", "--out", "x"), "'none.csv' does not exist; name a file"),
        (("import", "hat", ".", "--out", "x"), "'.' is no file; name a file"),
        (
            ("import", "hat", TFNAS, "--out", "x"),
            "'latency_cpu.csv' cannot be read as hat: it has no column 'latency_mean_encoder'",
        ),
        (("import", "aihub[device=Galaxy]", HUB, "--out", "x"), "no row has the device 'Galaxy'; it has: "),
        (("import", "hat[date=May]", HAT, "--out", "x"), "the date is 'May'; 2026, 2026-01 or 2026-01-31"),
        (("import", "hat", HAT, "--out", "/proc/none/x"), "the folder '/proc/none/x' cannot be written"),
        (("compare", "amd-epyc", "nothing"), "no table is called 'nothing'"),
        (("compare", "amd-epyc", "./nothing"), "there is no table folder './nothing'"),
        (("merge", "amd-epyc", "--out", "x"), "1 tables are too few to merge"),
        (("merge", "amd-epyc", "h100", "--out", "x"), "differ in device"),
        (
            ("merge", "amd-epyc", "amd-epyc", "--out", "x"),
            "two of the tables give lcha (stream, 3x18x32, float32, cpu)",
        ),
        (("show", "amd-epyc", "--figure", "none/x.png"), "'none/x.png' cannot be written"),
        (("show", "amd-epyc", "--figure", "x.txt"), "x.txt"),
    ],
)
def test_a_bad_word_gets_one_line_and_leaves_nothing_behind(
    s2search: Run, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = s2search("table", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_that_an_imported_table_is_none_of_its_own(s2search: Run) -> None:
    s2search("table", "import", "hat", HAT, "--out", "pi")
    done = s2search("plan", "--table", "pi", "--budget", "260ms")
    assert done.code == 2
    assert "its schema is 's2search.imported_table/1'" in done.err
    assert done.err.count("\n") == 1


def test_a_comparison_says_the_same_as_text_and_as_json(s2search: Run) -> None:
    for phone in ("S24", "S25"):
        assert s2search("table", "import", f"aihub[device=Samsung Galaxy {phone}]", HUB, "--out", phone).code == 0
    found = json.loads(s2search("table", "compare", "S24", "S25", "--json").out)
    assert found["schema"] == "s2search.table_comparison/1"
    assert set(found) == {"before", "after", "rows", "only_before", "only_after", "ratio", "spearman", "card", "schema"}
    assert set(found["rows"][0]) == {"part", "before_ms", "after_ms", "ratio", "ratio_std", "differs"}
    assert found["card"]["device"] == ["Samsung Galaxy S24", "Samsung Galaxy S25"]
    text = s2search("table", "compare", "S24", "S25").out
    assert f"{found['ratio']:.3f} in the geometric mean" in text
    assert f"Spearman {found['spearman']:.3f}" in text
    assert f"{len(found['rows'])} cannot be judged" in text
    assert "device: Samsung Galaxy S24 -> Samsung Galaxy S25" in text
    assert fits(text)


def test_measured_tables_say_how_many_rows_differ_beyond_noise(s2search: Run) -> None:
    text = s2search("table", "compare", "amd-epyc", "amd-epyc").out
    timed = sum(row.latency_ms > 0 for row in open_table("amd-epyc").rows)
    assert f"0 of {timed} differ beyond it, 95 % sure for all together" in text
    assert "4 cannot be judged" in text
    assert fits(text)
    assert fits(s2search("table", "compare", "iphone-16-pro-max", "h100").out)


def test_merging_joins_and_settles_as_asked(s2search: Run, tmp_path: Path) -> None:
    parts = {"computation": "times", "memory": "memory"}
    for kind, name in parts.items():
        file = str(DATA / f"galvatron/{kind}_profiling_bf16_llama2-7b_all.json")
        assert s2search("table", "import", "galvatron[device=A100]", file, "--out", name).code == 0
    done = s2search("table", "merge", "times", "memory", "--out", "both")
    assert (done.code, done.err) == (0, "")
    assert fits(done.out)
    assert len(ImportedTable.load(tmp_path / "both").rows) == 48 + 206
    assert s2search("table", "lint", "both").code == 0
    again = s2search("table", "merge", "times", "both", "--out", "twice")
    assert again.code == 2
    assert "two of the tables give model, layers 2, batch 1, seq_len 2048" in again.err
    pooled = s2search("table", "merge", "amd-epyc", "amd-epyc", "--overlap", "pool", "--out", "pooled")
    assert pooled.code == 0
    assert s2search("table", "lint", "pooled").code == 0


@pytest.mark.parametrize("table", ["amd-epyc", "iphone-16-pro-max", "pi", "xeon", "hub", "memory"])
def test_a_table_is_shown_in_80_columns_and_as_a_figure(s2search: Run, tmp_path: Path, table: str) -> None:
    files = {"pi": ("hat", HAT), "xeon": ("tfnas", TFNAS), "hub": ("aihub", HUB)}
    files["memory"] = ("galvatron", str(DATA / "galvatron/memory_profiling_bf16_llama2-7b_all.json"))
    if table in files:
        name, file = files[table]
        registry.create("readers", name).read(Path(file)).save(tmp_path / table)
    done = s2search("table", "show", table, "--figure", "shown.png")
    assert (done.code, done.err) == (0, "")
    assert fits(done.out)
    pixels = matplotlib.image.imread(tmp_path / "shown.png")
    assert pixels.shape[1] == 1500
    assert 0.001 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.5

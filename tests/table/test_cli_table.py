"""`s2search table`, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s2search.errors import TableError
from s2search.transfer.runs import read_layouts
from tests.conftest import Outcome

Run = Callable[..., Outcome]

HEADER = "layer_00,layer_01,latency_ms"
KEYS = {
    *("rows", "held_out", "seed", "drift", "mape_additive", "mape_drift_aware", "within_5", "within_10", "within_15"),
    *("spearman", "residual_autocorrelation", "findings", "schema"),
}


def lines(rows: int = 150) -> list[str]:
    rng = np.random.default_rng(0)
    block_TL = rng.integers(0, 3, (rows, 2))
    return [HEADER, *(f"{a},{b},{10 + a + 2 * b + 0.1 * rng.random():.4f}" for a, b in block_TL)]


def changed(line: int, text: str) -> list[str]:
    found = lines()
    found[line - 1] = text
    return found


BAD_FILES = [
    ([], "has no layers; layer_00, layer_01, ... in order, then latency_ms"),
    (["latency_ms", "3.0"], "has no layers"),
    (changed(1, "layer_00,layer_02,latency_ms"), "the column 'layer_02' out of place"),
    (changed(1, "layer_00,layer_01,latency"), "the column 'latency' out of place"),
    (changed(1, "latency_ms,layer_00,layer_01"), "the column 'latency_ms' out of place"),
    (changed(4, "0,1"), "line 4 of 'bad.csv' has 2 columns, the first line 3"),
    (changed(4, "0,1,5.0,6.0"), "line 4 of 'bad.csv' has 4 columns"),
    (changed(4, "0,lcha,5.0"), "line 4 of 'bad.csv' has the block 'lcha' at layer 1; whole numbers from 0"),
    (changed(4, "0,-1,5.0"), "the block '-1' at layer 1"),
    (changed(4, "0,1.5,5.0"), "the block '1.5' at layer 1"),
    (changed(4, "0,1,fast"), "line 4 of 'bad.csv' has the latency 'fast'; a positive number of ms"),
    (changed(4, "0,1,-5.0"), "the latency '-5.0'"),
    (changed(4, "0,1,0"), "the latency '0'"),
    (changed(4, "0,1,nan"), "the latency 'nan'"),
    (changed(4, "0,1,inf"), "the latency 'inf'"),
    (lines(99), "has 99 rows for 6 blocks of 2 layers; 100 rows or more; measure more layouts"),
    ([HEADER, *(f"{row},{row},3.0" for row in range(120))], "120 rows for 240 blocks of 2 layers; 240 rows or more"),
    ([HEADER], "has 0 rows"),
]


@pytest.mark.parametrize(("content", "message"), BAD_FILES)
def test_a_bad_file_is_named_with_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("\n".join(content))
    with pytest.raises(TableError) as caught:
        read_layouts(Path("bad.csv"))
    assert message in str(caught.value)


def test_a_missing_file_a_folder_and_noise_get_one_line(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    for name, message in (("none.csv", "No such file"), (".", "Is a directory"), ("noise.csv", "is not a CSV")):
        done = s2search("table", "evaluate", name)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert done.err.count("\n") == 1


def test_json_and_text_say_the_same_in_80_columns(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_text("\n".join(lines()))
    found = json.loads(s2search("table", "evaluate", "run.csv", "--json").out)
    assert set(found) == KEYS
    assert (found["rows"], found["held_out"], found["drift"]) == (150, 30, False)
    assert found["within_5"] == found["within_10"] == 1
    assert found["spearman"] > 0.95
    text = s2search("table", "evaluate", "run.csv").out
    assert f"additive {100 * found['mape_additive']:.2f} %" in text
    assert max(map(len, text.splitlines())) <= 80
    assert s2search("table", "evaluate", "run.csv", "--seed", "1").out != text


def test_the_order_of_rows_is_what_drift_is_read_from(s2search: Run, tmp_path: Path) -> None:
    header, *rows = lines(400)
    slowed = [
        row[: row.rindex(",") + 1] + f"{float(row.split(',')[-1]) * (1 + (n > 200)):.4f}" for n, row in enumerate(rows)
    ]
    shuffled = [slowed[n] for n in np.random.default_rng(0).permutation(400)]
    error = {}
    for name, content in (("in_order", slowed), ("shuffled", shuffled)):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *content]))
        error[name] = json.loads(s2search("table", "evaluate", f"{name}.csv", "--json").out)["mape_drift_aware"]
    assert error["in_order"] < 0.02 < 0.2 < error["shuffled"]

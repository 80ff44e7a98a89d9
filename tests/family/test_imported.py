"""Tables that `table import` writes are planned with: Puzzletron's subblocks, with a score beside them."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from pathlib import Path

import pytest

import s2search
from s2search.errors import TableError
from s2search.family.plan import FamilyPlan
from tests.family.reference import Reference
from tests.readers.samples import sample

TOML = """
name = "three layers of subblocks"
statement = "Puzzletron's form, invented"
depth = 3

[rows]
where = { batch_size = 1, scenario = 0 }

[resources.runtime]
column = "latency_ms"
unit = "ms"

[resources.memory]
column = "memory_bytes"
unit = "B"

[score]
column = "score"
goal = "maximize"
statement = "made up: the larger the better, early layers more so"
stand_in = true

[[slots]]
name = "attention"
rows = { part = "AttentionConfig", layer = "{layer}" }

[[slots]]
name = "feed-forward"
rows = { part = "FFNConfig", layer = "{layer}" }

[[alternatives]]
each = ["subblock"]

[[fixed]]
rows = { part = "non_block" }
"""


def imported(folder: Path, content: bytes) -> str:
    """Return the table.csv of imported subblocks, with a column `score`."""
    (folder / "subblock_stats.json").write_bytes(content)
    s2search.table_import("puzzletron", folder / "subblock_stats.json", folder / "theirs")
    rows = list(csv.DictReader(io.StringIO((folder / "theirs/table.csv").read_text())))
    out = io.StringIO()
    writer = csv.DictWriter(out, [*rows[0], "score"])
    writer.writeheader()
    writer.writerows({**row, "score": score(row)} for row in rows)
    return out.getvalue()


def score(row: dict[str, str]) -> str:
    config = json.loads(row["subblock"] or "{}")
    size = config.get("num_key_value_heads") or config.get("intermediate_size", 0) / 128
    return f"{float(size or 0) / (1 + int(row['layer'] or 0)):.6f}"


def planned(folder: Path, toml: str, table: str, *budgets: str) -> FamilyPlan:
    (folder / "family.toml").write_text(toml)
    (folder / "table.csv").write_text(table)
    return s2search.plan_family(folder / "family.toml", folder / "table.csv", budget=budgets)


@pytest.mark.parametrize("budget_ms", ["5", "6.625", "8", "9.75"])
def test_an_imported_table_is_planned_as_trying_everything_does(tmp_path: Path, budget_ms: str) -> None:
    table = imported(tmp_path, sample("puzzletron"))
    found = planned(tmp_path, TOML, table, f"{budget_ms}ms", "memory:400MiB")
    small = Reference(TOML, table)
    uses = [use.total for use in found.uses]
    assert uses[0] <= float(budget_ms)
    best = small.best({"runtime": Fraction(budget_ms), "memory": Fraction("419430400")})
    assert best is not None
    assert found.score.value == pytest.approx(float(best[0]), abs=1e-9)


def test_without_a_budget_the_best_subblocks_stand_everywhere(tmp_path: Path) -> None:
    found = planned(tmp_path, TOML, imported(tmp_path, sample("puzzletron")))
    assert found.counts == {
        '{"no_op": false, "num_key_value_heads": 8}': 3,
        '{"intermediate_size": 1024, "no_op": false}': 3,
    }
    assert found.uses[0].total == 1.5 + 3 * (1 + 2)


def test_a_scenario_is_to_be_named(tmp_path: Path) -> None:
    table = imported(tmp_path, sample("puzzletron"))
    with pytest.raises(TableError, match=r"rows of the table .*: lines \d+ and \d+, which differ in batch"):
        planned(tmp_path, TOML.replace("where = { batch_size = 1, scenario = 0 }", ""), table)
    other = planned(
        tmp_path, TOML.replace("batch_size = 1, scenario = 0", 'batch_size = 8, precision = "torch.bfloat16"'), table
    )
    assert other.uses[0].total == 3 * planned(tmp_path, TOML, table).uses[0].total


def test_a_subblock_without_a_layer_stands_for_all(tmp_path: Path) -> None:
    content = json.loads(sample("puzzletron"))[:1]
    for subblock in content[0]["subblocks"]:
        if subblock["subblock_config_class"] == "FFNConfig" and subblock["parent_layer_index"] == 0:
            subblock["parent_layer_index"] = None
    content[0]["subblocks"] = [
        one
        for one in content[0]["subblocks"]
        if one["subblock_config_class"] == "AttentionConfig" or one["parent_layer_index"] is None
    ]
    shared = planned(tmp_path, TOML, imported(tmp_path, json.dumps(content).encode()))
    assert shared.uses[0].total == 1.5 + 3 * (1 + 2)

"""An answer that rests on foretold rows says so, and the rows that it asks for settle it. On a real table."""

from __future__ import annotations

import dataclasses

import pytest

from s2search.api.design import design
from s2search.designer.document import Design, Possible
from s2search.designer.firmness import EXPECTED, Decision, firmness
from s2search.tables.table import LatencyTable, open_table

VIDEOS = "video=256x144|512x288"


def of(table: LatencyTable, fps: float, **options: object) -> Design:
    return design(table, budget=f"{fps:g}fps", choose=[VIDEOS, "steps=1|2|4"], text_ms=4, decode_ms=0, **options)  # type: ignore[arg-type]


def without_large(table: LatencyTable) -> LatencyTable:
    rows = [row for row in table.rows if not (row.scenario == "stream" and row.height == 18)]
    return LatencyTable(name="partial", card=table.card, rows=rows)  # type: ignore[arg-type]  # see Rows


def with_rows(part: LatencyTable, whole: LatencyTable, keys: list[str]) -> LatencyTable:
    added = [
        row for row in whole.rows if row.role != "commit" and f"{row.scenario} {row.label} {row.shape.grid}" in keys
    ]
    assert len(added) == len(keys)
    return LatencyTable(name="more", card=part.card, rows=[*part.rows, *added])  # type: ignore[arg-type]  # see Rows


def settings(found: Possible | None) -> tuple[object, object, str] | None:
    return None if found is None else (found.settings["video"], found.settings["steps"], found.written)


@pytest.mark.parametrize("fps", [1, 2, 2.5, 3, 3.5, 4, 5, 6, 8])
def test_measuring_the_rows_that_it_names_gives_the_answer_of_all_rows(fps: float) -> None:
    whole = open_table("amd-epyc")
    part, right = without_large(whole), of(whole, fps)
    for _ in range(3):  # what is open once the settings are firm is the layout
        found = of(part, fps)
        assert found.firmness is not None
        if not found.firmness.rows:
            break
        part = with_rows(part, whole, [row.key for row in found.firmness.rows])
    assert found.firmness.firm
    assert settings(found.best) == settings(right.best)


def test_a_measured_table_is_firm_and_asks_for_nothing() -> None:
    found = of(open_table("amd-epyc"), 3)
    assert found.firmness is not None
    assert (found.firmness.firm, found.firmness.rows, found.firmness.doubts) == (True, (), ())


def test_the_same_answer_is_not_firm_where_better_might_fit() -> None:
    found = of(without_large(open_table("amd-epyc")), 2)
    assert found.firmness is not None
    assert not found.firmness.firm
    assert any("steps 4 is in time as well" in doubt for doubt in found.firmness.doubts)
    assert found.firmness.settles is not None
    assert found.firmness.settles >= EXPECTED


def test_rows_are_taken_by_what_they_settle_and_no_more_than_that() -> None:
    rows = {name: (name, "512x288") for name in ("large", "small", "tiny")}
    decision = Decision(says="x", margin_us=10.0, deviation_us={"large": 30.0, "small": 2.0, "tiny": 0.1})
    found = firmness(decision, decision, [], rows)
    assert [row.key for row in found.rows] == ["large"]
    assert found.rows[0].share == pytest.approx(900 / 904.01)
    nearer = dataclasses.replace(decision, margin_us=0.0, deviation_us={"large": 30.0, "small": 20.0, "tiny": 0.1})
    assert [row.key for row in firmness(nearer, nearer, [], rows).rows] == ["large", "small"]


def test_a_row_that_is_next_to_nothing_of_a_doubt_is_not_named_and_whose_doubt_it_is_is_said() -> None:
    rows = {name: (name, "512x288") for name in ("large", "tiny")}
    doubtful = Decision(says="x", margin_us=1.0, deviation_us={"large": 50.0, "tiny": 1.0}, other_us=100.0)
    found = firmness(doubtful, doubtful, [], rows)
    assert [row.key for row in found.rows] == ["large"]
    assert any("80 % of the doubt is the decoder's time at another size" in doubt for doubt in found.doubts)
    sure = dataclasses.replace(doubtful, other_us=1.0)
    assert not any("decoder" in doubt for doubt in firmness(sure, sure, [], rows).doubts)


def test_what_no_row_says_leaves_a_decision_open() -> None:
    decision = Decision(says="x", margin_us=1.0, deviation_us={"a": 1.0}, other_us=100.0)
    found = firmness(decision, decision, [], {"a": ("a", "512x288")})
    assert not found.firm
    assert found.settles is not None
    assert found.settles < EXPECTED


@pytest.mark.parametrize("margin", [-30.0, -1.0, 0.0, 2.0, 40.0])
def test_the_probability_of_settling_is_what_sampling_finds(margin: float) -> None:
    import numpy as np

    decision = Decision(says="", margin_us=margin, deviation_us={"a": 12.0, "b": 5.0}, other_us=1.0)
    rng = np.random.default_rng(0)
    after = margin + 12.0 * rng.standard_normal(200_000)
    left = np.hypot(5.0, 1.0)
    share = np.mean(np.abs(after) >= 1.6448536 * left)
    assert decision.settled_by(["a"]) == pytest.approx(share, abs=0.005)
    assert decision.settled_by(["a", "b"]) >= decision.settled_by(["a"])

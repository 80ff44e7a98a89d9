"""Laws of a design that need no other search to be checked by."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from s2search.api.design import design
from s2search.api.plan import plan
from s2search.designer.document import Design
from s2search.errors import InputError, S2SearchError, TableError
from s2search.solver import frontier
from s2search.tables.application import Application, Component
from s2search.tables.table import LatencyTable, open_table
from tests.design.tables import random_card, random_table
from tests.design.test_brute_force import AXES, RATES, Drawn, as_wish

CHOICES = ["video=256x144|512x288|768x432,steps=1|2|4,chunk=1|3,window=1|2"]


def test_with_one_combination_the_answer_is_the_plan() -> None:
    asked = {"budget": ["10fps", "1.5GB"]}
    found = design("iphone-16-pro-max", fix="steps=4", **asked)  # type: ignore[arg-type]
    right = plan("iphone-16-pro-max", **asked)  # type: ignore[arg-type]
    assert found.plan is not None
    assert found.best is not None
    assert (found.combinations, found.plan.layout) == (1, right.layout)
    assert (found.best.written, found.best.score) == (right.written, right.score)
    assert found.plan.digest == right.digest or found.plan.provenance.latency_model == "linear"


@pytest.mark.parametrize("fps", [10, 24, 30])
def test_every_combination_is_as_good_as_a_plan_of_its_own(fps: int) -> None:
    for steps in (1, 2, 4):
        found = design("iphone-16-pro-max", budget=[f"{fps}fps", "1.5GB"], fix=f"steps={steps}")
        try:
            right = plan("iphone-16-pro-max", budget=[f"{fps}fps", "1.5GB"], steps=steps)
        except S2SearchError:
            assert found.best is None
            assert "no design keeps" in found.missing
            continue
        assert found.best is not None
        assert found.best.score == right.score


def test_searching_side_by_side_finds_what_a_complete_front_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    table, score = random_table(rng), Drawn(seed=7)
    choose = {axis: list(values) for axis, values in AXES.items()}
    asked = {"budget": "20MB", "choose": choose, "rate": RATES, "score": score, "latency_model": "lookup"}
    complete = design(table, **asked)  # type: ignore[arg-type]
    monkeypatch.setattr(frontier, "_MOST_COMPLETE", 0)
    beside = design(table, **asked)  # type: ignore[arg-type]
    assert any(cell.design is not None for cell in complete.cells)
    for one, other in zip(complete.cells, beside.cells, strict=True):
        wishes = [
            None if cell.design is None else as_wish(found.designs[cell.design])[:5]
            for found, cell in ((complete, one), (beside, other))
        ]
        assert wishes[0] == wishes[1]


def test_all_solves_what_bounds_rule_out_and_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    table = random_table(rng)
    asked = {"budget": "20MB", "choose": {**AXES, "depth": (3,)}, "rate": RATES, "latency_model": "lookup"}
    some, everything = (design(table, solve_all=every, **asked) for every in (False, True))  # type: ignore[arg-type]
    assert some.cells == everything.cells
    assert some.solved + some.ruled_out + some.impossible >= some.combinations
    assert everything.ruled_out == 0


def test_a_slower_rate_or_a_larger_budget_never_takes_anything_away() -> None:
    small, large = (design("iphone-16-pro-max", budget=memory, choose=CHOICES) for memory in ("0.9GB", "1.3GB"))
    for found in (small, large):
        for one, other in itertools.pairwise([c for c in found.cells if c.steps == 2]):
            assert other.design is None or one.design is not None
            if other.design is not None and one.design is not None:
                assert as_wish(found.designs[one.design])[:5] >= as_wish(found.designs[other.design])[:5]
    for one, other in zip(small.cells, large.cells, strict=True):
        if one.design is not None:
            assert other.design is not None
            assert as_wish(large.designs[other.design])[:5] >= as_wish(small.designs[one.design])[:5]


def test_every_design_of_a_cell_keeps_its_rate_and_the_budgets() -> None:
    found = design("iphone-16-pro-max", budget=["15fps", "1.1GB", "first:900ms"], choose=CHOICES)
    assert found.best is not None
    for cell in found.cells:
        if cell.design is not None:
            one = found.designs[cell.design]
            assert one.frames_per_second >= cell.rate_fps - 1e-3
            assert one.memory_bytes <= 1.1e9
            assert one.first_ms <= 900
            assert one.settings["steps"] == cell.steps


def test_a_neighbour_that_does_not_fit_fits_with_what_it_lacks() -> None:
    asked = {"choose": "video=256x144|512x288|768x432", "fix": "steps=4"}
    found = design("iphone-16-pro-max", budget=["12fps", "2GB"], **asked)
    larger = next(one for one in found.neighbours if (one.axis, one.value) == ("video", "768x432"))
    assert larger.design is None
    assert larger.missing_ms
    table = open_table("iphone-16-pro-max")
    assert table.card.pipeline is not None
    growth = 768 * 432 / (512 * 288)
    left_ms = (12 / 12 * 1000 - table.card.pipeline.text_ms - growth * table.card.pipeline.decoder_ms) / 4
    exact = f"{left_ms + larger.missing_ms:.3f}ms"
    again = design("iphone-16-pro-max", budget=[exact, "2GB"], fix="video=768x432,steps=4")
    assert again.best is not None
    assert (
        design(
            "iphone-16-pro-max", budget=[f"{left_ms + larger.missing_ms - 0.01:.3f}ms"], fix="video=768x432,steps=4"
        ).best
        is None
    )


def test_files_say_what_was_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("design")
    found = design("iphone-16-pro-max", budget=["10fps", "1.2GB"])
    found.save(folder / "design.json")
    assert Design.load(folder / "design.json") == found
    found.save_csv(folder / "design.csv")
    lines = (folder / "design.csv").read_text().splitlines()
    assert len(lines) == len(found.designs) + 1


def test_what_cannot_be_is_said_in_one_line() -> None:
    for asked, said in {
        ("budget", "p95:300ms"): "is for one layout",
        ("choose", "stepz=1"): "no axis is called 'stepz'",
        ("choose", "steps=0"): "steps is '0'",
        ("choose", "steps=1,steps=2"): "given twice",
        ("choose", "steps"): "cannot be read",
        ("choose", "precision=w3"): "no precision is called",
        ("choose", "video=500x300"): "does not divide into tokens",
        ("choose", "width=1000"): "multiples of 128",
        ("choose", "decoder=mine"): "has no decoder 'mine'",
        ("choose", "residency=in_turn"): "load_ms",
        ("fix", "steps=1|2"): "fixed at 2 values",
        ("prefer", "speed"): "no wish is called",
        ("candidates", "lcha,nope"): "no block is called",
    }.items():
        name, value = asked
        with pytest.raises(S2SearchError, match=said):
            design("iphone-16-pro-max", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="two memory budgets"):
        design("iphone-16-pro-max", budget=["1GB", "2GB"])
    with pytest.raises(TableError, match="does not say what its text encoder and decoder take"):
        design("h100")


def test_a_card_offers_what_it_lists() -> None:
    rng = np.random.default_rng(0)
    found = design(random_table(rng), latency_model="lookup", budget="100fps")
    offered = {axis.name: axis.values for axis in found.axes}
    assert offered["decoder"] == ("small", "large")
    assert offered["steps"] == (1, 2, 4)
    assert offered["commit"] == ("reuse_last", "clean_pass")
    assert random_card(rng).application is not None


def test_another_precision_is_read_from_the_table_beside_the_named_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, whole = tmp_path_factory.mktemp("tables"), random_table(np.random.default_rng(5))
    for precision in ("float32", "bfloat16"):
        rows = whole.rows.having(precision=precision)
        LatencyTable(name=f"d.cpu.{precision}", card=whole.card, rows=rows).save(folder / f"d.cpu.{precision}")
    asked = {"latency_model": "lookup", "budget": "60fps", "choose": "precision=float32|bfloat16", "rate": RATES}
    apart = design(folder / "d.cpu.float32", **asked)  # type: ignore[arg-type]
    one = design(whole, **asked)  # type: ignore[arg-type]
    assert [as_wish(one.designs[n]) for n in one.front] == [as_wish(apart.designs[n]) for n in apart.front]
    assert {one.settings["precision"] for one in apart.designs} == {"float32", "bfloat16"}
    assert any("rows in bfloat16 are of the table d.cpu.bfloat16" in said for said in apart.assumptions)


def test_beside_a_decoder_with_activations_the_answer_is_the_sandwich_that_a_plan_would_show() -> None:
    table = open_table("iphone-16-pro-max")
    decoder = Component(name="d", ms=80.0, weight_bytes=0, state_bytes=0, peak_bytes=90_000_000, source="invented")
    card = dataclasses.replace(table.card, application=Application(decoders=(decoder,)))
    beside = design(LatencyTable(name="mine", card=card, rows=table.rows), budget=["10fps", "1.5GB"], fix="steps=4")
    alone = design(table, budget=["10fps", "1.5GB"], fix="steps=4")
    assert beside.best is not None
    assert beside.plan is not None
    assert alone.best is not None
    assert beside.best.memory_bytes - alone.best.memory_bytes == 90_000_000 - 40_179_456  # of the LCHA rows
    assert beside.best.written == beside.plan.written == alone.best.written


def test_windows_on_offer_are_of_whole_chunks() -> None:
    table = random_table(np.random.default_rng(0))
    odd = [dataclasses.replace(row, context_frames=row.context_frames + 1) for row in table.rows]
    both = LatencyTable(name="both", card=table.card, rows=[*table.rows, *odd])  # type: ignore[arg-type]  # see Rows
    assert _windows(design(both, latency_model="lookup")) == (2,)
    alone = LatencyTable(name="odd", card=table.card, rows=odd)  # type: ignore[arg-type]  # see Rows
    assert _windows(design(alone)) == (3,)


def _windows(found: Design) -> tuple[object, ...]:
    return next(axis.values for axis in found.axes if axis.name == "window")


def test_a_neighbour_without_a_price_says_so_and_a_broken_table_is_no_missing_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, whole = tmp_path_factory.mktemp("tables"), random_table(np.random.default_rng(5))
    rows = whole.rows.having(precision="float32")
    LatencyTable(name="d.cpu.float32", card=whole.card, rows=rows).save(folder / "d.cpu.float32")
    asked = {"latency_model": "lookup", "budget": "60fps", "choose": "precision=float32|float16", "rate": RATES}
    found = design(folder / "d.cpu.float32", **asked)  # type: ignore[arg-type]
    lower = next(one for one in found.neighbours if one.axis == "precision")
    assert (lower.value, lower.design) == ("float16", None)
    assert "it has no price: " in lower.missing
    (folder / "d.cpu.float16").mkdir()
    (folder / "d.cpu.float16" / "card.json").write_text("{")
    with pytest.raises(TableError, match=r"card\.json"):
        design(folder / "d.cpu.float32", **asked)  # type: ignore[arg-type]

"""What nobody thought of, in options, cards and files, is one clear line: no traceback, no silence, no hours."""

from __future__ import annotations

import dataclasses
import json
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2search.api.design import design
from s2search.designer.document import Design
from s2search.errors import InputError, S2SearchError
from s2search.quality.file import open_quality
from s2search.reporting.design_figure import design_figure
from s2search.reporting.design_page import design_html
from s2search.reporting.figures import save_figure
from s2search.tables.application import Application
from s2search.tables.table import LatencyTable
from tests.design.tables import random_card, random_table

PHONE = "iphone-16-pro-max"
MANY = "|".join(map(str, range(1, 65)))


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return random_table(np.random.default_rng(1))


def with_application(table: LatencyTable, **changes: object) -> LatencyTable:
    assert table.card.application is not None
    application = dataclasses.replace(table.card.application, **changes)  # type: ignore[arg-type]
    card = dataclasses.replace(table.card, application=application)
    return LatencyTable(name="changed", card=card, rows=table.rows)


@pytest.mark.parametrize("rate", [1e-9, 4e-4, 0.1])
def test_rates_of_any_size_are_rows_of_their_own(rate: float) -> None:
    near = rate * 1.0000001
    found = design(PHONE, rate=[rate, near], fix="steps=4")
    assert found.rates_fps == (rate, near)
    assert all(cell.design is not None for cell in found.cells)


def test_a_budget_is_kept_to_the_last_digit_also_in_its_row() -> None:
    exact = design(PHONE, budget="10fps", fix="steps=4").best
    assert exact is not None
    chunk_us = 12e6 / exact.frames_per_second
    least = next(r for r in (round(12e6 / (chunk_us - d), 6) for d in range(1, 99)) if r > exact.frames_per_second)
    found = design(PHONE, budget=f"{least}fps", fix="steps=4")
    assert found.best is not None
    assert found.best.written != exact.written
    assert [cell.design for cell in found.cells if cell.rate_fps == least] == [found.answer]


def test_more_combinations_than_minutes_have_is_refused_at_once() -> None:
    before = time.perf_counter()
    with pytest.raises(InputError, match="64 steps x 64 depth x 64 window are 262,144 combinations; at most 10,000"):
        design(PHONE, budget="10fps", choose=f"steps={MANY},window={MANY},depth={MANY}")
    assert time.perf_counter() - before < 2


def test_what_no_layout_of_one_depth_can_be_names_the_depth() -> None:
    with pytest.raises(InputError, match=r"^of 14 layers: ssa is to take 16 layers"):
        design(PHONE, budget="10fps", choose="depth=14|28", count="ssa=16")


def test_a_told_time_stands_in_for_that_of_the_card_or_is_refused(table: LatencyTable) -> None:
    asked: dict[str, Any] = {
        "budget": "5fps",
        "latency_model": "lookup",
        "fix": "decoder=small,video=512x288,steps=4,precision=float32",
    }
    as_is, told = design(table, **asked).best, design(table, text_ms=90.0, **asked).best
    assert as_is is not None
    assert told is not None
    assert told.first_ms > 90
    assert told.frames_per_second < as_is.frames_per_second
    with pytest.raises(InputError, match=r"--decode-ms tells one time, and the card lists 2 networks.*small, large"):
        design(table, decode_ms=1.0, **asked)


def test_a_card_that_lists_its_networks_needs_no_pipeline(table: LatencyTable) -> None:
    bare = LatencyTable(name="bare", card=dataclasses.replace(table.card, pipeline=None), rows=table.rows)
    asked: dict[str, Any] = {"budget": "60fps", "latency_model": "lookup"}
    assert design(bare, **asked).best == design(table, **asked).best
    assert design(bare, text_ms=5.0, **asked).best == design(table, text_ms=5.0, **asked).best


def test_a_told_text_encoder_leaves_the_decoder_of_the_card_as_it_is(table: LatencyTable) -> None:
    short = [dataclasses.replace(row, frames=1, context_frames=2) for row in table.rows]
    card = random_card(np.random.default_rng(0), application=None)
    both = LatencyTable(name="both", card=card, rows=[*short, *table.rows])  # type: ignore[arg-type]  # see Rows
    assert card.pipeline is not None
    asked: dict[str, Any] = {"budget": "20fps", "latency_model": "lookup", "fix": "chunk=3,steps=1"}
    as_is, told = design(both, **asked), design(both, text_ms=card.pipeline.text_ms, **asked)
    assert as_is.best == told.best


@pytest.mark.parametrize(
    ("application", "said"),
    [
        ({"load_ms": None}, "does not say what that takes of the transformer"),
        ({"text_encoders": ()}, "the text encoder"),
    ],
)
def test_networks_take_turns_only_where_loading_is_known(table: LatencyTable, application: Any, said: str) -> None:
    asked: dict[str, Any] = {"budget": "60fps", "latency_model": "lookup"}
    changed = with_application(table, **application)
    assert design(changed, **asked).best is not None
    with pytest.raises(S2SearchError, match=said):
        design(changed, choose="residency=together|in_turn", **asked)


def test_videos_of_as_many_pixels_are_none_of_them_more() -> None:
    found = design(PHONE, budget="1fps", choose="video=288x512|512x288,steps=1")
    assert {axis.held_by for axis in found.axes if axis.name == "video"} == {"offer"}


def test_more_ties_than_a_file_can_hold_are_a_lower_bound(tmp_path: Path) -> None:
    found = design(PHONE, budget="12fps", fix="steps=1,depth=80")
    assert found.plan is not None
    assert (found.plan.ties, found.plan.ties_exact) == (2**63 - 1, False)
    found.save(tmp_path / "design.json")
    assert Design.load(tmp_path / "design.json") == found


def test_equal_designs_keep_the_budgets_and_have_other_settings(tmp_path: Path) -> None:
    file = tmp_path / "quality.json"
    entries = [{"when": {"steps": n}, "value": 80 + n, "error": 5.0, "source": "a test"} for n in (1, 2, 4)]
    file.write_text(
        json.dumps({"schema": "s2search.quality/1", "statement": "drawn", "scale": "a", "entries": entries})
    )
    found = design(PHONE, budget=["10fps", "1.3GB"], quality=open_quality(file))
    assert found.best is not None
    equal = [found.designs[n] for n in found.equals]
    assert {one.settings["steps"] for one in equal} == {1, 2, 4} - {found.best.settings["steps"]}
    assert all(one.frames_per_second >= 10 and one.memory_bytes <= 1.3e9 for one in equal)
    for entry in entries:
        entry["error"] = 0.1
    file.write_text(
        json.dumps({"schema": "s2search.quality/1", "statement": "drawn", "scale": "a", "entries": entries})
    )
    assert design(PHONE, budget=["10fps", "1.3GB"], quality=open_quality(file)).equals == ()


def _set(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda file: file.update(changes)


def _settings(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda file: file["designs"][0]["settings"].update(changes)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_set(answer=99), "number 99, and has"),
        (_set(answer=-1), "number -1, and has"),
        (_set(front=[0, 99]), "number 99, and has"),
        (_set(equals=[77]), "number 77, and has"),
        (_set(designs=[]), "and has 0"),
        (lambda file: file["cells"][0].update(design=1234), "number 1234"),
        (lambda file: file["budgets"][0].update(without=55), "number 55"),
        (lambda file: file["designs"][0]["settings"].pop("steps"), "lack the axis steps"),
        (lambda file: file["neighbours"][1]["design"]["settings"].pop("chunk"), "lack the axis chunk"),
        (_settings(steps="four"), "steps is 'four'"),
        (_settings(steps="4"), "steps of a design is '4'"),
        (_settings(video=5), "the video size '5'"),
        (_settings(precision=""), "no precision is called ''"),
        (_settings(residency="never"), "no residency is called"),
        (_set(prefer=["speed"]), "no wish of the design is called 'speed'"),
        (lambda file: file["designs"][0].update(frames_per_second=-1.0), "0.0"),
        (lambda file: file["designs"][0].update(score=1e300), "1000000000000000"),
        (lambda file: file["plan"].update(layout=[]), "are not those of its layout"),
    ],
)
def test_a_file_edited_by_hand_is_refused_in_one_line(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], said: str
) -> None:
    path = tmp_path / "design.json"
    design(PHONE, budget="10fps", fix="steps=4").save(path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(S2SearchError) as refused:
        Design.load(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_of_strangers_are_no_markup_no_formula_and_no_terminal_command(
    table: LatencyTable, tmp_path: Path
) -> None:
    name = "<script>alert(1)</script>[bold red]x[/] $\\frac{ \x1b[31m\x07\u202e \u4e2d"
    card = dataclasses.replace(table.card, device=name, assumptions=("[/] <b>\x1b[2J",))
    found = design(LatencyTable(name="a [red] one", card=card, rows=table.rows), budget="60fps", latency_model="lookup")
    told, page = str(found), design_html([found])
    assert "\x1b" not in told + page
    assert "[bold red]x[/]" in told
    assert "<script>alert" not in page
    save_figure(design_figure([found]), tmp_path / "f.svg")
    ElementTree.parse(tmp_path / "f.svg")  # our own file; a control character would be no XML


def test_a_card_without_times_of_all_its_networks_says_what_to_tell(table: LatencyTable) -> None:
    card = dataclasses.replace(table.card, pipeline=None, application=Application())
    with pytest.raises(S2SearchError, match="--text-ms and --decode-ms"):
        design(LatencyTable(name="none", card=card, rows=table.rows), budget="60fps", latency_model="lookup")

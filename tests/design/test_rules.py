"""Single rules of a design, each by its own arithmetic: decoders that grow, doubts, what is shown, what is asked."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from s2search.api.design import design
from s2search.designer.document import Design
from s2search.quality.file import open_quality
from s2search.space import layout_labels
from s2search.tables.table import LatencyTable
from tests.design.tables import random_card, random_table

MEASURED: dict[str, Any] = {"latency_model": "lookup"}


def with_rows(*tables: LatencyTable, **card: object) -> LatencyTable:
    """Return a table of random rows and a card without an application, whose pipeline decodes 12 frames in 9 ms."""
    plain = random_card(np.random.default_rng(0), **{"application": None} | card)
    return LatencyTable(name="rules", card=plain, rows=[row for one in tables for row in one.rows])  # type: ignore[arg-type]  # see Rows


def test_a_shorter_chunk_decodes_faster_in_proportion_to_its_frames() -> None:
    whole = random_table(np.random.default_rng(3))
    short = LatencyTable(
        name="short",
        card=whole.card,
        rows=[dataclasses.replace(row, frames=1, context_frames=2) for row in whole.rows],  # type: ignore[arg-type]
    )
    table = with_rows(whole, short)
    for chunk in (1, 3):
        fix = f"chunk={chunk},steps=2,video=256x144,precision=bfloat16"
        found = design(table, budget="1fps", fix=fix, **MEASURED).best
        assert found is not None
        chunk_ms = 1.5 + 9.0 * chunk / 3 + 2 * found.latency_ms
        assert found.frames_per_second == pytest.approx(4000 * chunk / chunk_ms, abs=2e-3)


def test_a_decoder_at_another_size_is_a_doubt_as_large_as_its_growth() -> None:
    table = with_rows(random_table(np.random.default_rng(3)))
    fix = "steps=2,video=512x288,precision=bfloat16"
    growth = 4  # the table's first rows are of a quarter of the pixels
    beside_ms, off_ms = 1.5 + 9.0 * growth, 9.0 * (growth - 1)
    for fps in (40, 45, 50):
        found = design(table, budget=f"{fps}fps", fix=fix, **MEASURED)
        assert found.firmness is not None
        assert found.best is not None
        margin_ms = (12_000 / fps - beside_ms) / 2 - found.best.latency_ms
        right = NormalDist().cdf(margin_ms / (off_ms / 2))
        assert found.firmness.layout_probability == pytest.approx(right, abs=1e-4)
        assert found.firmness.rows == ()
        assert "no row would settle it" in " ".join(str(found).split())


def test_rows_err_alike_in_all_layers_and_apart_from_each_other() -> None:
    found = design(random_table(np.random.default_rng(4)), budget="60fps", max_switches=2, **MEASURED).best
    assert found is not None
    calls = [*found.counts.values(), 1, 1]  # every block, stem and head; all rows of the table are off by 10 us
    changes = sum(mine != its for mine, its in itertools.pairwise(["lcha", *layout_labels(found.written), "lcha"]))
    right = 0.01 * math.hypot(*calls, changes / 2, changes / 2)
    assert found.latency_std_ms == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13])
def test_on_tables_where_larger_may_be_faster_bounds_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(rng)
    rows = [
        dataclasses.replace(
            row,
            latency_ms=float(rng.choice([0.5, 2.0, 9.0])),
            weight_bytes=10**5,
            state_bytes=0,
            peak_bytes=0,
        )
        for row in table.rows
    ]
    application = table.card.application
    assert application is not None
    light = dataclasses.replace(
        application,
        load_ms=0.0,
        decoders=tuple(
            dataclasses.replace(one, peak_bytes=0, state_bytes=0, load_ms=0.0) for one in application.decoders
        ),
        text_encoders=tuple(dataclasses.replace(one, peak_bytes=0, load_ms=300.0) for one in application.text_encoders),
    )
    card = dataclasses.replace(table.card, application=light)
    wild = LatencyTable(name="wild", card=card, rows=rows)  # type: ignore[arg-type]  # see Rows
    choose = "residency=together|in_turn,depth=2|3"
    asked: dict[str, Any] = {"choose": choose, "candidates": "ssa", "rate": [20, 60, 120, 240], **MEASURED}
    some, everything = (design(wild, solve_all=every, **asked) for every in (False, True))
    assert some.ruled_out > 0
    assert everything.ruled_out == 0
    for one, other in zip(some.cells, everything.cells, strict=True):
        assert one.missing == other.missing
        assert settings(some, [one.design]) == settings(everything, [other.design])
    assert settings(some, some.front) == settings(everything, everything.front)


def settings(found: Design, places: Iterable[int | None]) -> set[tuple[object, ...]]:
    """Return designs by what they have of everything, so that two that tie are one."""
    named = [found.designs[place] for place in places if place is not None]
    seen = [{k: v for k, v in one.settings.items() if k not in ("residency", "text_encoder")} for one in named]
    return {
        (*each.values(), one.frames_per_second, one.memory_bytes, one.first_ms, one.score)
        for each, one in zip(seen, named, strict=True)
    }


def test_a_limit_that_the_least_layout_just_keeps_is_kept() -> None:
    asked: dict[str, Any] = {"fix": "steps=4"}
    fastest = design("iphone-16-pro-max", candidates="ssa", budget="1s", **asked).best
    smallest = design("iphone-16-pro-max", budget=["1s", "1.19GB"], **asked).best
    assert fastest is not None
    assert smallest is not None
    pass_us, memory = round(1000 * fastest.latency_ms), smallest.memory_bytes
    assert design("iphone-16-pro-max", budget=f"{pass_us}us", **asked).best is not None
    assert design("iphone-16-pro-max", budget=f"{pass_us - 1}us", **asked).best is None
    least = design("iphone-16-pro-max", budget=["1s", f"{memory}B"], **asked).best
    assert least is not None
    assert least.memory_bytes <= memory


def test_a_layout_that_a_quality_has_judged_is_shown_only_if_it_is_what_is_asked_of_layouts(tmp_path: Path) -> None:
    file = tmp_path / "quality.json"
    judged = [
        {"when": {"layout": layout, "steps": 1}, "value": value, "source": "a test"}
        for layout, value in (("L12S16", 3.0), ("S16L12", 2.0), ("S28", 9.0))
    ]
    file.write_text(json.dumps({"schema": "s2search.quality/1", "statement": "drawn", "scale": "a", "entries": judged}))
    asked: dict[str, Any] = {"budget": "10fps", "fix": "steps=1", "quality": open_quality(file), "count": "ssa=16"}
    found = design("iphone-16-pro-max", **asked)
    assert {one.counts["ssa"] for one in found.designs} == {16}
    assert found.best is not None
    assert found.best.quality is not None
    assert (found.best.written, found.best.quality.value, found.best.proven) == ("L12S16", 3.0, True)
    assert found.plan is not None
    assert found.plan.written == "L12S16"
    ends = design("iphone-16-pro-max", **asked, last="lcha")
    assert {one.written for one in ends.designs if one.quality is not None} == {"S16L12"}


def test_a_narrower_model_has_a_narrower_feed_forward() -> None:
    wide, narrow = (design("iphone-16-pro-max", budget="1fps", fix=f"steps=1,width={n}").best for n in (2048, 1024))
    assert wide is not None
    assert narrow is not None
    assert narrow.transformer_bytes < 0.35 * wide.transformer_bytes  # weights grow with the square of the width


def test_neighbours_are_one_step_away_and_beyond_the_offer_only_at_its_end() -> None:
    found = design(
        "iphone-16-pro-max", budget="10fps", choose="steps=1|2|4|8|9,video=256x144|512x288|768x432,chunk=1|3"
    )
    assert found.best is not None
    near = {(one.axis, one.value, one.offered) for one in found.neighbours}
    assert (found.best.settings["steps"], found.best.settings["video"]) == (2, "768x432")
    assert {one for one in near if one[0] == "steps"} == {("steps", 1, True), ("steps", 4, True)}
    assert {one for one in near if one[0] == "video"} == {("video", "512x288", True), ("video", "1024x576", False)}
    assert len([one for one in near if one[0] == "chunk"]) == 1
    last = design("iphone-16-pro-max", budget="5fps", fix="steps=2,video=512x288")
    assert {(one.value, one.offered) for one in last.neighbours if one.axis == "steps"} == {(4, False)}


def test_what_is_less_wished_for_is_no_doubt_however_near_it_comes() -> None:
    found = design("iphone-16-pro-max", budget="26fps", choose="steps=2|8,video=256x144|512x288|768x432")
    assert found.best is not None
    assert found.best.settings["video"] == "512x288"
    near = design("iphone-16-pro-max", budget="26fps", fix="steps=8,video=256x144")
    assert near.best is None
    assert "25.8 FPS" in near.missing
    assert found.firmness is not None
    assert not [doubt for doubt in found.firmness.doubts if "256x144" in doubt]


def test_an_axis_is_ranked_only_if_all_of_its_values_are_judged(tmp_path: Path) -> None:
    file = tmp_path / "quality.json"
    for judged, unranked in (((1, 2), ("steps",)), ((1, 2, 4), ())):
        entries = [{"when": {"steps": n}, "value": float(n), "source": "a test"} for n in judged]
        file.write_text(
            json.dumps({"schema": "s2search.quality/1", "statement": "drawn", "scale": "a", "entries": entries})
        )
        asked: dict[str, Any] = {"budget": "10fps", "choose": "steps=1|2|4", "quality": open_quality(file)}
        assert design("iphone-16-pro-max", **asked).unranked == unranked

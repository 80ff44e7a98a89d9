"""What is said of a design: a reader who never saw one is not misled, in the terminal or in the picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from s2search.api.design import design
from s2search.designer.document import Design
from s2search.quality.file import open_quality
from s2search.reporting import design_words as words
from s2search.reporting.design_figure import design_figure
from tests.design.tables import random_table

PHONE = "iphone-16-pro-max"


def held_by(found: Design) -> dict[str, str | None]:
    return {axis.name: axis.held_by for axis in found.axes}


def lines_of(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def tight() -> Design:
    return design(PHONE, budget=["10fps", "1.2GB"])


def test_what_has_no_price_is_not_said_to_be_too_large() -> None:
    found = design(PHONE, budget="10fps", choose="precision=w4a8|w8a8")
    assert found.unpriced
    assert held_by(found)["precision"] == "unpriced"
    assert "no rows to foretell it from" in lines_of(str(found))


def test_more_that_fits_only_with_less_of_an_earlier_wish_is_not_said_to_not_fit() -> None:
    choose = "steps=1|2|4,video=512x288|768x432"
    found = design(PHONE, budget="10fps", choose=choose)
    assert found.best is not None
    assert (found.best.settings["video"], found.best.settings["steps"]) == ("768x432", 2)
    assert held_by(found)["steps"] == "wishes"
    assert design(PHONE, budget="10fps", fix="steps=4,video=512x288").best is not None
    turned = design(PHONE, budget="10fps", choose=choose, prefer="steps")
    assert (held_by(turned)["steps"], held_by(turned)["video"]) == ("offer", "wishes")
    alone = design(PHONE, budget="30fps")
    assert held_by(alone)["steps"] == "budgets"


def test_what_a_quality_ranks_is_not_said_to_be_ranked_by_nobody(tmp_path: Path) -> None:
    file = tmp_path / "quality.json"
    entries = ",".join(
        f'{{"when": {{"chunk_frames": {chunk}}}, "value": {value}, "source": "a test"}}'
        for chunk, value in ((1, 2.0), (3, 1.0))
    )
    file.write_text(f'{{"schema": "s2search.quality/1", "statement": "drawn", "scale": "a", "entries": [{entries}]}}')
    asked = {"budget": "10fps", "choose": "chunk=1|3", "fix": "steps=2"}
    judged = design(PHONE, quality=open_quality(file), **asked)  # type: ignore[arg-type]
    assert judged.best is not None
    assert (judged.best.settings["chunk"], held_by(judged)["chunk"]) == (1, "quality")
    assert held_by(design(PHONE, **asked))["chunk"] == "cost"  # type: ignore[arg-type]


def test_a_budget_that_binds_says_what_would_be_better_without_it(tight: Design) -> None:
    memory = tight.budgets[1]
    said = words.budget_text(memory, tight)
    assert memory.without is not None
    other, best = tight.designs[memory.without], tight.best
    assert best is not None
    assert other.frames_per_second < best.frames_per_second  # read alone, this looked like a loss
    assert f"without it a better score ({other.score:.6f}): " in said
    faster = design(PHONE, budget="30fps")
    assert "without it more steps: " in words.budget_text(faster.budgets[0], faster)


def test_memory_names_what_is_not_in_it(tight: Design) -> None:
    assert tight.best is not None
    assert "NOT counted: decoder weights, state, activations; text encoder" in words.memory_text(tight.best)
    whole = design(random_table(np.random.default_rng(0)), budget="100fps", latency_model="lookup").best
    assert whole is not None
    assert "NOT" not in words.memory_text(whole)
    assert whole.transformer_bytes < whole.memory_bytes


def test_nothing_measured_is_never_plainly_firm(tight: Design) -> None:
    assert tight.firmness is not None
    first = words.firmness_lines(tight.firmness)[0]
    assert (tight.firmness.firm, first.startswith("FIRM, if its derived rows")) == (True, True)


def test_an_answer_that_is_in_no_cell_is_not_said_to_be_in_one() -> None:
    told = {"text_ms": 4.0, "decode_ms": 0.0, "budget": "8000ms"}
    beside = design("amd-epyc", **told)  # type: ignore[arg-type]
    assert all(cell.design != beside.answer for cell in beside.cells)
    assert "in brackets above" not in lines_of(str(beside))
    within = design("amd-epyc", rate=[0.1], **told)  # type: ignore[arg-type]
    assert "in brackets above" in lines_of(str(within))


def test_cells_name_only_what_differs_and_the_rest_is_said_once() -> None:
    found = design(PHONE, budget="10fps", choose="video=256x144|512x288|768x432,window=1|2,chunk=1|3")
    differing = words.differing_axes(found)
    shown = [found.designs[cell.design] for cell in found.cells if cell.design is not None]
    for axis in ("window", "chunk"):
        values = {one.settings[axis] for one in shown}  # type: ignore[index]  # two axes
        assert (axis in differing) == (len(values) > 1)
        assert (f"({axis})" in words.how_to_read(found)) == (len(values) > 1)
        if len(values) == 1:
            assert words.setting(axis, values.pop()) in words.how_to_read(found)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["a phone", "a phone whose maker gave it a name that no slide was ever made for"])
def test_the_title_of_a_picture_is_above_its_subtitle_and_inside_the_picture(tight: Design, device: str) -> None:
    named = dataclasses.replace(tight, provenance=dataclasses.replace(tight.provenance, device=device))
    for several in ([named], [named, tight], [named] * 4):
        figure = design_figure(several)
        FigureCanvasAgg(figure).draw()
        titles = [figure._suptitle, *(axes._left_title for axes in figure.axes if axes.get_visible())]  # type: ignore[attr-defined]
        boxes = [title.get_window_extent() for title in titles]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
        assert all(boxes[0].y0 >= box.y1 for box in boxes[1:])
        assert device.split()[0] in titles[0 if len(several) == 1 else 1].get_text()
        assert boxes[0].y1 <= figure.bbox.y1


def test_many_reasons_without_a_price_are_three_lines_and_a_number(tight: Design) -> None:
    several = dataclasses.replace(tight, unpriced={f"reason {n}": n for n in range(1, 8)})
    lines = words.unpriced_lines(several)
    assert [line.split(" ", 1)[0] for line in lines] == ["7", "6", "5", "10"]

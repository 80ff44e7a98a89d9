"""Pictures name every part with its number, and nothing in them runs over anything else."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import s2search
from s2search.errors import InputError
from s2search.planner.plan import Plan
from s2search.reporting.design_figure import design_figure
from s2search.reporting.design_words import matrix
from s2search.reporting.figures import front_figure, plan_figure
from s2search.reporting.rates import rate_line
from s2search.reporting.table_figure import table_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PHONE = s2search.plan("iphone-16-pro-max", budget=["260ms", "1.3GB"])
ASKED: list[dict[str, Any]] = [
    {"table": "iphone-16-pro-max", "budget": ["260ms", "1.3GB"]},
    {"table": "h100", "video": "512x288", "budget": "9ms", "layout": "L9S19"},
    {"table": "amd-epyc", "video": "512x288", "candidates": "lcha,ssa,full,kv_compressed", "layout": "L12S8FLFLFKKK"},
    {"table": ["iphone-16-pro-max:260ms", "h100:16ms"]},
    {"table": "h100", "video": "512x288", "budget": "20ms", "confidence": 0.95},
]


def words(figure: Figure) -> list[Any]:
    """Return the texts that are seen, with where they are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]  # type: ignore[no-untyped-call]


def boxes(figure: Figure) -> dict[str, Any]:
    found = {}
    for n, text in enumerate(words(figure)):
        found[f"{n} {text.get_text()}"] = text.get_window_extent()
    return found


@pytest.mark.parametrize("asked", ASKED)
def test_no_words_of_a_plans_picture_overlap_or_leave_it(asked: dict[str, Any]) -> None:
    figure = plan_figure(s2search.plan(**asked))
    found = boxes(figure)
    for (name, one), (other, two) in itertools.combinations(found.items(), 2):
        assert not (one.x0 < two.x1 - 1 and two.x0 < one.x1 - 1 and one.y0 < two.y1 - 1 and two.y0 < one.y1 - 1), (
            name,
            other,
        )
    width, height = figure.canvas.get_width_height()
    assert all(box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1 for box in found.values())


@pytest.mark.parametrize("asked", ASKED)
def test_every_part_of_a_bar_is_named_with_its_number_beside_the_budget_and_the_interval(
    asked: dict[str, Any],
) -> None:
    plan = s2search.plan(**asked)
    figure = plan_figure(plan)
    assert len(figure.axes) == 1 + 2 * len(plan.every_device)
    for device, bar in zip(plan.every_device, figure.axes[1::2], strict=True):
        named = [text.get_text() for text in bar.get_legend().get_texts()]  # type: ignore[union-attr]
        used = [label for label, count in plan.counts.items() if count]
        assert [name.split()[1] for name in named[: len(used)]] == used
        assert named[len(used)].startswith("switches: ")
        assert named[len(used) + 1].startswith("stem and head: ")
        assert any(name.startswith("budget: ") for name in named) == (device.latency_ms.budget is not None)
        assert any(" ms" in name and (" to " in name or "at most" in name) for name in named)
        drawn = sum(patch.get_width() for patch in bar.patches)  # type: ignore[attr-defined]
        assert drawn == pytest.approx(device.latency_ms.predicted, abs=1e-6)


def test_a_front_has_its_counts_its_intervals_and_a_second_axis_where_rates_are_known() -> None:
    phone, server = s2search.frontier("iphone-16-pro-max", depth=8), s2search.frontier("h100", depth=8, video="512x288")
    figure = front_figure(phone.plans)
    score, layers = figure.axes
    assert [text.get_text() for text in layers.get_legend().get_texts()] == ["lcha", "ssa"]  # type: ignore[union-attr]
    assert [child.get_xlabel() for child in score.child_axes] == ["frames per second with reuse_last"]
    assert not front_figure(server.plans).axes[0].child_axes
    (intervals,) = [lines for lines in score.collections if lines.__class__.__name__ == "LineCollection"]
    for plan, path in zip(phone, intervals.get_paths(), strict=True):
        low, high = sorted(path.vertices[:, 0])  # type: ignore[call-overload, index]
        assert (low, high) == (pytest.approx(plan.latency_ms.low), pytest.approx(plan.latency_ms.high))


def test_rates_lie_on_the_line_that_two_plans_tell() -> None:
    front = s2search.frontier("iphone-16-pro-max", depth=8)
    line = rate_line(front.plans)
    assert line is not None
    assert line.passes == pytest.approx(4)
    for plan in front:
        assert plan.rate is not None
        assert line.fps(plan.latency_ms.predicted) == pytest.approx(plan.rate.frames_per_second["reuse_last"], abs=0.01)
    assert rate_line(front.plans[:1]) is None


def test_a_tables_picture_has_video_sizes_and_numbers() -> None:
    table = s2search.table("h100")
    said = [text.get_text() for text in words(table_figure(table))]
    for video in ("512x288", "832x480"):
        assert f"stream, {video}, 3 latent frames, bfloat16" in said
    for row in table.rows:
        if row.latency_ms > 0:
            assert f"{row.latency_ms:.3g}" in said
    assert not [text for text in said if "3x18x32" in text]


def test_a_picture_names_only_the_blocks_that_a_layout_has() -> None:
    plan: Plan = s2search.plan("iphone-16-pro-max", candidates="lcha,ssa,kv_compressed", layout="L28")
    title = plan_figure(plan).get_suptitle()
    assert title == "28 lcha  on  iphone-16-pro-max.coreml.w4a8"


def test_fronts_of_devices_far_apart_have_forms_of_their_own_on_a_logarithmic_axis() -> None:
    front = s2search.frontier("h100", depth=6, video="512x288", compare=["amd-epyc", "iphone-16-pro-max"])
    figure = front_figure(front.plans, {}, {name: one.plans for name, one in front.beside.items()})
    axes, *layers = figure.axes
    assert axes.get_xscale() == "log"
    assert [one.get_title(loc="left") for one in layers] == [front[0].provenance.table, *front.beside]
    forms = {tuple(map(tuple, dots.get_paths()[0].vertices)) for dots in axes.collections if dots.get_label()[0] != "_"}
    assert len(forms) == 3
    assert not axes.child_axes  # rates are those of one table's pipeline
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = canvas.get_renderer()  # type: ignore[no-untyped-call]
    legend = axes.get_legend()
    assert legend is not None
    box = legend.get_window_extent(drawn)
    assert figure.bbox.contains(box.x0, box.y0)
    assert figure.bbox.contains(box.x1, box.y1)
    near = front_figure(front.plans, {}, {"same": front.plans})
    assert near.axes[0].get_xscale() == "linear"


def test_a_design_figure_has_every_cell_of_every_table_inside_it() -> None:
    designs = [
        s2search.design("iphone-16-pro-max", budget=["10fps", "1.3GB"], choose="video=256x144|512x288,chunk=1|3"),
        s2search.design("amd-epyc", budget="1fps", text_ms=4, decode_ms=80),
    ]
    figure = design_figure(designs)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = canvas.get_renderer()  # type: ignore[no-untyped-call]
    for axes, design in zip(figure.axes, designs, strict=True):
        words = [text.get_text() for text in axes.texts]
        for cell in design.cells:
            if cell.design is not None:
                assert str(design.designs[cell.design].settings["video"]) in words
        for text in axes.texts:
            box = text.get_window_extent(drawn)
            assert figure.bbox.contains(box.x0, box.y0), text.get_text()
            assert figure.bbox.contains(box.x1, box.y1), text.get_text()
    with pytest.raises(InputError, match="0 designs"):
        design_figure([])


def test_the_words_of_a_matrix_fit_80_columns_and_keep_every_cell() -> None:
    design = s2search.design("iphone-16-pro-max", budget="10fps", choose="steps=1|2|3|4|6|8,chunk=1|3,window=1|2")
    lines = str(design).splitlines()
    assert max(map(len, lines)) <= 80
    rows = matrix(design)
    rates = [rate for row in rows for rate in row.rates_fps]
    assert rates == sorted(design.rates_fps, reverse=True)
    for row in rows:
        for rate in row.rates_fps:
            for steps, cell in zip(design.steps, row.cells, strict=True):
                found = None if cell.design is None else design.designs[cell.design]
                assert found == design.cell(rate, steps)
                assert cell.is_answer == (found is not None and found == design.best)


def test_a_front_of_several_tables_plots_all_of_them() -> None:
    from matplotlib import pyplot

    front = s2search.frontier("h100", depth=4, video="512x288", compare="amd-epyc")
    axes = front.plot()
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {front[0].provenance.table, *front.beside}
    pyplot.close("all")

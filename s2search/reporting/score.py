"""What `s2search score` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.reporting.figures import save_figure
from s2search.score.check import WITH_PAIRS, ScoreCheck
from s2search.score.measured import MeasuredScore, Value


def score_text(score: MeasuredScore, folder: Path) -> RenderableType:
    """Return what each candidate costs at each layer, in thousandths of the loss, and what is not settled."""
    table = Table("layer", box=None, pad_edge=False, header_style="")
    for label in score.values:
        table.add_column(label, justify="right")
    for layer in range(score.depth):
        table.add_row(str(layer), *(_rise(values[layer]) for values in score.values.values()))
    for run in score.runs:
        cells = [_rise(run.value) if label == run.candidate else "" for label in score.values]
        table.add_row(f"{run.first} to {run.first + run.layers - 1}", *cells)
    every = [*(value for values in score.values.values() for value in values), *(run.value for run in score.runs)]
    falling = sum(not value.settled for value in every)
    lines = [f"rise of the held-out loss, in thousandths; {score.statement}"]
    if falling:
        lines.append(f"* {falling} of {len(every)} were still falling after {score.steps[1]} steps")
    lower = sum(value.value > 2 * value.error for value in every)
    if lower:
        lines.append(
            f"{lower} of {len(every)} LOWER the loss: the model has not learned what its own layers could, and a score "
            "of it says little; train it longer"
        )
    return Group(Text(f"{folder}/score.json\n"), table, Text("\n" + "\n".join(lines)))


def _rise(value: Value) -> str:
    mark = "" if value.settled else " *"
    return f"{-1000 * value.value:.2f} +- {1000 * value.error:.2f}{mark}"


def check_text(found: ScoreCheck) -> RenderableType:
    """Return layouts by what they lose when tuned, and how well each predictor orders them."""
    table = Table("layout", box=None, pad_edge=False, header_style="")
    for name in ("predicted", "with pairs", "assembled", "tuned"):
        table.add_column(name, justify="right")
    for one in sorted(found.layouts, key=lambda one: one.tuned):
        pairs = "" if one.with_pairs is None else f"{1000 * one.with_pairs:.1f}"
        tuned = f"{1000 * one.tuned:.1f} +- {1000 * one.seeds_std:.1f}"
        table.add_row(one.written, f"{1000 * one.additive:.1f}", pairs, f"{1000 * one.assembled:.1f}", tuned)
    told = None if found.predictor(WITH_PAIRS) else "pairs of layers were not measured: --runs 2"
    ranks = Table(
        "predictor", box=None, pad_edge=False, header_style="", caption=told, caption_style="", caption_justify="left"
    )
    for name in ("Spearman", "95 %"):
        ranks.add_column(name, justify="right")
    for by in found.predictors:
        ranks.add_row(by.name, f"{by.rank:.2f}", f"{by.low:.2f} to {by.high:.2f}")
    asked = found.question
    verdict = "the score orders layouts as training does"
    if found.pairs_predict_better:
        verdict += ", with pairs of layers; plan counts them with --score-check"
    if not found.passed:
        verdict = f"the score does not order layouts surely enough: {'; '.join(found.shortfalls)}"
    head = (
        f"{len(found.layouts)} layouts of {asked.high} with {asked.low_layers} of {asked.low}, tuned for {asked.steps} "
        f"steps under {asked.seeds} seeds; rise of the held-out loss, in thousandths"
    )
    return Group(Text(head + "\n"), table, "", ranks, "", Text(verdict))


def check_figure(found: ScoreCheck, path: Path) -> None:
    """Draw what was predicted against what came out, and both of every layout by its name.

    Predicted is what orders better: sums of layers, or with pairs of layers.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 0.9 + 0.26 * len(found.layouts)), layout="constrained")
    scatter, rows = figure.subplots(1, 2, width_ratios=[1.0, 1.1])
    layouts = sorted(found.layouts, key=lambda one: -one.tuned)
    pairs, by = found.pairs_predict_better, found.predictor(found.predicted_by)
    rises = [one.with_pairs if pairs and one.with_pairs is not None else one.additive for one in layouts]
    predicted, tuned = [1000 * rise for rise in rises], [1000 * one.tuned for one in layouts]
    spread = [1000 * one.seeds_std for one in layouts]
    bar: dict[str, Any] = {"fmt": "o", "markersize": 4, "elinewidth": 1, "color": "#0072B2"}
    scatter.errorbar(predicted, tuned, yerr=spread, **bar)
    if by is not None:
        scatter.set_title(f"Spearman {by.ranked}", fontsize=10)
    scatter.set_xlabel(f"predicted rise of the loss{', with pairs' if pairs else ''} (thousandths)")
    scatter.set_ylabel("after tuning (thousandths)")
    places = range(len(layouts))
    rows.errorbar(tuned, places, xerr=spread, label="after tuning", **bar)
    rows.scatter(predicted, places, s=22, facecolor="none", edgecolor="#D55E00", label="predicted")
    rows.set_yticks(places, [one.written for one in layouts], fontsize=8)
    rows.set_xlabel("rise of the loss (thousandths)")
    rows.legend(frameon=False, fontsize=8)
    for axes in (scatter, rows):
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)

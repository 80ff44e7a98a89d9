"""What `s2search score` prints."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
    return Group(Text(f"{folder}/score.json\n"), table, Text("\n" + "\n".join(lines)))


def _rise(value: Value) -> str:
    mark = "" if value.settled else " *"
    return f"{-1000 * value.value:.2f} +- {1000 * value.error:.2f}{mark}"

"""The front as one interactive page: a single file that loads nothing from anywhere.

`front.html` holds the markup, the style and the script; the data enters it as JSON, in one place. The script writes
text as text, never as markup, and the page's own policy forbids it every connection.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from s2search.cost import format_us
from s2search.errors import InputError
from s2search.planner.plan import Plan
from s2search.report.colours import block_colours
from s2search.report.origin import statement
from s2search.report.terminal import facts

_PLACE = "{{front}}"
# In a script element these three could end it, or begin a comment or an entity.
_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&"})


def front_html(plans: Sequence[Plan], references: Mapping[str, Plan] = MappingProxyType({})) -> str:
    """Return a page that draws a front, by rising latency, and shows the layout of the point which one points at.

    Args:
        plans: The front, by rising latency.
        references: Further plans by name, drawn as diamonds for comparison.
    """
    template = resources.files("s2search.report").joinpath("front.html").read_text(encoding="utf-8")
    data = msgspec.json.encode(_data(plans, references)).decode().translate(_ESCAPES)
    return template.replace(_PLACE, data)


def save_html(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the page {str(path)!r} cannot be written: {error.strerror}", remedy="choose another path"
        ) from error


def _data(plans: Sequence[Plan], references: Mapping[str, Plan]) -> dict[str, Any]:
    first = plans[0]
    blocks = {label: block for plan in (*plans, *references.values()) for label, block in plan.blocks.items()}
    colours, index = block_colours(blocks), {label: i for i, label in enumerate(blocks)}
    return {
        "table": first.provenance.table,
        "score": first.provenance.score,
        "subject": f"{first.provenance.table}, {statement(first)}; {first.scenario}, {first.video}, "
        f"{first.frames} latent frames, {first.precision}, {first.compute_unit}",
        "blocks": [
            {
                "label": label,
                "symbol": label[0].upper(),
                "stream": block.stream,
                "colour": colours[label],
                "statement": f"{block.stream} res, {format_us(1000 * block.latency_ms)} a layer, {block.provenance}",
            }
            for label, block in blocks.items()
        ],
        "points": [_point("", plan, index) for plan in plans],
        "references": [_point(name, plan, index) for name, plan in references.items()],
        "provenance": _provenance(first),
    }


def _point(name: str, plan: Plan, index: Mapping[str, int]) -> dict[str, Any]:
    lines = dict(facts(plan))
    return {
        "name": name,
        "latency_ms": plan.latency_ms.predicted,
        "score": plan.score,
        "fits": plan.fits,
        "layout": [index[label] for label in plan.layout],
        "written": plan.written,
        "counts": " + ".join(f"{count} {label}" for label, count in plan.counts.items() if count),
        "latency": format_us(1000 * plan.latency_ms.predicted),
        "facts": [(fact, lines[fact]) for fact in ("latency", "memory", "rate") if fact in lines]
        + [("score", lines["score"].partition("\n")[0])],
    }


def _provenance(plan: Plan) -> list[str]:
    origin = plan.provenance
    return [
        f"Latencies: {origin.table} ({origin.table_digest[7:19]}), {origin.table_statement}. {origin.table_source}.",
        f"Score: {origin.score} ({origin.score_digest[7:19]}), {origin.score_statement}.",
        f"Made by s2search {origin.s2search} with {origin.latency_model_label} and {origin.solver_label}.",
    ]

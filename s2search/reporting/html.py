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
from s2search.document import write_text
from s2search.errors import InputError
from s2search.planner.plan import Plan
from s2search.reporting.colours import block_colours
from s2search.reporting.command import plan_command
from s2search.reporting.origin import evidence_text, mark_lines, statement
from s2search.reporting.rates import rate_line
from s2search.reporting.report.picture import wants_log
from s2search.reporting.terminal import facts

_PLACE = "{{front}}"
# In a script element these three could end it, or begin a comment or an entity.
_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&"})


def front_html(
    plans: Sequence[Plan],
    references: Mapping[str, Plan] = MappingProxyType({}),
    beside: Mapping[str, Sequence[Plan]] = MappingProxyType({}),
) -> str:
    """Return a page that draws a front, by rising latency, and shows the layout of the point which one points at.

    Args:
        plans: The front, by rising latency.
        references: Further plans by name, drawn as diamonds for comparison.
        beside: Further fronts by name, drawn on the same axes.

    Raises:
        InputError: A front beside it is by another score.
    """
    check_one_score(plans, beside)
    template = resources.files("s2search.reporting").joinpath("front.html").read_text(encoding="utf-8")
    data = msgspec.json.encode(_data(plans, references, beside)).decode().translate(_ESCAPES)
    return template.replace(_PLACE, data)


def check_one_score(plans: Sequence[Plan], beside: Mapping[str, Sequence[Plan]]) -> None:
    """Raise if fronts are by several scores: their heights say nothing of each other.

    Raises:
        InputError: It names both.
    """
    mine = plans[0].provenance
    for name, others in beside.items():
        theirs = others[0].provenance
        if theirs.score_digest != mine.score_digest:
            raise InputError(
                f"the front {name!r} is by the score {theirs.score_label!r} ({theirs.score_digest[7:19]}), this one "
                f"by {mine.score_label!r} ({mine.score_digest[7:19]})",
                remedy="trace both by one score",
            )


def save_html(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page."""
    write_text(Path(path), text)


def _data(
    plans: Sequence[Plan], references: Mapping[str, Plan], beside: Mapping[str, Sequence[Plan]]
) -> dict[str, Any]:
    lines = [line for front in (plans, *beside.values()) for line in _provenance(front)]
    return {
        **_front("", plans, references),
        "beside": [_front(name, front, {}) for name, front in beside.items()],
        "log": wants_log([plan.kept_ms for front in (plans, *beside.values()) for plan in front]) and bool(beside),
        "provenance": list(dict.fromkeys(lines)),
    }


def _front(name: str, plans: Sequence[Plan], references: Mapping[str, Plan]) -> dict[str, Any]:
    first = plans[0]
    blocks = {label: block for plan in (*plans, *references.values()) for label, block in plan.blocks.items()}
    colours, index = block_colours(blocks), {label: i for i, label in enumerate(blocks)}
    return {
        "name": (name or first.provenance.table) + (" (marked run)" if first.provenance.table_marks else ""),
        "table": first.provenance.table,
        "score": first.provenance.score,
        "axis": "latency of one forward pass (ms)"
        + (f", kept with {100 * first.confidence.asked:g} %" if first.confidence else ""),
        "subject": f"{first.provenance.table}, {statement(first)}; {first.scenario}, {first.video}, "
        f"{first.frames} latent frames, {first.precision}, {first.compute_unit}",
        "depth": first.depth,
        "rate": rate_line(plans),
        "blocks": [
            {
                "label": label,
                "symbol": label[0].upper(),
                "stream": block.stream,
                "colour": colours[label],
                "statement": f"{block.stream} res, {format_us(1000 * block.latency_ms)} a layer, {block.provenance}"
                + (" in a marked run" if first.provenance.table_marks else ""),
            }
            for label, block in blocks.items()
        ],
        "points": [_point("", plan, index) for plan in plans],
        "references": [_point(name, plan, index) for name, plan in references.items()],
    }


def _point(name: str, plan: Plan, index: Mapping[str, int]) -> dict[str, Any]:
    lines, latency = dict(facts(plan)), plan.latency_ms
    told = [fact for fact in ("latency", "confidence", "memory", "rate", "also on") if fact in lines]
    return {
        "name": name,
        "latency_ms": plan.kept_ms,
        "low_ms": None if plan.confidence else latency.low,
        "high_ms": None if plan.confidence else latency.high,
        "score": plan.score,
        "score_range": plan.score_range,
        "fits": plan.fits,
        "layout": [index[label] for label in plan.layout],
        "counts_of_blocks": [plan.counts.get(label, 0) for label in index],
        "written": plan.written,
        "command": plan_command(plan),
        "counts": " + ".join(f"{count} {label}" for label, count in plan.counts.items() if count),
        "latency": format_us(1000 * plan.kept_ms),
        "facts": [(fact, lines[fact]) for fact in told] + [("score", lines["score"].partition("\n")[0])],
    }


def _provenance(plans: Sequence[Plan]) -> list[str]:
    origin, devices = plans[0].provenance, [plan.every_device[0] for plan in plans]
    solvers = " and ".join(dict.fromkeys(plan.provenance.solver_label for plan in plans))
    return [
        f"Latencies: {origin.table} ({origin.table_digest[7:19]}), {origin.table_statement}; "
        f"{evidence_text(devices, plans)}. {origin.table_source}.",
        *mark_lines(origin.table_marks),
        f"Score: {origin.score} ({origin.score_digest[7:19]}), {origin.score_statement}.",
        f"Made by s2search {origin.s2search} with {origin.latency_model_label} and {solvers}.",
        *([f"Asked by {origin.project}."] if origin.project else []),
    ]

"""Sensitivities and chosen precisions, as people read them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.precision.choose import shares, steps_down
from s2search.precision.documents import PrecisionPlan, Sensitivity, noise_db
from s2search.precision.part import kilobytes
from s2search.preset import video_size


def sensitivity_text(found: Sensitivity) -> RenderableType:
    """Return what every precision of every part costs alone, in decibels, and how well the figures add up."""
    labels = [choice.precision for choice in found.parts[0].choices]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("part")
    for label in labels:
        table.add_column(label, justify="right")
    for offer in found.parts:
        name = f"{offer.part} {offer.block}".strip()
        table.add_row(name, *(f"{noise_db(offer.choice(label).noise):.1f}" for label in labels))
    whole = {label: noise_db(sum(offer.choice(label).noise for offer in found.parts)) for label in labels}
    table.add_row("all, added up", *(f"{whole[label]:.1f}" for label in labels))
    size = f"{video_size(*found.grid)}, {found.chunks} chunks, seed {found.seed}, palettes by {found.palette}"
    lines: list[RenderableType] = [Text(f"dB of the velocity with one part quantised; {size}"), table]
    if found.mixtures:
        pairs = ", ".join(f"{m.predicted_db:.1f} / {m.measured_db:.1f}" for m in found.mixtures)
        lines.append(Text(f"mixtures, added up / measured: {pairs} dB; at most {found.law_error_db:.1f} dB apart"))
    return Group(*lines)


def precision_text(plan: PrecisionPlan, found: Sensitivity) -> RenderableType:
    """Return the precision of every part: its bytes, its share of the noise, and what one step less would do."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("part", "precision", "bytes", "of the noise", "one step smaller"):
        table.add_column(header, justify="right" if header in ("bytes", "of the noise") else "left", no_wrap=True)
    share, down = shares(plan), steps_down(found, plan)
    for offer in found.parts:
        choice, step = plan.parts[offer.part], down[offer.part]
        less = (
            ""
            if step is None
            else f"{step[0].precision} {kilobytes(choice.bytes - step[0].bytes)} less: {step[1]:.1f} dB"
        )
        name, size = f"{offer.part} {offer.block}".strip(), kilobytes(choice.bytes)
        table.add_row(name, choice.precision, size, f"{share[offer.part]:.1%}", less)
    largest = sum(max(choice.bytes for choice in offer.choices) for offer in found.parts) + plan.rest_bytes
    proof = "proven optimal" if plan.optimal else "the best found"
    return Group(
        Text(f"asked: {plan.asked}"),
        table,
        Text(
            f"{kilobytes(plan.weight_bytes)} of weights, {kilobytes(plan.rest_bytes)} of them float16 in any case; "
            f"{kilobytes(largest)} at most"
        ),
        Text(f"{plan.predicted_db:.1f} dB predicted, {proof}; noise powers of parts add up"),
    )

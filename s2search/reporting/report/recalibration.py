"""Recalibration: how far whole models were from what the table foretold, where the miss is, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from s2search.cost import format_bytes
from s2search.reporting.recalibration import signed_share
from s2search.reporting.report.campaign import GivenPart, Recalibrated
from s2search.reporting.report.markup import Html, bullets, element, facts, joined, table, verdict
from s2search.reporting.report.origins import Origins
from s2search.reporting.report.picture import spaced

if TYPE_CHECKING:
    from s2search.recalibration.result import Recalibration

_MOST = 40


def recalibrations_html(found: Sequence[GivenPart[Recalibrated]], origins: Origins) -> Html:
    """Return errors before and after, the sources of the miss, and the layouts."""
    return joined(part for given in found for part in _one(given, origins))


def _one(given: GivenPart[Recalibrated], origins: Origins) -> Iterator[Html]:
    found, file = given.part.found, given.told
    yield element("h3", f"{found.table}, held against whole models in {found.runtime}")
    if found.new_table is None:
        yield verdict("doubt", f"the table is left as it is: {found.refusal}")
    else:
        made = f"{found.new_table} ({(found.new_digest or '')[7:19]}), corrected from {found.table}"
        yield verdict("good", "a corrected table was written: ", origins.number(made, f"{file}: new_table"))
    yield facts(_facts(given, origins))
    if found.marked:
        yield verdict("bad", "the run marked itself")
        yield bullets(found.marked[:_MOST])
    if found.left_out:
        yield element("h4", "Left out, and why")
        yield bullets(found.left_out[:_MOST])
    yield _layouts(found, file, origins)


def _facts(given: GivenPart[Recalibrated], origins: Origins) -> Iterator[tuple[str, str]]:
    found, file = given.part.found, given.told
    held, judged = found.held_out, found.judgement
    origin = f"{file}: |foretold / measured - 1| of {held.layouts} layouts held out of the fit"
    yield "Before", origins.number(f"median {held.before_median:.2%}, worst {held.before_worst:.2%}", origin)
    yield "After", origins.number(f"median {held.after_median:.2%}, worst {held.after_worst:.2%}", origin)
    yield "Correction", origins.number(given.part.correction, f"{file}: correction, least squares of relative errors")
    told = f"{judged.better} of {judged.layouts} held-out layouts are foretold better, {judged.needed} are needed"
    yield "Judged", origins.number(told, f"{file}: judgement, an exact sign test")
    shares = ", ".join(
        f"{name.replace('_', '-')} {signed_share(share)}" for name, share in found.shares().items() if share
    )
    yield "Where the miss is", origins.number(shares, f"{file}: medians of what a layout takes, by source") or "nowhere"
    drift = f"{found.drift_percent:.2g} %"
    yield "Drift", origins.number(drift, f"{file}: drift_percent, slowest state of the machine over its fastest")
    yield "Measured", origins.number(f"{found.date}, {found.chip}", f"{file}: date of the last sample, and the chip")
    if (memory := found.memory) is not None:
        told = f"{memory.exceeded} of {len(memory.layouts)} layouts take more than was promised; {given.part.memory}"
        yield "Memory", origins.number(told, f"{file}: memory, by {memory.counter}")
        worst = max(memory.layouts, key=lambda one: one.measured_bytes / max(1, one.promised_bytes))
        told = f"{format_bytes(worst.measured_bytes)} for {format_bytes(worst.promised_bytes)} promised"
        yield "Worst of memory", origins.number(told, f"{file}: memory.layouts, {worst.layout}")


def _layouts(found: Recalibration, file: str, origins: Origins) -> Html:
    shown = [found.layouts[place] for place in spaced(len(found.layouts), _MOST)]
    rows = []
    for one in shown:
        origin = f"{file}: layouts, foretold by the old and by the corrected rows"
        shares = (signed_share(ms / one.measured_ms - 1) for ms in (one.predicted_ms, one.corrected_ms))
        role = "the package" if one.is_package else "held out" if one.held_out else "of the fit"
        measured = origins.number(f"{one.measured_ms:.3f} ms", f"{file}: layouts.measured_ms, a whole model")
        rows.append((element("code", one.layout), measured, *(origins.number(share, origin) for share in shares), role))
    caption = f"Layouts, foretold over measured ({len(shown)} of {len(found.layouts)})"
    return table(caption, ("layout", "measured", "before", "after", "used as"), rows, last_words=1)

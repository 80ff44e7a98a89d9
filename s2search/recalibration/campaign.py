"""Recalibration by programs that were timed elsewhere: on a phone, by a kit.

Programs of two or three layers and packages are for the fit, and so is every third random layout; the other layouts
judge the correction. What parts take in context is told by all that was made to be timed, so that a package is held
against it: what remains of its miss is what it hands over. A program that ran elsewhere than it was asked to says
nothing of the unit that it was asked to run on. A part that did so alone, being small, is found by its programs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s2search.block import Block
from s2search.errors import InputError
from s2search.exporters.resident import Resident
from s2search.measurement.layouts import FIT_EVERY
from s2search.recalibration.answer import answer_of
from s2search.recalibration.attribution import CHANGE, Drift, Parts
from s2search.recalibration.correction import LEAST_LAYOUTS, LEAST_SHARE
from s2search.recalibration.evidence import ProgramEvidence, WholeProgram
from s2search.recalibration.in_context import ContextFit, Measured, in_context
from s2search.recalibration.judgement import gains_needed
from s2search.recalibration.memory import MemoryParts
from s2search.recalibration.result import Recalibration
from s2search.tables.placement import unit_asked_by
from s2search.tables.row import Row
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable, Scope, refuse_existing


@dataclass(frozen=True, kw_only=True)
class TimedProgram:
    """A program that was timed whole.

    Attributes:
        kind: Blocks in context, a random layout, or the package that is shipped.
        text: What tells it apart from the others.
        layers: First to last.
        ms: The median of its samples, drift taken out.
        error_ms: Standard error of that.
        changes: How often the processor changes inside it.
        packages: How many programs it is, called one after the other.
        state_bytes: What a call is given of a state; 0 where it is not known.
        taken: What its process takes, where that was measured.
    """

    kind: Literal["context", "layout", "package"]
    text: str
    layers: Sequence[Block]
    ms: float
    error_ms: float
    changes: int = 0
    packages: int = 1
    state_bytes: int = 0
    taken: Resident | None = None


@dataclass(frozen=True, kw_only=True)
class PhoneCampaign:
    """A finished campaign of one device.

    Attributes:
        programs: Those that ran where they were asked to.
        alone_ms: What the table's parts took in it, each alone, by label: median and standard error. Empty where the
            table was made of them: then nothing drifted in between.
        left_out: Programs that say nothing, and why.
        chip: The device's.
        date: Of the last sample.
        drift_percent: By how much the device's slowest state exceeded its fastest.
        marked: What is wrong with the campaign; empty for a good one.
        samples_digest: A hash of the samples.
    """

    programs: Sequence[TimedProgram]
    alone_ms: Mapping[str, tuple[float, float]]
    left_out: tuple[str, ...]
    runtime: str
    chip: str
    date: str
    drift_percent: float
    marked: tuple[str, ...]
    samples_digest: str


def recalibrate_by(
    table: LatencyTable, scope: Scope, campaign: PhoneCampaign, out: Path, *, depth: int
) -> Recalibration:
    """Attribute what programs missed, and write a corrected table where the layouts held out support it.

    Args:
        table: The old version, which is left as it is.
        scope: Of the programs: a stream's.
        campaign: On the table's device.
        out: The new table's folder.
        depth: Layers of the models that it is for.

    Raises:
        InputError: The campaign is of another device or model, or has too few programs.
        TableError: The folder already holds a table.
    """
    refuse_existing(out)
    _check(table, scope, campaign)
    rows = _in_their_place(table, scope, campaign)
    before = Parts.of(rows, scope)
    drift = _drift(before, campaign)
    pieces = [
        Measured(
            counts={**before.counts(one.layers), **({CHANGE: one.changes} if one.changes else {})},
            ms=one.ms,
            error_ms=one.error_ms,
            state_bytes=one.state_bytes,
        )
        for one in campaign.programs
    ]
    held_out = _held_out(campaign)
    in_one = [one.packages == 1 for one in campaign.programs]  # a chain pays several calls
    context = in_context(list(itertools.compress(pieces, in_one)), before, drift)
    for_fit = [whole and not held for whole, held in zip(in_one, held_out, strict=True)]
    fitted = in_context(list(itertools.compress(pieces, for_fit)), before, drift)
    evidence = ProgramEvidence(
        rows=rows,
        programs=[
            WholeProgram(
                text=one.text,
                counts=piece.counts,
                measured_ms=one.ms,
                error_ms=one.error_ms,
                foretold_ms=_foretold_ms(one, piece, fitted, before),
                held_out=held,
                is_package=one.kind == "package",
                taken=one.taken,
            )
            for one, piece, held in zip(campaign.programs, pieces, held_out, strict=True)
        ],
        now=context.now,
        correction=fitted.correction(before, _hand_over_ms(campaign, pieces, fitted, before, depth)),
        level=_speeds(drift),
        blocks=_blocks(campaign),
        memory=MemoryParts.of(rows, scope),
        runtime=campaign.runtime,
        chip=campaign.chip,
        date=campaign.date,
        drift_percent=campaign.drift_percent,
        marked=campaign.marked,
        left_out=campaign.left_out,
        samples_digest=campaign.samples_digest,
    )
    return answer_of(table, scope, evidence, out)


def _drift(before: Parts, campaign: PhoneCampaign) -> Drift:
    """Return what parts timed alone say of the device's speed; nothing where the table was made of the same samples."""
    if not campaign.alone_ms:
        return Drift()
    again = Parts(
        role=before.role,
        latency_ms={label: ms for label, (ms, _) in campaign.alone_ms.items()},
        error_ms={label: error_ms for label, (_, error_ms) in campaign.alone_ms.items()},
    )
    return Drift.between(before, again)


def _speeds(drift: Drift) -> tuple[float, float]:
    """Return between which speeds, of the table's, the device may run: one that takes twice as long has half of it."""
    least, most = (1 / max(drift.factor + way * 2 * drift.error, LEAST_SHARE) for way in (1, -1))
    return min(1.0, least), max(1.0, most)


def _held_out(campaign: PhoneCampaign) -> list[bool]:
    """Return which programs judge the correction."""
    numbers = itertools.count()
    return [one.kind == "layout" and bool(next(numbers) % FIT_EVERY) for one in campaign.programs]


def _in_their_place(table: LatencyTable, scope: Scope, campaign: PhoneCampaign) -> LatencyTable:
    """Return the table with parts that alone ran elsewhere as rows of the unit on which whole programs have them.

    Their time is that of the other unit, until the programs correct it.
    """
    asked, blocks = unit_asked_by(scope.compute_unit), _blocks(campaign)
    place = (scope.scenario, scope.shape, scope.precision)
    known = {row.label for row in table.in_scope(scope)}

    def moved(row: Row) -> Row:
        in_programs = row.role in ("switch", "fixed") or (row.role == "block" and row.label in blocks)
        is_meant = in_programs and row.label not in known and row.unit_asked == asked
        if not is_meant or (row.scenario, row.shape, row.precision) != place:
            return row
        note = f"alone it ran on {row.unit_ran}"
        return dataclasses.replace(row, compute_unit=scope.compute_unit, unit_ran=None, note=note)

    return dataclasses.replace(table, rows=Rows.of(moved(row) for row in table.rows))


def _blocks(campaign: PhoneCampaign) -> frozenset[str]:
    return frozenset(block.label for one in campaign.programs for block in one.layers)


def _foretold_ms(one: TimedProgram, piece: Measured, fitted: ContextFit, before: Parts) -> float | None:
    """Return what the correction says of a program with so much state; of a chain the new rows say it."""
    if one.packages > 1:
        return None
    return fitted.correction(before, fitted.hand_over_ms(one.state_bytes)).predict_ms(piece.counts, before)


def _hand_over_ms(
    campaign: PhoneCampaign, pieces: Sequence[Measured], fitted: ContextFit, before: Parts, depth: int
) -> float:
    """Return what a model pays beyond its parts: the package, or one of so many layers of the programs'.

    What a chain pays for its links is no law of bytes, so there it is what was measured.
    """
    packages = [(one, piece) for one, piece in zip(campaign.programs, pieces, strict=True) if one.kind == "package"]
    for one, piece in packages:
        if one.packages > 1:
            return piece.ms - fitted.correction(before, 0.0).predict_ms(piece.counts, before)
    layers = sum(len(one.layers) for one in campaign.programs)
    typical = depth * sum(one.state_bytes for one in campaign.programs) / layers
    return fitted.hand_over_ms(max((one.state_bytes for one, _ in packages), default=typical))


def _check(table: LatencyTable, scope: Scope, campaign: PhoneCampaign) -> None:
    """Raise unless the campaign can judge the table."""
    for name in ("chip", "runtime"):
        theirs, own = getattr(campaign, name), getattr(table.card, name)
        if theirs != own:
            raise InputError(
                f"the kit was run on the {name} {theirs!r}, and the table {table.name!r} is of {own!r}",
                remedy="name a table of this device, or leave out --table: then it is the kit's own",
            )
    parts = Parts.of(_in_their_place(table, scope, campaign), scope)
    needed = {label for one in campaign.programs for label in parts.counts(one.layers)}
    if strange := needed - parts.role.keys():
        raise InputError(
            f"the table {table.name!r} has no row of {', '.join(sorted(strange))} for {scope}",
            allowed=f"it has: {', '.join(parts.role)}",
            remedy="name the table of this kit's model, size and precision",
        )
    layouts = sum(one.kind == "layout" for one in campaign.programs)
    held_out = layouts - len(range(0, layouts, FIT_EVERY))
    fitted = len(campaign.programs) - held_out
    if gains_needed(held_out) > held_out or fitted < LEAST_LAYOUTS:
        gone = f" ({len(campaign.left_out)} left out: {campaign.left_out[0]})" if campaign.left_out else ""
        raise InputError(
            f"{len(campaign.programs)} whole programs of {scope}, {layouts} of them random layouts, cannot judge a "
            f"table{gone}",
            allowed=f"at least {LEAST_LAYOUTS} to fit and {_least_held_out()} random layouts held out",
            remedy="build a kit of two candidates or more with --layouts 15 --contexts",
        )


def _least_held_out() -> int:
    return next(count for count in range(1, 100) if gains_needed(count) <= count)

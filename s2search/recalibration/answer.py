"""From evidence to a new version of a table, or to the reason why there is none.

A correction is fitted to some programs and judged by the others. Latency and memory are judged each by itself: where
one alone is supported, the new table has the other as it was.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from s2search.lint.linter import lint_table
from s2search.recalibration.attribution import Parts, attribute
from s2search.recalibration.correction import Fit, fit
from s2search.recalibration.evidence import ProgramEvidence
from s2search.recalibration.memory import MemoryFound, find_memory
from s2search.recalibration.result import Errors, LayoutTime, Recalibration, judgement_of
from s2search.recalibration.version import corrected_table, record, with_memory
from s2search.tables.table import LatencyTable, Scope


def answer_of(table: LatencyTable, scope: Scope, evidence: ProgramEvidence, folder: Path) -> Recalibration:
    """Correct a table by what was measured, and write the new version where held-out programs support it.

    Args:
        table: The old version, which is left as it is.
        scope: Its rows that the programs pay.
        evidence: Programs to fit and programs that judge.
        folder: The new table's.
    """
    rows, programs = evidence.rows or table, evidence.programs
    before = Parts.of(rows, scope)
    fitted = [one for one in programs if not one.held_out]
    if evidence.correction is not None:
        chosen = Fit(correction=evidence.correction, error_of={})
    else:
        chosen = fit([one.counts for one in fitted], before, [one.measured_ms for one in fitted])
    new = corrected_table(rows, scope, chosen.correction, evidence.blocks, folder.resolve().name)
    after = Parts.of(new, scope)
    times = tuple(
        LayoutTime(
            layout=one.text,
            held_out=one.held_out,
            is_package=one.is_package,
            predicted_ms=before.sum_ms(one.counts),
            corrected_ms=after.sum_ms(one.counts) if one.foretold_ms is None else one.foretold_ms,
            measured_ms=one.measured_ms,
            error_ms=one.error_ms,
            miss=attribute(one.counts, before, evidence.now, one.measured_ms, one.error_ms),
        )
        for one in programs
    )
    found = Recalibration(
        table=table.name,
        table_digest=table.digest,
        runtime=evidence.runtime,
        chip=evidence.chip,
        scope=str(scope),
        date=evidence.date,
        correction=chosen.correction,
        cross_validated=dict(chosen.error_of),
        fitted=Errors.of(times, held_out=False),
        held_out=Errors.of(times, held_out=True),
        judgement=judgement_of(times, _level(evidence)),
        drift_percent=evidence.drift_percent,
        layouts=times,
        marked=evidence.marked,
        samples_digest=evidence.samples_digest,
        left_out=evidence.left_out,
        memory=_memory(evidence),
    )
    refusal = _refusal(found, evidence, table, record(new, table, found))
    return _written(dataclasses.replace(found, refusal=refusal), table, scope, new, evidence, folder)


def _written(
    answer: Recalibration, table: LatencyTable, scope: Scope, new: LatencyTable, evidence: ProgramEvidence, folder: Path
) -> Recalibration:
    """Write what is supported, and say what was written."""
    kept = dataclasses.replace(table, name=new.name) if answer.refusal else new
    memory = answer.memory if answer.memory and answer.memory.supported else None
    if answer.refusal and memory is None:
        return answer
    if memory:
        kept = with_memory(kept, scope, memory.correction, evidence.memory)
    kept = record(kept, table, answer)
    if memory and (contradictions := _contradictions(table, kept)):
        return dataclasses.replace(
            answer, refusal=f"corrected, it would contradict its other rows: {contradictions[0]}"
        )
    kept.save(folder)
    return dataclasses.replace(answer, new_table=kept.name, new_digest=kept.digest)


def _memory(evidence: ProgramEvidence) -> MemoryFound | None:
    """Return what programs took against what the table promised; None where not all of them were measured.

    A package in several links is no process of its own, and is left out.
    """
    programs = [one for one in evidence.programs if one.taken or not one.is_package]
    taken = [one.taken for one in programs if one.taken]
    if len(taken) < len(programs):
        return None
    texts, counts = [one.text for one in programs], [one.counts for one in programs]
    return find_memory(texts, counts, evidence.memory, taken, [one.held_out for one in programs])


def _level(evidence: ProgramEvidence) -> tuple[float, float]:
    """Return between which factors all times may be off because of the machine's speed."""
    drift = evidence.drift_percent / 100
    return evidence.level or (1 / (1 + drift), 1 + drift)


def _refusal(found: Recalibration, evidence: ProgramEvidence, old: LatencyTable, new: LatencyTable) -> str:
    """Return why no table is written; empty where one is."""
    if found.correction.kind == "none":
        return "no correction gains more than noise on the layouts of the fit"
    if not (judged := found.judgement).supported:
        why = f"{judged.better} of {judged.layouts} are foretold better, {judged.needed} are needed"
        if judged.better >= judged.needed:
            why = "their median error does not fall"
        if evidence.level:
            least, most = evidence.level
            speeds = f", at any speed of the device between {least:.3f} and {most:.3f} of the table's"
            why += speeds if least < most else ""
        elif found.drift_percent > 0:
            why += f", beyond the {found.drift_percent:.3g} % by which the machine's speed changed meanwhile"
        return f"the layouts held out do not support it: {why}"
    if contradictions := _contradictions(old, new):
        return f"corrected, it would contradict its other rows: {contradictions[0]}"
    return ""


def _contradictions(old: LatencyTable, new: LatencyTable) -> list[str]:
    """Return what lint says of a new table beyond what it said of the old one; the run's own marks are no fault."""
    before, after = (Counter(one.rule for one in lint_table(table)) for table in (old, new))
    more = after - before - Counter({"marked_run": after["marked_run"]})
    return [finding.message for finding in lint_table(new) if finding.rule in more]

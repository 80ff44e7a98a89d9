"""Where the numbers of plans come from, in words: tables, kinds of evidence, and what was wrong with a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from s2search.planner.plan import DeviceAnswer, Plan

_MOST_MARKS = 3
_MOST_MARK = 200


def origin_text(plans: Sequence[Plan]) -> str:
    """Return the tables and kinds of evidence behind plans that answer one question, and how they were found."""
    first, solvers = plans[0], dict.fromkeys(plan.provenance.solver_label for plan in plans)
    origin = first.provenance
    precision = first.precision if first.precisions is None else " and ".join(first.precisions.offered)
    devices = [plan.every_device[0] for plan in plans]
    lines = [
        f"{origin.table} ({origin.table_digest[7:19]}), {origin.table_statement}; {evidence_text(devices, plans)}",
        f"{first.scenario}, {first.video}, {first.frames} latent frames, {precision}, {first.compute_unit}; "
        f"{origin.latency_model_label}, {' and '.join(solvers)}",
    ]
    project = [f"asked by {origin.project}"] if origin.project else []
    return "\n".join([*lines, *project, *mark_lines(origin.table_marks)])


def evidence_text(devices: Sequence[DeviceAnswer], plans: Sequence[Plan]) -> str:
    """Return the kinds of evidence behind what plans say of one device.

    >>> import s2search
    >>> plan = s2search.plan(depth=4)
    >>> evidence_text(plan.every_device, [plan])
    'latency derived, bytes derived'
    """
    pairs = list(zip(devices, plans, strict=True))
    latency = _listed(kind for device, plan in pairs for kind in device.latency_kinds(plan.counts))
    bytes_ = _listed(kind for device, plan in pairs for kind in device.bytes_kinds(plan.counts))
    return f"latency {latency}{' in a marked run' if devices[0].table_marks else ''}, bytes {bytes_}"


def score_with_error(score: float, error: float | None) -> str:
    """Return a score, with its standard error where it has one.

    >>> score_with_error(-0.259, None), score_with_error(-0.019, 0.001)
    ('-0.259000', '-0.019000 +- 0.001000')
    """
    return f"{score:.6f}" if error is None else f"{score:.6f} +- {error:.6f}"


def mark_lines(marks: Sequence[str]) -> list[str]:
    """Return what was wrong with a run, a line each; the first few of many."""
    lines = [f"MARKED: {mark[:_MOST_MARK]}" for mark in marks[:_MOST_MARKS]]
    return lines + ([f"and {len(marks) - _MOST_MARKS} further marks"] if len(marks) > _MOST_MARKS else [])


def statement(plan: Plan) -> str:
    """Return what the first table says of itself, for a title: with the first mark of its run, and how many there are.

    >>> import s2search
    >>> statement(s2search.plan(depth=4))
    'derived from published totals: not a measurement'
    """
    origin = plan.provenance
    if not origin.table_marks:
        return origin.table_statement
    more = f" (and {len(origin.table_marks) - 1} more)" if len(origin.table_marks) > 1 else ""
    return f"{origin.table_statement}; MARKED: {origin.table_marks[0][:_MOST_MARK]}{more}"


def _listed(kinds: Iterable[str]) -> str:
    return " and ".join(sorted(set(kinds)))

"""What a layout was said to hold in memory, what its package really takes, and the correction that a run supports.

A plan's promise is what must fit at once:

    memory = sum over layers of held + held of what every layout has + the largest peak

held: weights and state, as the table's rows have them; of switches and ends once each, whatever the layout. Measured is
by how much a process grows that loads a whole package and calls it (`exporters/resident.py`), at most. The miss is

    measured - promised = runtime + loaded + calls

runtime is what the smallest program takes beyond its weights and state: the library itself, once; loaded is what
loading takes beyond that (weights kept a second time, in another order); calls is what calls take beyond the peak that
was promised. The three add up. Corrections keep the form of the promise, so that solvers stay exact:

    none       nothing
    runtime    a constant: what the library takes, once
    held       that, and a factor on all that is held
    peaks      and a factor on the formulas' peaks
    measured   and, instead, a factor on what calls of each row alone take beyond its loading, where that was measured

Where rows were measured, the constant of the last three is what the smallest program says, and no coefficient.
They are least squares of relative errors, chosen as those of latency are (`choice.py`), and judged by the layouts held
out.

Axes: N layouts, K coefficients.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from s2search.exporters.resident import Resident
from s2search.recalibration.choice import Counts, choose, cross_validated
from s2search.recalibration.judgement import HeldOutJudgement, judge
from s2search.tables.row import Role, Row
from s2search.tables.table import LatencyTable, Scope

KINDS = ("none", "runtime", "held", "peaks", "measured")
_LEAST_SHARE = 0.1  # of what a row holds, that a correction leaves
_SIZE = {"none": 0, "runtime": 1, "held": 1, "peaks": 2, "measured": 2}  # coefficients, without a constant

_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MemoryParts:
    """The rows of one scope that a plan's memory is made of, by label, bytes.

    Attributes:
        role: Of every row.
        held_bytes: What a layout holds for it.
        peak_bytes: Activations at the worst moment of its call.
        calls_bytes: What calls of it alone took beyond loading it, where that was measured; else empty.
        runtime_bytes: What the smallest program alone took, loaded, beyond what it holds; 0 where none was measured.
        alone: What each row alone took, where it was measured.
    """

    role: Mapping[str, Role]
    held_bytes: Mapping[str, int]
    peak_bytes: Mapping[str, int]
    calls_bytes: Mapping[str, int] = field(default_factory=dict)
    runtime_bytes: int = 0
    alone: Mapping[str, Resident] = field(default_factory=dict)

    @classmethod
    def of(cls, table: LatencyTable, scope: Scope, alone: Mapping[str, Resident] | None = None) -> MemoryParts:
        """Take them from a table, and from what its rows took alone, by label."""
        rows: Sequence[Row] = table.in_scope(scope)
        held = {row.label: row.held_bytes for row in rows}
        known = {label: one for label, one in (alone or {}).items() if one.load_bytes is not None and label in held}
        beyond = [max(0, (one.load_bytes or 0) - held[label]) for label, one in known.items()]
        return cls(
            role={row.label: row.role for row in rows},
            held_bytes=held,
            peak_bytes={row.label: row.peak_bytes for row in rows},
            calls_bytes={label: max(0, (one.most_bytes or 0) - (one.load_bytes or 0)) for label, one in known.items()},
            runtime_bytes=min(beyond, default=0),
            alone=known,
        )

    def promised_bytes(self, counts: Mapping[str, int]) -> int:
        """Return what a plan on these rows says of a layout."""
        return round(MemoryCorrection().predict_bytes(counts, self))


@dataclass(frozen=True, kw_only=True)
class MemoryCorrection:
    """What becomes of a table's bytes.

    Attributes:
        kind: See the module.
        runtime_bytes: Held once, by what every layout has.
        held_factor: On what every row holds.
        peak_factor: On peaks.
        peaks: Which: the formulas', or what calls of every row alone took.
    """

    kind: str = "none"
    runtime_bytes: float = 0.0
    held_factor: float = 1.0
    peak_factor: float = 1.0
    peaks: str = "formulas"

    def peak_bytes(self, label: str, parts: MemoryParts) -> float:
        """Return a row's corrected peak."""
        of = parts.calls_bytes if self.peaks == "measured" else parts.peak_bytes
        return self.peak_factor * of.get(label, 0)

    def predict_bytes(self, counts: Mapping[str, int], parts: MemoryParts) -> float:
        """Return what a layout takes by the corrected rows, as plans add them up.

        Args:
            counts: How often it pays every row; rows that are no blocks count once in any case.
            parts: The rows.
        """
        times = {label: counts.get(label, 0) if role == "block" else 1 for label, role in parts.role.items()}
        held = sum(n * parts.held_bytes[label] for label, n in times.items())
        return (
            self.runtime_bytes
            + self.held_factor * held
            + max(self.peak_bytes(label, parts) for label, n in times.items() if n)
        )


@dataclass(frozen=True, kw_only=True)
class MemoryMiss:
    """One layout's miss of memory taken apart, bytes; see the module."""

    runtime_bytes: int
    loaded_bytes: int
    calls_bytes: int


@dataclass(frozen=True, kw_only=True)
class LayoutMemory:
    """One layout: promised by the old and by the corrected rows, and measured, bytes."""

    layout: str
    held_out: bool
    promised_bytes: int
    corrected_bytes: int
    measured_bytes: int
    miss: MemoryMiss

    @property
    def exceeded(self) -> bool:
        """Whether the old promise is broken: it takes more than was said."""
        return self.measured_bytes > self.promised_bytes


@dataclass(frozen=True, kw_only=True)
class MemoryFound:
    """What a recalibration found of memory.

    Attributes:
        counter: What was read; see a table's `memory_counter`.
        correction: What would become of the rows' bytes.
        cross_validated: The error of every kind that was tried, on layouts left out of the fit.
        before_median: Error |promised / measured - 1| of held-out layouts, at the median.
        before_worst: The largest.
        after_median: The same after the correction.
        after_worst: The largest.
        exceeded: How many of all layouts take more than was promised.
        judgement: Whether held-out layouts support the correction.
        layouts: All of them.
    """

    counter: str
    correction: MemoryCorrection
    cross_validated: Mapping[str, float]
    before_median: float
    before_worst: float
    after_median: float
    after_worst: float
    exceeded: int
    judgement: HeldOutJudgement
    layouts: tuple[LayoutMemory, ...]

    def misses(self) -> dict[str, float]:
        """Return the median of every source of the miss, bytes."""
        found = [one.miss for one in self.layouts]
        return {
            "runtime": statistics.median(miss.runtime_bytes for miss in found),
            "loaded": statistics.median(miss.loaded_bytes for miss in found),
            "calls": statistics.median(miss.calls_bytes for miss in found),
        }

    @property
    def supported(self) -> bool:
        """Whether the rows' bytes may be corrected."""
        return self.correction.kind != "none" and self.judgement.supported


@dataclass(frozen=True, kw_only=True)
class MemoryFit:
    """The chosen correction, and the mean cross-validated relative error of all that were tried."""

    correction: MemoryCorrection
    error_of: Mapping[str, float]


def find_memory(
    texts: Sequence[str],
    counts: Sequence[Mapping[str, int]],
    parts: MemoryParts,
    taken: Sequence[Resident],
    held_out: Sequence[bool],
) -> MemoryFound | None:
    """Fit a correction to some layouts, and judge it by the others; None where not all were measured.

    Args:
        texts: The layouts.
        counts: How often each pays every row.
        parts: The rows.
        taken: What each package took.
        held_out: Which layouts are left out of the fit.
    """
    most = [one.most_bytes for one in taken]
    if not taken or any(bytes_ is None or bytes_ <= 0 for bytes_ in most):
        return None
    measured = [bytes_ for bytes_ in most if bytes_ is not None]
    fitted = [number for number, held in enumerate(held_out) if not held]
    chosen = fit_memory([counts[n] for n in fitted], parts, [measured[n] for n in fitted])
    layouts = tuple(
        LayoutMemory(
            layout=text,
            held_out=held,
            promised_bytes=parts.promised_bytes(one),
            corrected_bytes=round(chosen.correction.predict_bytes(one, parts)),
            measured_bytes=bytes_,
            miss=attribute_memory(one, parts, resident, bytes_),
        )
        for text, one, resident, bytes_, held in zip(texts, counts, taken, measured, held_out, strict=True)
    )
    held_ = [one for one in layouts if one.held_out]
    before = [abs(one.promised_bytes / one.measured_bytes - 1) for one in held_]
    after = [abs(one.corrected_bytes / one.measured_bytes - 1) for one in held_]
    return MemoryFound(
        counter=taken[0].counter,
        correction=chosen.correction,
        cross_validated=dict(chosen.error_of),
        before_median=float(np.median(before)),
        before_worst=max(before),
        after_median=float(np.median(after)),
        after_worst=max(after),
        exceeded=sum(one.exceeded for one in layouts),
        judgement=judge(before, after),
        layouts=layouts,
    )


def attribute_memory(counts: Mapping[str, int], parts: MemoryParts, taken: Resident, measured_bytes: int) -> MemoryMiss:
    """Take the miss of one layout apart; where loading was not told apart, all of it belongs to calls.

    Args:
        counts: How often the layout pays every row.
        parts: The table's rows.
        taken: What its package took.
        measured_bytes: The most of that.
    """
    times = {label: counts.get(label, 0) if role == "block" else 1 for label, role in parts.role.items()}
    held = sum(n * parts.held_bytes[label] for label, n in times.items())
    loaded = held if taken.load_bytes is None else taken.load_bytes
    runtime = 0 if taken.load_bytes is None else parts.runtime_bytes
    promised = parts.promised_bytes(counts)
    beyond = loaded - held - runtime
    return MemoryMiss(
        runtime_bytes=runtime, loaded_bytes=beyond, calls_bytes=measured_bytes - promised - runtime - beyond
    )


def fit_memory(counts: Sequence[Mapping[str, int]], parts: MemoryParts, measured_bytes_N: Sequence[int]) -> MemoryFit:
    """Choose a correction of memory and fit it."""
    y_N = np.asarray(measured_bytes_N, np.float64)
    errors = {}
    for kind in KINDS:
        if _told_apart(kind, counts, parts):
            errors[kind] = cross_validated(partial(_predicting, kind, parts), counts, y_N)
    chosen = choose(errors, _SIZE.__getitem__)
    return MemoryFit(
        correction=_solve(chosen, counts, parts, y_N),
        error_of={kind: float(error_N.mean()) for kind, error_N in errors.items()},
    )


def _told_apart(kind: str, counts: Sequence[Mapping[str, int]], parts: MemoryParts) -> bool:
    """Whether layouts are enough for a kind's coefficients and tell them apart, and what it needs was measured."""
    if kind == "none":
        return True
    seen = {label for one in counts for label in one if parts.role.get(label) == "block"}
    if kind == "measured" and not seen <= parts.calls_bytes.keys():
        return False
    amount_NK, _, _ = _amounts(kind, counts, parts)
    coefficients = amount_NK.shape[1]
    return bool(coefficients < len(counts) - 1 and np.linalg.matrix_rank(amount_NK) == coefficients)


def _amounts(kind: str, counts: Sequence[Mapping[str, int]], parts: MemoryParts) -> tuple[_Array, _Array, list[float]]:
    """Return what every coefficient is multiplied with, what has none, by layout, and the least of each coefficient."""

    def by_layout(correction: MemoryCorrection) -> _Array:
        return np.array([correction.predict_bytes(one, parts) for one in counts], np.float64)

    held_N = by_layout(MemoryCorrection(peak_factor=0.0))
    peak_N = by_layout(MemoryCorrection(held_factor=0.0))
    calls_N = by_layout(MemoryCorrection(held_factor=0.0, peaks="measured"))
    one_N = np.ones(len(counts))
    if kind == "runtime":
        return one_N[:, None], held_N + peak_N, [0.0]
    columns, least, rest_N = {
        "held": ([held_N], [_LEAST_SHARE], peak_N),
        "peaks": ([held_N, peak_N], [1.0, 0.0], 0 * one_N),  # at one depth, held and peaks are hard to tell apart:
        "measured": ([held_N, calls_N], [1.0, 0.0], 0 * one_N),  # weights and state are there, whatever else is
    }[kind]
    if parts.runtime_bytes:
        return np.column_stack(columns), rest_N + parts.runtime_bytes, least
    return np.column_stack([*columns, one_N]), rest_N, [*least, 0.0]


def _predicting(kind: str, parts: MemoryParts, counts: Sequence[Counts], y_N: _Array) -> Callable[[Counts], float]:
    correction = _solve(kind, counts, parts, y_N)
    return lambda one: correction.predict_bytes(one, parts)


def _solve(kind: str, counts: Sequence[Mapping[str, int]], parts: MemoryParts, y_N: _Array) -> MemoryCorrection:
    """Fit one kind of correction: least squares of relative errors, within bounds."""
    if kind == "none":
        return MemoryCorrection()
    from scipy.optimize import lsq_linear

    amount_NK, rest_N, least_K = _amounts(kind, counts, parts)
    x = [float(one) for one in lsq_linear(amount_NK / y_N[:, None], (y_N - rest_N) / y_N, (least_K, np.inf)).x]
    if kind == "runtime":
        return MemoryCorrection(kind=kind, runtime_bytes=x[0])
    factors = 1 if kind == "held" else 2
    return MemoryCorrection(
        kind=kind,
        runtime_bytes=x[factors] if len(x) > factors else float(parts.runtime_bytes),
        held_factor=x[0],
        peak_factor=x[1] if factors == 2 else 1.0,
        peaks="measured" if kind == "measured" else "formulas",
    )

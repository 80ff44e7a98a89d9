"""A family and its table as a `Problem`: every number exact until it is rounded once, uses up and scores to nearest.

What the search finds to keep a limit keeps it exactly, since no use is rounded down.

Axes:  L slots  C alternatives  S streams, and one for an end of the chain that has none
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError, ProblemError, TableError, UnknownNameError
from s2search.family.family import (
    OF,
    SWITCHES,
    WITHOUT,
    AlternativeAsked,
    Family,
    FamilySlot,
    FixedAsked,
    ResourceAsked,
    SwitchAsked,
    cells_of,
)
from s2search.family.quantities import number, resolution
from s2search.family.rows import Cells, FamilyRows, told
from s2search.solver.problem import FIXED_POINT, UNLIMITED, Problem, Resource

Exact = NDArray[np.object_]  # of fractions

_MOST_CELLS = 2_000_000
_MOST_PAIRS = 30_000_000


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One candidate: its label, its stream's number, the cells of its rows, and who asked for it."""

    label: str
    stream: int
    cells: Mapping[str, str]
    asked: AlternativeAsked


@dataclass(frozen=True, kw_only=True, eq=False)
class Use:
    """What everything uses of one resource, exactly, in its unit; `step` is one whole number of the search.

    `exact` says that every use is a multiple of the step: nothing was rounded.
    """

    name: str
    unit: str
    cost_LC: Exact
    peak_LC: Exact
    switch_SS: Exact
    fixed: Fraction
    step: Fraction
    exact: bool
    budget: Fraction | None

    def spent(self, posed: Posed, choice_L: Sequence[int]) -> Fraction:
        """Return what a layout uses, exactly: the sums, and the largest peak."""
        streams = posed.streams_of(choice_L)
        switches = sum((self.switch_SS[a, b] for a, b in pairwise(streams)), Fraction(0))
        slots = sum((self.cost_LC[layer, c] for layer, c in enumerate(choice_L)), Fraction(0))
        peak: Fraction = max(self.peak_LC[layer, c] for layer, c in enumerate(choice_L))
        return self.fixed + slots + switches + peak

    def resource(self, allowed_LC: NDArray[np.bool_]) -> Resource:
        """Return it in whole numbers, rounded up, with the limit rounded down."""
        fixed = math.ceil(self.fixed / self.step)
        limit = UNLIMITED if self.budget is None else math.floor(self.budget / self.step) - fixed
        return Resource(
            name=self.name,
            use_LC=_up(self.cost_LC, self.step, allowed_LC),
            switch_SS=_up(self.switch_SS, self.step),
            peak_LC=_up(self.peak_LC, self.step, allowed_LC),
            limit=limit,
            fixed=fixed,
            unit=self.unit,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Posed:
    """A family with its table: the search, and everything that its answer is told in."""

    family: Family
    rows: FamilyRows
    slots: tuple[FamilySlot, ...]
    alternatives: tuple[Alternative, ...]
    uses: tuple[Use, ...]
    score_LC: Exact
    score_step: Fraction
    first_stream: int
    last_stream: int
    allowed_LC: NDArray[np.bool_]
    rows_used: int

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.family.score.goal == "maximize" else -1

    def streams_of(self, choice_L: Sequence[int]) -> list[int]:
        """Return the streams that a layout goes through, from end to end."""
        return [self.first_stream, *(self.alternatives[c].stream for c in choice_L), self.last_stream]

    def switches(self, choice_L: Sequence[int]) -> int:
        """Return how often a layout changes the stream; an end without one changes nothing."""
        none = len(self.family.stream_names)
        return sum(a != b and none not in (a, b) for a, b in pairwise(self.streams_of(choice_L)))

    def score(self, choice_L: Sequence[int]) -> Fraction:
        """Return the score of a layout, exactly."""
        if (use := self.family.score.use) is not None:
            return next(one for one in self.uses if one.name == use).spent(self, choice_L)
        return sum((self.score_LC[layer, c] for layer, c in enumerate(choice_L)), Fraction(0))

    def in_score(self, searched: float) -> Fraction:
        """Return a difference of the search's scores in the score's own unit; a gain is positive."""
        return round(searched * FIXED_POINT) * self.score_step

    @cached_property
    def problem(self) -> Problem:
        """The search in whole numbers."""
        return _problem(self)


def pose(family: Family, rows: FamilyRows, budgets: Mapping[str, Fraction]) -> Posed:
    """Return the search of a family whose numbers a table has, within budgets by resource, each in its unit.

    Raises:
        InputError: The table lacks what the family needs, or the two contradict each other.
    """
    rows = rows.only(cells_of(family.rows.where))
    if family.rows.negative == "leave out":
        columns = {column for r in family.resources.values() for column in (r.column, r.peak) if column is not None}
        rows = rows.without_negative(sorted(columns))
    read = _Reading(family=family, rows=rows, slots=family.slots, taken=set())
    alternatives, row_of = read.alternatives()
    allowed_LC = read.allowed_LC(alternatives, row_of)
    uses = tuple(
        replace(read.use(name, alternatives, allowed_LC, row_of), budget=budgets.get(name)) for name in family.resources
    )
    first, last = read.ends()
    score_LC, step = read.scores(alternatives, allowed_LC, row_of, uses)
    return Posed(
        family=family,
        rows=rows,
        slots=read.slots,
        alternatives=alternatives,
        uses=uses,
        score_LC=score_LC,
        score_step=step,
        first_stream=first,
        last_stream=last,
        allowed_LC=allowed_LC,
        rows_used=len(read.taken),
    )


_Rows = dict[tuple[int, int, tuple[tuple[str, str], ...]], int]  # slot, alternative, a source's own cells -> row


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """Reads a table as a family says; `taken` are the rows that were read."""

    family: Family
    rows: FamilyRows
    slots: tuple[FamilySlot, ...]
    taken: set[int]
    combinations: dict[tuple[int, int], set[tuple[str, ...]]] = field(default_factory=dict)

    def alternatives(self) -> tuple[tuple[Alternative, ...], _Rows]:
        """Return the candidates that may stand in some slot, and their rows."""
        asked = [one for stated in self.family.alternatives for one in self._in_streams(stated)]
        if len(asked) * len(self.slots) > _MOST_CELLS:
            raise InputError(
                f"{len(asked):,} alternatives in {len(self.slots):,} slots are too many",
                allowed=f"{_MOST_CELLS:,} pairs",
                remedy="say more in `where` or `rows`, or split the family",
            )
        found = {c: self._rows_of(one) for c, one in enumerate(asked)}
        kept = [c for c in found if found[c]]
        for (label, stream), many in Counter((asked[c].label, asked[c].stream) for c in kept).items():
            if many > 1:
                there = f" in the stream {self.family.stream_names[stream]!r}" if self.family.streams else ""
                raise InputError(
                    f"{many} alternatives{there} are called {label!r}", remedy="give each a label of its own"
                )
        row_of = {(layer, new, own): n for new, c in enumerate(kept) for (layer, _, own), n in found[c].items()}
        return tuple(asked[c] for c in kept), row_of

    def _in_streams(self, asked: AlternativeAsked) -> Iterator[Alternative]:
        for one in self._expanded(asked):
            for stream in asked.streams or self.family.stream_names:
                yield replace(one, stream=self.family.stream_names.index(stream))

    def _expanded(self, asked: AlternativeAsked) -> Iterator[Alternative]:
        cells = cells_of(asked.rows)
        if not asked.each:
            yield Alternative(label=asked.label, stream=0, cells=cells, asked=asked)
            return
        columns = [(name, self.rows.column(name)) for name in asked.each]
        several = dict.fromkeys(tuple(self.rows.cell_NK[n][k] for _, k in columns) for n in self.rows.all_with(cells))
        for combination in several:
            if "" not in combination:
                own = dict(zip(asked.each, combination, strict=True))
                label = " ".join(combination)
                if asked.label:
                    label = asked.label
                    for name, cell in own.items():
                        label = label.replace("{" + name + "}", cell)
                yield Alternative(label=label, stream=0, cells=cells | own, asked=asked)

    def _sources(self) -> list[Cells]:
        """Return the different cells by which resources and the score tell their own rows."""
        resources = self.family.resources.values()
        every = [r.rows for r in resources] + ([self.family.score.rows] if self.family.score.weights else [])
        return list({tuple(sorted(rows.items())): cells_of(rows) for rows in every}.values())

    def _rows_of(self, alternative: Alternative) -> _Rows:
        found: _Rows = {}
        for layer, slot in enumerate(self.slots):
            if self._may_stand(alternative, layer, slot):
                here = self._rows_here(slot, alternative)
                found |= {(layer, 0, own): n for own, n in here.items()}
        return found

    def _may_stand(self, alternative: Alternative, layer: int, slot: FamilySlot) -> bool:
        asked = alternative.asked
        if asked.slots is not None and slot.kind not in asked.slots:
            return False
        if any(slot.cells.get(name, cell) != cell for name, cell in alternative.cells.items()):
            return False
        if not asked.each:
            return True
        place = (id(asked), layer)
        if place not in self.combinations:
            cells = {**slot.cells, **cells_of(asked.rows)}
            self.combinations[place] = self.rows.combinations(asked.each, cells, loose=slot.cells)
        return tuple(alternative.cells[name] for name in asked.each) in self.combinations[place]

    def _rows_here(self, slot: FamilySlot, alternative: Alternative) -> dict[tuple[tuple[str, str], ...], int]:
        cells = {**slot.cells, **alternative.cells}
        found, missing = {}, []
        for own in self._sources():
            n = self.rows.find({**cells, **own}, loose=slot.cells)
            if n is None:
                missing.append({**cells, **own})
            else:
                found[tuple(sorted(own.items()))] = n
        if missing and (found or not alternative.asked.each):
            left_out = f" ({self.rows.left_out} rows with negative numbers were left out)" if self.rows.left_out else ""
            raise TableError(
                f"no row of the table {self.rows.path!r} is for {alternative.label!r} in the slot {slot.name!r}: it "
                f"would have {told(missing[0])}{left_out}",
                remedy="add the row, or say in the alternative's `slots` where it may stand",
            )
        return found

    def allowed_LC(self, alternatives: Sequence[Alternative], row_of: _Rows) -> NDArray[np.bool_]:
        """Return which alternative may stand in which slot."""
        allowed_LC = np.zeros((len(self.slots), len(alternatives)), np.bool_)
        for layer, c, _ in row_of:
            allowed_LC[layer, c] = True
        self._check_offers(allowed_LC)
        labels = [one.label for one in alternatives]
        for end, start in (("first", 0), ("last", len(self.slots) - len(self.family.last))):
            for layer, label in enumerate(getattr(self.family, end), start=start):
                if label not in labels:
                    raise UnknownNameError("alternative", label, labels, listed_as="alternatives")
                named_C = np.array([one == label for one in labels])
                if not allowed_LC[layer, named_C].any():
                    raise InputError(
                        f"{end} wants {label!r} in the slot {self.slots[layer].name!r}, where it cannot stand"
                    )
                allowed_LC[layer] &= named_C
        size = self.family.group_size
        whole_G = np.all(allowed_LC.reshape(-1, size, len(labels)), axis=1).any(axis=1)
        if not whole_G.all():
            at = int(np.argmin(whole_G)) * size
            raise InputError(
                f"no alternative may stand in all slots from {self.slots[at].name!r} to "
                f"{self.slots[at + size - 1].name!r}, which are a group",
                remedy="correct group_size, first or last",
            )
        return allowed_LC

    def _check_offers(self, allowed_LC: NDArray[np.bool_]) -> None:
        for layer, slot in enumerate(self.slots):
            if not allowed_LC[layer].any():
                left_out = (
                    f"; {self.rows.left_out} rows with negative numbers were left out" if self.rows.left_out else ""
                )
                raise TableError(
                    f"no row of the table {self.rows.path!r} is for the slot {slot.name!r}, whose rows have "
                    f"{told(slot.cells)}{left_out}",
                    remedy="correct its `rows`, or add rows to the table",
                )

    def use(self, name: str, alternatives: Sequence[Alternative], allowed_LC: NDArray[np.bool_], row_of: _Rows) -> Use:
        """Return what everything uses of a resource."""
        asked = self.family.resources[name]
        own = tuple(sorted(cells_of(asked.rows).items()))
        cost_LC, peak_LC = (
            self._cells(allowed_LC, row_of, own, {} if column is None else {column: Fraction(1)})
            for column in (asked.column, asked.peak)
        )
        fixed, fixed_peak = self._fixed(name, asked)
        peak_LC[peak_LC < fixed_peak] = fixed_peak
        switch_SS = self._switch_SS(name, asked)
        values = [*cost_LC[allowed_LC], *peak_LC[allowed_LC], *switch_SS.ravel(), fixed]
        step, exact = resolution(values, 2 * len(self.slots) + 2, asked.resolution, repr(name))
        return Use(
            name=name,
            unit=asked.unit,
            cost_LC=cost_LC,
            peak_LC=peak_LC,
            switch_SS=switch_SS,
            fixed=fixed,
            step=step,
            exact=exact,
            budget=None,
        )

    def _cells(
        self,
        allowed_LC: NDArray[np.bool_],
        row_of: _Rows,
        own: tuple[tuple[str, str], ...],
        weights: Mapping[str, Fraction],
        *,
        signed: bool = False,
    ) -> Exact:
        """Return the weighted sum of columns for every alternative in every slot."""
        value_LC = np.full(allowed_LC.shape, Fraction(0), dtype=object)
        if not weights:
            return value_LC
        known: dict[int, Fraction] = {}
        for (layer, c, source), n in row_of.items():
            if source == own:
                if n not in known:
                    parts = (weight * self.rows.value(n, name, signed=signed) for name, weight in weights.items())
                    known[n] = sum(parts, Fraction(0))
                value_LC[layer, c] = known[n]
        self.taken.update(known)
        return value_LC

    def _fixed(self, name: str, asked: ResourceAsked) -> tuple[Fraction, Fraction]:
        """Return what every model uses of a resource, and the least that its peak is."""
        sums, peaks = Fraction(0), [Fraction(0)]
        for fixed in self.family.fixed:
            cost, peak = self._paid(
                fixed, name, asked, f"the fixed part {fixed.name or told(cells_of(fixed.rows or {}))}"
            )
            sums += fixed.times * cost
            peaks.append(peak)
        return sums, max(peaks)

    def _paid(
        self, paid: FixedAsked | SwitchAsked, name: str, asked: ResourceAsked, what: str
    ) -> tuple[Fraction, Fraction]:
        """Return what something beside the alternatives uses of a resource: in sum, and at its peak."""
        if paid.rows is None:
            stated = (paid.cost or {}).get(name, 0)
            found = number(repr(stated))
            if found is None or found < 0:
                raise InputError(f"{name} of {what} is {stated}", allowed="a finite number, 0 or more")
            return (Fraction(0), found) if asked.column is None else (found, Fraction(0))
        cells = cells_of(paid.rows) | cells_of(asked.rows)
        n = self.rows.find(cells)
        if n is None:
            raise TableError(
                f"no row of the table {self.rows.path!r} is for {what}: it would have {told(cells)}",
                remedy="correct its `rows`, or add the row",
            )
        self.taken.add(n)
        cost, peak = (Fraction(0) if c is None else self.rows.value(n, c) for c in (asked.column, asked.peak))
        return cost, peak

    def _switch_SS(self, name: str, asked: ResourceAsked) -> Exact:
        names = self.family.stream_names
        switch_SS = np.full((len(names) + 1,) * 2, Fraction(0), dtype=object)
        for a, before in enumerate(names):
            for b, after in enumerate(names):
                if a == b:
                    continue
                switch = self.family.switch(before, after)
                if switch is None:
                    raise InputError(
                        f"what the switch from {before!r} to {after!r} uses is not said",
                        remedy='add [[switches]] with before and after, or for all others before = "*", after = "*" '
                        "and cost = {}",
                    )
                what = f"the switch from {before!r} to {after!r}"
                switch_SS[a, b], peak = self._paid(switch, name, asked, what)
                if peak:
                    raise InputError(f"{what} has a peak of {name}", allowed="switches that are summed alone")
        return switch_SS

    def ends(self) -> tuple[int, int]:
        """Return the streams before and behind the chain."""
        names, streams = self.family.stream_names, self.family.streams
        first, last = (None, None) if streams is None else (streams.first, streams.last)
        return tuple(len(names) if end is None else names.index(end) for end in (first, last))  # type: ignore[return-value]

    def scores(
        self, alternatives: Sequence[Alternative], allowed_LC: NDArray[np.bool_], row_of: _Rows, uses: Sequence[Use]
    ) -> tuple[Exact, Fraction]:
        """Return what every alternative scores in every slot, and what one whole number of the search stands for."""
        asked = self.family.score
        further: list[Fraction] = []
        if asked.use is not None:
            use = next(one for one in uses if one.name == asked.use)
            value_LC, further = use.cost_LC, list(use.switch_SS.ravel())
        elif asked.weights:
            weights = {name: _weight(name, weight) for name, weight in asked.weights.items()}
            own = tuple(sorted(cells_of(asked.rows).items()))
            value_LC = self._cells(allowed_LC, row_of, own, weights, signed=True)
        else:
            stated = [number(repr(one.asked.score)) for one in alternatives]
            for one, score in zip(alternatives, stated, strict=True):
                if score is None:
                    raise InputError(f"the score of {one.label!r} is {one.asked.score}", allowed="a finite number")
            value_LC = np.broadcast_to(np.array(stated, dtype=object), allowed_LC.shape)
        step, _ = resolution([*value_LC[allowed_LC], *further], 2 * len(self.slots) + 2, None, "the score")
        return value_LC, step


def _weight(name: str, weight: float) -> Fraction:
    found = number(repr(weight))
    if found is None:
        raise InputError(f"the weight of the column {name!r} in the score is {weight}", allowed="a finite number")
    return found


def _problem(posed: Posed) -> Problem:
    allowed_LC = posed.allowed_LC
    stream_C = np.array([one.stream for one in posed.alternatives], np.int64)
    by_least = posed.uses[0].resource(allowed_LC)
    score_LC = posed.sign * _nearest(posed.score_LC, posed.score_step, allowed_LC)
    score_LC, pair_LCC = _with_switches(posed, score_LC, stream_C)
    limited = (use.resource(allowed_LC) for use in posed.uses if use.budget is not None)
    none_LC = np.zeros(allowed_LC.shape, np.int64)
    try:
        return Problem(
            score_LC=score_LC / FIXED_POINT,
            pair_score_LCC=None if pair_LCC is None else pair_LCC / FIXED_POINT,
            latency_us_LC=by_least.use_LC,  # no limit: of ties, the least of the first resource
            memory_bytes_LC=none_LC,
            peak_bytes_LC=none_LC,
            allowed_LC=allowed_LC,
            stream_C=stream_C,
            switch_us_SS=by_least.switch_SS,
            first_stream=posed.first_stream,
            last_stream=posed.last_stream,
            group_size=posed.family.group_size,
            limits=(*_counts(posed), *_most_switches(posed), *limited),
            label_C=tuple(one.label for one in posed.alternatives),
        )
    except ProblemError as error:
        raise InputError(
            f"the family {posed.family.name!r} cannot be planned: {error.problem}",
            allowed=error.allowed,
            remedy=error.remedy,
        ) from error


def _with_switches(
    posed: Posed, score_LC: NDArray[np.int64], stream_C: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Return the scores with what the ends of the chain score, and what pairs do, where the score is a use."""
    if posed.family.score.use is None:
        return score_LC, None
    use = next(one for one in posed.uses if one.name == posed.family.score.use)
    step_SS = posed.sign * _nearest(use.switch_SS, posed.score_step)
    score_LC = score_LC.copy()
    score_LC[0] += step_SS[posed.first_stream, stream_C]
    score_LC[-1] += step_SS[stream_C, posed.last_stream]
    if not step_SS.any() or len(score_LC) == 1:
        return score_LC, None
    candidates = len(stream_C)
    if len(score_LC) * candidates**2 > _MOST_PAIRS:
        raise InputError(
            f"the score counts switches between {candidates:,} alternatives, which are too many",
            allowed=f"slots x alternatives x alternatives of at most {_MOST_PAIRS:,}",
        )
    pair_LCC = np.repeat(step_SS[stream_C[:, None], stream_C][None], len(score_LC), axis=0)
    pair_LCC[0] = 0
    return score_LC, pair_LCC


def _most_switches(posed: Posed) -> tuple[Resource, ...]:
    streams = posed.family.streams
    if streams is None or streams.max_switches is None:
        return ()
    size, none = len(streams.names) + 1, len(streams.names)
    changes_SS = 1 - np.eye(size, dtype=np.int64)
    changes_SS[none] = changes_SS[:, none] = 0
    free = np.zeros(posed.allowed_LC.shape, np.int64)
    resource = Resource.of(SWITCHES, free, streams.max_switches, streams=size)
    return (replace(resource, switch_SS=changes_SS),)


def _counts(posed: Posed) -> Iterator[Resource]:
    """Yield the counts as limits: at least n slots are at most all others without n."""
    labels, shape = [one.label for one in posed.alternatives], posed.allowed_LC.shape
    streams = len(posed.family.stream_names) + 1
    for label, asked in posed.family.counts.items():
        if label not in labels:
            raise UnknownNameError("alternative", label, labels, listed_as="alternatives")
        low, high = _range(label, str(asked))
        named_C = np.array([one == label for one in labels])
        if low > (most := int(posed.allowed_LC[:, named_C].any(axis=1).sum())):
            raise InputError(
                f"{low} slots are to take {label!r}, and it may stand in {most}", remedy="correct the count"
            )
        here_LC = np.broadcast_to(named_C, shape).astype(np.int64)
        if high < shape[0]:
            yield Resource.of(f"{OF}{label}", here_LC, high, streams=streams)
        if low > 0:
            yield Resource.of(f"{WITHOUT}{label}", 1 - here_LC, shape[0] - low, streams=streams)


def _range(label: str, asked: str) -> tuple[int, int]:
    """Read how many slots an alternative takes: `4`, or `2..4`."""
    match = re.fullmatch(r"([0-9]{1,8})(?:\.\.([0-9]{1,8}))?", asked)
    low, high = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
    if low > high:
        raise InputError(
            f"the count of {label!r} is {asked[:40]!r}", allowed="a number, or a range such as 2..4, the smaller first"
        )
    return low, high


def _up(value_XX: Exact, step: Fraction, where_XX: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    return _rounded(value_XX, step, where_XX, math.ceil)


def _nearest(value_XX: Exact, step: Fraction, where_XX: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    return _rounded(value_XX, step, where_XX, round)


def _rounded(value_XX: Exact, step: Fraction, where_XX: NDArray[np.bool_] | None, way: Any) -> NDArray[np.int64]:
    found_XX = np.zeros(value_XX.shape, np.int64)
    at = np.ones(value_XX.shape, np.bool_) if where_XX is None else where_XX
    known: dict[int, int] = {}  # by identity: what several slots share is one object, and to hash a fraction is slow
    for value in value_XX[at]:
        if id(value) not in known:
            known[id(value)] = way(value / step)
    found_XX[at] = [known[id(value)] for value in value_XX[at]]
    return found_XX

"""A family read from its table: which alternative may stand where, and every number of it, exactly.

Axes:  L slots  C alternatives  S streams, and one for an end of the chain that has none
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError, TableError, UnknownNameError
from s2search.family.family import (
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
from s2search.family.use import Exact, Use

_MOST_CELLS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One candidate: its label, its stream's number, the cells of its rows, and who asked for it."""

    label: str
    stream: int
    cells: Mapping[str, str]
    asked: AlternativeAsked


_Rows = dict[tuple[int, int, tuple[tuple[str, str], ...]], int]  # slot, alternative, a source's own cells -> row


@dataclass(frozen=True, kw_only=True)
class FamilyReading:
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
            raise TableError(
                f"no row of the table {self.rows.path!r} is for {alternative.label!r} in the slot {slot.name!r}: it "
                f"would have {told(missing[0])}{self._left_out}",
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
        for layer, label in enumerate(self.family.first):
            self._allow_only(label, layer, labels, allowed_LC)
        for layer, label in enumerate(self.family.last, start=len(self.slots) - len(self.family.last)):
            self._allow_only(label, layer, labels, allowed_LC)
        self._check_groups(allowed_LC)
        return allowed_LC

    def _allow_only(self, label: str, layer: int, labels: Sequence[str], allowed_LC: NDArray[np.bool_]) -> None:
        if label not in labels:
            raise UnknownNameError("alternative", label, labels, listed_as="alternatives")
        named_C = np.array([one == label for one in labels])
        if not allowed_LC[layer, named_C].any():
            raise InputError(f"{label!r} is to take the slot {self.slots[layer].name!r}, where it cannot stand")
        allowed_LC[layer] &= named_C

    def _check_groups(self, allowed_LC: NDArray[np.bool_]) -> None:
        size = self.family.group_size
        whole_G = np.all(allowed_LC.reshape(len(self.slots) // size, size, -1), axis=1).any(axis=1)
        if not whole_G.all():
            at = int(np.argmin(whole_G)) * size
            raise InputError(
                f"no alternative may stand in all slots from {self.slots[at].name!r} to "
                f"{self.slots[at + size - 1].name!r}, which are a group",
                remedy="correct group_size, first or last",
            )

    @property
    def _left_out(self) -> str:
        many = self.rows.left_out
        return f" ({many} rows with negative numbers were left out)" if many else ""

    def _check_offers(self, allowed_LC: NDArray[np.bool_]) -> None:
        for layer, slot in enumerate(self.slots):
            if not allowed_LC[layer].any():
                raise TableError(
                    f"no row of the table {self.rows.path!r} is for the slot {slot.name!r}, whose rows have "
                    f"{told(slot.cells)}{self._left_out}",
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
        if fixed_peak:
            peak_LC[peak_LC < fixed_peak] = fixed_peak
        switch_SS = self._switch_SS(name, asked)
        values = [*_each(cost_LC[allowed_LC]), *_each(peak_LC[allowed_LC]), *switch_SS.ravel(), fixed]
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
        step, _ = resolution([*_each(value_LC[allowed_LC]), *further], 2 * len(self.slots) + 2, None, "the score")
        return value_LC, step


def _each(value_N: Exact) -> Iterable[Fraction]:
    """Return every value once: what several slots share is one object, and to compare fractions is slow."""
    return {id(value): value for value in value_N}.values()


def _weight(name: str, weight: float) -> Fraction:
    found = number(repr(weight))
    if found is None:
        raise InputError(f"the weight of the column {name!r} in the score is {weight}", allowed="a finite number")
    return found

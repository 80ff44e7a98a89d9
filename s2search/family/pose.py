"""A family and its table as a `Problem`: every number exact until it is rounded once, uses up and scores to nearest.

What the search finds to keep a limit keeps it exactly, since no use is rounded down.

Axes:  L slots  C alternatives  S streams, and one for an end of the chain that has none
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from s2search.errors import InputError, ProblemError, UnknownNameError
from s2search.family.family import OF, SWITCHES, WITHOUT, Family, FamilySlot, cells_of
from s2search.family.reading import Alternative, FamilyReading
from s2search.family.rows import FamilyRows
from s2search.family.use import Exact, Use, nearest
from s2search.solver.problem import FIXED_POINT, Problem, Resource

_MOST_PAIRS = 4_000_000


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

    def used(self, use: Use, choice_L: Sequence[int]) -> Fraction:
        """Return what a layout uses of a resource, exactly."""
        return use.spent(choice_L, self.streams_of(choice_L))

    def score(self, choice_L: Sequence[int]) -> Fraction:
        """Return the score of a layout, exactly."""
        if (use := self.family.score.use) is not None:
            return self.used(next(one for one in self.uses if one.name == use), choice_L)
        return sum((self.score_LC[layer, c] for layer, c in enumerate(choice_L)), Fraction(0))

    def in_score(self, searched: float) -> Fraction:
        """Return a difference of the search's scores in the score's own unit; a gain is positive."""
        return round(searched * FIXED_POINT) * self.score_step

    @property
    def layouts(self) -> int:
        """How many layouts the slots and groups allow, whatever they use."""
        shape = (-1, self.family.group_size, len(self.alternatives))
        return math.prod(np.all(self.allowed_LC.reshape(shape), axis=1).sum(axis=1).tolist())

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
    read = FamilyReading(family=family, rows=rows, slots=family.slots, taken=set())
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


def _problem(posed: Posed) -> Problem:
    allowed_LC = posed.allowed_LC
    stream_C = np.array([one.stream for one in posed.alternatives], np.int64)
    by_least = posed.uses[0].resource(allowed_LC)
    score_LC = posed.sign * nearest(posed.score_LC, posed.score_step, allowed_LC)
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
    step_SS = posed.sign * nearest(use.switch_SS, posed.score_step)
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

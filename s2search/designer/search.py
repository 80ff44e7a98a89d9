"""The search over all combinations: what each can have within every row's limits, by few searches of layouts.

A combination that even its fastest and smallest layouts cannot save is impossible, without a search. One whose bounds a
found design already reaches in everything can win no cell and no place on the front: it is ruled out. What is left is
searched program by program (see `program`), the largest videos first, since these rule out most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from s2search.cost import Budget
from s2search.designer.axes import ORDERED, AxisName, Offer, Value, amount
from s2search.designer.combination import ApplicationSetting, Combination, Surroundings
from s2search.designer.found import FoundDesign
from s2search.designer.program import DesignProgram, LayoutWish, Limits
from s2search.errors import MissingRowError
from s2search.quality.base import Quality
from s2search.solver.frontier import FrontPoint, Within

#: Called with combinations done, all of them, and what is being searched.
Progress = Callable[[int, int, str], None]
_INSIDE: tuple[AxisName, ...] = ("chunk", "decoder", "commit", "steps", "width", "depth")


#: The name of the budgets that were asked.
ASKED = "asked"


def rate_row(fps: float) -> str:
    """Return the name of the budgets with this rate in the place of that which was asked; no two rates share one.

    >>> rate_row(10.0), rate_row(10.0000001)
    ('10fps', '10.0000001fps')
    """
    return f"{repr(fps).removesuffix('.0')}fps"


def without(n: int) -> str:
    """Return the name of the budgets without the n-th."""
    return f"without {n}"


@dataclass(frozen=True, kw_only=True)
class DesignQuestion:
    """What every combination is asked: its best layout within each of some sets of budgets, by name."""

    offer: Offer
    wish: LayoutWish
    quality: Quality
    budgets: Mapping[str, tuple[Budget, ...]]
    solve_all: bool = False


@dataclass(kw_only=True)
class Searched:
    """What came of it: by combination and name of the budgets, the best layout and those that a quality has judged."""

    best: dict[tuple[Combination, str], list[FoundDesign]] = field(default_factory=dict)
    programs: dict[tuple[object, ...], DesignProgram | str] = field(default_factory=dict)
    solved: int = 0
    ruled_out: int = 0
    impossible: int = 0
    unpriced: Counter[str] = field(default_factory=Counter)

    def has(self, combination: Combination, name: str) -> bool:
        """Tell whether a combination has a design within some budgets."""
        return (combination, name) in self.best

    def within(self, name: str) -> list[FoundDesign]:
        """Return the designs of all combinations within some budgets."""
        return [found for (_, asked), several in self.best.items() if asked == name for found in several]

    @property
    def designs(self) -> list[FoundDesign]:
        """Every design, once."""
        return list({found.key: found for several in self.best.values() for found in several}.values())


class Search:
    """Searches combinations, and remembers programs: a neighbour of an answer often shares one."""

    def __init__(self, question: DesignQuestion) -> None:
        self.question = question
        self.setting = ApplicationSetting(offer=question.offer)
        self.searched = Searched()
        self.combinations: tuple[Combination, ...] = ()
        self._like: dict[tuple[Value, ...], list[FoundDesign]] = {}
        self._limits_passes = any(one.kind == "latency" for several in question.budgets.values() for one in several)

    def program(self, combination: Combination) -> DesignProgram:
        """Return the program of a combination.

        Raises:
            InputError: Its sizes do not go together, or no layout of its depth is what is asked of layouts.
            MissingRowError: The latency model has no grounds for one of its parts.
        """
        known = self.searched.programs.get(combination.network)
        if known is None:
            try:
                known = DesignProgram.of(self.question.offer, combination, self.question.wish)
            except MissingRowError as error:
                known = error.problem
            self.searched.programs[combination.network] = known
        if isinstance(known, str):
            raise MissingRowError(known, remedy="measure its rows, or choose among those that there are")
        return known

    def limits(self, around: Surroundings, program: DesignProgram, name: str) -> Limits | None:
        """Return the microseconds and bytes that budgets leave for a layout; None where nothing can be within them."""
        budgets = self.question.budgets[name]
        latency_us, memory_bytes = around.forward_us(budgets), around.transformer_bytes(budgets)
        if latency_us is None or around.waiting_too_many(program.state_bytes, budgets):
            return None
        least_us, least_bytes = program.least
        if latency_us < least_us or memory_bytes < max(least_bytes, around.peak_bytes):
            return None
        return latency_us, memory_bytes

    def run(self, several: Sequence[Combination], progress: Progress | None = None) -> Searched:
        """Search combinations, and return all that was found so far.

        Raises:
            MissingRowError: None of them has a price.
        """
        self.combinations = (*self.combinations, *several)
        done, told = 0, progress or (lambda *_: None)
        for group in _by_program(several):
            told(done, len(several), f"{group[0].video}, {group[0].precision}")
            self._search(group)
            done += len(group)
        told(done, len(several), "")
        found = self.searched
        if several and sum(found.unpriced.values()) == len(several):
            raise MissingRowError(
                next(iter(found.unpriced)), remedy="measure its rows, or choose among those that there are"
            )
        return found

    def _search(self, group: Sequence[Combination]) -> None:
        """Search the combinations of one program."""
        found = self.searched
        try:
            program = self.program(group[0])
        except MissingRowError as error:
            found.unpriced[error.problem] += len(group)
            return
        asked: dict[int, set[Limits]] = {}
        wanted: list[tuple[Surroundings, str, Limits]] = []
        for combination in group:
            around = self.setting.around(combination)
            limits = {name: self.limits(around, program, name) for name in self.question.budgets}
            possible = {name: pair for name, pair in limits.items() if pair is not None}
            if not possible:
                found.impossible += 1
                continue
            if not self.question.solve_all and self._is_reached(around, program):
                found.ruled_out += 1
                continue
            wanted += [(around, name, pair) for name, pair in possible.items()]
            asked.setdefault(around.peak_bytes, set()).update(possible.values())
        best = {peak: program.best(pairs, peak) for peak, pairs in asked.items()}
        solved, won = set[Combination](), set[Combination]()
        for around, name, pair in wanted:
            solved.add(around.combination)
            if several := self.designs(around, program, pair, best[around.peak_bytes][pair]):
                won.add(around.combination)
                found.best[around.combination, name] = several
                self._like.setdefault(_inside(around.combination), []).append(several[0])
        found.solved += len(solved)
        found.impossible += len(solved - won)

    def designs(
        self, around: Surroundings, program: DesignProgram, limits: Limits, within: Within | None = None
    ) -> list[FoundDesign]:
        """Return the best layout within limits as a design, and those that the quality has judged one by one."""
        within = within or program.best([limits], around.peak_bytes)[limits]
        points = [] if within.point is None else [(within.point, within.proven)]
        judged = program.priced(self.question.quality.layouts, limits, around.peak_bytes)
        points += [
            (point, False) for point in judged if within.point is None or point.choice_L != within.point.choice_L
        ]
        return [
            FoundDesign(around=around, program=program, point=point, proven=proven, quality=self.question.quality)
            for point, proven in points
        ]

    def fastest(self, combination: Combination, budgets: Sequence[Budget]) -> FoundDesign | None:
        """Return the fastest layout of a combination within its memory, however long it takes; None where none is."""
        try:
            program, around = self.program(combination), self.setting.around(combination)
        except MissingRowError:
            return None
        left_bytes = around.transformer_bytes(budgets)
        too_many = around.waiting_too_many(program.state_bytes, budgets)
        if left_bytes <= 0 or too_many or around.forward_us(budgets) is None:
            return None
        return self._found(around, program, program.fastest(left_bytes, around.peak_bytes))

    def smallest(self, combination: Combination, budgets: Sequence[Budget]) -> FoundDesign | None:
        """Return the smallest layout of a combination in time, however much it takes; None where none is."""
        try:
            program, around = self.program(combination), self.setting.around(combination)
        except MissingRowError:
            return None
        left_us = around.forward_us(budgets)
        return None if left_us is None else self._found(around, program, program.smallest(left_us, around.peak_bytes))

    def _found(self, around: Surroundings, program: DesignProgram, point: FrontPoint | None) -> FoundDesign | None:
        if point is None:
            return None
        return FoundDesign(around=around, program=program, point=point, proven=False, quality=self.question.quality)

    def _is_reached(self, around: Surroundings, program: DesignProgram) -> bool:
        """Tell whether a found design has as much of everything as any layout here could have.

        Where a quality may have something to say of either, it is not asked: then nothing is ruled out. A faster rate
        is a shorter pass as well, but where networks load or encode otherwise: under a limit of a pass that counts too.
        """
        combination, (least_us, least_bytes) = around.combination, program.least
        rate_fps, first_us = around.rate_fps(least_us), around.first_us(least_us)
        memory_bytes = least_bytes + around.held_bytes
        return any(
            all(_amount(other.combination, axis) >= _amount(combination, axis) for axis in ORDERED)
            and other.rate_fps >= rate_fps
            and other.first_us <= first_us
            and (other.point.latency_us <= least_us or not self._limits_passes)
            and other.memory_bytes <= memory_bytes
            and other.point.score >= program.score_bound
            and other.judgement is None
            for other in self._like.get(_inside(combination), ())
        )


def _by_program(several: Iterable[Combination]) -> list[list[Combination]]:
    """Return combinations by program, the most video, width and so on first."""
    groups: dict[tuple[object, ...], list[Combination]] = {}
    for combination in several:
        groups.setdefault(combination.network, []).append(combination)
    return sorted(groups.values(), key=lambda group: [-_amount(group[0], axis) for axis in ORDERED])


def _inside(combination: Combination) -> tuple[Value, ...]:
    return tuple(combination.of(axis) for axis in _INSIDE)


def _amount(combination: Combination, axis: AxisName) -> int:
    return amount(axis, combination.of(axis))

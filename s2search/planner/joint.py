"""Layout and precisions in one exact search: at every layer a block and its precision, the best layout that all allow.

A layer's candidates are pairs of a block and a precision. Stem, head, switches and the projections of text are slots of
their own, with their own candidates; noise is one more budget, in which powers add up (see `precision/choose.py`). All
of this is a `Problem` like any other but for one thing: what passing a switch takes depends on the switch's precision,
which is chosen once. So the search is told the quickest that is on offer, and asked again with fewer on offer where an
answer cannot be had at its own switches' price: a tree whose leaves have one precision each, and whose bounds prove.

Axes:  N slots  L layers  C candidates of the base  J joint candidates  S streams
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from s2search.block import Stream
from s2search.errors import CheckError, ProblemError
from s2search.planner.evidence import Evidence
from s2search.planner.joint_infeasible import nearest_error
from s2search.planner.joint_slots import SWITCHES, Option, Slots
from s2search.precision.choose import noise_limit
from s2search.precision.documents import noise_db
from s2search.precision.noise import Noise
from s2search.solver.base import Solution, Solver, unconstrained_bound
from s2search.solver.problem import FIXED_POINT, Problem
from s2search.solver.problem_checks import LARGEST_SUM
from s2search.space import Space


@dataclass(frozen=True, kw_only=True, eq=False)
class JointProblem:
    """A search for a layout with the precision of every part.

    `problem` has a slot for the stem, every layer, head, switches and text, in this order, as far as there are such
    parts. Its switches take what the quickest precision takes: `solve` settles which one it is.

    Attributes:
        problem: As integer arrays.
        parts: The part of every slot: `stem`, `layers.0`, ..., `head`, `down`, `up`, `text`.
        options: What every candidate is.
        switch_us: Microseconds of a switch by its part and precision.
        noise_NJ: Noise power of every candidate in every slot, relative to the signal; None where noise has no say.
        least_db: Signal-to-noise ratio that is kept; None for none.
    """

    problem: Problem
    parts: tuple[str, ...]
    options: tuple[Option, ...]
    switch_us: Mapping[tuple[str, str], int]
    noise_NJ: NDArray[np.float64] | None = None
    least_db: float | None = None

    @cached_property
    def layers(self) -> slice:
        """The slots of layers."""
        first = next(n for n, part in enumerate(self.parts) if part.startswith("layers."))
        return slice(first, first + sum(part.startswith("layers.") for part in self.parts))

    def layout(self, choice_N: Sequence[int]) -> tuple[str, ...]:
        """Return the block of every layer."""
        return tuple(self.options[j].name for j in choice_N[self.layers])

    def precisions(self, choice_N: Sequence[int]) -> dict[str, str]:
        """Return the precision of every part; switches that no layer needs have none."""
        low = self._low(choice_N)
        found = {part: self.options[j].precision for part, j in zip(self.parts, choice_N, strict=True)}
        return {part: label for part, label in found.items() if low or part not in SWITCHES}

    def noise(self, choice_N: Sequence[int]) -> float:
        """Return the noise power of an answer: that of its parts, added up."""
        assert self.noise_NJ is not None
        low = self._low(choice_N)
        counted = [n for n, part in enumerate(self.parts) if low or part not in SWITCHES]
        return float(sum(self.noise_NJ[n, choice_N[n]] for n in counted))

    def exact(self, choice_N: Sequence[int]) -> Problem:
        """Return the search in which an answer's switches cost what they do in their own precisions."""
        offered = {part: (self._of(part, choice_N),) for part in SWITCHES if part in self.parts}
        return self._offering(offered, low=self._low(choice_N))

    def solve(self, solver: Solver) -> Solution:
        """Return the best layout with precisions that keep all limits; its costs are those of its own switches.

        Raises:
            InfeasibleError: Nothing fits; the message says which limit binds and what would do. Its field `most_db` is
                the signal-to-noise ratio that all other limits allow; None where they allow nothing.
        """
        found, tried = self._best(solver)
        if found is None:
            raise nearest_error(tried, self.least_db, self._most_db(solver))
        return found

    def best(self, solver: Solver) -> Solution | None:
        """Return what `solve` does, or None where nothing fits: to say why takes searches of its own."""
        return self._best(solver)[0]

    def quietest(self, solver: Solver, layout: Sequence[str] | None = None) -> Solution:
        """Return what makes the least noise within all limits, of one layout or of any; its score is minus the noise.

        Raises:
            InfeasibleError: As `solve`.
        """
        allowed_NJ = self.problem.allowed_LC.copy()
        if layout is not None:
            names_J = np.array([option.name for option in self.options])
            allowed_NJ[self.layers] &= names_J == np.array(layout)[:, None]
        assert self.noise_NJ is not None
        unit = max(float(self.noise_NJ[allowed_NJ].max()), 1e-300) * len(self.parts) * 2 / LARGEST_SUM
        steps_NJ = np.ceil(np.where(allowed_NJ, self.noise_NJ, 0.0) / unit)
        asked = dataclasses.replace(
            self.problem, allowed_LC=allowed_NJ, score_LC=-steps_NJ / FIXED_POINT, pair_score_LCC=None
        )
        return dataclasses.replace(self, problem=asked).solve(solver)

    def _best(self, solver: Solver) -> tuple[Solution | None, list[Problem]]:
        """Search the tree of what switches may be; return also every search that found nothing."""
        best: Solution | None = None
        bound, tried = -np.inf, list[Problem]()
        open_ = [(self._all_offered, low) for low in (False, True) if low in self._kinds]
        while open_:
            offered, low = open_.pop()
            problem = self._offering(offered, low=low)
            if best is not None and unconstrained_bound(problem) <= round(best.score * FIXED_POINT):
                continue
            found = solver.best(problem)
            if found is None:
                tried.append(problem)
            elif best is None or found.upper_bound > best.score:
                exact = self.exact(found.choice_L)
                if exact.admits(found.choice_L):
                    bound = max(bound, found.upper_bound)
                    best = self._better(best, found, exact)
                else:
                    open_ += [(part, low) for part in self._divided(offered, found.choice_L)]
        if best is None:
            return None, tried
        bound = max(bound, best.score)
        return dataclasses.replace(best, upper_bound=float(bound), optimal=best.score >= bound), tried

    def _better(self, best: Solution | None, found: Solution, exact: Problem) -> Solution:
        price = exact.price(found.choice_L)
        priced = dataclasses.replace(
            found,
            score=price.score,
            latency_us=price.latency_us,
            memory_bytes=price.memory_bytes,
            peak_bytes=price.peak_bytes,
        )
        if best is None or (priced.score, -priced.latency_us) > (best.score, -best.latency_us):
            return priced
        return best

    def _divided(
        self, offered: Mapping[str, tuple[str, ...]], choice_N: Sequence[int]
    ) -> list[Mapping[str, tuple[str, ...]]]:
        """Return what is on offer in two: the precision that an answer gives a switch, and all others of it.

        The switch is one that takes longer in that precision than in the quickest.
        """
        for part, labels in offered.items():
            own = self._of(part, choice_N)
            if self.switch_us[part, own] > min(self.switch_us[part, label] for label in labels):
                others = tuple(label for label in labels if label != own)
                return [{**offered, part: (own,)}, {**offered, part: others}]
        raise CheckError("an answer that its own switches admit was not taken", remedy="report this bug")

    @cached_property
    def _all_offered(self) -> Mapping[str, tuple[str, ...]]:
        return {
            part: tuple(option.precision for option in self.options if option.name == part)
            for part in SWITCHES
            if part in self.parts
        }

    @cached_property
    def _kinds(self) -> set[bool]:
        """Whether layouts may have layers in low resolution, and whether they may have none."""
        low_J = self.problem.stream_C == Stream.LOW
        allowed_LJ = self.problem.allowed_LC[self.layers]
        without = {False} if (allowed_LJ & ~low_J).any(axis=1).all() else set()
        return without | ({True} if (allowed_LJ & low_J).any() else set())

    def _offering(self, offered: Mapping[str, tuple[str, ...]], *, low: bool) -> Problem:
        """Return the search with some precisions of switches on offer; without low layers there are none."""
        allowed_NJ, switch_SS = self.problem.allowed_LC.copy(), np.zeros_like(self.problem.switch_us_SS)
        for part, labels in offered.items():
            kept_J = [option.name == part and option.precision in labels for option in self.options]
            allowed_NJ[self.parts.index(part)] &= kept_J
            way = (Stream.HIGH, Stream.LOW) if part == "down" else (Stream.LOW, Stream.HIGH)
            switch_SS[way] = min(self.switch_us[part, label] for label in labels)
        if not low:
            allowed_NJ[:, self.problem.stream_C == Stream.LOW] = False
        counted_N1 = np.array([[low or part not in SWITCHES] for part in self.parts])
        problem = dataclasses.replace(
            self.problem,
            allowed_LC=allowed_NJ,
            switch_us_SS=switch_SS,
            score_LC=np.where(counted_N1, self.problem.score_LC, 0.0),
            memory_bytes_LC=np.where(counted_N1, self.problem.memory_bytes_LC, 0),
            peak_bytes_LC=np.where(counted_N1, self.problem.peak_bytes_LC, 0),
        )
        if self.noise_NJ is None or self.least_db is None:
            return problem
        limit = noise_limit(np.where(counted_N1, self.noise_NJ, 0.0), self.least_db)
        return dataclasses.replace(problem, limits=(*problem.limits, limit))

    def _most_db(self, solver: Solver) -> float | None:
        """Return the signal-to-noise ratio that the other limits allow; None where they allow nothing."""
        if self.least_db is None:
            return None
        without = dataclasses.replace(self, least_db=None)
        if without.best(solver) is None:
            return None
        return noise_db(without.noise(without.quietest(solver).choice_L))

    def _of(self, part: str, choice_N: Sequence[int]) -> str:
        return self.options[choice_N[self.parts.index(part)]].precision

    def _low(self, choice_N: Sequence[int]) -> bool:
        return any(self.problem.stream_C[j] == Stream.LOW for j in choice_N[self.layers])


def pose_joint(
    base: Problem,
    space: Space,
    evidence_of: Mapping[str, Evidence],
    *,
    noise: Noise | None = None,
    least_db: float | None = None,
) -> JointProblem:
    """Return a search for a layout as one for a layout and the precision of every part.

    Args:
        base: The search for a layout in one precision: its scores, budgets and constraints are kept. Costs are not.
        space: Its candidates.
        evidence_of: What every part costs, by precision. What has no precision of its own here (the decoder, buffers)
            costs what it does in the first.
        noise: Of all parts; without it noise and the projections of text have no say.
        least_db: Signal-to-noise ratio of the velocity that is to be kept.

    Raises:
        InputError: No sweep knows the noise of something that may be chosen.
        ProblemError: The search is for several devices, or noise is limited and nothing is known of it.
    """
    if base.devices:
        raise ProblemError("precisions are chosen for one device", remedy="give one table")
    if least_db is not None and noise is None:
        raise ProblemError(f"{least_db:g} dB are asked for, and no sweep says what is noisy", remedy="give one")
    slots = Slots(base=base, space=space, evidence_of=evidence_of, noise=noise)
    if noise is not None:
        noise.check(slots.asked)
    problem = slots.problem()
    return JointProblem(
        problem=problem,
        parts=slots.parts,
        options=slots.options,
        switch_us={
            (part, label): one.cost.latency_us
            for label, evidence in evidence_of.items()
            for part, one in zip(SWITCHES, (evidence.down, evidence.up), strict=True)
            if one is not None
        },
        noise_NJ=None if noise is None else slots.noise_NJ(problem.allowed_LC),
        least_db=least_db,
    )

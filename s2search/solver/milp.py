"""milp: the same problem as a mixed-integer linear program for HiGHS (scipy), an independent cross-check."""

from __future__ import annotations

import time
from dataclasses import dataclass

from typing_extensions import override

from s2search.errors import CheckError
from s2search.solver.base import Choice, Solver
from s2search.solver.exact.program import least, score_lost
from s2search.solver.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Milp(Solver):
    """Exact: every layout is priced in integers, and the last question asked is whether a better one exists.

    Stopping at `time_limit_s` is an error, not an answer.
    """

    time_limit_s: float = 600.0

    @override
    def _choose(self, problem: Problem) -> Choice | None:
        found = least(problem, score_lost(problem), deadline=time.monotonic() + self.time_limit_s)
        if not found.proven:
            raise CheckError(
                f"HiGHS gave no answer in {self.time_limit_s:g} s", remedy="raise time_limit_s, or use --solver dynamic"
            )
        if found.layout is None:
            return None
        return Choice(choice_L=found.layout, upper_bound=problem.price(found.layout).fixed_point_score)

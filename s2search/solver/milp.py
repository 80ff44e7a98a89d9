"""milp: the same problem as a mixed-integer linear program for HiGHS (scipy), an independent cross-check."""

from __future__ import annotations

import time
from dataclasses import dataclass

from typing_extensions import override

from s2search.errors import CheckError
from s2search.solver.base import Choice, Solver, check_time_limit
from s2search.solver.exact.dual import upper_bound
from s2search.solver.exact.program import least
from s2search.solver.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Milp(Solver):
    """Exact: every layout is priced in integers, and the last question asked is whether a better one exists.

    Stopped at `time_limit_s`, it answers with the best layout found, and what layouts score at most if each limit is
    taken for itself into the score.
    """

    time_limit_s: float = 600.0

    def __post_init__(self) -> None:
        check_time_limit(self.time_limit_s)

    @override
    def _choose(self, problem: Problem) -> Choice | None:
        found = least(problem, problem.score_lost(), deadline=time.monotonic() + self.time_limit_s)
        if found.layout is None and found.proven:
            return None
        if found.layout is None:
            raise CheckError(
                f"HiGHS gave no answer in {self.time_limit_s:g} s", remedy="raise time_limit_s, or use --solver dynamic"
            )
        score = problem.price(found.layout).fixed_point_score
        if found.proven:
            return Choice(choice_L=found.layout, upper_bound=score)
        method = f"the best that milp found in {self.time_limit_s:g} s"
        return Choice(choice_L=found.layout, upper_bound=max(score, upper_bound(problem)), method=method)

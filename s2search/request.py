"""Request: what is asked of the search. A device's table, the layouts that may be chosen, a score, and budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from s2search.cost import Budget, CommitPolicy, tightest
from s2search.errors import InputError, TableError
from s2search.evidence import Evidence
from s2search.latency.base import LatencyModel
from s2search.problem import UNLIMITED, Problem
from s2search.score.base import Score
from s2search.space import Space
from s2search.spread import Spread, check_confidence
from s2search.table import LatencyTable, Scope


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked: the device's table, the layouts that may be chosen, the score, and the budgets.

    `commit` matters to `fps` budgets only: it says how many forward passes a chunk takes.
    `confidence`, where given, is the probability with which the latency budget must hold.

    Raises:
        InputError: Two budgets of one kind, an `fps` budget on a table without a pipeline part, or a confidence outside
            0.5 to 1 or without a latency budget.
    """

    table: LatencyTable
    scope: Scope
    space: Space
    latency_model: LatencyModel
    score: Score
    budgets: tuple[Budget, ...] = ()
    commit: CommitPolicy = "reuse_last"
    confidence: float | None = None

    def __post_init__(self) -> None:
        self._check_budgets()
        if self.confidence is not None:
            check_confidence(self.confidence)
            if self.latency_budget_us is None:
                raise InputError(
                    f"there is no latency budget to keep with confidence {self.confidence}",
                    remedy="give one, such as --budget 260ms",
                )

    def _check_budgets(self) -> None:
        for kind, count in Counter(budget.kind for budget in self.budgets).items():
            if count > 1:
                texts = " and ".join(budget.text for budget in self.budgets if budget.kind == kind)
                raise InputError(f"there are {count} {kind} budgets: {texts}", remedy="keep one of them")
        if self.rate and self.scope.scenario != "stream":
            raise InputError(
                f"{self.rate.text} is a rate of streaming, and the scenario is {self.scope.scenario!r}",
                remedy="use --scenario stream, or give a latency budget such as 535ms",
            )
        if self.rate and self.table.card.pipeline is None:
            raise TableError(
                f"the table {self.table.name!r} has no pipeline part (text encoder, decoder, steps), "
                f"so {self.rate.text} says nothing about one forward pass",
                remedy="give a latency budget such as 260ms, or add the pipeline to the table's card",
            )

    @property
    def rate(self) -> Budget | None:
        """The `fps` budget, if there is one."""
        return next((budget for budget in self.budgets if budget.kind == "rate"), None)

    @property
    def latency_budget_us(self) -> int | None:
        """The tighter of the latency budget and what the rate leaves for one forward pass; None without either."""
        limits = [int(budget.amount) for budget in self.budgets if budget.kind == "latency"]
        if self.rate and self.table.card.pipeline:
            limits.append(self.table.card.pipeline.forward_budget_us(self.rate.amount, self.commit))
        return tightest(limits)

    @property
    def memory_budget_bytes(self) -> int | None:
        """The memory budget; None without one."""
        return tightest(int(budget.amount) for budget in self.budgets if budget.kind == "memory")

    @cached_property
    def evidence(self) -> Evidence:
        """What the latency model predicts for every part."""
        return Evidence.gather(self.table, self.scope, self.space, self.latency_model)

    @cached_property
    def problem(self) -> Problem:
        """The search as integer arrays."""
        latency, memory = self.latency_budget_us, self.memory_budget_bytes
        return self.evidence.pose(
            self.space,
            self.score,
            latency_budget_us=UNLIMITED if latency is None else latency,
            memory_budget_bytes=UNLIMITED if memory is None else memory,
        )

    @cached_property
    def spread(self) -> Spread:
        """How the latencies of `problem` vary.

        Raises:
            TableError: The table states no spread of timings.
        """
        return self.evidence.spread(self.table, self.space)

    def admits(self, choice_L: Sequence[int]) -> bool:
        """Tell whether the problem admits a layout, with the confidence asked for."""
        if self.confidence is None:
            return self.problem.admits(choice_L)
        return self.spread.keeps(self.problem, choice_L, self.confidence)

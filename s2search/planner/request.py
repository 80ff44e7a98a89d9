"""Request: what is asked of the search. The devices with their budgets, the layouts that may be chosen, and a score."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from s2search.cost import NOTHING_TOLD, Budget, BudgetKind, CommitPolicy, Pipeline, ToldPipeline, tightest
from s2search.errors import InputError, QuantityError, TableError
from s2search.latency.base import LatencyModel
from s2search.planner.condition import Confidence, Percentile, check_percentile
from s2search.planner.constraints import Constraints
from s2search.planner.evidence import Evidence
from s2search.preset import PIXEL_FRAMES
from s2search.score.base import Score
from s2search.solver.problem import UNLIMITED, FurtherDevice, Problem
from s2search.solver.spread import Spread, check_confidence
from s2search.space import Space
from s2search.tables.table import LatencyTable, Scope


@dataclass(frozen=True, kw_only=True)
class Target:
    """A device that the layout is to run on: its table, the rows that count, and what may be spent there.

    `commit` matters to rates and first frames only: it says how many forward passes a chunk takes. `told` stands in for
    what the table's card says, or does not say, of the pipeline.

    Raises:
        InputError: Two budgets of one kind, a rate or first frames on a table without a pipeline part, or a budget
            under sustained load on a table that was not measured so.
    """

    table: LatencyTable
    scope: Scope
    budgets: tuple[Budget, ...] = ()
    commit: CommitPolicy = "reuse_last"
    told: ToldPipeline = NOTHING_TOLD

    def __post_init__(self) -> None:
        for kind, count in Counter(budget.kind for budget in self.budgets).items():
            if count > 1:
                texts = " and ".join(budget.text for budget in self.budgets if budget.kind == kind)
                raise InputError(f"there are {count} {kind} budgets: {texts}", remedy="keep one of them")
        if self._of_chunk and self.scope.scenario != "stream":
            what = "a rate of streaming" if self._of_chunk.kind == "rate" else "about streaming"
            raise InputError(
                f"{self._of_chunk.text} is {what}, and the scenario is {self.scope.scenario!r}",
                remedy="use --scenario stream, or give a latency budget such as 535ms",
            )
        if self.asked_hot and not self.table.card.sustained:
            raise TableError(
                f"{self.asked_hot[0].text} is for sustained load, and the table {self.table.name!r} is not",
                remedy="name a table that was measured under sustained load, or leave out @sustained",
            )
        if self.told.statement and self.scope.scenario != "stream":
            raise InputError(
                f"{self.told.statement} is told, and the scenario is {self.scope.scenario!r}, which has no rate",
                remedy="use --scenario stream, or leave it out",
            )
        if self._of_chunk and self.pipeline is None:
            raise TableError(
                f"the table {self.table.name!r} has no pipeline part (text encoder, decoder, steps), "
                f"so {self._of_chunk.text} says nothing about one forward pass",
                remedy="tell it with --steps, --text-ms and --decode-ms, or give a latency budget such as 260ms",
            )

    @property
    def rate(self) -> Budget | None:
        """The `fps` budget, if there is one."""
        return self._budget("rate")

    @property
    def first(self) -> Budget | None:
        """The budget of the first frames, if there is one."""
        return self._budget("first")

    @property
    def p95(self) -> Budget | None:
        """The budget of a pass's 95th percentile, if there is one."""
        return self._budget("p95")

    @property
    def asked_hot(self) -> tuple[Budget, ...]:
        """The budgets that are to hold under sustained load."""
        return tuple(budget for budget in self.budgets if budget.sustained)

    @property
    def _of_chunk(self) -> Budget | None:
        """A budget that is about a whole chunk, if there is one."""
        return self.rate or self.first

    def _budget(self, kind: BudgetKind) -> Budget | None:
        return next((budget for budget in self.budgets if budget.kind == kind), None)

    @cached_property
    def pipeline(self) -> Pipeline | None:
        """What runs once per chunk beside the transformer: the card's, with what was told in its place."""
        frames = PIXEL_FRAMES * self.scope.shape.frames
        return self.told.over(self.table.card.pipeline, chunk_frames=frames, table=self.table.name)

    @property
    def rate_us(self) -> int | None:
        """What the rate leaves for one forward pass, microseconds, 0 where it leaves nothing; None without one."""
        if self.rate is None or self.pipeline is None:
            return None
        try:
            return self.pipeline.forward_budget_us(self.rate.amount, self.commit)
        except QuantityError:
            return 0

    @property
    def first_us(self) -> int | None:
        """What first frames in time leave for one pass, microseconds, 0 where they leave nothing; None if not asked."""
        if self.first is None or self.pipeline is None:
            return None
        try:
            return self.pipeline.first_budget_us(self.first.amount, self.commit)
        except QuantityError:
            return 0

    @property
    def latency_budget_us(self) -> int | None:
        """The tightest of the latency budget and what rate and first frames leave for one pass; None without any."""
        limits = [int(budget.amount) for budget in self.budgets if budget.kind == "latency"]
        return tightest([*limits, *(us for us in (self.rate_us, self.first_us) if us is not None)])

    @property
    def memory_budget_bytes(self) -> int | None:
        """The memory budget; None without one."""
        return tightest(int(budget.amount) for budget in self.budgets if budget.kind == "memory")

    def pose(self, evidence: Evidence, space: Space, score: Score) -> Problem:
        """Return the search on this device alone as integer arrays."""
        latency, memory = self.latency_budget_us, self.memory_budget_bytes
        return evidence.pose(
            space,
            score,
            latency_budget_us=UNLIMITED if latency is None else latency,
            memory_budget_bytes=UNLIMITED if memory is None else memory,
        )


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked: the device, the layouts that may be chosen, the score, the budgets, and the constraints.

    `table`, `scope` and `budgets` are those of the first device, whose latency breaks ties. The budgets of every
    device in `further` must hold as well. `confidence`, where given, is the probability with which the first device's
    latency budget must hold.

    Raises:
        InputError: A confidence outside 0.5 to 1 or without a latency budget, what `Target` and `Constraints.check`
            refuse, a device twice, or devices with other shapes.
    """

    table: LatencyTable
    scope: Scope
    space: Space
    latency_model: LatencyModel
    score: Score
    budgets: tuple[Budget, ...] = ()
    commit: CommitPolicy = "reuse_last"
    told: ToldPipeline = NOTHING_TOLD
    constraints: Constraints = dataclasses.field(default_factory=Constraints)
    further: tuple[Target, ...] = ()
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.confidence is not None:
            check_confidence(self.confidence)
            if self.latency_budget_us is None and self.targets[0].p95 is None:
                raise InputError(
                    f"there is no latency budget to keep with confidence {self.confidence}",
                    remedy="give one, such as --budget 260ms",
                )
        first, *further = self.targets
        if first.p95 is not None:
            check_percentile(first.p95, self.latency_model.name, self.confidence)
        for i, target in enumerate(further, start=1):
            if target.table.name in [other.table.name for other in self.targets[:i]]:
                raise InputError(f"the table {target.table.name!r} is given twice", remedy="give each device once")
            if target.p95 is not None:
                raise InputError(
                    f"{target.p95.text} is for {target.table.name!r}, and only the first table keeps a 95th percentile",
                    remedy="name that table first",
                )
            for field in dataclasses.fields(first.scope.shape):
                here, there = getattr(first.scope.shape, field.name), getattr(target.scope.shape, field.name)
                if here != there:
                    raise InputError(
                        f"{first.table.name!r} has {field.name} {here} and {target.table.name!r} has {there}: "
                        "they were made for different models or videos",
                        remedy="give tables of one model and one video",
                    )
        self.constraints.check(self.space)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """All devices, the first one first."""
        first = Target(table=self.table, scope=self.scope, budgets=self.budgets, commit=self.commit, told=self.told)
        return (first, *self.further)

    @cached_property
    def marks(self) -> dict[str, tuple[str, ...]]:
        """What was wrong with the run that measured each table, by name; those of the latency model's included."""
        tables = [*(target.table for target in self.targets), *self.latency_model.known_tables]
        return {table.name: table.card.marks for table in tables}

    @cached_property
    def evidences(self) -> tuple[Evidence, ...]:
        """What the latency model predicts for every part, by device."""
        return tuple(
            Evidence.gather(target.table, target.scope, self.space, self.latency_model) for target in self.targets
        )

    @property
    def evidence(self) -> Evidence:
        """What the latency model predicts for every part on the first device."""
        return self.evidences[0]

    @property
    def latency_budget_us(self) -> int | None:
        """The latency budget of the first device; see `Target`."""
        return self.targets[0].latency_budget_us

    @property
    def memory_budget_bytes(self) -> int | None:
        """The memory budget of the first device; None without one."""
        return self.targets[0].memory_budget_bytes

    @cached_property
    def problem(self) -> Problem:
        """The search as integer arrays."""
        return self.pose(self.evidences)

    def pose(self, evidences: Sequence[Evidence]) -> Problem:
        """Return the same search on other evidence, by device."""
        first, *further = (
            target.pose(evidence, self.space, self.score)
            for target, evidence in zip(self.targets, evidences, strict=True)
        )
        devices = (_device(target, alone) for target, alone in zip(self.further, further, strict=True))
        return dataclasses.replace(self.constraints.put_on(first, self.space), devices=tuple(devices))

    @cached_property
    def spread(self) -> Spread:
        """How the latencies of `problem` vary.

        Raises:
            TableError: The table states no spread of timings.
        """
        return self.evidence.spread(self.table, self.space)

    @cached_property
    def condition(self) -> Confidence | Percentile | None:
        """What a layout must keep that is no sum: a confidence, or a 95th percentile.

        Raises:
            TableError: The table states no spread of timings, for a confidence.
        """
        if self.confidence is not None:
            return Confidence(asked=self.confidence, spread=self.spread)
        return self.percentile

    @cached_property
    def percentile(self) -> Percentile | None:
        """The 95th percentile of a pass that a layout must keep, on the first device."""
        first = self.targets[0]
        if first.p95 is None:
            return None
        return Percentile(table=first.table, scope=first.scope, space=self.space, budget=first.p95)

    @property
    def condition_text(self) -> str:
        """What is asked that is no sum, for people; empty where nothing is."""
        if self.confidence is not None:
            return f"confidence {self.confidence}"
        p95 = self.targets[0].p95
        return "" if p95 is None else f"the budget {p95.text}"

    def admits(self, choice_L: Sequence[int]) -> bool:
        """Tell whether the problem admits a layout, under the condition asked for."""
        return (
            self.problem.admits(choice_L) if self.condition is None else self.condition.admits(self.problem, choice_L)
        )


def _device(target: Target, alone: Problem) -> FurtherDevice:
    fields = (field.name for field in dataclasses.fields(FurtherDevice) if field.name != "name")
    return FurtherDevice(name=target.table.name, **{name: getattr(alone, name) for name in fields})

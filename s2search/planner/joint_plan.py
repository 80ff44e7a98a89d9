"""Planning layout and precisions together: from a request to a plan that says the precision of every part."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from s2search.errors import InfeasibleError, InputError
from s2search.latency.base import Estimate
from s2search.planner.evidence import Evidence
from s2search.planner.infeasible import in_frames
from s2search.planner.joint import JointProblem, pose_joint
from s2search.planner.plan import TWO_SIDED_95, LatencyAnswer, MemoryAnswer, Plan, PrecisionAnswer
from s2search.planner.request import Request
from s2search.planner.write import first_answer, free_switches, rate_answer, write_plan
from s2search.precision.documents import noise_db
from s2search.precision.noise import Noise
from s2search.precision.part import PartPrecision, package_precision
from s2search.preset import video_size
from s2search.solver.base import Solution, Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.problem import Problem
from s2search.tables.table import LatencyTable, Scope

#: A layer's candidates differ in every limit here, so labels run out early: HiGHS is the quicker from then on.
MOST_LABELS = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class JointRequest:
    """What is asked: a layout as in `request`, and with it precisions that keep a signal-to-noise ratio.

    Attributes:
        request: For one device; without a condition beside its budgets.
        table_of: The table with the rows of each precision on offer, the request's own among them.
        noise: Of every part in every precision.
        least_db: Signal-to-noise ratio of the velocity.

    Raises:
        InputError: Another is asked than this search answers, or sweeps and table are of different sizes.
    """

    request: Request
    table_of: Mapping[str, LatencyTable]
    noise: Noise
    least_db: float

    def __post_init__(self) -> None:
        request, scope = self.request, self.request.scope
        if not math.isfinite(self.least_db):
            raise InputError(f"--least-db is {self.least_db}", allowed="a finite number", remedy="correct it")
        if request.further:
            raise InputError(
                f"precisions are chosen for one device, and {len(request.targets)} tables are given",
                remedy="give one of them, or leave --precisions out",
            )
        if request.condition_text:
            raise InputError(
                f"precisions cannot be chosen with {request.condition_text}", remedy="leave out one of the two"
            )
        if scope.scenario != "stream":
            raise InputError(
                f"the sweeps are of streams, and the scenario is {scope.scenario!r}", remedy="use --scenario stream"
            )
        if request.space.depth != self.noise.depth:
            raise InputError(
                f"the sweeps are of {self.noise.depth} layers and the plan is of {request.space.depth}",
                remedy="sweep models of the plan's depth, or give --depth",
            )
        if (scope.shape.height, scope.shape.width) != tuple(self.noise.grid):
            raise InputError(
                f"the sweeps are at {video_size(*self.noise.grid)} and the table's rows at "
                f"{video_size(scope.shape.height, scope.shape.width)}",
                remedy="sweep at the table's video size (s2search sensitivity --video)",
            )

    @cached_property
    def scope_of(self) -> dict[str, Scope]:
        """The rows that count for each precision."""
        own = self.request.scope
        return {
            label: table.scope(
                own.scenario,
                video=(own.shape.height, own.shape.width),
                precision=label,
                compute_unit=own.compute_unit,
            )
            for label, table in self.table_of.items()
        }

    @cached_property
    def evidence_of(self) -> dict[str, Evidence]:
        """What every part costs, by precision."""
        request = self.request
        return {
            label: Evidence.gather(table, self.scope_of[label], request.space, request.latency_model)
            for label, table in self.table_of.items()
        }

    @cached_property
    def joint(self) -> JointProblem:
        """The search."""
        request = self.request
        return pose_joint(request.problem, request.space, self.evidence_of, noise=self.noise, least_db=self.least_db)


def find_joint(asked: JointRequest, solver: Solver) -> Plan:
    """Return the best layout with precisions within all budgets, noise among them; of its precisions the quietest.

    Raises:
        InfeasibleError: Nothing fits; `most_db` is the noise that would do.
    """
    joint, own = asked.joint, sooner(solver)
    try:
        found = joint.solve(own)
    except InfeasibleError as error:
        raise in_frames(asked.request, error) from error
    quiet = joint.quietest(own, joint.layout(found.choice_L))
    return _plan(asked, found, quiet, solver)


def sooner(solver: Solver) -> Solver:
    """Return a solver as it is, but `dynamic` hands over to HiGHS as soon as that is quicker here."""
    if isinstance(solver, Dynamic):
        return dataclasses.replace(solver, most_labels=min(solver.most_labels, MOST_LABELS))
    return solver


def _plan(asked: JointRequest, found: Solution, quiet: Solution, solver: Solver) -> Plan:
    request, joint, choice_N = asked.request, asked.joint, quiet.choice_L
    labels = [block.label for block in request.space.candidates]
    choice_L = tuple(labels.index(label) for label in joint.layout(choice_N))
    plan = write_plan(request, choice_L, None, solver=solver, ties=None)
    problem, precisions = joint.exact(choice_N), _precisions(asked, choice_N)
    predicted_us, target = problem.price(choice_N).latency_us, request.targets[0]
    return dataclasses.replace(
        plan,
        precision=package_precision(PartPrecision.parse(one.precision) for one in precisions.parts.values()),
        fits=True,
        latency_ms=_latency(asked, problem, choice_N),
        memory_bytes=_memory(plan.memory_bytes, problem, choice_N, joint),
        rate=rate_answer(target, predicted_us),
        first=first_answer(target, predicted_us),
        upper_bound=found.upper_bound,
        optimal=found.optimal,
        precisions=precisions,
        provenance=dataclasses.replace(plan.provenance, solver=found.method),
    )


def _precisions(asked: JointRequest, choice_N: tuple[int, ...]) -> PrecisionAnswer:
    joint, noise = asked.joint, asked.noise
    layout = joint.layout(choice_N)
    blocks = {f"layers.{layer}": block for layer, block in enumerate(layout)}
    chosen = {(part, blocks.get(part, ""), label) for part, label in joint.precisions(choice_N).items()}
    assumed = [(block, label) for part, block, label in chosen if noise.assumes(part, block, label)]
    return PrecisionAnswer(
        offered=tuple(asked.table_of),
        least_db=asked.least_db,
        predicted_db=noise_db(joint.noise(choice_N)),
        assumed=len(assumed),
        spread_db=round(max((noise.spread_db(*one) for one in assumed), default=0.0), 3),
        sensitivity_digest=noise.digest,
        palette=noise.palette,
        rest_bytes=noise.rest_bytes,
        tables={label: table.digest for label, table in asked.table_of.items()},
        parts={
            part: noise.choice(part, blocks.get(part, ""), label) for part, label in joint.precisions(choice_N).items()
        },
    )


def _latency(asked: JointRequest, problem: Problem, choice_N: tuple[int, ...]) -> LatencyAnswer:
    """Return what a pass takes; stem and head are among the fixed, as in other plans."""
    joint, target = asked.joint, asked.request.targets[0]
    budget_us, predicted_us = target.latency_budget_us, problem.price(choice_N).latency_us
    taken = [int(problem.latency_us_LC[n, j]) for n, j in enumerate(choice_N)]
    fixed_us = problem.fixed_us + sum(taken) - sum(taken[joint.layers])
    switches_us = predicted_us - problem.fixed_us - sum(taken)
    used = _used(asked, choice_N)
    spreads = [one.latency_std_us for one in used]
    std_us = None if None in spreads else sum(spread for spread in spreads if spread is not None)
    slack_us = None if budget_us is None else budget_us - predicted_us
    commit_us = _commit_us(asked, choice_N)
    return LatencyAnswer(
        predicted=predicted_us / 1000,
        low=None if std_us is None else round(max(predicted_us - TWO_SIDED_95 * std_us, 0) / 1000, 3),
        high=None if std_us is None else round((predicted_us + TWO_SIDED_95 * std_us) / 1000, 3),
        budget=None if budget_us is None else budget_us / 1000,
        slack=None if slack_us is None else slack_us / 1000,
        switches=switches_us / 1000,
        fixed=fixed_us / 1000,
        commit=None if commit_us is None else commit_us / 1000,
        free_switches=None if switches_us else free_switches(problem, choice_N, slack_us),
        provenance=tuple(sorted({one.provenance for one in used if one.cost.latency_us > 0})),
    )


def _used(asked: JointRequest, choice_N: tuple[int, ...]) -> list[Estimate]:
    """Return what a forward pass is made of, each part as often as it runs."""
    joint, space = asked.joint, asked.request.space
    first = next(iter(asked.evidence_of.values()))
    ends = ("stem", "head")
    used = [one for part, one in zip(first.fixed_parts, first.fixed, strict=True) if part not in ends]
    streams = [int(joint.problem.stream_C[j]) for j in choice_N[joint.layers]]
    times = _passed([joint.problem.first_stream, *streams, joint.problem.last_stream])
    layout = joint.layout(choice_N)
    blocks = {f"layers.{layer}": block for layer, block in enumerate(layout)}
    for part, label in joint.precisions(choice_N).items():
        if part != "text":
            one = asked.evidence_of[label].parts(space)[blocks.get(part, part)]
            used += [one] * times.get(part, 1)
    return used


def _passed(streams: list[int]) -> dict[str, int]:
    """Return how often each switch is passed."""
    ups = [after - before for before, after in pairwise(streams)]
    return {"down": ups.count(1), "up": ups.count(-1)}


def _commit_us(asked: JointRequest, choice_N: tuple[int, ...]) -> int | None:
    """Return what the layers take to commit one chunk; None where the tables do not say so of each of them."""
    joint, rows_of = asked.joint, {}
    for label, table in asked.table_of.items():
        for row in table.commits_in_scope(asked.scope_of[label]):
            rows_of[row.part_label, label] = round(1000 * row.latency_ms)
    options = [joint.options[j] for j in choice_N[joint.layers]]
    found = [rows_of.get((option.name, option.precision)) for option in options]
    return None if None in found else sum(us for us in found if us is not None)


def _memory(one: MemoryAnswer, problem: Problem, choice_N: tuple[int, ...], joint: JointProblem) -> MemoryAnswer:
    """Return the bytes; stem, head, switches and text are among the fixed."""
    price = problem.price(choice_N)
    blocks = sum(int(problem.memory_bytes_LC[n, j]) for n, j in list(enumerate(choice_N))[joint.layers])
    return dataclasses.replace(
        one,
        predicted=price.total_bytes,
        blocks=blocks,
        fixed=price.memory_bytes - blocks,
        peak=price.peak_bytes,
        slack=None if one.budget is None else one.budget - price.total_bytes,
    )

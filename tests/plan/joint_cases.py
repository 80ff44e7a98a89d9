"""Made questions about layouts with precisions: costs and noise drawn, and the naive answer by trying everything."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np

from s2search.block import Stream
from s2search.cost import Cost
from s2search.latency.base import Estimate
from s2search.planner.constraints import Constraints
from s2search.planner.evidence import Evidence
from s2search.planner.joint import JointProblem, pose_joint
from s2search.precision.documents import PartChoices, PrecisionChoice, Sensitivity, noise_db
from s2search.precision.noise import Noise
from s2search.score.file import ScoreFile
from s2search.solver.problem import Problem
from s2search.space import Space

PRECISIONS = ("float16", "w8a16", "w4a16")
_BITS = {"float16": 16, "w8a16": 8, "w4a16": 4}
_ENDS = ("stem", "head", "down", "up", "text")


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A question, and all that it was made of."""

    base: Problem
    space: Space
    evidence_of: dict[str, Evidence]
    noise: Noise
    least_db: float | None

    @property
    def joint(self) -> JointProblem:
        return pose_joint(self.base, self.space, self.evidence_of, noise=self.noise, least_db=self.least_db)

    def of_layout(self, layout: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return the parts of a model with a layout, each with the block that stands there."""
        low = "ssa" in layout
        return [
            ("stem", ""),
            *((f"layers.{i}", block) for i, block in enumerate(layout)),
            *((part, "") for part in _ENDS[1:] if low or part not in ("down", "up")),
        ]


def drawn(
    rng: np.random.Generator,
    *,
    depth: int,
    precisions: tuple[str, ...] = PRECISIONS,
    least_db: float | None = None,
    group_size: int = 1,
    constraints: Constraints | None = None,
    tightness: float = 0.5,
    decisive_switches: bool = False,
) -> Case:
    """Return a question about layouts of lcha and ssa; fewer bits are quicker, smaller and noisier.

    With `decisive_switches` those take as long as blocks, by their bits, and are as loud as all else.
    """
    space = Space.parse("lcha,ssa", depth=depth, group_size=group_size)
    evidence_of = _evidences(rng, precisions, switch_size=0.8 if decisive_switches else 0.2)
    scores = {
        "lcha": np.round(rng.uniform(0.5, 1.5, depth), 6).tolist(),
        "ssa": np.round(rng.uniform(0.3, 1.3, depth), 6).tolist(),
    }
    score = ScoreFile(schema="s2search.score/1", name="made", statement="made up", scores=scores)
    sweeps = sweeps_of(rng, depth, precisions, louder=10.0 if decisive_switches else 1.0)
    first = evidence_of[precisions[0]]
    limit = {name: _between(evidence_of, depth, name, tightness) for name in ("latency_us", "memory_bytes")}
    base = first.pose(
        space, score, latency_budget_us=limit["latency_us"], memory_budget_bytes=limit["memory_bytes"] + 10**6
    )
    if constraints is not None:
        base = constraints.put_on(base, space)
    return Case(base=base, space=space, evidence_of=evidence_of, noise=Noise(sweeps=sweeps), least_db=least_db)


def _evidences(rng: np.random.Generator, precisions: tuple[str, ...], *, switch_size: float) -> dict[str, Evidence]:
    whole = {name: rng.uniform(0.6, 1.4, 3) for name in ("lcha", "ssa", "stem", "head", "down", "up", "long_skip")}
    whole["lcha"][0] *= 3

    def estimate(name: str, label: str) -> Estimate:
        bits = _BITS[label] / 16
        latency, size, peak = whole[name] * rng.uniform(0.8, 1.2, 3)
        small = {"lcha": 1.0, "ssa": 1.0, "down": switch_size, "up": switch_size}.get(name, 0.2)
        return Estimate(
            cost=Cost(
                latency_us=round(1000 * small * latency * (0.4 + 0.6 * bits)),
                memory_bytes=round(1e6 * small * size * bits),
                peak_bytes=round(1e6 * peak),
            ),
            latency_std_us=1.0,
            provenance="estimated",
            bytes_provenance="estimated",
        )

    return {
        label: Evidence(
            block_C=(estimate("lcha", label), estimate("ssa", label)),
            fixed=(estimate("stem", label), estimate("head", label), estimate("long_skip", label)),
            down=estimate("down", label),
            up=estimate("up", label),
            fixed_parts=("stem", "head", "long_skip"),
        )
        for label in precisions
    }


def sweeps_of(
    rng: np.random.Generator,
    depth: int,
    precisions: tuple[str, ...],
    *,
    grid: tuple[int, int] = (9, 16),
    louder: float = 1.0,
) -> tuple[Sensitivity, ...]:
    """Return sweeps of the two layouts of one block, and so of every block at every layer; `louder` are switches."""
    loud = {"down": louder, "up": louder}
    ends = {part: _choices(rng, precisions, 200, loud.get(part, 1.0)) for part in _ENDS}
    return tuple(
        Sensitivity(
            model_digest=f"sha256:{block}",
            plan_digest=None,
            weights_digest="sha256:w",
            grid=grid,
            chunks=1,
            seed=0,
            palette="kmeans",
            rest_bytes=100,
            parts=(
                PartChoices(part="stem", choices=ends["stem"]),
                *(
                    PartChoices(part=f"layers.{i}", block=block, choices=_choices(rng, precisions, 1000))
                    for i in range(depth)
                ),
                *(PartChoices(part=part, choices=ends[part]) for part in _ENDS[1:]),
            ),
        )
        for block in ("lcha", "ssa")
    )


def _choices(
    rng: np.random.Generator, precisions: tuple[str, ...], size: int, louder: float = 1.0
) -> tuple[PrecisionChoice, ...]:
    loud = louder * 10 ** rng.uniform(-5, -2)
    return tuple(
        PrecisionChoice(
            precision=label,
            bytes=round(size * _BITS[label] / 16),
            noise=loud * 10 ** (-0.45 * (_BITS[label] - 4)) * rng.uniform(0.8, 1.2),
        )
        for label in precisions
    )


def _between(evidence_of: dict[str, Evidence], depth: int, name: str, tightness: float) -> int:
    """Return a limit between what the least layout takes and the most."""
    least = min(getattr(one.cost, name) for evidence in evidence_of.values() for one in evidence.block_C)
    most = max(getattr(one.cost, name) for evidence in evidence_of.values() for one in evidence.block_C)
    return round(depth * (least + tightness * (most - least)) + 1.2 * most)


def best_of_all(case: Case, *, slack_db: float = 0.0) -> float | None:
    """Return the best score of all layouts with all precisions that keep every limit, by trying each; None of none."""
    best = None
    for choice_L in itertools.product(range(2), repeat=case.space.depth):
        layout = tuple(case.space.candidates[c].label for c in choice_L)
        score = sum(float(case.base.score_LC[i, c]) for i, c in enumerate(choice_L))
        if case.base.pair_score_LCC is not None:
            score += sum(
                float(case.base.pair_score_LCC[i, choice_L[i - 1], choice_L[i]]) for i in range(1, len(choice_L))
            )
        if (best is None or score > best) and _keeps_constraints(case, choice_L) and fits(case, layout, slack_db).any():
            best = score
    return best


def _keeps_constraints(case: Case, choice_L: tuple[int, ...]) -> bool:
    """Tell whether a layout keeps what is asked of blocks; what they cost has no say."""
    free = dataclasses.replace(case.base, latency_budget_us=2**40, memory_budget_bytes=2**40)
    return free.admits(choice_L)


def fits(case: Case, layout: tuple[str, ...], slack_db: float = 0.0) -> np.ndarray:
    """Return which of all assignments of precisions to the parts of a layout keep the budgets."""
    parts, labels = case.of_layout(layout), list(case.evidence_of)
    streams = [Stream.HIGH, *(Stream.LOW if block == "ssa" else Stream.HIGH for block in layout), Stream.HIGH]
    steps = list(itertools.pairwise(streams))
    times = {"down": steps.count((Stream.HIGH, Stream.LOW)), "up": steps.count((Stream.LOW, Stream.HIGH))}
    other = case.evidence_of[labels[0]].fixed[2].cost
    latency, memory, peak = np.array(other.latency_us), np.array(other.memory_bytes), np.array(other.peak_bytes)
    noise = np.array(0.0)
    for part, block in parts:
        costs = [_cost(case, part, block, label) for label in labels]
        latency = np.add.outer(latency, [times.get(part, 1) * cost.latency_us for cost in costs])
        memory = np.add.outer(memory, [cost.memory_bytes for cost in costs])
        peak = np.maximum.outer(peak, [cost.peak_bytes for cost in costs])
        noise = np.add.outer(noise, [case.noise.choice(part, block, label).noise for label in labels])
    kept = (latency <= case.base.latency_budget_us) & (memory + peak <= case.base.memory_budget_bytes)
    return kept if case.least_db is None else kept & (noise <= 10 ** (-(case.least_db + slack_db) / 10))


def _cost(case: Case, part: str, block: str, label: str) -> Cost:
    evidence, depth = case.evidence_of[label], case.space.depth
    text = case.noise.choice("text", "", label).bytes // depth
    if part == "text":
        return Cost(memory_bytes=text * depth)
    cost = evidence.parts(case.space)[block or part].cost
    return dataclasses.replace(cost, memory_bytes=cost.memory_bytes - text) if block else cost


def db_of(case: Case, layout: tuple[str, ...], precisions: dict[str, str]) -> float:
    """Return the decibels of a layout with precisions."""
    return noise_db(sum(case.noise.choice(part, b, precisions[part]).noise for part, b in case.of_layout(layout)))

"""The best precision for every part, exactly: a search of its own after the layout is fixed, by the same solvers.

Noise powers of parts add up (source: uncorrelated errors of small size; the sweep's mixtures say how well), and so do
bytes. So the choice is a `Problem` whose layers are the parts and whose candidates are the precisions.

Axes:  L parts  C precisions
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from s2search import registry
from s2search.block import Stream
from s2search.errors import InfeasibleError, InputError
from s2search.precision.documents import PrecisionChoice, PrecisionPlan, Sensitivity, noise_db
from s2search.precision.part import kilobytes
from s2search.solver.base import Solver
from s2search.solver.problem import FIXED_POINT, UNLIMITED, Int, Problem, Resource
from s2search.solver.problem_checks import LARGEST_SUM

_NOISE_LIMIT = 2**40

#: Microseconds of a part by its name and precision; 0 where a part has no row of its own.
LatencyOf = Mapping[tuple[str, str], int]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked of a choice of precisions.

    Attributes:
        least_db: Signal-to-noise ratio of the velocity.
        memory_bytes: Of all weights.
        latency_us: Of all parts.

    With a limit on memory or latency the least noise is looked for; with `least_db` alone, the fewest bytes, and of
    those the least noise.

    Raises:
        InputError: Nothing is asked for, or no number.
    """

    least_db: float | None = None
    memory_bytes: int | None = None
    latency_us: int | None = None

    def __post_init__(self) -> None:
        if self.least_db is None and self.memory_bytes is None and self.latency_us is None:
            raise InputError(
                "no limit is given for the precisions", remedy="give --budget 1.2MB, --least-db 25, or both"
            )
        if self.least_db is not None and not math.isfinite(self.least_db):
            raise InputError(f"--least-db is {self.least_db}", allowed="a finite number", remedy="correct it")

    def __str__(self) -> str:
        words = [] if self.least_db is None else [f"at least {self.least_db:g} dB"]
        words += [] if self.memory_bytes is None else [f"at most {kilobytes(self.memory_bytes)} of weights"]
        words += [] if self.latency_us is None else [f"at most {self.latency_us / 1000:g} ms"]
        return ", ".join(words)


def choose(sensitivity: Sensitivity, wish: Wish, solver: Solver, latency_of: LatencyOf | None = None) -> PrecisionPlan:
    """Return the best precision of every part.

    Args:
        sensitivity: What each choice costs.
        wish: What is asked.
        solver: Any of the family.
        latency_of: Choices that are not in it are not offered; None where latency does not count.

    Raises:
        InfeasibleError: No assignment keeps what is asked; the message names the nearest.
    """
    plan = _solved(sensitivity, wish, solver, latency_of, asked=str(wish))
    if wish.memory_bytes is not None or wish.latency_us is not None:
        return plan
    # Of all choices of the fewest bytes, the one of the least noise.
    fewest = replace(wish, memory_bytes=plan.weight_bytes)
    quietest = _solved(sensitivity, fewest, solver, latency_of, asked=str(wish))
    return replace(quietest, optimal=plan.optimal and quietest.optimal)


def _solved(
    sensitivity: Sensitivity, wish: Wish, solver: Solver, latency_of: LatencyOf | None, *, asked: str
) -> PrecisionPlan:
    problem = pose(sensitivity, wish, latency_of)
    try:
        solution = solver.solve(problem)
    except InfeasibleError as error:
        raise _infeasible(sensitivity, wish, problem, solver) from error
    chosen = {
        offer.part: offer.choice(problem.label(c))
        for offer, c in zip(sensitivity.parts, solution.choice_L, strict=True)
    }
    return PrecisionPlan(
        model_digest=sensitivity.model_digest,
        weights_digest=sensitivity.weights_digest,
        sensitivity_digest=sensitivity.digest,
        asked=asked,
        palette=sensitivity.palette,
        rest_bytes=sensitivity.rest_bytes,
        parts=chosen,
        weight_bytes=sensitivity.rest_bytes + sum(choice.bytes for choice in chosen.values()),
        predicted_db=noise_db(sum(choice.noise for choice in chosen.values())),
        optimal=solution.optimal,
    )


def pose(sensitivity: Sensitivity, wish: Wish, latency_of: LatencyOf | None = None) -> Problem:
    """Return the choice as integer arrays; the candidates are precisions."""
    labels_C = tuple(dict.fromkeys(choice.precision for offer in sensitivity.parts for choice in offer.choices))
    shape = (len(sensitivity.parts), len(labels_C))
    allowed_LC, bytes_LC, noise_LC = np.zeros(shape, np.bool_), np.zeros(shape, np.int64), np.zeros(shape)
    latency_us_LC = np.zeros(shape, np.int64)
    for i, offer in enumerate(sensitivity.parts):
        for choice in offer.choices:
            c, key = labels_C.index(choice.precision), (offer.part, choice.precision)
            allowed_LC[i, c] = latency_of is None or key in latency_of
            bytes_LC[i, c], noise_LC[i, c] = choice.bytes, choice.noise
            latency_us_LC[i, c] = 0 if latency_of is None else latency_of.get(key, 0)
        if not allowed_LC[i].any():
            raise InputError(
                f"the table has no row of {offer.part!r} ({offer.block or offer.part}) in any of {', '.join(labels_C)}",
                remedy="measure one, or leave the latency budget out",
            )
    smallest = wish.memory_bytes is None and wish.latency_us is None
    # The noisiest choice at every part comes to half the largest sum that is exact.
    unit = max(noise_LC.max(), 1e-300) * len(noise_LC) * 2 * FIXED_POINT / LARGEST_SUM
    zeros = np.zeros(shape, np.int64)
    return Problem(
        score_LC=-bytes_LC / FIXED_POINT if smallest else -noise_LC / unit,
        latency_us_LC=latency_us_LC,
        memory_bytes_LC=bytes_LC,
        peak_bytes_LC=zeros,
        allowed_LC=allowed_LC,
        stream_C=np.zeros(len(labels_C), np.int64),
        switch_us_SS=np.zeros((2, 2), np.int64),
        fixed_bytes=sensitivity.rest_bytes,
        latency_budget_us=UNLIMITED if wish.latency_us is None else wish.latency_us,
        memory_budget_bytes=UNLIMITED if wish.memory_bytes is None else wish.memory_bytes,
        limits=() if wish.least_db is None else (noise_limit(noise_LC, wish.least_db),),
        label_C=labels_C,
    )


def noise_limit(noise_LC: np.ndarray[tuple[int, ...], np.dtype[np.float64]], least_db: float) -> Resource:
    """Return noise as a resource; use is rounded up, so that what keeps the limit keeps it exactly."""
    most = 10 ** (-least_db / 10)
    use_LC: Int = np.ceil(np.minimum(noise_LC / most, 2.0) * _NOISE_LIMIT).astype(np.int64)
    return Resource.of("noise", use_LC, _NOISE_LIMIT)


def _infeasible(sensitivity: Sensitivity, wish: Wish, problem: Problem, solver: Solver) -> InfeasibleError:
    """Return the error with the best that there is of every kind."""
    allowed = problem.allowed_LC
    least_bytes = int(np.where(allowed, problem.memory_bytes_LC, UNLIMITED).min(axis=1).sum()) + sensitivity.rest_bytes
    best = noise_db(sum(min(choice.noise for choice in offer.choices) for offer in sensitivity.parts))
    least = [f"the most exact comes to {best:.1f} dB"] if wish.least_db is not None else []
    if wish.memory_bytes is not None and wish.least_db is not None and wish.least_db <= best:
        exact_enough = choose(sensitivity, Wish(least_db=wish.least_db), solver)
        least = [f"the smallest of {wish.least_db:g} dB takes {kilobytes(exact_enough.weight_bytes)}"]
    elif wish.memory_bytes is not None:
        least.append(f"the smallest takes {kilobytes(least_bytes)}")
    if wish.latency_us is not None:
        fastest = int(np.where(allowed, problem.latency_us_LC, UNLIMITED).min(axis=1).sum())
        least.append(f"the fastest takes {fastest / 1000:g} ms")
    return InfeasibleError(
        f"no precisions keep {wish}: {', '.join(least)}", remedy="relax a limit, or offer more precisions"
    )


def latency_from(rows: Mapping[tuple[str, str], int], sensitivity: Sensitivity) -> dict[tuple[str, str], int]:
    """Return the latency of parts from that of blocks, stem, head and switches, each by name and precision.

    Text projections are timed inside their layers, so they take nothing of their own. One pair of switches serves the
    whole layout: each counts as often as it is passed.
    """
    blocks = [offer.block for offer in sensitivity.parts if offer.block]
    streams = [Stream.HIGH, *(registry.create("blocks", label).stream for label in blocks), Stream.HIGH]
    steps = list(pairwise(streams))
    times = {"down": steps.count((Stream.HIGH, Stream.LOW)), "up": steps.count((Stream.LOW, Stream.HIGH))}
    found: dict[tuple[str, str], int] = {}
    for offer in sensitivity.parts:
        for choice in offer.choices:
            row = (offer.block or offer.part, choice.precision)
            if offer.part == "text":
                found[offer.part, choice.precision] = 0
            elif row in rows:
                found[offer.part, choice.precision] = rows[row] * times.get(offer.part, 1)
    return found


def shares(plan: PrecisionPlan) -> dict[str, float]:
    """Return each part's share of the noise."""
    total = sum(choice.noise for choice in plan.parts.values())
    return {part: choice.noise / total if total else 0.0 for part, choice in plan.parts.items()}


def steps_down(sensitivity: Sensitivity, plan: PrecisionPlan) -> dict[str, tuple[PrecisionChoice, float] | None]:
    """Return for each part its next smaller choice and the dB of the whole with it; None if there is none."""
    total = sum(choice.noise for choice in plan.parts.values())
    found: dict[str, tuple[PrecisionChoice, float] | None] = {}
    for offer in sensitivity.parts:
        now = plan.parts[offer.part]
        smaller = max((c for c in offer.choices if c.bytes < now.bytes), key=lambda c: c.bytes, default=None)
        found[offer.part] = None if smaller is None else (smaller, noise_db(total - now.noise + smaller.noise))
    return found

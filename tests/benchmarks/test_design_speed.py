"""One design against a plan of its own for every combination and rate, in one process, with the table open.

python -m tests.benchmarks.test_design_speed     # prints the table of docs/benchmarks.md, in a minute

A design compares every combination at every rate of its matrix, and at what was asked; so the rival is one `find` for
each. Of these a sample is run, drawn at random, and its mean stands for all.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from s2search.api.design import design
from s2search.cost import Budget, ToldPipeline
from s2search.designer.axes import parse_choices, settle
from s2search.designer.combination import combinations
from s2search.designer.program import LayoutWish, scope_of
from s2search.designer.request import RATES_FPS, DesignRequest
from s2search.designer.search import DesignQuestion, Search
from s2search.errors import InfeasibleError
from s2search.latency.linear import Linear
from s2search.planner.find import find
from s2search.planner.request import Request
from s2search.quality.published import PublishedQuality
from s2search.score.base import Score
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.space import Space, parse_blocks
from s2search.tables.table import LatencyTable, open_table

pytestmark = pytest.mark.benchmark

CHOOSE = "video=256x144|512x288|768x432|1024x576|1280x720,steps=1|2|3|4,chunk=1|2|3,window=1|2,width=1536|2048"
BUDGETS = ("10fps", "1.2GB")
SAMPLE = 48


@dataclass(frozen=True, kw_only=True)
class Placed(Score):
    """Scores that differ from layer to layer, as measured ones do."""

    statement = "drawn"

    @property
    def digest(self) -> str:
        return "sha256:placed"

    def score_LC(self, space: Space) -> NDArray[np.float64]:
        rng = np.random.default_rng(space.depth)
        best_L = -np.abs(rng.normal(0.01, 0.004, space.depth))
        return np.stack([best_L + rng.normal(0, 0.002, space.depth) * c for c in range(len(space.candidates))], axis=1)


def planned_s(table: LatencyTable, score: Score) -> float:
    """Return the mean processor time of one plan, over a sample of all combinations and rates."""
    wish = LayoutWish(candidates=parse_blocks("lcha,ssa"), group_size=1, score=score, latency_model=Linear())
    request = DesignRequest(
        table=table, depth=28, wish=wish, quality=PublishedQuality(), choose=parse_choices([CHOOSE])
    )
    several = combinations(settle(request.offer, request.choose, {}))
    search = Search(DesignQuestion(offer=request.offer, wish=wish, quality=request.quality, budgets={}))
    asked = list(itertools.product(several, RATES_FPS))
    memory, seconds = Budget.parse(BUDGETS[1]), 0.0
    drawn = np.random.default_rng(0).choice(len(asked), SAMPLE, replace=False)
    for combination, rate in (asked[n] for n in drawn):
        pipeline = search.setting.around(combination).pipeline
        start = time.process_time()
        plan = Request(
            table=table,
            scope=scope_of(request.offer, combination),
            space=wish.space(combination.depth),
            latency_model=wish.latency_model,
            score=score,
            budgets=(Budget.parse(f"{rate:g}fps"), memory),
            told=ToldPipeline(steps=pipeline.steps, text_ms=pipeline.text_ms, decode_ms=pipeline.decoder_ms),
        )
        with contextlib.suppress(InfeasibleError):
            find(plan, Dynamic())
        seconds += time.process_time() - start
    return seconds / SAMPLE


def test_a_design_comes_ten_times_sooner_than_a_plan_of_every_combination() -> None:
    table = open_table("iphone-16-pro-max")
    design(table, budget=BUDGETS, choose="steps=1|2")  # warm
    print("\n| scores | combinations | design | one plan | of each, at one rate | ratio | at every rate | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name, score in (("position-free", Published()), ("by layer", Placed())):
        start = time.process_time()
        found = design(table, budget=BUDGETS, choose=CHOOSE, score=score)
        design_s = time.process_time() - start
        one_s = planned_s(table, score)
        each_s = one_s * found.combinations
        whole_s = each_s * len(RATES_FPS)
        print(
            f"| {name} | {found.combinations} x 28 layers | {design_s:.2f} s | {1000 * one_s:.1f} ms | {each_s:.1f} s "
            f"| {each_s / design_s:.1f} | {whole_s:.0f} s | {whole_s / design_s:.0f} |"
        )
        assert found.combinations >= 200
        assert design_s < 5
        assert whole_s > 10 * design_s


if __name__ == "__main__":
    test_a_design_comes_ten_times_sooner_than_a_plan_of_every_combination()

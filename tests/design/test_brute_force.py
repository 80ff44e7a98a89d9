"""What `design` finds is what looking at every layout of every combination finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from s2search.api.design import design
from s2search.cost import format_fps
from s2search.designer.axes import amount
from s2search.designer.document import Possible
from s2search.score.base import Score
from s2search.space import Space
from s2search.tables.table import LatencyTable
from tests.design.tables import Naive, every_design, random_table

AXES = {
    "video": ("256x144", "512x288"),
    "steps": (1, 2, 4),
    "depth": (2, 4),
    "precision": ("bfloat16", "float32"),
    "decoder": ("small", "large"),
    "commit": ("reuse_last", "clean_pass"),
    "residency": ("together", "in_turn"),
}
RATES = (60.0, 120.0, 240.0)
WISHES = ("video", "steps", "depth", "precision")


@dataclass(frozen=True, kw_only=True)
class Drawn(Score):
    """Scores that depend on the position, so that no two layouts tie by design."""

    seed: int
    statement = "drawn"

    @property
    def digest(self) -> str:
        return f"sha256:{self.seed}"

    def score_LC(self, space: Space) -> NDArray[np.float64]:
        return np.random.default_rng([self.seed, space.depth]).integers(0, 9, (space.depth, len(space.candidates))) / 8


def wish_of(one: Naive) -> tuple[float, ...]:
    axes = one.named
    return (
        *(amount(axis, axes[axis]) for axis in WISHES),  # type: ignore[arg-type]  # values of the axes above
        one.score,
        one.rate_fps,
        -one.memory_bytes,
    )


def best_of(designs: Iterable[Naive]) -> tuple[float, ...] | None:
    return max(map(wish_of, designs), default=None)


def as_wish(design: Possible) -> tuple[float, ...]:
    naive = Naive(
        settings=tuple(design.settings.items()),
        layout=(),
        rate_fps=design.frames_per_second,
        pass_us=round(1000 * design.latency_ms),
        first_us=0,
        memory_bytes=design.memory_bytes,
        score=design.score,
    )
    return wish_of(naive)


def same(found: tuple[float, ...] | None, right: tuple[float, ...] | None) -> bool:
    if found is None or right is None:
        return found is right
    return found == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_every_cell_and_the_answer_are_the_best_of_all_layouts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, score = random_table(rng), Drawn(seed=seed)
    everything = list(every_design(table, score, AXES))
    memory = int(np.quantile([one.memory_bytes for one in everything], rng.uniform(0.05, 0.9)))
    first = int(np.quantile([one.first_us for one in everything], rng.uniform(0.2, 0.95)))
    asked = float(np.round(np.quantile([one.rate_fps for one in everything], rng.uniform(0.2, 0.9)), 1))
    found = design(
        table,
        budget=[f"{memory}B", f"first:{first}us", f"{asked:g}fps"],
        choose={axis: list(values) for axis, values in AXES.items()},
        rate=RATES,
        score=score,
        latency_model="lookup",
    )
    fits = [one for one in everything if one.memory_bytes <= memory and one.first_us <= first]
    assert found.combinations == 2**6 * 3
    for cell in found.cells:
        right = best_of(one for one in fits if one.named["steps"] == cell.steps and one.rate_fps >= cell.rate_fps)
        shown = None if cell.design is None else as_wish(found.designs[cell.design])
        assert same(shown, right), (cell, right)
        small = [one.rate_fps for one in everything if one.memory_bytes <= memory and one.named["steps"] == cell.steps]
        too_slow = max(small, default=0.0) < cell.rate_fps
        lacking = (
            f"at most {format_fps(max(small))}" if small and too_slow else f"not within {memory}B and first:{first}us"
        )
        assert cell.missing == ("" if right is not None else lacking)
    best = best_of(one for one in fits if one.rate_fps >= asked)
    assert same(None if found.best is None else as_wish(found.best), best)
    assert (found.plan is None) == (best is None)
    for answer, without in zip(found.budgets, ("memory", "first", "rate"), strict=True):
        kept = [
            one
            for one in everything
            if (without == "memory" or one.memory_bytes <= memory)
            and (without == "first" or one.first_us <= first)
            and (without == "rate" or one.rate_fps >= asked)
        ]
        right = best_of(kept)
        assert answer.binds == (right is not None and (best is None or not same(right, best)))
        if answer.without is not None:
            assert same(as_wish(found.designs[answer.without]), right)


def dominates(one: Naive, other: Naive) -> bool:
    mine, its = one.named, other.named
    if any(mine[axis] != its[axis] for axis in ("decoder", "commit", "depth")):
        return False
    figures = [
        (first.rate_fps, first.score, -first.memory_bytes, -first.first_us, *_amounts(first)) for first in (one, other)
    ]
    return all(a >= b for a, b in zip(*figures, strict=True)) and figures[0] != figures[1]


def _amounts(one: Naive) -> tuple[int, ...]:
    return tuple(amount(axis, one.named[axis]) for axis in ("video", "steps", "precision"))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
def test_the_front_is_what_nothing_dominates_of_the_best_at_every_rate(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    table, score = random_table(rng), Drawn(seed=seed)
    axes = AXES | {"depth": (3,), "commit": ("reuse_last",)}
    everything = list(every_design(table, score, axes))
    memory = int(np.quantile([one.memory_bytes for one in everything], 0.7))
    found = design(
        table,
        budget=f"{memory}B",
        choose={axis: list(values) for axis, values in axes.items()},
        rate=RATES,
        score=score,
        latency_model="lookup",
    )
    chosen: dict[object, Naive] = {}
    for rate in RATES:
        for settings in {one.settings for one in everything}:
            fits = [
                one
                for one in everything
                if one.settings == settings and one.memory_bytes <= memory and one.rate_fps >= rate
            ]
            if fits:
                best = max(fits, key=wish_of)
                chosen[best.settings, wish_of(best)] = best
    right = [one for one in chosen.values() if not any(dominates(other, one) for other in chosen.values())]
    front = sorted((*as_wish(found.designs[n]), found.designs[n].first_ms) for n in found.front)
    naive = sorted((*wish_of(one), one.first_us / 1000) for one in right)
    assert len(front) == len(naive) == len(found.front)
    for mine, its in zip(front, naive, strict=True):
        assert mine == pytest.approx(its, rel=1e-5)
    assert found.answer is None


def _of(everything: Iterable[Naive], settings: dict[str, object]) -> list[Naive]:
    return [one for one in everything if all(settings[axis] == value for axis, value in one.settings)]


@pytest.mark.parametrize("seed", range(6))
def test_a_neighbour_has_what_all_its_layouts_have_or_lacks_what_the_nearest_lacks(seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    table, score = random_table(rng), Drawn(seed=seed)
    axes = AXES | {"depth": (3,)}
    everything = list(every_design(table, score, axes))
    memory = int(np.quantile([one.memory_bytes for one in everything], rng.uniform(0.1, 0.5)))
    asked = float(np.round(np.quantile([one.rate_fps for one in everything], rng.uniform(0.3, 0.8)), 1))
    found = design(
        table,
        budget=[f"{memory}B", f"{asked:g}fps"],
        choose={axis: list(values) for axis, values in axes.items()},
        score=score,
        latency_model="lookup",
    )
    assert found.best is not None
    for near in found.neighbours:
        its = _of(everything, found.best.settings | {near.axis: near.value})  # type: ignore[operator]  # names and values
        if not its:  # beyond what is on offer
            continue
        in_time = [one for one in its if one.rate_fps >= asked]
        small = [one for one in its if one.memory_bytes <= memory]
        right = best_of(one for one in in_time if one in small)
        assert same(None if near.design is None else as_wish(near.design), right), near
        if right is not None:
            continue
        assert (near.missing_bytes is None) == (not in_time)
        assert (near.missing_ms is None) == (not small)
        assert ("too much" in near.missing) == (not in_time and not small)
        if near.missing_bytes is not None:
            assert near.missing_bytes == min(one.memory_bytes for one in in_time) - memory
        if near.missing_ms is not None:
            forwards = int(str(its[0].named["steps"])) + (its[0].named["commit"] == "clean_pass")
            over_us = min(12e6 / one.rate_fps for one in small) - 12e6 / asked
            assert near.missing_ms * 1000 == pytest.approx(over_us / forwards, abs=1.001)


@pytest.mark.parametrize("seed", [74, 99, 205, 323, 393])
def test_what_is_ruled_out_wins_nothing_also_under_a_limit_of_a_pass(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, score = random_table(rng), Drawn(seed=seed)
    application = table.card.application
    assert application is not None
    light = {"peak_bytes": 0, "state_bytes": 0}
    slow_to_load = dataclasses.replace(
        application,
        load_ms=float(rng.integers(30, 200)),
        decoders=tuple(dataclasses.replace(one, weight_bytes=200_000, **light) for one in application.decoders),
        text_encoders=tuple(
            dataclasses.replace(application.text_encoders[0], name=name, ms=ms, weight_bytes=0, **light)
            for name, ms in (("words", 2.0), ("sentences", 12.0))
        ),
    )
    card = dataclasses.replace(table.card, application=slow_to_load)
    table = LatencyTable(name="slow to load", card=card, rows=table.rows)
    axes = AXES | {"steps": (2,), "depth": (2,), "decoder": ("small",), "commit": ("reuse_last",)}
    axes |= {"text_encoder": ("words", "sentences")}
    everything = list(every_design(table, score, axes))
    pass_us = int(np.quantile([one.pass_us for one in everything], rng.uniform(0.1, 0.9)))
    memory = int(np.quantile([one.memory_bytes for one in everything], rng.uniform(0.1, 0.9)))
    found = design(
        table,
        budget=[f"{pass_us}us", f"{memory}B"],
        choose={axis: list(values) for axis, values in axes.items()},
        rate=RATES,
        score=score,
        latency_model="lookup",
    )
    fits = [one for one in everything if one.pass_us <= pass_us and one.memory_bytes <= memory]
    for cell in found.cells:
        shown = None if cell.design is None else as_wish(found.designs[cell.design])
        assert same(shown, best_of(one for one in fits if one.rate_fps >= cell.rate_fps)), cell
    assert same(None if found.best is None else as_wish(found.best), best_of(fits))

"""Boxes find what looking at all pairs finds."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from s2search.lint import relations
from s2search.lint.base import NOISE
from s2search.lint.relations import slower_than_less_work, worlds_apart_from_most
from s2search.tables.columns import Groups
from s2search.tables.row import Row
from s2search.tables.rows import Rows
from s2search.tables.table import open_table


def is_larger(row: Row, other: Row) -> bool:
    sizes = ("frames", "height", "width", "context_frames", "channels", "feed_forward", "text_tokens")
    pairs = [(getattr(row, size), getattr(other, size)) for size in sizes]
    return all(mine >= its for mine, its in pairs) and any(mine > its for mine, its in pairs)


def is_slower(row: Row, other: Row) -> bool:
    square = (row.latency_std_ms or 0.0) ** 2 + (other.latency_std_ms or 0.0) ** 2
    noise_ms = max(NOISE * other.latency_ms, 3 * square**0.5)
    return row.latency_ms > 0 and is_larger(row, other) and other.latency_ms - row.latency_ms > noise_ms


def is_apart(row: Row, other: Row) -> bool:
    small, large = sorted((row, other), key=lambda one: one.shape.tokens)
    growth = large.shape.tokens * (large.frames + large.context_frames)
    growth /= small.shape.tokens * (small.frames + small.context_frames)
    growth *= max(1.0, large.height * large.width / (small.height * small.width))
    return not 0.01 < large.latency_ms / small.latency_ms < 100 * max(growth, 1.0)


Found = list[tuple[int, int]]


def all_slower(group: list[Row]) -> Found:
    found = [(n, [m for m, other in enumerate(group) if is_slower(row, other)]) for n, row in enumerate(group)]
    return [(n, min(others, key=lambda m: (-group[m].latency_ms, m))) for n, others in found if others]


def all_apart(group: list[Row]) -> Found:
    found = [
        (n, [m for m, other in enumerate(group) if n != m and is_apart(row, other)]) for n, row in enumerate(group)
    ]
    most = [(n, others[0]) for n, others in found if 2 * len(others) > len(group) - 1]
    return most if len(group) > 2 else most[1:]


def random_group(rng: random.Random, rows: int, *, frames: tuple[int, ...], spread: float) -> list[Row]:
    base = next(row for row in open_table("iphone-16-pro-max").rows if row.role == "block")
    made: dict[tuple[object, ...], Row] = {}
    while len(made) < rows:
        height, width, count = rng.randint(1, 16), rng.randint(1, 30), rng.choice(frames)
        unit = 1000 if rng.random() < spread / 20 else 1
        latency_ms = base.latency_ms * height * width * count / (18 * 32 * 3) * rng.lognormvariate(0, spread) * unit
        latency_ms = min(max(latency_ms, 0.002), 1e8)
        row = dataclasses.replace(
            base,
            height=height,
            width=width,
            frames=count,
            context_frames=rng.choice((0, 6)),
            latency_ms=round(latency_ms) + 1.0 if rng.random() < 0.3 else latency_ms,
            latency_std_ms=rng.choice((None, 0.01 * latency_ms, 0.2 * latency_ms)),
        )
        made[row.key] = row
    return list(made.values())


def shuffled(rng: random.Random, groups: list[list[Row]]) -> tuple[Rows, Groups, list[list[int]]]:
    """Return the rows of all groups in a random order, their groups, and the places of each group's rows."""
    places = [n for n, group in enumerate(groups) for _ in group]
    rng.shuffle(places)
    left = [iter(group) for group in groups]
    rows = Rows.of([next(left[n]) for n in places])
    return rows, Groups.of(np.array(places)), [[p for p, n in enumerate(places) if n == g] for g in range(len(groups))]


def check(rng: random.Random, groups: list[list[Row]]) -> None:
    rows, grouped, places = shuffled(rng, groups)
    for find, expected in ((slower_than_less_work, all_slower), (worlds_apart_from_most, all_apart)):
        pairs = [(at[n], at[m]) for at, group in zip(places, groups, strict=True) for n, m in expected(group)]
        assert list(zip(*find(rows, grouped), strict=True)) == sorted(pairs)


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0, 6.0])
@pytest.mark.parametrize(("rows", "frames"), [(2, (3,)), (7, (3,)), (60, (3,)), (150, (1, 2, 3, 5))])
def test_boxes_find_the_rows_and_the_others_that_all_pairs_find(
    rows: int, frames: tuple[int, ...], spread: float
) -> None:
    rng = random.Random(f"{rows} {spread}")
    check(rng, [random_group(rng, rows, frames=frames, spread=spread)])


@pytest.mark.parametrize("spread", [0.3, 1.0, 6.0])
def test_so_do_boxes_of_many_groups(spread: float) -> None:
    rng = random.Random(f"many {spread}")
    check(rng, [random_group(rng, rows, frames=(1, 3), spread=spread) for rows in (1, 2, 2, 3, 5, 8, 9, 17, 40, 2, 64)])


def test_so_do_boxes_whose_sizes_are_no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "_MOST_CELLS", 0)
    rng = random.Random(5)
    check(rng, [random_group(rng, 150, frames=(1, 2, 3, 5), spread=0.3), random_group(rng, 30, frames=(1,), spread=1)])


def test_a_latency_exactly_as_far_as_units_are_is_apart() -> None:
    """A hundred times, or a hundredth, decides by its last bit."""
    base = next(row for row in open_table("iphone-16-pro-max").rows if row.role == "block")
    group = [
        dataclasses.replace(base, height=n, latency_ms=ms, latency_std_ms=None)
        for n, ms in enumerate([300.0, 3.0, 3.0, 3.0, 0.03, 0.3, 0.003], start=10)
    ]
    check(random.Random(0), [group])

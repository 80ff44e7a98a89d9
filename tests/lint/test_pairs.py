"""Boxes find what looking at all pairs finds."""

from __future__ import annotations

import dataclasses
import random

import pytest

from s2search.lint.base import NOISE
from s2search.lint.kin import NumberedRow, slower_than_less_work, worlds_apart_from_most
from s2search.tables.row import Row
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


def lines_slower(group: list[NumberedRow]) -> list[tuple[int, int]]:
    found = [(line, [other for other, its in group if is_slower(row, its)]) for line, row in group]
    return [(line, others[0]) for line, others in found if others]


def lines_apart(group: list[NumberedRow]) -> list[tuple[int, int]]:
    found = [(line, [n for n, its in group if n != line and is_apart(row, its)]) for line, row in group]
    most = [(line, others[0]) for line, others in found if 2 * len(others) > len(group) - 1]
    return most if len(group) > 2 else most[1:]


def random_group(rng: random.Random, rows: int, *, frames: tuple[int, ...], spread: float) -> list[NumberedRow]:
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
    return list(enumerate(made.values(), start=2))


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0, 6.0])
@pytest.mark.parametrize(("rows", "frames"), [(2, (3,)), (7, (3,)), (60, (3,)), (150, (1, 2, 3, 5))])
def test_boxes_find_the_rows_and_the_first_others_that_all_pairs_find(
    rows: int, frames: tuple[int, ...], spread: float
) -> None:
    group = random_group(random.Random(f"{rows} {spread}"), rows, frames=frames, spread=spread)
    for found, expected in (
        (slower_than_less_work(group), lines_slower(group)),
        (worlds_apart_from_most(group), lines_apart(group)),
    ):
        assert [(one[0], other[0]) for one, other in found] == expected


def test_so_do_boxes_whose_sizes_are_no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    from s2search.lint import relations

    monkeypatch.setattr(relations, "_MOST_CELLS", 0)
    group = random_group(random.Random(5), 150, frames=(1, 2, 3, 5), spread=0.3)
    assert [(one[0], other[0]) for one, other in slower_than_less_work(group)] == lines_slower(group)

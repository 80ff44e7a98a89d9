"""Which of several designs dominates which, and which is the best: each rule apart, on designs that are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from s2search.designer.axes import amount
from s2search.designer.preference import DEFAULT, best_of, equal_to, parse_preference, undominated
from s2search.quality.base import Judgement

PLAIN: dict[str, Any] = {
    "video": "512x288",
    "steps": 4,
    "width": 2048,
    "depth": 28,
    "window": 2,
    "precision": "w4a8",
    "chunk": 3,
    "decoder": "",
    "text_encoder": "",
    "commit": "reuse_last",
    "residency": "together",
}


def one(
    rate: float = 10.0, score: float = 0.0, memory: int = 10, first: int = 10, quality: Any = None, **axes: Any
) -> Any:
    """Return a design of these figures; `quality` is its value, or that with its error and scale."""
    value, error, scale = (*quality, "a")[:3] if isinstance(quality, tuple) else (quality, None, "a")
    settings = PLAIN | axes
    judged = (
        None
        if value is None
        else Judgement(value=value, error=error, scale=scale, source="a test", provenance="stated")
    )
    return SimpleNamespace(
        key=(rate, score, memory, first, quality, *settings.values()),
        rate_fps=rate,
        memory_bytes=memory,
        first_us=first,
        point=SimpleNamespace(score=score),
        combination=SimpleNamespace(of=settings.__getitem__, **settings),
        judgement=judged,
    )


@pytest.mark.parametrize(
    "figures",
    [
        {"rate": 11.0},
        {"score": 1.0},
        {"memory": 9},
        {"first": 9},
        {"video": "768x432"},
        {"steps": 8},
        {"window": 3},
        {"precision": "w8a8"},
    ],
)
def test_more_of_one_thing_and_as_much_of_the_rest_dominates_and_less_of_another_does_not(
    figures: dict[str, Any],
) -> None:
    assert undominated([one(), one(**figures)]) == [1]
    for other in ({"rate": 9.0}, {"memory": 11}, {"first": 11}, {"score": -1.0}, {"steps": 2}, {"video": "256x144"}):
        if not {*other} & {*figures}:
            assert undominated([one(), one(**(figures | other))]) == [0, 1]


@pytest.mark.parametrize(
    "other", [{"chunk": 1}, {"commit": "clean_pass"}, {"decoder": "b"}, {"depth": 30}, {"width": 4096}]
)
def test_what_nobody_can_compare_dominates_nothing(other: dict[str, Any]) -> None:
    assert undominated([one(), one(rate=20.0, score=1.0, memory=1, first=1, **other)]) == [0, 1]


@pytest.mark.parametrize("other", [{"residency": "in_turn"}, {"text_encoder": "b"}])
def test_what_is_not_seen_in_the_video_is_no_difference(other: dict[str, Any]) -> None:
    assert undominated([one(), one(rate=20.0, **other)]) == [1]


def test_a_quality_on_one_scale_stands_in_the_place_of_axes_and_of_scores_of_other_models() -> None:
    deep = one(rate=9.0, score=5.0, quality=80.0, steps=8, chunk=1)
    shallow = one(rate=10.0, score=-5.0, quality=90.0, depth=14)
    assert undominated([deep, shallow]) == [1]
    assert undominated([deep, one(rate=10.0, score=-5.0, quality=(90.0, None, "b"), depth=14)]) == [0, 1]
    assert undominated([one(quality=90.0), one(quality=80.0, rate=11.0)]) == [0, 1]
    assert undominated([one(quality=90.0), one(quality=90.0, score=9.0, depth=14)]) == [0, 1]


def test_what_a_quality_calls_equal_is_chosen_by_score_and_not_by_more_steps() -> None:
    many, few = one(quality=(80.0, 1.0), steps=8), one(quality=(80.5, 1.0), steps=2, score=1.0)
    assert best_of([many, few], DEFAULT) is few
    assert best_of([many, few], parse_preference("steps")) is many
    assert best_of([one(steps=8), one(steps=2, score=1.0)], DEFAULT).combination.of("steps") == 8
    unjudged = one(steps=4, score=2.0)
    assert best_of([many, few, unjudged], DEFAULT) is many


def test_within_error_neither_quality_is_better_and_either_is_good_enough() -> None:
    worse, better = one(quality=(80.0, 1.0), chunk=1), one(quality=(81.0, 1.0))
    assert undominated([worse, better]) == [0, 1]
    assert undominated([one(quality=(80.0, 1.0), rate=11.0, chunk=1), better]) == [0]
    assert undominated([worse, one(quality=(84.0, 1.0))]) == [1]
    assert equal_to(worse, [worse, better, one(quality=(84.0, 1.0)), one()]) == [better]


def test_the_first_wish_that_differs_decides() -> None:
    larger, more, better = one(video="768x432"), one(steps=8), one(score=1.0)
    assert best_of([better, more, larger], DEFAULT) is larger
    assert best_of([better, more, larger], parse_preference("steps")) is more
    assert best_of([better, more, larger], parse_preference("score,steps")) is better
    fast, small = one(rate=11.0), one(memory=9)
    assert best_of([one(), small, fast], DEFAULT) is fast
    assert best_of([one(), small], DEFAULT) is small
    assert best_of([], DEFAULT) is None


def test_quality_leaves_out_only_what_is_worse_beyond_error_on_a_scale_of_its_own() -> None:
    good, near, bad = one(quality=(90.0, 1.0)), one(quality=(89.0, 1.0), score=1.0), one(quality=(80.0, 1.0), score=2.0)
    assert best_of([good, bad], DEFAULT) is good
    assert best_of([good, near, bad], DEFAULT) is near
    unknown = one(steps=32)
    assert best_of([good, near, bad, unknown], DEFAULT) is unknown
    elsewhere = one(quality=(1.0, None, "b"), steps=20)
    assert best_of([good, near, bad, elsewhere], DEFAULT) is elsewhere


def test_more_bits_of_weights_are_more_and_then_more_of_activations() -> None:
    named = ("w4a8", "w4a16", "w8a8", "w8a16", "float16", "float32")
    bits = [amount("precision", name) for name in named]
    assert bits == sorted(bits)
    assert len({*bits}) == len(named)
    assert amount("video", "768x432") > amount("video", "512x512") > amount("video", "512x288")

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.cost import Budget
from s2search.errors import InfeasibleError, InputError
from s2search.latency.lookup import Lookup
from s2search.planner.constraints import Constraints
from s2search.planner.find import find, price
from s2search.planner.plan import Plan
from s2search.planner.request import Request, Target
from s2search.score.file import ScoreFile
from s2search.solver.base import Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.questions.ties import find_ties
from s2search.space import Space
from s2search.tables.table import LatencyTable, open_table

EXACT: Solver = Dynamic()
NOTHING_FITS = (InfeasibleError,)
IPHONE = open_table("iphone-16-pro-max")
LABELS = ["lcha", "ssa", "kv_compressed"]


def other_phone(name: str, milliseconds: list[float]) -> LatencyTable:
    """Return a table of the same shapes on which the three blocks and the switches take other times."""
    costs = dict(zip([*LABELS, "down", "up"], milliseconds, strict=True))
    rows = tuple(dataclasses.replace(row, latency_ms=costs.get(row.part, row.latency_ms)) for row in IPHONE.rows)
    return dataclasses.replace(IPHONE, name=name, rows=rows)


def target(table: LatencyTable, *budgets: str) -> Target:
    return Target(table=table, scope=table.scope("stream"), budgets=tuple(map(Budget.parse, budgets)))


def ask(
    *budgets: str,
    depth: int = 6,
    candidates: str = "lcha,ssa",
    group_size: int = 1,
    scores: dict[str, object] | None = None,
    further: tuple[Target, ...] = (),
    **asked: object,
) -> Request:
    return Request(
        table=IPHONE,
        scope=IPHONE.scope("stream"),
        space=Space.parse(candidates, depth=depth, group_size=group_size),
        latency_model=Lookup(),
        score=ScoreFile(
            schema="s2search.score/1",
            name="made up",
            statement="made up",
            scores=scores or {"lcha": 3.0, "ssa": 1.0, "kv_compressed": 2.0},  # type: ignore[arg-type]
        ),
        budgets=tuple(map(Budget.parse, budgets)),
        constraints=Constraints(**asked),  # type: ignore[arg-type]
        further=further,
    )


def layouts(request: Request) -> Iterator[tuple[str, ...]]:
    return itertools.product([block.label for block in request.space.candidates], repeat=request.space.depth)


def milliseconds(table: LatencyTable, layout: tuple[str, ...]) -> float:
    """Return the latency of a layout from the rows alone, as the definition has it."""
    row = {row.part: row.latency_ms for row in table.rows if row.scenario == "stream" and not row.options}
    low = [False, *(label == "ssa" for label in layout), False]
    switches = sum(row["down"] if b else row["up"] for a, b in pairwise(low) if a != b)
    return sum(row[label] for label in layout) + switches + row["stem"] + row["head"]


def score(request: Request, layout: tuple[str, ...]) -> float:
    labels = [block.label for block in request.space.candidates]
    return float(sum(request.problem.score_LC[layer, labels.index(label)] for layer, label in enumerate(layout)))


block_times = st.lists(st.integers(1, 20).map(float), min_size=3, max_size=3)
switch_times = st.lists(st.integers(0, 5).map(float), min_size=2, max_size=2)
layer_scores = st.fixed_dictionaries(
    {x: st.lists(st.integers(0, 9).map(float), min_size=4, max_size=4) for x in LABELS}
)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(block_times, switch_times, st.integers(20, 80)), min_size=1, max_size=2),
    st.integers(25, 70),
    layer_scores,
)
def test_a_plan_for_several_devices_is_the_best_of_the_layouts_that_fit_each(
    phones: list[tuple[list[float], list[float], int]], budget: int, scores: dict[str, object]
) -> None:
    tables = [other_phone(f"phone{i}", blocks + switches) for i, (blocks, switches, _) in enumerate(phones)]
    further = tuple(target(table, f"{limit}ms") for table, (_, _, limit) in zip(tables, phones, strict=True))
    request = ask(f"{budget}ms", depth=4, candidates=",".join(LABELS), scores=scores, further=further)
    limits = [(IPHONE, budget), *((table, limit) for table, (_, _, limit) in zip(tables, phones, strict=True))]

    def best(limits: list[tuple[LatencyTable, int]]) -> float | None:
        fitting = (x for x in layouts(request) if all(milliseconds(t, x) <= limit + 1e-6 for t, limit in limits))
        return max((score(request, layout) for layout in fitting), default=None)

    try:
        plan = find(request, EXACT)
    except NOTHING_FITS:
        assert best(limits) is None
        return
    assert plan.score == best(limits)
    for device, (table, limit) in zip(plan.devices, limits, strict=True):
        assert device.latency_ms.predicted == pytest.approx(milliseconds(table, plan.layout))
        assert device.latency_ms.predicted <= limit
        assert device.latency_ms.slack == pytest.approx(limit - device.latency_ms.predicted)
    for i, device in enumerate(plan.devices):
        without = best(limits[:i] + limits[i + 1 :])
        assert without is not None
        assert (device.score_without, device.binds) == (without, without > plan.score)


def test_each_device_has_its_own_memory_budget() -> None:
    free = find(ask(further=(target(other_phone("b", [9, 9, 9, 0, 0])),)), EXACT)
    assert [device.binds for device in free.devices] == [False, False]
    limit = free.memory_bytes.predicted - 1
    tight = find(ask(further=(target(other_phone("b", [9, 9, 9, 0, 0]), f"{limit}B"),)), EXACT)
    assert tight.score < free.score
    assert tight.memory_bytes.budget is None
    assert tight.devices[1].memory_bytes.budget == limit
    assert [device.binds for device in tight.devices] == [False, True]


def test_where_two_devices_hold_the_score_down_alike_neither_binds_alone() -> None:
    twin = dataclasses.replace(IPHONE, name="twin")
    plan = find(ask("60ms", further=(target(twin, "60ms"),)), EXACT)
    assert plan.counts["ssa"] > 0
    assert [device.binds for device in plan.devices] == [False, False]


@settings(max_examples=40)
@given(
    st.integers(0, 6),
    st.lists(st.sampled_from(["lcha", "ssa"]), min_size=6, max_size=6),
    st.integers(30, 90),
    st.sampled_from([{"lcha": 3.0, "ssa": 1.0}, {"lcha": [1.0, 5.0, 2.0, 2.0, 5.0, 1.0], "ssa": 2.0}]),
)
def test_a_plan_near_another_is_the_best_within_the_changes_and_changes_no_more_than_it_needs(
    most: int, like: list[str], budget: int, scores: dict[str, object]
) -> None:
    request = ask(f"{budget}ms", like=tuple(like), max_changes=most, scores=scores)

    def changes(layout: tuple[str, ...]) -> int:
        return sum(a != b for a, b in zip(layout, like, strict=True))

    fitting = [x for x in layouts(request) if changes(x) <= most and milliseconds(IPHONE, x) <= budget]
    if not fitting:
        with pytest.raises(NOTHING_FITS):
            find(request, EXACT)
        return
    plan = find(request, EXACT)
    best = max(score(request, layout) for layout in fitting)
    assert plan.score == best
    assert plan.optimal
    assert changes(plan.layout) == min(changes(x) for x in fitting if score(request, x) == best)
    assert plan.ties == sum(score(request, layout) == best for layout in fitting)


@settings(max_examples=40)
@given(
    st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted),
    st.sampled_from([(), ("lcha",), ("ssa", "lcha")]),
    st.sampled_from([(), ("ssa",), ("lcha", "ssa")]),
    st.one_of(st.none(), st.integers(0, 6)),
    st.sampled_from([1, 2]),
)
def test_counts_ends_and_switches_hold_and_the_plan_is_the_best_that_keeps_them(
    count: list[int], first: tuple[str, ...], last: tuple[str, ...], max_switches: int | None, group_size: int
) -> None:
    asked = {"counts": {"ssa": tuple(count)}, "first": first, "last": last, "max_switches": max_switches}

    def kept(layout: tuple[str, ...]) -> bool:
        low = [False, *(label == "ssa" for label in layout), False]
        return (
            count[0] <= layout.count("ssa") <= count[1]
            and layout[: len(first)] == first
            and layout[6 - len(last) :] == last
            and (max_switches is None or sum(a != b for a, b in pairwise(low)) <= max_switches)
            and all(layout[i] == layout[i - i % group_size] for i in range(6))
        )

    plain = ask("70ms", group_size=group_size)
    fitting = [x for x in layouts(plain) if kept(x) and milliseconds(IPHONE, x) <= 70]
    if not fitting:
        with pytest.raises((*NOTHING_FITS, InputError)):
            find(ask("70ms", group_size=group_size, **asked), EXACT)
        return
    plan = find(ask("70ms", group_size=group_size, **asked), EXACT)
    assert kept(plan.layout)
    assert plan.score == max(score(plain, layout) for layout in fitting)
    assert plan.ties == sum(score(plain, layout) == plan.score for layout in fitting)
    assert plan.constraints.broken(plan.layout, switches=plan.switches) == ()


def test_ties_are_counted_on_every_device() -> None:
    slow_switches = other_phone("b", [10, 5, 7, 3, 3])
    request = ask("60ms", further=(target(slow_switches, "52ms"),))
    plan = find(request, EXACT)
    fitting = [x for x in layouts(request) if milliseconds(IPHONE, x) <= 60 and milliseconds(slow_switches, x) <= 52]
    assert plan.ties == sum(score(request, layout) == plan.score for layout in fitting)
    alone = ask("60ms").problem
    assert find_ties(alone, round(plan.score * 10**9)).count > (plan.ties or 0)


def test_ties_are_counted_with_the_largest_peak_on_a_further_device() -> None:
    rows = tuple(
        dataclasses.replace(row, weight_bytes=1000, state_bytes=0, peak_bytes=5000 if row.part == "lcha" else 0)
        if row.role == "block"
        else dataclasses.replace(row, weight_bytes=0, state_bytes=0, peak_bytes=0)
        for row in IPHONE.rows
    )
    device = dataclasses.replace(IPHONE, name="b", rows=rows)
    for limit, ties in [(10_999, 1), (11_000, 64)]:
        request = ask(scores={"lcha": 1.0, "ssa": 1.0}, further=(target(device, f"{limit}B"),))
        assert find(request, EXACT).ties == ties


def test_between_fixed_ends_the_layout_is_the_most_even_sandwich() -> None:
    plan = find(ask("115ms", depth=12, first=("lcha", "lcha"), last=("lcha",)), EXACT)
    assert (plan.layout[:2], plan.layout[-1]) == (("lcha", "lcha"), "lcha")
    assert (plan.counts, plan.written) == ({"lcha": 5, "ssa": 7}, "L2S2LS2LS3L")


def test_a_layout_that_is_already_the_best_stays_as_it_is() -> None:
    like = ("ssa", "lcha", "lcha", "ssa", "ssa", "lcha")
    plan = find(ask("62ms", like=like, max_changes=6), EXACT)
    assert plan.ties == 20  # 6 choose 3
    assert plan.layout == like
    indifferent = {"lcha": 1.0, "ssa": 1.0}  # one faster block would do as well
    assert find(ask("62ms", like=like, max_changes=6, scores=indifferent), EXACT).layout == like


def test_a_hand_written_layout_that_breaks_a_constraint_does_not_fit() -> None:
    request = ask(counts={"ssa": (4, 4)}, last=("lcha",), max_switches=1)
    plan = price(request, request.space.parse_layout("S3L2S"), EXACT)
    assert not plan.fits
    assert plan.switches == 4
    assert plan.constraints.broken(plan.layout, switches=plan.switches) == (
        "last lcha",
        "at most 1 switch (it has 4)",
    )


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"counts": {"full": (1, 1)}}, "'full' in a count is not a candidate; candidates: lcha, ssa"),
        ({"counts": {"ssa": (7, 9)}}, "ssa is to take 7 to 9 layers; 0 to 6"),
        ({"counts": {"ssa": (2, 3), "lcha": (1, 2)}}, "the counts ask for 3 to 5 layers, and there are 6"),
        ({"counts": {"ssa": (6, 6)}, "first": ("lcha",)}, "ssa is to take 6 layers; 0 to 5"),
        ({"counts": {"ssa": (0, 0)}, "first": ("ssa",)}, "ssa is to take 0 layers; 1 to 6"),
        ({"first": ("ssa",) * 4, "last": ("ssa",) * 3}, "4 first and 3 last layers are fixed, and there are 6"),
        ({"like": ("ssa",) * 5, "max_changes": 1}, "has 5 layers, not 6"),
        ({"like": ("full",) * 6, "max_changes": 1}, "'full' in the layout to stay near is not a candidate"),
        ({"max_changes": 1}, "not from which layout"),
        ({"like": ("ssa",) * 6}, "not how near"),
        ({"max_switches": -1}, "max_switches is -1"),
    ],
)
def test_constraints_that_cannot_be_kept_are_refused_without_a_search(asked: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        ask(**asked)


def test_a_device_given_twice_or_made_for_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="is given twice"):
        ask(further=(target(IPHONE, "60ms"),))
    small = open_table("amd-epyc")
    with pytest.raises(InputError, match=r"channels 2048 and .* has 512"):
        ask(further=(Target(table=small, scope=small.scope("stream", video=(18, 32))),))


def test_a_plan_file_records_what_was_asked_and_an_older_file_asked_nothing(tmp_path: Path) -> None:
    further = (target(other_phone("b", [9, 9, 9, 0, 0]), "55ms"),)
    plan = find(ask("60ms", further=further, like=("ssa",) * 6, max_changes=5, counts={"ssa": (1, 6)}), EXACT)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    content = json.loads(plan.to_json())
    assert content["constraints"]["counts"] == {"ssa": [1, 6]}
    assert [device["table"] for device in content["devices"]] == [IPHONE.name, "b"]
    del content["constraints"], content["devices"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    old = Plan.load(tmp_path / "old.json")
    assert (old.constraints, old.devices) == (Constraints(), ())

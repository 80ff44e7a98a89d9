from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2search.errors import InputError
from s2search.space import Space, interleave

SPACE = Space.parse("lcha,ssa,full", depth=6)


@given(st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_a_written_layout_reads_back(choice_L: list[int]) -> None:
    assert SPACE.parse_layout(SPACE.write_layout(choice_L)) == tuple(choice_L)


@given(st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_layouts_of_variants_are_written_with_their_names_and_read_back(choice_L: list[int]) -> None:
    space = Space.parse("lcha,lcha[gate=false,rope_order=post],ssa", depth=6)
    assert space.parse_layout(space.write_layout(choice_L)) == tuple(choice_L)


@given(st.integers(0, 4), st.integers(0, 4))
def test_interleaving_ends_and_begins_high_and_is_the_most_even_order_of_its_counts(high: int, low: int) -> None:
    assume(high + low)

    def key(layout: tuple[int, ...]) -> tuple[int, int, int]:
        return layout[-1], layout[0], sum(len(list(run)) ** 2 for _, run in itertools.groupby(layout))

    layout = interleave([high, low], [0, 1])
    assert key(layout) == min(map(key, itertools.permutations([0] * high + [1] * low)))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any))
def test_interleaving_keeps_the_counts(counts: list[int]) -> None:
    layout = interleave(counts, [c % 2 for c in range(len(counts))])
    assert [layout.count(c) for c in range(len(counts))] == counts


@given(st.integers(2, 20), st.integers(1, 20), st.integers(1, 20))
def test_runs_are_as_many_as_asked_and_differ_by_one_at_most(high: int, low: int, runs: int) -> None:
    layout = interleave([high, low], [0, 1], runs=runs)
    assert (layout.count(0), layout.count(1)) == (high, low)
    lengths = [(c, len(list(run))) for c, run in itertools.groupby(layout)]
    assert sum(c == 1 for c, _ in lengths) == min(runs, low, high - 1)
    for stream in (0, 1):
        of_stream = [length for c, length in lengths if c == stream]
        assert max(of_stream) - min(of_stream) <= 1


def test_interleaving_does_not_depend_on_the_order_of_the_candidates() -> None:
    assert interleave([3, 4], [0, 1]) == tuple(1 - c for c in interleave([4, 3], [1, 0]))


def test_groups_stay_whole() -> None:
    space = Space.parse("lcha,ssa", depth=8, group_size=2)
    assert space.layouts == 16
    assert space.write_layout(space.interleave([4, 4])) == "L2S4L2"
    with pytest.raises(InputError, match="mixes blocks inside a group of 2"):
        space.parse_layout("LSLSLSLS")


@pytest.mark.parametrize(
    ("candidates", "depth", "group_size", "complaint"),
    [
        ("", 4, 1, "no candidate blocks"),
        ("lcha,lcha", 4, 1, "named twice"),
        ("lcha,ssa", 0, 1, "the depth is 0"),
        ("lcha,ssa", 28, 3, "does not divide into groups of 3"),
        ("lcha,sssa", 4, 1, "did you mean 'ssa'"),
        ("lcha[gait=false]", 4, 1, "did you mean 'gate'"),
        ("lcha[gate]", 4, 1, "is not an option"),
        ("lcha[linear_only=true,local_only=true]", 4, 1, "cannot be linear_only and local_only"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(candidates: str, depth: int, group_size: int, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Space.parse(candidates, depth=depth, group_size=group_size)

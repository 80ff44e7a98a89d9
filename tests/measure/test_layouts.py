"""What whole layouts are made of."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from s2search.measurement.layouts import parts_of, parts_of_link
from s2search.space import parse_blocks

BLOCKS = parse_blocks("lcha,ssa,full")
LAYERS = st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=12)


@given(LAYERS, st.data())
def test_links_pay_together_what_the_whole_pays(layers, data):
    cuts = data.draw(st.sets(st.integers(1, len(layers) - 1)) if len(layers) > 1 else st.just(set()))
    ends = [0, *sorted(cuts), len(layers)]
    links = [parts_of_link(layers, first, after) for first, after in pairwise(ends)]
    assert sum(links, Counter()) == parts_of(layers)
    assert [link["stem"] for link in links] == [1] + [0] * len(cuts)
    assert all(min(link.values()) > 0 for link in links)

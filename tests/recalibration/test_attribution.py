from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.recalibration.attribution import Parts, attribute
from s2search.space import Space

ROLE = {"lcha": "block", "ssa": "block", "down": "switch", "up": "switch", "stem": "fixed", "head": "fixed"}
SPACE = Space.parse("lcha,ssa", depth=4)
TIMES = st.floats(min_value=0.01, max_value=100)
PARTS = st.fixed_dictionaries(dict.fromkeys(ROLE, TIMES)).map(lambda ms: Parts(role=ROLE, latency_ms=ms))
LAYOUTS = st.lists(st.sampled_from((0, 1)), min_size=1, max_size=8)


def counted(choice_L, parts):
    return parts.counts([SPACE.candidates[c] for c in choice_L])


@given(LAYOUTS, PARTS, PARTS, TIMES)
def test_what_a_miss_is_made_of_adds_up_to_it(choice_L, before, now, measured_ms):
    counts = counted(choice_L, before)
    miss = attribute(counts, before, now, measured_ms)
    assert miss.miss_ms == pytest.approx(measured_ms - before.sum_ms(counts), abs=1e-6)


@given(LAYOUTS, PARTS, st.floats(min_value=0.5, max_value=2))
def test_a_machine_that_became_slower_as_a_whole_is_nothing_but_drift(choice_L, before, factor):
    now = Parts(role=ROLE, latency_ms={label: factor * ms for label, ms in before.latency_ms.items()})
    counts = counted(choice_L, before)
    miss = attribute(counts, before, now, now.sum_ms(counts))
    assert miss.drift_ms == pytest.approx(miss.miss_ms, rel=1e-6, abs=1e-6)


def test_a_layout_pays_a_switch_wherever_its_stream_changes_and_at_its_end():
    parts = Parts(role=ROLE, latency_ms=dict.fromkeys(ROLE, 1.0))
    assert counted([0, 1, 1, 0], parts) == {"lcha": 2, "ssa": 2, "down": 1, "up": 1, "stem": 1, "head": 1}
    assert counted([1, 0, 1], parts) == {"lcha": 1, "ssa": 2, "down": 2, "up": 2, "stem": 1, "head": 1}
    assert counted([0, 0], parts) == {"lcha": 2, "stem": 1, "head": 1}

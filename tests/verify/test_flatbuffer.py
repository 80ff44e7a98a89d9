"""What is read from a flatbuffer by its schema is what was written, and a damaged one is one error."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.verification.inspectors.flatbuffer import Schema

pytest.importorskip("flatbuffers")

#: Every kind of field that XNNPACK's schema has, in its words.
SCHEMA = Schema.parsed(
    """
    file_identifier "AB01";
    enum Kind : short { none = 0, one = 1, }
    union Any { Point, Line: _Line, }
    table Point { x: float; weights: [uint] (deprecated); }
    // A comment: with a table { in it; }
    table _Line { kind: Kind; from: uint64; names: string; }
    table Node { any: Any; handle: uint; inner: Point; }
    table Graph { version: string; nodes: [Node]; sizes: [uint64]; }
    root_type Graph;
    """
)
floats = st.floats(width=32, allow_nan=False)
points = st.fixed_dictionaries({"x": floats, "weights": st.lists(st.integers(0, 2**32 - 1), max_size=3)})
lines = st.fixed_dictionaries(
    {
        "kind": st.integers(-(2**15), 2**15 - 1),
        "from": st.integers(0, 2**64 - 1),
        "names": st.text(max_size=4),
    }
)
unions = st.none() | st.tuples(st.just("Point"), points) | st.tuples(st.just("Line"), lines)
nodes = st.fixed_dictionaries({"any": unions, "handle": st.integers(0, 2**32 - 1), "inner": st.none() | points})
graphs = st.fixed_dictionaries(
    {
        "version": st.text(max_size=3),
        "nodes": st.lists(nodes, max_size=4),
        "sizes": st.lists(st.integers(0, 2**64 - 1), max_size=3),
    }
)


@settings(max_examples=30)
@given(graphs)
def test_what_is_written_is_read(tree):
    data = SCHEMA.write(tree)
    assert data[4:8] == b"AB01"
    assert SCHEMA.read(data) == tree


def test_infinities_and_the_smallest_numbers_stay():
    """flatc's JSON has six digits after the point, and no infinity."""
    node = {"any": ("Point", {"x": math.inf, "weights": []}), "handle": 0, "inner": {"x": 2.0**-149, "weights": []}}
    tree = {"version": "", "nodes": [node], "sizes": []}
    assert SCHEMA.read(SCHEMA.write(tree)) == tree


@settings(max_examples=30)
@given(graphs, st.data())
def test_a_damaged_one_is_read_or_is_one_error(tree, data):
    harmed = bytearray(SCHEMA.write(tree))
    for _ in range(3):
        harmed[data.draw(st.integers(0, len(harmed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        SCHEMA.read(bytes(harmed))

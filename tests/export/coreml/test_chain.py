"""Chains of packages: where a model is cut, and that its links give what one package of all layers gives."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from s2search.block import Stream, Window
from s2search.errors import InputError
from s2search.exporters.chain import (
    EMBEDDING,
    MODULATION,
    Course,
    Cutting,
    hidden,
    joined_outputs,
    part_of_inputs,
    spans_of,
)
from s2search.exporters.coreml.chained import ChainSteps
from s2search.exporters.coreml.packed import PackedSteps
from s2search.exporters.host import WIDTH, Host
from s2search.exporters.step import FUNCTIONS, StepShape
from tests.export.coreml.test_channels_first import BLOCKS, WITHOUT_A_TWIN
from tests.export.test_step import MIXED, make_model

pytestmark = pytest.mark.usefixtures("one_thread", "undivided")
HIGH, LOW = Stream.HIGH, Stream.LOW
SHAPE = StepShape(grid=(3, 5), frames=2, window=Window(frames=4))


def course_of(letters: str, *, head_skip: bool = True, channels: int = 8, tokens: tuple[int, int] = (60, 18)) -> Course:
    streams = tuple(HIGH if letter == "H" else LOW for letter in letters)
    high, low = tokens
    return Course(streams=streams, head_skip=head_skip, channels=channels, high_tokens=high, low_tokens=low)


# What a cut hands over.


@pytest.mark.parametrize(
    ("letters", "cuts", "handed"),
    [
        ("HHHH", [2], [["hidden_02"]]),
        ("HLLH", [1], [["hidden_01"]]),  # right before the low stream: down is the next link's
        ("HLLH", [2], [["hidden_01", "hidden_02"]]),  # inside it the high stream goes along
        ("HLLH", [3], [["hidden_01", "hidden_03"]]),
        ("HLLH", [1, 2], [["hidden_01"], ["hidden_02"]]),  # it was handed over as it is
        ("HLLH", [2, 3], [["hidden_01", "hidden_02"], ["hidden_03"]]),
        ("LLHH", [1], [["hidden_00", "hidden_01"]]),
        ("HLLHHL", [2, 5], [["hidden_01", "hidden_02"], ["hidden_05"]]),
        ("HLLHHLL", [2, 6], [["hidden_01", "hidden_02"], ["hidden_05", "hidden_06"]]),
    ],
)
def test_a_cut_hands_over_the_stream_and_a_long_skip_that_crosses_it(letters, cuts, handed):
    course, spans = course_of(letters), spans_of(len(letters), cuts)
    found = [[name for name in course.returned(span) if name.startswith("hidden")] for span in spans]
    assert found == [*handed, []]
    assert [MODULATION in course.returned(span) for span in spans] == [True, *[False] * len(cuts)]
    assert [EMBEDDING in course.taken(span) for span in spans] == [*[False] * len(cuts), True]


@pytest.mark.parametrize(("head_skip", "handed"), [(True, ["hidden_01", "hidden_02"]), (False, ["hidden_02"])])
def test_a_skip_that_nobody_adds_again_is_not_handed_over(head_skip, handed):
    course = course_of("HLL", head_skip=head_skip)
    assert [name for name in course.returned((0, 2)) if name.startswith("hidden")] == handed
    assert [name for name in course.taken((2, 3)) if name.startswith("hidden")] == handed


@given(letters=some.text("HL", min_size=2, max_size=8), head_skip=some.booleans(), data=some.data())
def test_what_a_link_takes_was_handed_on_once_before_it_and_nothing_is_for_nobody(letters, head_skip, data):
    course = course_of(letters, head_skip=head_skip)
    cuts = sorted(data.draw(some.sets(some.integers(1, len(letters) - 1), min_size=1)))
    spans, there = spans_of(len(letters), cuts), list[str]()
    wanted = {name for span in spans for name in course.taken(span)}
    for span in spans:
        assert set(course.taken(span)) <= set(there)
        there += course.returned(span)
    assert len(there) == len(set(there))
    assert set(there) == wanted
    assert {course.shape(name)[3] % WIDTH for name in there} == {0}


# Where it is cut.


def brute_force(cutting: Cutting):
    """Return the best cost over all ways to cut, and the ways that have it."""
    depth, costs = cutting.course.depth, {}
    for count in range(depth):
        for cuts in itertools.combinations(range(1, depth), count):
            links = [cutting.cost(span) for span in spans_of(depth, cuts)]
            if None not in links:
                costs[spans_of(depth, cuts)] = tuple(map(sum, zip(*links, strict=True)))
    least = min(costs.values(), default=None)
    return least, [spans for spans, cost in costs.items() if cost == least]


@given(
    letters=some.text("HL", min_size=1, max_size=9),
    weights=some.lists(some.integers(1, 20), min_size=9, max_size=9),
    switch=some.integers(0, 5),
    most=some.integers(10, 60),
    head_skip=some.booleans(),
)
def test_the_cut_is_the_best_of_all_ways_to_cut(letters, weights, switch, most, head_skip):
    def weight_bytes(span):
        first, after = span
        changes = sum(a != b for a, b in itertools.pairwise(letters[max(first - 1, 0) : after]))
        return sum(weights[first:after]) + switch * changes

    cutting = Cutting(course=course_of(letters, head_skip=head_skip), weight_bytes=weight_bytes, most_bytes=float(most))
    least, best = brute_force(cutting)
    if least is None:
        with pytest.raises(InputError, match=r"a layer alone takes [\d,]+ bytes of weights, and a package at most"):
            cutting.best()
    else:
        assert cutting.best() in best


def test_of_links_as_few_it_hands_over_least_and_then_is_most_even():
    def cutting(letters, most):
        return Cutting(course=course_of(letters), weight_bytes=lambda span: span[1] - span[0], most_bytes=most)

    assert cutting("HHHH", 4).best() == ((0, 4),)
    assert cutting("HHHH", 3).best() == ((0, 2), (2, 4))
    assert cutting("HHLLHH", 4).best() == ((0, 2), (2, 6))  # before or behind the low stream, not inside it
    assert cutting("HHLLLLHH", 5).best() == ((0, 4), (4, 8))  # all of them hand over as much


def test_bytes_handed_over_are_those_of_what_goes_from_one_to_another():
    course = course_of("HLLH", channels=32, tokens=(60, 18))
    small = 2 * (6 * 32 + 32)
    high, low = 2 * 32 * 64, 2 * 32 * 32  # padded
    assert course.handed_bytes((0, 1)) == high + small
    assert course.handed_bytes((0, 2)) == high + low + small
    assert course.handed_bytes((2, 4)) == high + low + small
    assert course.handed_bytes((2, 3)) == 2 * low + 2 * 6 * 32


# That links give what one package does.


def furthest(model, shape: StepShape, cuts) -> float:
    """Return the largest difference of any output of the chain from those of one package, over all functions.

    Links are called as an application calls them: each with its own rows of the state, in its own shapes.
    """
    one, chain = PackedSteps(model, shape), ChainSteps(model, shape, spans_of(len(model.layers), cuts))
    apart = 0.0
    for function in FUNCTIONS:
        inputs = one.example(function, seed=3)
        with torch.no_grad():
            wanted = one.function(function)(*inputs.values())
            together = chain.function(function)(*inputs.values())
        for name, a, b in zip(one.outputs(function), wanted, together, strict=True):
            assert a.shape == b.shape, name
            apart = max(apart, float((a - b).abs().max() / (1 + a.abs().max())))
    return apart


@given(
    labels=some.lists(some.sampled_from(BLOCKS), min_size=2, max_size=4),
    grid=some.tuples(some.integers(1, 4), some.integers(1, 5)),
    frames=some.integers(1, 3),
    window=some.integers(1, 2),
    sink=some.integers(0, 1),
    data=some.data(),
)
@settings(max_examples=15, deadline=None)
def test_every_layout_gives_the_same_wherever_it_is_cut(labels, grid, frames, window, sink, data):
    cuts = sorted(data.draw(some.sets(some.integers(1, len(labels) - 1), min_size=1)))
    shape = StepShape(grid=grid, frames=frames, window=Window(frames=window * frames, sink_frames=sink * frames))
    assert furthest(make_model(" ".join(labels), frames), shape, cuts) < 1e-12


@pytest.mark.parametrize("cuts", [[1], [2], [3], [6], [1, 2], [2, 3], [1, 2, 3, 4, 5, 6]])
def test_a_cut_inside_the_low_stream_takes_the_skip_along(cuts):
    assert furthest(make_model(MIXED, 2), SHAPE, cuts) < 1e-12


def test_a_layer_in_its_own_layout_may_stand_in_any_link():
    model = make_model("lcha ssa lcha kv_compressed", 2)
    model.parts["layers.1"] = WITHOUT_A_TWIN["ssa"]
    for cuts in ([1], [2], [1, 2]):
        assert furthest(model, SHAPE, cuts) < 1e-12


@pytest.mark.parametrize("cuts", [[2], [1, 5]])
def test_the_links_own_graphs_give_the_same_and_have_the_names_of_the_whole(cuts):
    from s2search.exporters.coreml.operators import decompositions_for_coreml
    from s2search.exporters.functions import trace_function

    model, table = make_model(MIXED, 2), decompositions_for_coreml()
    one, chain = PackedSteps(model, SHAPE), ChainSteps(model, SHAPE, spans_of(len(model.layers), cuts))
    whole = trace_function(chain, "advance", table)["advance"]
    names = {node.name for node in whole.graph.nodes}
    inputs = {name: x.numpy() for name, x in one.example("advance", seed=1).items()}
    handed, returned, stored = {}, [], []
    for link, program in zip(chain.links, chain.programs("advance", table), strict=True):
        own = part_of_inputs(chain.form, link.form, inputs) | handed
        assert {name: own[name].shape for name in link.inputs("advance")} == {
            name: link.shapes()[name] for name in link.inputs("advance")
        }
        with torch.no_grad():
            outputs = program.module()(*(torch.from_numpy(own[name]) for name in link.inputs("advance")))
        found = dict(zip(link.outputs("advance"), (x.numpy() for x in outputs), strict=True))
        assert {name: x.shape for name, x in found.items()} == {name: link.shapes()[name] for name in found}
        handed |= {name: found[name] for name in link.hands_on}
        returned.append((link.form, found))
        assert {node.name for node in program.graph.nodes if node.op == "call_function"} <= names
        stored.append(set(program.state_dict))
    wanted = one.function("advance")(*one.example("advance", seed=1).values())
    found = joined_outputs(chain.form, returned)
    for name, x in zip(one.outputs("advance"), wanted, strict=True):
        assert np.abs(found[name] - x.detach().numpy()).max() < 1e-12, name
    layers = [{name.split(".")[2] for name in names if ".layers." in name} for names in stored]
    assert not any(a & b for a, b in itertools.combinations(layers, 2))
    assert set.union(*layers) == {str(layer) for layer in range(len(model.layers))}


def test_rows_of_a_link_are_those_of_its_layers_and_join_again():
    chain = ChainSteps(make_model(MIXED, 2), SHAPE, spans_of(7, [2, 5]))
    generator, shapes = np.random.default_rng(0), chain.form.shapes()
    outputs = []
    for link in chain.links:
        own = {
            name: generator.normal(size=size) for name, size in link.form.shapes().items() if name.startswith("new_")
        }
        outputs.append((link.form, own))
    whole = joined_outputs(chain.form, outputs)
    for name, array in whole.items():
        assert array.shape == shapes[name]
        rows = chain.form.rows()[name]
        for form, own in outputs:
            for row, layer in enumerate(form.rows()[name] if name in own else ()):
                height, width = own[name].shape[2:]
                assert np.array_equal(array[rows.index(layer), :, :height, :width], own[name][row])
    inputs = {name: generator.normal(size=size) for name, size in shapes.items() if not name.startswith("new_")}
    for link in chain.links:
        assert {name: x.shape for name, x in part_of_inputs(chain.form, link.form, inputs).items()} == {
            name: size for name, size in link.form.shapes().items() if not name.startswith("new_")
        }


@pytest.mark.parametrize("cuts", [[1], [3], [2, 5]])
def test_a_host_of_every_link_keeps_what_a_host_of_all_layers_keeps(cuts):
    """As an application does, which packs the layers of each package by themselves."""
    labels = "lcha ssa lcha[memory=window] full kv_compressed lcha[memory=decay] ssa"
    shape = StepShape(grid=(3, 5), frames=2, window=Window(frames=4, sink_frames=2))
    chain = ChainSteps(make_model(labels, 2), shape, spans_of(7, cuts))
    whole, generator = Host(chain.form), np.random.default_rng(0)
    hosts, state = [Host(link.form) for link in chain.links], Host(chain.form).start()
    states = [host.start() for host in hosts]
    for _ in range(6):
        given_ = whole.past(state)
        for host, link, own in zip(hosts, chain.links, states, strict=True):
            wanted = part_of_inputs(chain.form, link.form, given_)
            found = host.past(own)
            assert found.keys() == wanted.keys()
            assert all(np.array_equal(found[name], wanted[name]) for name in found)
        shapes = [{name: size for name, size in one.form.shapes().items() if name[:4] == "new_"} for one in chain.links]
        new = [{name: generator.uniform(0, 6, size).astype(np.float16) for name, size in one.items()} for one in shapes]
        forms = [link.form for link in chain.links]
        state = whole.after(state, joined_outputs(chain.form, list(zip(forms, new, strict=True))))
        states = [host.after(own, x) for host, own, x in zip(hosts, states, new, strict=True)]
    assert sum(link.form.state_bytes for link in chain.links) == chain.form.state_bytes


def test_hidden_streams_are_named_by_the_layer_that_they_enter():
    assert course_of("HLLH").shape(hidden(1))[3] == math.ceil(60 / WIDTH) * WIDTH
    assert course_of("HLLH").shape(hidden(2))[3] == math.ceil(18 / WIDTH) * WIDTH

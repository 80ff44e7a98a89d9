"""What a full ring hides, an empty one shows, and what one chunk hides, the sums of 300 show: on a package of ONNX."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from s2search.exporters.package import Package
from s2search.verification.check import results
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.sums import SumsCheck
from s2search.verification.ends import outputs_of_blocks
from s2search.verification.opened import PASTS, Opened

LEAST_DB = 90


def opened(folder):
    return Opened(Package.load(folder))


def worst_db(folder, function):
    check, one = ParityCheck(), opened(folder)
    return {past: min(check.outputs_db(one, function, past).values()) for past in PASTS}


def read_instead(graph, name, other):
    """Let all nodes read another value."""
    for node in graph.node:
        for place, given in enumerate(node.input):
            node.input[place] = other if given == name else given


def leak(name, factor):
    def change(graph):
        graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
        read_instead(graph, name, "leaked")
        graph.node.insert(0, helper.make_node("Mul", [name, "factor"], ["leaked"]))

    return change


def test_every_past_has_latents_of_its_own(exported):
    one = opened(exported)
    full, half, empty = (one.inputs("advance", past) for past in PASTS)
    frames = full["keys_01"].shape[1] // 2
    assert not np.array_equal(full["keys_01"][:, :frames], full["keys_01"][:, frames:])
    assert full["keys_01"][:, :frames].any()
    assert not half["keys_01"][:, :frames].any()
    assert half["keys_01"][:, frames:].any()
    assert (half["past_bias"] != 0).sum() == frames
    assert not empty["keys_01"].any()
    assert not empty["sum_00"].any()
    assert set(one.inputs("first")) == {"latents", "s", "text"}


def test_every_function_tells_what_each_of_its_blocks_gives(exported):
    one, blocks = opened(exported), ["stem", "layers.0", "down", "layers.1", "layers.2", "up", "head"]
    for function in ("first", "denoise", "advance"):
        found = outputs_of_blocks(one, function, one.inputs(function))
        assert [block for block in found if "," not in block] == blocks
    commit = outputs_of_blocks(one, "commit", one.inputs("commit"))
    assert [block for block in commit if "," not in block] == blocks[:4]  # of the last layer the state alone is kept
    assert not [name for name, module in one.source.named_modules() if "advance" in vars(module)]


def test_an_ignored_bias_shows_where_the_ring_is_not_full(package, edit_graph):
    def change(graph):
        (shape,) = [x.type.tensor_type.shape for x in graph.input if x.name == "past_bias"]
        nothing = np.zeros([axis.dim_value for axis in shape.dim], np.float32)
        graph.initializer.append(numpy_helper.from_array(nothing, "nothing"))
        read_instead(graph, "past_bias", "nothing")

    edit_graph(change, "denoise")
    found = worst_db(package, "denoise")
    assert found["full"] > LEAST_DB > 60 > max(found["half"], found["empty"])


@pytest.mark.parametrize(("output", "name"), [("new_sum_00", "sum_00"), ("new_norm_00", "norm_00")])
def test_a_sum_that_loses_a_hundred_thousandth_a_chunk_is_named(package, edit_graph, output, name):
    edit_graph(leak(name, 1 - 1e-5), "advance")
    assert worst_db(package, "advance")["full"] > LEAST_DB
    (found,) = results(SumsCheck(), opened(package))
    assert (found.status, found.where) == ("failed", f"layers.0: {output} of advance")


def test_sums_that_lose_nothing_pass(exported):
    (found,) = results(SumsCheck(), opened(exported))
    assert (found.status, found.required) == ("passed", True), found

"""`state.host` finds a host's state that is not the source's, whatever a package returns wrongly."""

from __future__ import annotations

import copy
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s2search.block import Window
from s2search.exporters.coreml.packed import PackedSteps
from s2search.exporters.step import Steps, StepShape
from s2search.verification.check import results
from s2search.verification.checks.state import StateCheck
from tests.export.test_step import make_model

SHAPE = StepShape(grid=(2, 3), frames=2, window=Window(frames=4, sink_frames=2))


@pytest.fixture(scope="module")
def packed():
    return PackedSteps(make_model("lcha ssa lcha[memory=window]", 2).float(), SHAPE)


def opened(packed, broken):
    """Return what the check needs of a package: the packed functions themselves, what they return broken."""

    def run(function, given):
        with torch.no_grad():
            outputs = packed.function(function)(*(torch.from_numpy(x).float() for x in given.values()))
        named = zip(packed.outputs(function), outputs, strict=True)
        return broken({name: x.numpy().astype(np.float16) for name, x in named})

    inputs = [SimpleNamespace(name=name, dtype="float16") for name in packed.inputs("commit")]
    manifest = SimpleNamespace(held=(), host=packed.form, function=lambda name: SimpleNamespace(inputs=inputs))
    return SimpleNamespace(
        package=SimpleNamespace(manifest=manifest),
        inspector=SimpleNamespace(state_faults=lambda package: []),
        exported=packed,
        source=packed.model,
        steps=Steps(packed.model, SHAPE),
        options=SimpleNamespace(seed=0, thresholds={}),
        mode="float16",
        functions=lambda: ("commit",),
        chunks_of=lambda past: SHAPE.slots // SHAPE.frames,
        least_db=lambda by_precision: by_precision["float16"],
        run_package=run,
        is_compressed=False,
        say=lambda label: None,
    )


def compressed(packed, broken):
    """Return the same of a package whose weights are no longer the source's, but stored with few bits."""

    def values(given, names):
        with torch.no_grad():
            tensors = (torch.from_numpy(given[name].astype(np.float32)) for name in packed.inputs("commit"))
            outputs = packed.function("commit")(*tensors)
        return {name: x.numpy() for name, x in zip(packed.outputs("commit"), outputs, strict=True) if name in names}

    made = opened(packed, broken)
    made.source = copy.deepcopy(packed.model)
    for parameter in made.source.parameters():
        parameter.mul_(1.2)
    made.steps, made.is_compressed = Steps(made.source, SHAPE), True
    made.reference = lambda function: SimpleNamespace(values=values, steps=packed)
    return made


BROKEN = {
    "keys for values": lambda new: new | {"new_keys": new["new_values"]},
    "frames change places": lambda new: new | {"new_values": np.roll(new["new_values"], 6, axis=3)},
    "the tail is lost": lambda new: new | {"new_tails": 0 * new["new_tails"]},
    "a chunk counts twice in the sums": lambda new: new | {"new_sums": 2 * new["new_sums"]},
    "a number that is none": lambda new: new | {"new_sums": new["new_sums"] + np.float16(np.nan)},
}


def test_the_state_of_a_sound_package_is_the_sources(packed):
    found = {one.name: one for one in results(StateCheck(), opened(packed, lambda new: new))}
    assert {name: one.status for name, one in found.items()} == {"state.form": "passed", "state.host": "passed"}
    # Keys and values of one layer, and a tail, S and z of two.
    assert found["state.host"].why.startswith("8 tensors, the worst ")


@pytest.mark.parametrize("fault", [None, *BROKEN])
def test_where_weights_have_few_bits_it_is_the_source_with_these_that_state_is_held_against(packed, fault):
    found = {one.name: one for one in results(StateCheck(), compressed(packed, BROKEN.get(fault, lambda new: new)))}
    assert found["state.host"].status == ("failed" if fault else "passed")


@pytest.mark.parametrize("fault", BROKEN)
def test_what_a_package_returns_wrongly_is_found_in_the_state_that_it_leaves(packed, fault):
    found = {one.name: one for one in results(StateCheck(), opened(packed, BROKEN[fault]))}
    assert (found["state.host"].status, found["state.host"].required) == ("failed", True)


def test_the_state_is_looked_at_when_the_window_has_moved_past_its_sink(packed):
    chunks = itertools.count(1)

    def late(new):
        return new | {"new_keys": 0 * new["new_keys"]} if next(chunks) > SHAPE.slots // SHAPE.frames + 1 else new

    found = {one.name: one for one in results(StateCheck(), opened(packed, late))}
    assert found["state.host"].status == "failed"
    assert found["state.host"].where.startswith("keys_01: ")

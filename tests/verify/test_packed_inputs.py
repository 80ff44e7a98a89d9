"""Inputs of packed functions that hide nothing say what a host's own say."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from s2search.block import KeptSums, Window
from s2search.errors import InputError
from s2search.exporters.coreml.packed import PackedSteps
from s2search.exporters.step import StepShape
from s2search.verification.packed_inputs import own_sizes, with_padding, with_shares_apart
from tests.export.coreml.test_packed import sizes_of
from tests.export.test_step import MIXED, make_model


@pytest.fixture(scope="module")
def steps():
    shape = StepShape(grid=(3, 5), frames=2, window=Window(frames=4))
    return PackedSteps(make_model(f"{MIXED} lcha[linear_head_dim=12]", 2).float(), shape)


@pytest.fixture(scope="module")
def inputs(steps):
    return {name: x.numpy() for name, x in steps.example("advance").items()}


def test_padding_is_random_and_the_source_is_given_the_same(steps, inputs):
    filled = with_padding(steps.form, inputs, seed=0)
    wanted, got = steps.to_source(inputs), steps.to_source(filled)
    assert all(np.array_equal(wanted[name], got[name]) for name in wanted)
    sizes = own_sizes(steps.form)
    for name, array in filled.items():
        padding = [array[row, :, :, width:] for row, (_, width) in enumerate(sizes[name])]
        padding += [array[row, :, height:] for row, (height, _) in enumerate(sizes[name])]
        assert all(np.abs(part).min() > 0 for part in padding if part.size), name


def test_the_program_is_given_the_same_and_no_padding_is_left_out(steps, inputs):
    filled = with_padding(steps.form, inputs, seed=0)
    for wanted, got in zip(*(outputs_of(steps, given) for given in (inputs, filled)), strict=True):
        assert torch.equal(wanted, got)
    form = dataclasses.replace(steps.form, time_channels=20)
    for name, rows in own_sizes(form).items():
        if name in inputs and name not in ("latents", "time", "text"):
            assert [width for _, width in rows] == sizes_of(steps.form, name, len(rows)), name
    assert [own_sizes(form)[name][0][1] for name in ("latents", "time", "text")] == [10, 20, 5]


def outputs_of(steps, given):
    with torch.no_grad():
        return steps.function("advance")(*(torch.from_numpy(x) for x in given.values()))


def test_heads_and_layers_have_shares_of_their_own_and_the_source_is_given_the_same(steps, inputs):
    form = steps.form
    apart = inputs | {"sums": with_shares_apart(form, inputs["sums"])}
    wanted, got = steps.to_source(inputs), steps.to_source(apart)
    assert all(np.allclose(wanted[name], got[name], rtol=1e-6) for name in wanted)
    firsts = []
    for row, one in enumerate(form.sums):
        size, width = form.channels + 2 * one.heads, form.head_channels(one)
        share_A = apart["sums"][row, 0, :size, :width].reshape(one.heads, -1, width)[:, -1, 0]
        assert (share_A[1:] != share_A[:-1]).all()
        firsts.append(share_A[0] / inputs["sums"][row, 0, form.head_channels(one) + 1, 0])
    assert all(one != other for one, other in itertools.pairwise(firsts))


def test_a_form_whose_heads_do_not_divide_the_channels_is_refused(steps):
    with pytest.raises(InputError, match="layer 0 keeps sums of 5 heads of "):
        dataclasses.replace(steps.form, sums=(KeptSums(heads=5),))

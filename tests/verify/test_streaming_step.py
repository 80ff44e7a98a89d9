"""Whole streaming steps of a tiny model: every operation has cover, and the state goes from call to call."""

import dataclasses

import pytest
import torch
from torch import nn

from s2search.mil.evaluator import MODES, Evaluator
from s2search.mil.program import Program
from s2search.mil.watch import Peaks, tensor_snr_db
from s2search.network.network import S2DiT
from s2search.testing.profilers import MINIATURE
from tests.export.coreml.plain_program import convert, trace
from tests.mil.programs import few_objects

GRID = (3, 3)
CHUNKS = 16


class LayersStep(nn.Module):
    """The layers of a model, without its ends: reads the state and returns what they add, and the state after."""

    def __init__(self, model, state):
        super().__init__()
        self.model, self._state = model, state

    def forward(self, x_BTHWD, modulation_BT6D, text_BSE, *state):
        left, new = iter(state), []
        for layer, past in zip(self.model.layers, filled(self._state, left), strict=True):
            new.append(layer.commit(x_BTHWD, modulation_BT6D, past))
            x_BTHWD = layer(x_BTHWD, modulation_BT6D, text_BSE, past)
        return (x_BTHWD, *tensors(new))


def tensors(tree):
    """Return the tensors of a tree of states, none with more than five axes."""
    if isinstance(tree, torch.Tensor):
        return [tree.flatten(4) if tree.ndim > 5 else tree]
    if dataclasses.is_dataclass(tree):
        tree = [getattr(tree, field.name) for field in dataclasses.fields(tree)]
    return [x for item in tree for x in tensors(item)] if isinstance(tree, (tuple, list)) else []


def filled(tree, left):
    """Return a tree of states with its tensors replaced."""
    if isinstance(tree, torch.Tensor):
        return next(left).view(tree.shape)
    if isinstance(tree, tuple):
        return tuple(filled(item, left) for item in tree)
    if dataclasses.is_dataclass(tree):
        fields = {field.name: filled(getattr(tree, field.name), left) for field in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **fields)
    return tree


@pytest.mark.slow
@torch.no_grad()
def test_a_state_that_is_passed_from_call_to_call_does_not_drift(tmp_path):
    torch.manual_seed(0)
    model = S2DiT.from_preset(MINIATURE, "lcha,lcha").eval().requires_grad_(False)
    state = model.initial_state(1, GRID, window=MINIATURE.window)
    step = LayersStep(model, state)
    modulation, text = torch.randn(1, 1, 6, 16), torch.randn(1, MINIATURE.text_tokens, MINIATURE.text_channels)

    def inputs(states):
        chunk = {"x": torch.randn(1, 1, *GRID, 16), "modulation": modulation, "text": text}
        return chunk | {f"state_{place}": x.contiguous() for place, x in enumerate(states)}

    first = inputs(tensors(state))
    with few_objects():
        sums = tuple(
            name for name, x in first.items() if name.startswith("state") and x.shape != first["state_2"].shape
        )
        convert(trace(step, first), exact=sums).save(str(tmp_path / "step.mlpackage"))
    program = Program.load(tmp_path / "step.mlpackage")
    for mode in MODES:
        evaluator, peaks = Evaluator(program, mode=mode), Peaks()
        expected_state = got_state = tensors(state)
        snr_db = []
        for _ in range(CHUNKS):
            given = inputs(expected_state)
            expected, *expected_state = step(*given.values())
            given |= {f"state_{place}": x for place, x in enumerate(got_state)}
            got, *got_state = evaluator.run(given, watch=[peaks]).outputs.values()
            snr_db.append(tensor_snr_db(expected, got))
        assert peaks.first_non_finite is None
        assert min(snr_db) > 55, snr_db


@pytest.mark.slow
@torch.no_grad()
def test_a_whole_step_of_both_streams_has_cover(tmp_path):
    torch.manual_seed(0)
    model = S2DiT.from_preset(MINIATURE, "lcha,ssa").eval().requires_grad_(False)
    state = model.initial_state(1, GRID, window=MINIATURE.window)
    latents, time = torch.randn(1, 16, 1, 6, 6), torch.full((1, 1), 0.5)
    text = torch.randn(1, MINIATURE.text_tokens, MINIATURE.text_channels)
    for _ in range(2):
        state = model.commit(torch.randn_like(latents), torch.zeros(1, 1), text, state)

    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, latents, time, text, *past):
            return self.model(latents, time, text, filled(state, iter(past)))

    given = {"latents": latents, "time": time, "text": text}
    given |= {f"state_{place}": x.contiguous() for place, x in enumerate(tensors(state))}
    with few_objects():
        convert(trace(Read(), given), exact=("time",)).save(str(tmp_path / "step.mlpackage"))
    evaluator = Evaluator(Program.load(tmp_path / "step.mlpackage"), mode="float16")
    (got,) = evaluator.run(given).outputs.values()
    # The time embedding costs most of it: see the stem in test_blocks.py.
    assert tensor_snr_db(model(latents, time, text, state), got) > 40

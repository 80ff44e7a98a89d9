"""The one walk, against the equations of the paper written out, and with layers that can do no more than they must."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from s2search.block import Stream, Window
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT
from s2search.network.walk import Route, predicted
from s2search.preset import Preset
from s2search.streaming.compiled import Compiled
from s2search.streaming.replay import leaves

SIZES = {"channels": 24, "heads": 4, "feed_forward": 32, "text_channels": 7, "text_tokens": 5}
PRESET = Preset(name="one layer", depth=1, **SIZES)


class Streams:
    """Numbers for streams: down halves, up takes twice and one."""

    head = None

    def __init__(self, head_skip):
        self.switched, self.config = [], ModelConfig(preset=PRESET, layout=("lcha",), head_skip=head_skip)

    def lowered(self, x):
        self.switched.append("down")
        return x / 2

    def raised(self, x, size):
        self.switched.append("up")
        return 2 * x + 1


def layer(number, stream, x):
    return x * (number + 2) + (5 if stream is Stream.LOW else 3)


def written_out(x, masks, head_skip=True):
    """S2DiT, section 3, with everything computed at every layer; the head's skip is not the paper's."""
    high, low, skip, before = x, x / 2, 0.0, 1.0
    for number, m in enumerate(masks):
        u, d = max(m - before, 0.0), max(before - m, 0.0)
        in_high = (1 - u) * high + u * (2 * low + 1 + skip)
        in_low = (1 - d) * low + d * high / 2
        skip = d * high + (1 - d) * skip
        high = m * (in_high * (number + 2) + 3) + (1 - m) * high
        low = (1 - m) * (in_low * (number + 2) + 5) + m * low
        before = m
    return before * high + (1 - before) * (2 * low + 1 + (skip if head_skip else 0))


def walked(x, masks, head_skip=True):
    network, ran = Streams(head_skip), []

    def run(number):
        def at(stream, x):
            ran.append((number, stream))
            return layer(number, stream, x)

        return at

    route = Route(network, x, low=x / 2)
    for number, m in enumerate(masks):
        route.enter(m, run(number))
    return route.leave(), network.switched, ran


@pytest.mark.parametrize("head_skip", [True, False])
@pytest.mark.parametrize("masks", [(1, 0, 0, 1, 1), (0, 0, 1, 0), (1, 1), (0,), (0, 1, 0, 1)], ids=str)
def test_a_hard_route_is_the_equations_and_runs_only_what_counts(masks, head_skip):
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    got, switched, ran = walked(x, masks, head_skip)
    torch.testing.assert_close(got, written_out(x, masks, head_skip), rtol=0, atol=0)
    changes = list(zip((1, *masks), (*masks, 1), strict=True))
    assert switched == ["down" if a else "up" for a, b in changes if a != b]
    assert ran == [(number, Stream.HIGH if m else Stream.LOW) for number, m in enumerate(masks)]


@pytest.mark.parametrize("masks", [(1.0, 0.0, 0.0, 1.0), (0.7, 0.2, 0.9, 0.4), (0.0, 0.5, 0.5, 1.0)], ids=str)
def test_a_soft_route_is_the_equations_and_so_are_its_gradients(masks):
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    soft = torch.tensor(masks, dtype=torch.float64, requires_grad=True)
    got, _, ran = walked(x, soft)
    torch.testing.assert_close(got, written_out(x, masks), rtol=1e-14, atol=0)
    assert len(ran) == 2 * len(masks)
    got.sum().backward()
    for number, gradient in enumerate(soft.grad):
        if 0 < masks[number] < 1 and masks[number] not in (*masks[:number], *masks[number + 1 :]):
            step = [1e-6 if other == number else 0.0 for other in range(len(masks))]
            more, less = ([m + sign * s for m, s in zip(masks, step, strict=True)] for sign in (1, -1))
            expected = (written_out(x, more) - written_out(x, less)).sum() / 2e-6
            torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)


class Ranks(TorchDispatchMode):
    """Notes how many axes the results of operations have, those of views left aside."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not func.is_view:
            self.found.append(result.dim())
        return result


@pytest.mark.parametrize("levels", [1, 3], ids=["one level", "a level per frame"])
def test_a_residual_velocity_is_the_heads_on_top_of_what_a_formula_knows(levels):
    network = Streams(head_skip=True)
    network.config = dataclasses.replace(network.config, velocity="residual")
    network.head = lambda x, time: x
    head, latents = torch.randn(2, 2, 4, 3, 6, 5, dtype=torch.float64)
    s = torch.rand(2, levels, dtype=torch.float64)
    with Ranks() as ranks:
        velocity = predicted(network, head, None, latents, s)
    gain = ((2 * s - 1) / (1 - 2 * s + 2 * s**2))[:, None, :, None, None]
    torch.testing.assert_close(velocity, head + gain * latents, rtol=0, atol=1e-14)
    assert max(ranks.found) <= 4  # more do not run on a Neural Engine


class Bare(nn.Module):
    """A layer with what the contract of blocks asks for, and no more."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.initial_state, self.commit = layer.initial_state, layer.commit

    def forward(self, x, modulation, text, state=None):
        return self.layer(x, modulation, text, state)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = S2DiT.from_preset(Preset(name="test", depth=6, **SIZES), "SLKSFL").double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def given(chunk):
    generator = torch.Generator().manual_seed(chunk)
    latents = torch.randn(1, 16, 2, 6, 10, generator=generator, dtype=torch.float64)
    text = torch.randn(1, 5, 7, generator=generator, dtype=torch.float64)
    return latents, torch.full((1, 1), 0.4, dtype=torch.float64), text


@torch.no_grad()
def test_one_pass_gives_to_the_bit_what_reading_and_committing_give(model):
    state = model.initial_state(1, (3, 5), window=Window(frames=4, sink_frames=2))
    for chunk in range(4):
        velocity, new = model.advance(*given(chunk), state)
        assert torch.equal(velocity, model(*given(chunk), state))
        wanted = leaves(model.commit(*given(chunk), state))
        assert all(torch.equal(a, b) for a, b in zip(leaves(new), wanted, strict=True))
        state = new


@torch.no_grad()
def test_keys_and_values_are_made_once_for_a_pass_that_also_commits(model):
    made = []
    for name, module in model.named_modules():
        if name.endswith(("attention.key", "attention.value", "linear.key", "linear.value")):
            module.register_forward_hook(lambda *_, name=name: made.append(name))
    state = model.initial_state(1, (3, 5))
    model.advance(*given(0), state)
    assert len(made) == len(set(made)) == 6 * 2 * 2  # of every layer, and of its text
    made.clear()
    model.commit(*given(0), state)
    assert len(made) == len(set(made)) == 6 * 2 * 2 - 2  # the last layer reads no text


@torch.no_grad()
def test_layers_that_can_do_no_more_than_they_must_walk_the_same(model):
    state = model.initial_state(1, (3, 5))
    velocity, new = model.advance(*given(0), state)
    for number in (0, 1, 5):
        model.layers[number] = Bare(model.layers[number])
    assert type(model.fused().layers[0]) is Bare
    for one in (model, Compiled(model, compile=False)):
        bare_velocity, bare_new = one.advance(*given(0), state)
        torch.testing.assert_close(bare_velocity, velocity, rtol=0, atol=1e-11)
        for a, b in zip(leaves(bare_new), leaves(new), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-11)

"""Recurrent networks of one layer: LSTM, GRU and the simple one.

`reverse` gives its steps in the order in which it takes them, from the last on; the backward half of `bidirectional` in
that of the input. Source: coremltools 9.0's descriptions, and its tests where these say no more or something else (GRU
resets before the product with the hidden state).

Axes: S steps  B batch  I input  H hidden  G gates (3 H or 4 H)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from s2search.mil.arguments import Arguments, Compute

_Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def _lstm(given: Arguments) -> tuple[Tensor, ...]:
    for name in ("peephole", "peephole_back", "clip"):
        if name in given:
            raise NotImplementedError(f"{name}: Core ML does not say of which step, or of what, it is")
    x_SBI, start = given["x"], (given["initial_h"], given["initial_c"])
    direction = given.text("direction", "forward")
    if direction != "bidirectional":
        return _run(given, _lstm_step(given, ""), _directed(x_SBI, direction), start)
    hidden = given["weight_hh"].shape[1]
    halves = [tuple(x.narrow(1, at, hidden) for x in start) for at in (0, hidden)]
    y_SBH, *ends = _run(given, _lstm_step(given, ""), x_SBI, halves[0])
    back_SBH, *back_ends = _run(given, _lstm_step(given, "_back"), x_SBI.flip(0), halves[1])
    pairs = zip((y_SBH, *ends), (back_SBH.flip(0), *back_ends), strict=True)
    return tuple(torch.cat(pair, dim=-1) for pair in pairs)


def _lstm_step(given: Arguments, side: str) -> _Step:
    gates, squash, cell = (
        _activation(given, name, default)
        for name, default in (("recurrent_activation", "sigmoid"), ("activation", "tanh"), ("cell_activation", "tanh"))
    )
    inner = given.sums.inner

    def step(x_BG: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h_BH, c_BH = state
        i_BH, f_BH, o_BH, z_BH = inner(x_BG + _product(given, h_BH, f"weight_hh{side}")).chunk(4, dim=-1)
        kept, new = inner(inner(gates(f_BH)) * c_BH), inner(inner(gates(i_BH)) * inner(cell(z_BH)))
        c_BH = inner(kept + new)
        return inner(inner(gates(o_BH)) * inner(squash(c_BH))), c_BH

    return _with_input(given, step, side)


def _gru(given: Arguments) -> tuple[Tensor, ...]:
    if given.flag("reset_after"):
        raise NotImplementedError("reset_after, of which the description and Core ML's own test differ")
    gates = _activation(given, "recurrent_activation", "sigmoid")
    squash = _activation(given, "activation", "tanh")
    inner = given.sums.inner

    def step(x_BG: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h_BH,) = state
        weight_rGH, weight_oGH, weight_zGH = given["weight_hh"].chunk(3, dim=0)
        x_rBH, x_oBH, x_zBH = x_BG.chunk(3, dim=-1)
        r_BH, z_BH = (
            inner(gates(inner(x + given.sums.matmul(h_BH, weight.T))))
            for x, weight in ((x_rBH, weight_rGH), (x_zBH, weight_zGH))
        )
        o_BH = inner(squash(inner(x_oBH + given.sums.matmul(inner(r_BH * h_BH), weight_oGH.T))))
        return (inner(inner(inner(1 - z_BH) * o_BH) + inner(z_BH * h_BH)),)

    x_SBI = _directed(given["x"], given.text("direction", "forward"))
    return _run(given, _with_input(given, step, ""), x_SBI, (given["initial_h"],))


def _rnn(given: Arguments) -> tuple[Tensor, ...]:
    squash, inner = _activation(given, "activation", "tanh"), given.sums.inner

    def step(x_BG: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inner(squash(inner(x_BG + _product(given, state[0], "weight_hh")))),)

    x_SBI = _directed(given["x"], given.text("direction", "forward"))
    return _run(given, _with_input(given, step, ""), x_SBI, (given["initial_h"],))


def _run(given: Arguments, step: _Step, x_SBI: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the hidden states of every step, or of the last, and the state after it."""
    found = []
    for x_BI in x_SBI:
        state = step(x_BI, state)
        found.append(state[0])
    return torch.stack(found if given.flag("output_sequence") else found[-1:]), *state


def _with_input(given: Arguments, step: _Step, side: str) -> _Step:
    """Return a step that first multiplies its input, and adds the biases."""
    biases = [given[name] for name in (f"bias{side}", "input_bias") if name in given]

    def whole(x_BI: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return step(given.sums.inner(sum(biases, _product(given, x_BI, f"weight_ih{side}"))), state)

    return whole


def _product(given: Arguments, x: Tensor, weight: str) -> Tensor:
    return given.sums.matmul(x, given[weight].transpose(0, 1))


def _directed(x_SBI: Tensor, direction: str) -> Tensor:
    if direction not in ("forward", "reverse"):
        raise NotImplementedError(f"the direction {direction}")
    return x_SBI.flip(0) if direction == "reverse" else x_SBI


def _activation(given: Arguments, name: str, default: str) -> Callable[[Tensor], Tensor]:
    kind = given.text(name, default)
    if kind not in _ACTIVATIONS:
        raise NotImplementedError(f"the activation {kind}")
    return _ACTIVATIONS[kind]


RECURRENT: dict[str, Compute] = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}

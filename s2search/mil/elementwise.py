"""Operations that compute each number of their output from one number of each input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from s2search.mil.arguments import Arguments, Compute
from s2search.mil.numbers import RANGES

_INTEGERS = {**RANGES, "int32": (-(2**31), 2**31 - 1)}


def _unary(function: Callable[[Tensor], Tensor]) -> Compute:
    return lambda given: function(given["x"])


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Compute:
    return lambda given: function(given["x"], given["y"])


def _scaled(function: Callable[[Tensor, float, float], Tensor], alpha: float, beta: float) -> Compute:
    """Return an operation with settings `alpha` and `beta`, and their defaults."""
    return lambda given: function(given["x"], given.number("alpha", alpha), given.number("beta", beta))


def _cast(given: Arguments) -> Tensor:
    """Convert; towards zero from floating numbers, and modulo 2^bits from wider whole ones, as coremltools folds it.

    What a floating number becomes that the type does not have, nobody says: numpy and C leave it open, Core ML is mute.
    """
    x, kind = given["x"], given.text("dtype")
    if kind in ("fp16", "fp32"):
        return x.float()
    if kind == "bool":
        return x != 0
    if kind not in _INTEGERS:
        raise NotImplementedError(f"a cast to {kind}")
    lowest, highest = _INTEGERS[kind]
    if not x.is_floating_point():
        return ((x.to(torch.int64) - lowest) % (highest - lowest + 1) + lowest).to(torch.int32)
    whole = x.double().trunc()
    if not x.is_meta and not bool(((whole >= lowest) & (whole <= highest)).all()):
        worst = x[~((whole >= lowest) & (whole <= highest))].flatten()[0].item()
        raise NotImplementedError(f"{worst:g} has no place in {kind}, and Core ML does not say what it becomes")
    return whole.to(torch.int32)


def _divide(given: Arguments) -> Tensor:
    """Divide; whole numbers where nothing is left over: Core ML gives whole ones and does not say how it rounds."""
    x, y = given["x"], given["y"]
    if x.is_floating_point():
        return x / y
    if not x.is_meta and not bool(((y != 0) & (torch.remainder(x, torch.where(y == 0, 1, y)) == 0)).all()):
        raise NotImplementedError("whole numbers that do not divide: Core ML does not say how it rounds")
    return torch.div(x, y, rounding_mode="trunc")


def _clip(given: Arguments) -> Tensor:
    return given["x"].clamp(given.number("alpha", float("-inf")), given.number("beta", float("inf")))


def _gelu(given: Arguments) -> Tensor:
    x, mode = given["x"], given.text("mode", "EXACT")
    match mode:
        case "EXACT":
            return functional.gelu(x)
        case "TANH_APPROXIMATION":
            return functional.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            return x * torch.sigmoid(1.702 * x)
    raise NotImplementedError(f"the mode {mode}")


def _prelu(given: Arguments) -> Tensor:
    x, slope_C = given["x"], given["alpha"]
    slope = slope_C.view(-1, *[1] * (x.ndim - 2))
    return torch.where(x >= 0, x, slope * x)


def _softplus_parametric(given: Arguments) -> Tensor:
    x = given["x"]
    alpha, beta = (given[name].view(-1, *[1] * (x.ndim - 2)) for name in ("alpha", "beta"))
    return alpha * torch.logaddexp(beta * x, torch.zeros_like(x))


def _quantize(given: Arguments) -> Tensor:
    x, (scale, zero) = given["input"], _scale_and_zero(given)
    lowest, highest = _INTEGERS[given.text("output_dtype")]
    return ((x / scale).round() + zero).clamp(lowest, highest).to(torch.int32)


def _dequantize(given: Arguments) -> Tensor:
    scale, zero = _scale_and_zero(given)
    return scale * (given["input"].float() - zero)


def _scale_and_zero(given: Arguments) -> tuple[Tensor, Tensor]:
    """Return both, with the axes that the input has."""
    rank, scale, zero = given["input"].ndim, given["scale"], given.get("zero_point")
    shape = [1] * rank
    if scale.ndim:
        shape[given.axes("axis", rank)[0]] = -1
    zero = torch.zeros_like(scale) if zero is None else zero.float()
    return scale.view(shape), zero.expand(scale.shape).reshape(shape)


def _threshold(x: Tensor, alpha: float, _: float) -> Tensor:
    return x.clamp(min=alpha)


ELEMENTWISE: dict[str, Compute] = {
    "abs": _unary(torch.abs),
    "acos": _unary(torch.acos),
    "asin": _unary(torch.asin),
    "atan": _unary(torch.atan),
    "atanh": _unary(torch.atanh),
    "ceil": _unary(torch.ceil),
    "cos": _unary(torch.cos),
    "cosh": _unary(torch.cosh),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "floor": _unary(torch.floor),
    "identity": _unary(lambda x: x),
    "logical_not": _unary(torch.logical_not),
    "relu": _unary(torch.relu),
    "relu6": _unary(functional.relu6),
    "round": _unary(torch.round),
    "sigmoid": _unary(torch.sigmoid),
    "sign": _unary(torch.sign),
    "silu": _unary(functional.silu),
    "sin": _unary(torch.sin),
    "sinh": _unary(torch.sinh),
    "softplus": _unary(lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "softsign": _unary(functional.softsign),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "tan": _unary(torch.tan),
    "tanh": _unary(torch.tanh),
    "add": _binary(torch.add),
    "equal": _binary(torch.eq),
    "floor_div": _binary(torch.floor_divide),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "logical_and": _binary(torch.logical_and),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mod": _binary(torch.remainder),
    "mul": _binary(torch.mul),
    "not_equal": _binary(torch.ne),
    "pow": _binary(torch.pow),
    "real_div": _divide,
    "sub": _binary(torch.sub),
    "inverse": lambda given: 1 / (given["x"] + given.number("epsilon", 1e-4)),
    "log": lambda given: torch.log(given["x"] + given.number("epsilon", 1e-45)),
    "rsqrt": lambda given: torch.rsqrt(given["x"] + given.number("epsilon", 1e-12)),
    "clamped_relu": _scaled(lambda x, a, b: torch.where(x >= 0, x, a * x).clamp(max=b), 1.0, 1.0),
    "elu": _scaled(lambda x, a, _: functional.elu(x, a), 1.0, 0.0),
    "leaky_relu": _scaled(lambda x, a, _: functional.leaky_relu(x, a), 0.01, 0.0),
    "linear_activation": _scaled(lambda x, a, b: a * x + b, 1.0, 0.0),
    "scaled_tanh": _scaled(lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "sigmoid_hard": _scaled(lambda x, a, b: (a * x + b).clamp(0, 1), 0.2, 0.5),
    "threshold": _scaled(_threshold, 0.0, 0.0),
    "thresholded_relu": _scaled(lambda x, a, _: torch.where(x >= a, x, 0.0), 1.0, 0.0),
    "cast": _cast,
    "clip": _clip,
    "dequantize": _dequantize,
    "gelu": _gelu,
    "prelu": _prelu,
    "softplus_parametric": _softplus_parametric,
    "quantize": _quantize,
    "select": lambda given: torch.where(given["cond"], given["a"], given["b"]),
}

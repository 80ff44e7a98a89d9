"""Contradictions: what makes a search problem contradict itself. Each check raises `ProblemError`.

Axes:  L layers  C candidates  S streams  G groups
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2search.errors import ProblemError

if TYPE_CHECKING:
    from s2search.solver.problem import Problem

#: What no sum over a layout exceeds: exact in a float64 too, which the MILP solver computes in.
LARGEST_SUM = 2**50


def check_arrays(problem: Problem) -> None:
    """Check shapes, types and signs of what a problem always has."""
    shape, streams = np.shape(problem.score_LC), len(problem.switch_us_SS)
    if len(shape) != 2 or 0 in shape:
        raise ProblemError(f"score_LC has the shape {shape}", allowed="(layers, candidates), neither of them 0")
    for name in ("latency_us_LC", "memory_bytes_LC", "peak_bytes_LC"):
        _check_integers(name, getattr(problem, name), shape)
    if problem.pair_score_LCC is not None:
        _check_pairs(problem.pair_score_LCC, (*shape, shape[1]))
    if np.shape(problem.allowed_LC) != shape:
        raise ProblemError(f"allowed_LC has the shape {np.shape(problem.allowed_LC)}", allowed=f"{shape}")
    _check_integers("stream_C", problem.stream_C, shape[1:])
    if problem.label_C and len(problem.label_C) != shape[1]:
        raise ProblemError(f"label_C names {len(problem.label_C)} candidates", allowed=f"{shape[1]}, or none of them")
    _check_integers("switch_us_SS", problem.switch_us_SS, (streams, streams))
    for name in ("stream_C", "first_stream", "last_stream"):
        stream = getattr(problem, name)
        if np.min(stream) < 0 or np.max(stream) >= streams:
            raise ProblemError(f"{name} is {stream}", allowed=f"0 to {streams - 1}, as switch_us_SS has")
    for name in ("fixed_us", "fixed_bytes"):
        _check_integer(name, getattr(problem, name), most=LARGEST_SUM)
    for name in ("latency_budget_us", "memory_budget_bytes", "max_switches", "max_changes"):
        if getattr(problem, name) is not None:
            _check_integer(name, getattr(problem, name))


def check_groups(problem: Problem) -> None:
    """Check that the layers divide into groups, each of which may take some candidate."""
    layers, size = len(problem.score_LC), problem.group_size
    if size < 1 or layers % size:
        raise ProblemError(f"{layers} layers do not divide into groups of {size}")
    possible_G = np.any(np.all(problem.allowed_LC.reshape(layers // size, size, -1), axis=1), axis=1)
    if not np.all(possible_G):
        raise ProblemError(f"no candidate is allowed at layer {int(np.argmin(possible_G)) * size}")


def check_counts(problem: Problem) -> None:
    """Check that the counts name candidates, are ranges, and can add up to the depth."""
    layers, candidates = np.shape(problem.score_LC)
    for c in problem.counts:
        low, high = problem.count_range(c)
        if not 0 <= c < candidates:
            raise ProblemError(f"counts name candidate {c}", allowed=f"0 to {candidates - 1}")
        if not 0 <= low <= high:
            raise ProblemError(
                f"{problem.label(c)} is to take {low} to {high} layers", allowed="0 or more, the smaller number first"
            )
    least, most = (sum(problem.count_range(c)[end] for c in range(candidates)) for end in (0, 1))
    if not least <= layers <= most:
        asked = f"at least {least}" if least > layers else f"at most {most}"
        raise ProblemError(
            f"the counts ask for {asked} layers, and there are {layers}", remedy="make the counts add up to the depth"
        )


def check_reference(problem: Problem) -> None:
    """Check that the layout to resemble is one of the problem's."""
    layers, candidates = np.shape(problem.score_LC)
    if problem.reference_L is None:
        if problem.max_changes is not None:
            raise ProblemError("max_changes is given without reference_L", remedy="give the layout to resemble")
    elif len(problem.reference_L) != layers or not all(0 <= c < candidates for c in problem.reference_L):
        raise ProblemError(
            f"reference_L has {len(problem.reference_L)} layers of {sorted(set(problem.reference_L))}",
            allowed=f"{layers} layers of 0 to {candidates - 1}",
        )


def check_devices(problem: Problem) -> None:
    """Check that every further device has a name of its own and arrays as the problem has."""
    names = [device.name for device in problem.devices]
    for device in problem.devices:
        if (count := names.count(device.name)) > 1:
            raise ProblemError(f"{count} devices are called {device.name!r}", remedy="give each a name of its own")
        name = f"switch_us_SS of the device {device.name!r}"
        _check_integers(name, device.switch_us_SS, problem.switch_us_SS.shape)
        problem.on_device(device)


def check_limits(problem: Problem) -> None:
    """Check the arrays of further limits, and that what a layout uses of anything is exact."""
    shape, streams = problem.score_LC.shape, problem.switch_us_SS.shape
    for resource in problem.limits:
        of = f"of the limit {resource.name!r}"
        _check_integers(f"use_LC {of}", resource.use_LC, shape)
        _check_integers(f"switch_SS {of}", resource.switch_SS, streams)
        _check_integers(f"peak_LC {of}", resource.peak_LC, shape)
        if resource.pair_LCC is not None:
            _check_integers(f"pair_LCC {of}", resource.pair_LCC, (*shape, shape[1]))
        _check_integer(f"the limit {resource.name!r}", resource.limit, least=-LARGEST_SUM)
    for resource in problem.resources:
        if resource.most > LARGEST_SUM:
            raise ProblemError(
                f"{resource.name} may add up to {resource.most:g}, whose sum is not exact", remedy="use a larger unit"
            )


def _check_pairs(pair_score_LCC: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    if np.shape(pair_score_LCC) != shape:
        raise ProblemError(f"pair_score_LCC has the shape {np.shape(pair_score_LCC)}", allowed=f"{shape}")
    if not np.isfinite(pair_score_LCC).all():
        raise ProblemError("pair_score_LCC holds numbers that are not finite", allowed="finite numbers")
    if pair_score_LCC[0].any():
        raise ProblemError("pair_score_LCC has scores at the first layer", remedy="set them to 0: nothing is before it")


def _check_integers(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    if np.shape(values) != shape:
        raise ProblemError(f"{name} has the shape {np.shape(values)}", allowed=f"{shape}")
    if values.dtype != np.int64:
        raise ProblemError(f"{name} holds {values.dtype}", allowed="integers (int64)", remedy="round, or scale down")
    if values.size and values.min() < 0:
        raise ProblemError(f"{name} holds {values.min()}", allowed="0 or more")


def _check_integer(name: str, value: int, *, least: int = 0, most: int | None = None) -> None:
    if not isinstance(value, int | np.integer) or value < least or (most is not None and value > most):
        allowed = f"an integer of {least:,} or more" if most is None else f"an integer from {least:,} to {most:,}"
        raise ProblemError(f"{name} is {value}", allowed=allowed)

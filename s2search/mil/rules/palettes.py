"""The rules on compressed weights that versions of coremltools are known to write so that devices cannot use them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from s2search.mil.function import Function
from s2search.mil.rules.rule import RuleFinding

#: The first version of which packages with palettes and states were seen to crash; 8.3 was seen to write good ones.
_CRASHES_SINCE = (9, 0)
#: Those that write a scale beside a palette: the first that could, and the last that was released.
_SCALED_SINCE, _SCALED_UNTIL = (8, 0), (9, 0)


def palette_with_state(function: Function, version: str) -> Iterator[RuleFinding]:
    """Yield a finding where weights are palettes beside a state.

    Args:
        function: Of a package.
        version: Of coremltools that wrote it; empty where the package does not say.
    """
    names = tuple(operation.name for operation in function.operations if operation.type.startswith("constexpr_lut"))
    if names and function.states and not (version and _numbers(version) < _CRASHES_SINCE):
        what = f"{len(names)} palettes beside {len(function.states)} states"
        yield _finding("palette_with_state", function, names, what, version)


def tool_version(function: Function, version: str) -> Iterator[RuleFinding]:
    """Yield a finding where a palette has a scale beside it, as versions write it of which none was seen to load.

    Args:
        function: Of a package.
        version: Of coremltools that wrote it. Where the package does not say, all that are released write it so.
    """
    if version and not _SCALED_SINCE <= _numbers(version) <= _SCALED_UNTIL:
        return
    palettes = [operation for operation in function.operations if operation.type.startswith("constexpr_lut")]
    tables = {output.name for operation in palettes for output in operation.outputs}
    names = tuple(
        operation.name
        for operation in function.operations
        if operation.type == "constexpr_blockwise_shift_scale" and tables.intersection(operation.uses)
    )
    if names:
        yield _finding("tool_version", function, names, f"{len(names)} palettes with a scale per channel", version)


def _finding(rule: str, function: Function, names: tuple[str, ...], what: str, version: str) -> RuleFinding:
    by = f"coremltools {version}" if version else "coremltools of a version that is not stated"
    return RuleFinding(rule=rule, function=function.name, names=names, problem=f"{what}, written by {by}")


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version's first two numbers: of 8.0b2, 8 and 0."""
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version)[:2])

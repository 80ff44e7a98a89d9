"""All rules, held against a function or a package: ours or a stranger's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from s2search.mil.function import Constant, Function, as_declared
from s2search.mil.program import Program
from s2search.mil.rules.files import file_sizes, sizes
from s2search.mil.rules.float32 import float32_operation
from s2search.mil.rules.operations import lint
from s2search.mil.rules.palettes import palette_with_state, tool_version
from s2search.mil.rules.ring import ring_by_concat
from s2search.mil.rules.rule import RULES, RuleFinding
from s2search.mil.rules.states import io_width, state_width, states
from s2search.mil.watch import Peaks

#: Where coremltools notes its version, and where it does not: packages of several functions.
_NOTED_AS = "com.github.apple.coremltools.version"
_ORDER = tuple(RULES)


def coremltools_version(program: Program) -> str:
    """Return the version of coremltools that wrote a program, as it notes it; empty where it does not."""
    return program.metadata.get(_NOTED_AS, "")


def lint_package(path: Path, version: str = "") -> tuple[Program, tuple[RuleFinding, ...]]:
    """Read a package and hold it against all rules that need no run.

    Args:
        path: A folder that ends in .mlpackage.
        version: Of coremltools, for a package that does not note it.

    Raises:
        InputError: It is no package of an ML Program, or is damaged; its weights are looked for, and not read.
    """
    program = Program.load(path)
    for function in program.functions.values():
        check_weights(function)
    found = [finding for name in sorted(program.functions) for finding in lint_function(program, name, version)]
    found += sizes(file_sizes(path))
    return program, tuple(sorted(found, key=lambda finding: _ORDER.index(finding.rule)))


def lint_function(program: Program, name: str, version: str = "", peaks: Peaks | None = None) -> Iterator[RuleFinding]:
    """Yield what a function of a program breaks; rules on files are not of functions.

    Args:
        program: The program.
        name: Of its function.
        version: Of coremltools, for a program that does not note it.
        peaks: Of a run, for the rules that need one.
    """
    function = program.function(name)
    yield from place_findings(function, coremltools_version(program) or version)
    yield from lint(function, peaks)


def place_findings(function: Function, version: str) -> Iterator[RuleFinding]:
    """Yield what is known to keep a function from the Neural Engine.

    Raises:
        InputError: It is damaged.
    """
    with as_declared(function):
        for rule in (float32_operation, states, state_width, io_width, ring_by_concat):
            yield from rule(function)
        for by_version in (palette_with_state, tool_version):
            yield from by_version(function, version)


def check_weights(function: Function) -> None:
    """Raise unless all numbers of a function are in the weight file, where the program says.

    Raises:
        InputError: They are not.
    """
    every = list(function.every())
    inner = [block for one in every for block in one.blocks]
    named: list[Mapping[str, Constant]] = [function.constants, *(block.constants for block in inner)]
    constants = [constant for some in named for constant in some.values()]
    given = (value for one in every for values in one.inputs.values() for value in values)
    constants += [value for value in given if isinstance(value, Constant)]
    for constant in {id(constant): constant for constant in constants}.values():
        constant.check()

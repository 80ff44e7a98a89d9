"""Core ML packages of anybody, held against the rules and run: an .mlpackage, or a folder of ours with several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from s2search.document import Document
from s2search.errors import InputError, UnknownNameError
from s2search.exporters.component.package import ComponentPackage
from s2search.exporters.package import MANIFEST, Package, is_component
from s2search.mil.evaluator import Evaluator, Mode
from s2search.mil.heap import give_large_arrays_back
from s2search.mil.program import Program
from s2search.mil.residency import Residency, residency
from s2search.mil.rules.every import coremltools_version, lint_package
from s2search.mil.rules.files import file_sizes
from s2search.mil.rules.rule import RULES, LintRule, RuleFinding
from s2search.verification.array_file import read_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import RenderableType

_ENDING = ".mlpackage"
_APPLES = "Manifest.json"  # of Core ML; ours is manifest.json, which some file systems do not tell apart
_REMEDY = f"name a folder that ends in {_ENDING}, or one that s2search export wrote"


@dataclass(frozen=True, kw_only=True)
class LintedPackage:
    """One .mlpackage and what was found in it.

    Attributes:
        path: As it was named, or inside the folder that was.
        bytes: Of all its files.
        coremltools: The version that wrote it; empty where nobody says.
        functions: What of each may run on the Neural Engine by rule.
        findings: What it breaks, rules on where it runs first.
    """

    path: str
    bytes: int
    coremltools: str
    functions: tuple[Residency, ...]
    findings: tuple[RuleFinding, ...]


@dataclass(frozen=True, kw_only=True)
class PackageFindings(Document):
    """What packages break, and the rules that they were held against.

    Attributes:
        schema: Of the document.
        path: What was looked at, as it was named.
        packages: Those in it.
        rules: All that were looked at, with what is known of each; those that need a run are `verify`'s.
    """

    schema: Literal["s2search.package_findings/1"] = "s2search.package_findings/1"
    path: str
    packages: tuple[LintedPackage, ...]
    rules: tuple[LintRule, ...]

    @property
    def clean(self) -> bool:
        """Whether no rule is broken."""
        return not any(package.findings for package in self.packages)

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.package_findings_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.text_html(self)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What a function of a package gave.

    Attributes:
        function: Its name.
        mode: The arithmetic.
        outputs: By name; floating numbers are float32, whatever the program calls them, and whole ones int32.
        states: What stays, after the call.
    """

    function: str
    mode: Mode
    outputs: Mapping[str, NDArray[Any]]
    states: Mapping[str, NDArray[Any]]


def lint_any(path: Path) -> PackageFindings:
    """Hold a package, or all packages of a folder of ours, against every rule that needs no run.

    Raises:
        InputError: There is none, or one is damaged.
    """
    packages = tuple(_linted(one, version) for one, version in packages_at(path).items())
    rules = tuple(rule for rule in RULES.values() if not rule.needs_run)
    return PackageFindings(path=str(path), packages=packages, rules=rules)


def evaluate_any(path: Path, inputs: Path | Mapping[str, Any], mode: Mode, function: str) -> Evaluated:
    """Run a function of a package once.

    Args:
        path: A package, or a folder of ours.
        inputs: A file of arrays, or the arrays, by the names of inputs and states; a state that is not among them
            starts at zeros.
        mode: The arithmetic; see `Evaluator`.
        function: Its name; by default the package's own choice.

    Raises:
        InputError: There is no such package or function, it has operations that nothing here computes, or the arrays
            do not fit.
    """
    import torch

    give_large_arrays_back()
    evaluator = Evaluator(_program_with(path, function), function, mode)
    arrays = read_arrays(inputs, evaluator.function)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    held = {state.name for state in evaluator.function.states}
    state = evaluator.initial_state() | {name: x for name, x in tensors.items() if name in held}
    with torch.no_grad():
        result = evaluator.run({name: x for name, x in tensors.items() if name not in held}, state)
    return Evaluated(
        function=evaluator.function.name,
        mode=mode,
        outputs={name: x.numpy() for name, x in result.outputs.items()},
        states={name: x.numpy() for name, x in result.state.items()},
    )


def packages_at(path: Path) -> dict[Path, str]:
    """Return the packages at a path, with the version of coremltools that a manifest of ours says wrote them.

    Raises:
        InputError: There is none.
    """
    names = os.listdir(path) if path.is_dir() else []
    if _APPLES in names or path.suffix == _ENDING or not names:
        return {path: ""}
    if MANIFEST not in names:
        raise InputError(f"{str(path)!r} is not a Core ML package: it has no {_APPLES}", remedy=_REMEDY)
    manifest = (ComponentPackage if is_component(path) else Package).load(path).manifest
    manifest.check_names()
    files = dict.fromkeys(one.file for one in manifest.stored_functions if one.file.endswith(_ENDING))
    if not files:
        written = manifest.exporter_text
        raise InputError(f"{str(path)!r} holds no {_ENDING}: it is a package of {written}", remedy=_REMEDY)
    return {path / file: manifest.facts.get("coremltools", "") for file in files}


def _linted(path: Path, version: str) -> LintedPackage:
    program, findings = lint_package(path, version)
    return LintedPackage(
        path=str(path),
        bytes=sum(file_sizes(path).values()),
        coremltools=coremltools_version(program) or version,
        functions=tuple(residency(program.functions[name]) for name in sorted(program.functions)),
        findings=findings,
    )


def _program_with(path: Path, function: str) -> Program:
    """Return the program that has a function, of those at a path."""
    programs = {one: Program.load(one) for one in packages_at(path)}
    if len(programs) == 1:
        return next(iter(programs.values()))
    having = [program for program in programs.values() if function in program.functions]
    if len(having) == 1:
        return having[0]
    if not having:
        every = {name for program in programs.values() for name in program.functions}
        raise UnknownNameError("function of these packages", function, every, listed_as="their functions")
    raise InputError(
        f"{len(having)} packages in {str(path)!r} have a function {function!r}",
        allowed=", ".join(sorted(str(one) for one in programs)),
        remedy="name one of them",
    )

"""What an inspector is: all that verification and recalibration know of the packages of one exporter.

An inspector bears the name of its exporter's entry point, and is a frozen keyword-only dataclass without options. It
reads packages and changes nothing in them; it is asked from one thread, and keeps what it reads in `Opened.kept`. The
exporter knows nothing of it. Every method has an answer here, so an inspector says what it knows and no more:

- `stored_tensors` and `expects` say which weights are in the files. A package whose weights nobody reads is not
  verified.
- `inside`, `operations`, `largest`, `placement` and `residency` look further. What is not offered is listed as not run,
  and is not required; `promises` says which rules on where a package runs are.
- `runtime` runs the package; where that takes another machine, `emulation` and `in_mode` say what runs it here.
- `table_runtime` and `profiler` name the runtime as latency tables do.

A package whose exporter has no inspector is looked at by this class itself. `s2search/testing/inspectors.py` holds
inspectors to this contract.

Axes: see s2search/exporters/step.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s2search import registry
from s2search.exporters.base import Runtime, exporter_of
from s2search.exporters.graph import decompositions_of_attention
from s2search.exporters.package import Package
from s2search.verification.expected import Expected
from s2search.verification.inspectors.stored_tensor import StoredTensor
from s2search.verification.result import CannotRunError, NotOfferedError

if TYPE_CHECKING:
    from torch import nn

    from s2search.exporters.resident import Resident
    from s2search.exporters.step import FunctionName
    from s2search.measurement.base import Profiler
    from s2search.mil.evaluator import Mode
    from s2search.mil.residency import Residency
    from s2search.verification.inspectors.rules import RuleResult
    from s2search.verification.inspectors.taps import Taps
    from s2search.verification.numbers import StoredNumbers
    from s2search.verification.opened import Opened


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """What runs packages here in place of their runtime.

    Attributes:
        told: Its name in reports.
        why: Why the runtime itself cannot load a package here.
        mode: Its arithmetic.
        others: Other arithmetics that it has; see `Inspector.in_mode`.
    """

    told: str
    why: str
    mode: Mode
    others: tuple[Mode, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The largest absolute value inside a function, and where it is; infinite where one is not finite."""

    value: float
    where: str
    why: str
    mode: Mode


@dataclass(frozen=True, kw_only=True)
class Placed:
    """How many operations run where.

    Attributes:
        wanted: Where they should.
        counts: Operations by place.
        told_by: Who counted.
    """

    wanted: str
    counts: Mapping[str, int]
    told_by: str


@dataclass(frozen=True, kw_only=True)
class Inspector(registry.Plugin):
    """Looks into the packages of one exporter.

    Attributes:
        table_runtime: The runtime as cards of latency tables name it; empty where no table does.
        profiler: The profiler of the same runtime: for tables that it measured, `recalibrate` times packages.
        library: The module that is the runtime; what importing it takes is not counted as the package's.
        distributions: What else ran, for the versions in a report.
    """

    table_runtime: ClassVar[str] = ""
    profiler: ClassVar[str] = ""
    library: ClassVar[str] = ""
    distributions: ClassVar[tuple[str, ...]] = ()

    def stored_tensors(self, package: Package) -> Iterator[StoredTensor]:
        """Yield all tensors that the package's own files hold; the same numbers at the same place come once.

        Nothing is unpickled, and one tensor is in memory at a time.

        Raises:
            CannotRunError: Nobody reads such files here.
            CheckError: A file cannot be read.
        """
        raise CannotRunError(
            f"nothing here reads the weights of {package.manifest.exporter!r}; an inspector of that name would"
        )

    def expects(self, source: nn.Module, stored: nn.Module, frames: int) -> Expected:
        """Return what the files must hold for a source; see `Expected`."""
        return Expected(source, stored, frames)

    def decompositions(self) -> dict[Any, Any]:
        """Return the operators that the exporter has taken apart: a graph of the source is then like the package's."""
        return decompositions_of_attention()

    def inside(self, opened: Opened, function: FunctionName) -> Taps:
        """Return the values inside a function.

        Raises:
            NotOfferedError: The runtime runs it as a whole.
        """
        raise NotOfferedError(f"packages of {opened.package.manifest.exporter!r} run as a whole")

    def stored_numbers(self, opened: Opened, function: FunctionName) -> StoredNumbers | None:
        """Return the numbers that a function computes with; None where they are the source's in float32."""
        return None

    def operations(self, opened: Opened) -> tuple[RuleResult, ...]:
        """Return the operations that phones refuse or compute wrongly, by rule.

        Raises:
            NotOfferedError: Nobody reads them.
        """
        raise NotOfferedError(f"nothing here reads the operations of {opened.package.manifest.exporter!r}")

    def largest(self, opened: Opened, function: FunctionName) -> Largest | None:
        """Return the largest value in a function of the package itself; None where the runtime shows none."""
        return None

    def placement(self, opened: Opened) -> Placed:
        """Return where operations run.

        Raises:
            NotOfferedError: In one place, or nobody tells where.
        """
        raise NotOfferedError(
            f"packages of {opened.package.manifest.exporter!r} run in one place, or nobody tells where"
        )

    def promises(self, opened: Opened) -> frozenset[str]:
        """Return the rules on where a package runs that its exporter promises to hold, with the options it has."""
        return frozenset()

    def residency(self, opened: Opened) -> tuple[Residency, ...]:
        """Return for every function which operations the accelerator may run, by rule.

        Raises:
            NotOfferedError: There is no such rule.
        """
        raise NotOfferedError(f"no rule says where operations of {opened.package.manifest.exporter!r} may run")

    def state_faults(self, package: Package) -> list[str]:
        """Return in what functions use the states that the runtime keeps otherwise than the manifest says.

        Raises:
            CannotRunError: Nobody reads how they do.
        """
        raise CannotRunError(f"nothing here reads the states of {package.manifest.exporter!r}")

    def runtime(self, package: Package) -> Runtime:
        """Return the package, loaded; its digests are not looked at.

        Raises:
            InputError: It cannot run here.
        """
        return exporter_of(package).open(package)

    def runtime_of(self, profiler: Profiler, package: Package) -> Runtime:
        """Return the package, loaded as the profiler loads what it times: with its threads."""
        return self.runtime(package)

    def resident(self, opened: Opened, functions: Sequence[FunctionName], *, threads: int) -> Resident | None:
        """Measure what a process takes that loads functions of the package, all at once, and calls each.

        None where the system does not tell.

        Raises:
            NotOfferedError: Nobody measures it for this runtime.
        """
        raise NotOfferedError(f"what packages of {opened.package.manifest.exporter!r} take is measured by nobody here")

    def emulation(self) -> Emulation | None:
        """Return what stands in for the runtime on this machine; None where the runtime is here."""
        return None

    def in_mode(self, opened: Opened, mode: Mode) -> Runtime:
        """Return the package in an arithmetic of the emulation.

        Raises:
            NotOfferedError: There is none.
        """
        raise NotOfferedError(f"packages of {opened.package.manifest.exporter!r} have the arithmetic of their runtime")

    def loading(self, package: Package, function: str, folder: Path, clock: Callable[[], float]) -> dict[str, float]:
        """Return what loading is made of, beside the whole: seconds and bytes by name.

        Args:
            package: The package.
            function: Its function that is loaded.
            folder: An empty one.
            clock: Seconds.
        """
        return {}


def inspector_of(package: Package) -> Inspector:
    """Return the inspector of a package's exporter; one that knows nothing where none is installed."""
    name = package.manifest.exporter
    found: Inspector = registry.create("inspectors", name) if name in registry.installed("inspectors") else Inspector()
    return found

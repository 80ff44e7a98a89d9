"""The command `verify`: whether a package keeps its promise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.values import PathText
from s2search.document import check_writable
from s2search.errors import InputError, keeping, require
from s2search.exporters.package import REPORT, Package, is_component

if TYPE_CHECKING:
    from s2search.verification.opened import Options
    from s2search.verification.result import Verification


def verify(
    folder: PathText,
    *,
    chunks: int = 16,
    threshold: Mapping[str, float] | None = None,
    measure: bool = False,
    seed: int = 0,
    table: str | None = None,
    out: PathText | None = None,
) -> Verification:
    """Check a package against its source and its plan, and write what was found.

    Args:
        folder: A package that `export` wrote.
        chunks: Chunks of the stream that is compared.
        threshold: Instead of a check's own: `{"stream": 50.0}`.
        measure: Also time the package on this machine.
        seed: Of all inputs.
        table: The plan's table, where it is not installed.
        out: Where the report goes; report.json in the folder by default.

    Raises:
        InputError: The folder holds no package, or a check is unknown.
    """
    require("torch")
    place = Path(folder, REPORT) if out is None else Path(out)
    if out is not None:
        check_writable(place)
    component = is_component(Path(folder))
    if not component:
        Package.load(folder)  # before torch is loaded, and minutes of work
    if out is None:
        _check_report(place)
    from s2search.reporting.progress import progress_bar
    from s2search.verification import verify as verification
    from s2search.verification.components import verify_component
    from s2search.verification.opened import Options

    options = Options(chunks=chunks, thresholds=threshold or {}, measure=measure, seed=seed, table=table)
    with progress_bar("verifying") as progress:
        if component:
            _refuse_of_part(options)
            found = verify_component(Path(folder), chunks=chunks, seed=seed, progress=progress)
        else:
            found = verification.verify(Path(folder), options, checks=verification.CHECKS, progress=progress)
    with keeping(found):
        found.save(place)
    return found


def _check_report(place: Path) -> None:
    try:
        check_writable(place)
    except InputError as error:
        raise InputError(error.problem, remedy="name another place: --out FILE") from error


def _refuse_of_part(options: Options) -> None:
    """Refuse what is for a streaming step's packages only, which would be lost in silence."""
    given = {"--threshold": options.thresholds, "--measure": options.measure, "--table": options.table}
    for name, value in given.items():
        if value:
            raise InputError(f"{name} is given, and the package is a text encoder or a decoder", remedy="leave it out")

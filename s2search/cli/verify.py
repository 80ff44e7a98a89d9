"""The command `verify`: whether a package keeps its promise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2search.errors import InputError

if TYPE_CHECKING:
    from s2search.verification.opened import Options


def verify(
    folder: Annotated[Path, typer.Argument(help="A package that s2search export wrote.")],
    chunks: Annotated[int, typer.Option(min=1, help="Chunks of the stream that is compared.")] = 16,
    threshold: Annotated[
        list[str] | None, typer.Option(help="Instead of a check's own: stream=50, parity.first=90. Repeatable.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Also time the package on this machine.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all inputs.")] = 0,
    table: Annotated[str | None, typer.Option(help="The plan's table, where it is not installed.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the report goes.", show_default="report.json in the folder")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Check a package against its source and its plan; exit code 0 only if every required check ran and passed."""
    from s2search.document import check_writable
    from s2search.exporters.component.package import is_component
    from s2search.report.progress import progress_bar
    from s2search.report.verification import verification_text
    from s2search.verification import verify as verification
    from s2search.verification.components import verify_component
    from s2search.verification.opened import Options
    from s2search.verification.result import REPORT

    options = Options(
        chunks=chunks, thresholds=read_thresholds(threshold or []), measure=measure, seed=seed, table=table
    )
    if out is not None:
        check_writable(out)
    with progress_bar("verifying") as progress:
        if is_component(folder):
            _refuse_of_part(options)
            found = verify_component(folder, chunks=chunks, seed=seed, progress=progress)
        else:
            found = verification.verify(folder, options, checks=verification.CHECKS, progress=progress)
    found.save(out or folder / REPORT)
    if as_json:
        typer.echo(found.to_json(), nl=False)
    else:
        from rich.console import Console

        Console(highlight=False, markup=False).print(verification_text(found))
    return 0 if found.passed else 1


def _refuse_of_part(options: Options) -> None:
    """Refuse what is for a streaming step's packages only, which would be lost in silence."""
    given = {"--threshold": options.thresholds, "--measure": options.measure, "--table": options.table}
    for name, value in given.items():
        if value:
            raise InputError(f"{name} is given, and the package is a text encoder or a decoder", remedy="leave it out")


def read_thresholds(words: list[str]) -> dict[str, float]:
    """Read thresholds as people write them.

    Raises:
        InputError: One has no name, or no finite number.

    >>> read_thresholds(["stream=50", "parity.first=90"])
    {'stream': 50.0, 'parity.first': 90.0}
    """
    found = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            found[name.strip()] = float("nan")
        if not abs(found[name.strip()]) < float("inf"):
            raise InputError(f"the threshold {word!r} is not a number", allowed="NAME=NUMBER, such as stream=50")
    return found

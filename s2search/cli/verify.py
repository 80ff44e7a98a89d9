"""`s2search verify`: whether a package keeps its promise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2search.cli.options import printed_anyway, say, say_json
from s2search.errors import InputError

if TYPE_CHECKING:
    from s2search.verification.result import Verification


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
    from s2search.api.verify import verify as run
    from s2search.reporting.verification import verification_text

    def show(found: Verification) -> None:
        if as_json:
            say_json(found.to_json())
        else:
            say(verification_text(found))

    with printed_anyway(show):
        found = run(
            folder,
            chunks=chunks,
            threshold=read_thresholds(threshold or []),
            measure=measure,
            seed=seed,
            table=table,
            out=out,
        )
    show(found)
    return 0 if found.passed else 1


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

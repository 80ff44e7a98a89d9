"""What several commands share: options, names that may be repeated, and how an answer is printed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2search.border.printable import printable, printable_json
from s2search.errors import InputError, S2SearchError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from s2search.tables.table import LatencyTable

_MADE_FOR = 80  # columns
_FIGURES = (".png", ".svg", ".pdf")


class ScenarioName(StrEnum):
    """What one forward pass sees. Typer repeats enumerations, but no literals."""

    STREAM = "stream"
    CLIP = "clip"


class RoleName(StrEnum):
    """What a row of a table is for."""

    BLOCK = "block"
    COMMIT = "commit"
    SWITCH = "switch"
    FIXED = "fixed"


class PrecisionName(StrEnum):
    """How a kit's package stores weights and computes."""

    FLOAT16 = "float16"
    W4A16 = "w4a16"


class UnitsName(StrEnum):
    """What Core ML may use."""

    CPU_AND_NEURAL_ENGINE = "cpu_and_neural_engine"
    CPU_AND_GPU = "cpu_and_gpu"
    CPU_ONLY = "cpu_only"
    ALL = "all"


WeightsArgument = Annotated[Path | None, typer.Argument(help="A folder that save_pretrained wrote.")]
PresetOption = Annotated[str | None, typer.Option(help="Model size, or a TOML file of sizes; without weights.")]
PlanOption = Annotated[Path | None, typer.Option(help="Realize this plan (JSON) at the preset's sizes.")]
LayoutOption = Annotated[str | None, typer.Option(help="Realize this layout: L4S4.")]
VideoOption = Annotated[str, typer.Option(help="Video size, WIDTHxHEIGHT.")]
PipelineOption = Annotated[
    Path | None,
    typer.Option(help="Pipeline for fps budgets: a JSON file of chunk_frames, steps, text_ms, decoder_ms."),
]
FigureOption = Annotated[Path | None, typer.Option(help="Write a picture: .png, .svg or .pdf.")]


def is_first_process() -> bool:
    """Whether this process speaks and draws for all that torchrun started; alone it does."""
    return os.environ.get("RANK", "0") == "0"


def say(answer: RenderableType) -> None:
    """Print an answer for people; nothing in it is taken for markup, and no line ends with blanks in a file."""
    from rich.protocol import rich_cast

    from s2search.reporting.console import PrintableConsole

    if not is_first_process():
        return
    console, answer = PrintableConsole(highlight=False, markup=False), rich_cast(answer)
    if console.width < _MADE_FOR:
        _fold(answer)
    if console.is_terminal:
        console.print(answer)
        return
    with console.capture() as shown:
        console.print(answer)
    typer.echo("\n".join(line.rstrip() for line in shown.get().split("\n")), nl=False)


def _fold(answer: RenderableType) -> None:
    """Let the columns of tables wrap, which are whole where there is room: a number cut short is none."""
    from rich.console import Group
    from rich.table import Table

    if isinstance(answer, Group):
        for part in answer.renderables:
            _fold(part)
    elif isinstance(answer, Table):
        answer.columns = [replace(column, no_wrap=False, overflow="fold") for column in answer.columns]
        for column in answer.columns:
            for cell in column.cells:
                _fold(cell)


def say_json(text: str) -> None:
    """Print JSON; characters that a terminal would obey are written as JSON's escapes."""
    typer.echo(printable_json(text), nl=False)


def say_misleading(tables: Sequence[str | LatencyTable]) -> None:
    """Print to stderr, one line each, what the linter finds of tables that may make an answer from them wrong."""
    from s2search.lint.misleading import misleading
    from s2search.tables.foreign import is_imported
    from s2search.tables.table import open_table, table_folder

    def opened(table: str | LatencyTable) -> str | LatencyTable:
        if not isinstance(table, str):
            return table
        folder = table_folder(table)
        return table if folder is not None and is_imported(folder) else open_table(table)

    for sentence in dict.fromkeys(sentence for table in tables for sentence in misleading(opened(table))):
        typer.echo(f"lint: {printable(sentence)}", err=True)


@contextmanager
def printed_anyway(show: Callable[[Any], None]) -> Iterator[None]:
    """Print the answer that an error carries before it is raised: what was found is not lost with a file."""
    try:
        yield
    except S2SearchError as error:
        if "answer" in error.fields:
            show(error.fields["answer"])
        raise


def check_outputs(out: Path | None, *pictures: Path | None, others: Sequence[Path | None] = ()) -> None:
    """Refuse paths that cannot be written before anything is computed, so that nothing is written by halves."""
    from s2search.document import check_writable
    from s2search.errors import require

    if any(pictures):
        require("matplotlib")
    paths = [path for path in (out, *pictures, *others) if path is not None]
    for number, path in enumerate(paths):
        check_writable(path)
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise InputError(f"two outputs are called {str(path)!r}", remedy="give each a name of its own")
    for picture in filter(None, pictures):
        if picture.suffix.lower() not in _FIGURES:
            raise InputError(
                f"the figure {str(picture)!r} has the ending {picture.suffix!r}",
                allowed=f"one of {', '.join(_FIGURES)}",
                remedy="correct the ending",
            )

"""`s2search table`: judge measurements before a plan trusts them; read, compare, join and show them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType


class OverlapName(StrEnum):
    """What becomes of a row that several tables have."""

    REFUSE = "refuse"
    NEWER = "newer"
    POOL = "pool"


TableArgument = Annotated[str, typer.Argument(help="A table's folder, or an installed table.")]
OutOption = Annotated[Path, typer.Option(help="The new table's folder; it must not exist.")]

table_app = typer.Typer(help="Judge, read, compare, join and show measurements.")


@table_app.callback()
def table() -> None:
    """Judge, read, compare, join and show measurements."""


@table_app.command("retabulate")
def table_retabulate(
    folder: Annotated[Path, typer.Argument(help="The folder of a table that was measured here: it has samples.jsonl.")],
) -> int:
    """Make a measured table again from its raw samples, with today's statistics and drift correction."""
    from s2search.measurement.retabulate import retabulate
    from s2search.report.terminal import table_text

    _say(table_text(retabulate(folder)))
    return 0


@table_app.command("lint")
def table_lint(
    path: Annotated[str, typer.Argument(help="A table's folder, an installed table, or a CSV with latency_ms.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Find what is wrong with a table, row by row. Exits with 1 where it finds anything."""
    from s2search.lint.linter import lint, to_json
    from s2search.report.lint import lint_text

    findings = lint(path)
    _say(to_json(findings) if as_json else lint_text(findings))
    return 1 if findings else 0


@table_app.command("evaluate")
def table_evaluate(
    layouts: Annotated[Path, typer.Argument(help="CSV of layer_00, layer_01, ..., latency_ms, in measurement order.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws the fifth of the rows that is held out.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.table_evaluation/1).")] = False,
) -> int:
    """Say how well measured layouts predict held-out ones, with and without drift."""
    from s2search.report.evaluation import evaluation_text
    from s2search.transfer.evaluate import evaluate
    from s2search.transfer.runs import read_layouts

    found = evaluate(read_layouts(layouts), seed=seed)
    _say(found.to_json() if as_json else evaluation_text(found))
    return 0


@table_app.command("import")
def table_import(
    reader: Annotated[str, typer.Argument(metavar="FORMAT", help="hat, aihub[device=Samsung Galaxy S24], ...")],
    file: Annotated[Path, typer.Argument(help="A file that another project publishes.")],
    out: OutOption,
) -> int:
    """Read what others publish, with its provenance.

    No row is dropped or mended: what the linter finds is shown, and stays.
    """
    from s2search import registry
    from s2search.lint.linter import lint
    from s2search.report.tables import import_text

    _refuse_folder(out)
    table = registry.create("readers", reader).read(file)
    table.save(out)
    _say(import_text(type(table).load(out), lint(out)))
    return 0


@table_app.command("compare")
def table_compare(
    before: TableArgument,
    after: TableArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.table_comparison/1).")] = False,
) -> int:
    """Compare two tables, row by row.

    Ratios of latencies with their uncertainty, what differs beyond noise, ranks, and where the cards differ.
    """
    from s2search.report.tables import comparison_text
    from s2search.tables.compare import compare
    from s2search.tables.foreign import open_measurements

    found = compare(open_measurements(before), open_measurements(after))
    _say(found.to_json() if as_json else comparison_text(found))
    return 0


@table_app.command("merge")
def table_merge(
    tables: Annotated[list[str], typer.Argument(help="Tables of one device, runtime and precision.")],
    out: OutOption,
    overlap: Annotated[
        OverlapName, typer.Option(help="A row that several tables have: refuse, newer or pool.")
    ] = OverlapName.REFUSE,
) -> int:
    """Join tables of one device, runtime and precision.

    Every row says which table it comes from. A row that several have is refused, unless --overlap settles it.
    """
    from s2search.report.tables import show_text
    from s2search.tables.foreign import open_measurements
    from s2search.tables.merge import merge

    _refuse_folder(out)
    merged = merge([open_measurements(name) for name in tables], name=out.resolve().name, overlap=overlap.value)
    merged.save(out)
    _say(show_text(merged))
    return 0


@table_app.command("show")
def table_show(
    table: TableArgument,
    figure: Annotated[Path | None, typer.Option(help="Write a picture: .png, .svg or .pdf.")] = None,
) -> int:
    """Show a table's rows and origin, and draw it."""
    from s2search.document import check_writable
    from s2search.report.tables import show_text
    from s2search.tables.foreign import open_measurements

    found = open_measurements(table)
    if figure is not None:
        from s2search.report.figures import save_figure
        from s2search.report.table_figure import table_figure

        check_writable(figure)
        save_figure(table_figure(found), figure)
    _say(show_text(found))
    return 0


def _refuse_folder(out: Path) -> None:
    """Refuse a folder that is there, before anything is computed."""
    from s2search.errors import InputError

    if out.exists() or out.is_symlink():
        raise InputError(f"{str(out)!r} already exists", remedy="choose another folder, or move it away")


@table_app.command("transfer")
def table_transfer(
    known: Annotated[list[Path], typer.Option(help="CSV of layouts on a known device, as for evaluate; repeatable.")],
    target: Annotated[Path, typer.Option(help="CSV of layouts on the device to predict.")],
    shots: Annotated[int, typer.Option(help="Layouts to time on the target.")] = 10,
    draws: Annotated[int, typer.Option(min=1, help="How many times candidates are drawn to choose from.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws the candidates.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON (schema s2search.transfer_evaluation/1).")
    ] = False,
) -> int:
    """Say how well a few timings of a device, with known devices' models, predict the rest."""
    from s2search.report.progress import progress_bar
    from s2search.report.transfer import transfer_text
    from s2search.transfer.evaluate_transfer import evaluate_transfer, fit_known
    from s2search.transfer.runs import read_layouts

    with progress_bar("known devices") as progress:
        devices = fit_known(known, target, progress)
    with progress_bar("draws") as progress:
        found = evaluate_transfer(devices, read_layouts(target), shots=shots, draws=draws, seed=seed, progress=progress)
    _say(found.to_json() if as_json else transfer_text(found))
    return 0


def _say(answer: str | RenderableType) -> None:
    """Print JSON as it is, and everything else for a terminal."""
    if isinstance(answer, str):
        typer.echo(answer, nl=False)
        return
    from rich.console import Console

    Console(highlight=False, markup=False).print(answer)

"""`s2search table`: judge measurements before a plan trusts them; read, compare, join and show them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.examples import epilog
from s2search.cli.options import FigureOption, check_outputs, say, say_json, say_misleading
from s2search.tables.merge import Overlap

TableArgument = Annotated[str, typer.Argument(help="A table's folder, or an installed table.")]
OutOption = Annotated[Path, typer.Option(help="The new table's folder; it must not exist.")]

table_app = typer.Typer(help="Judge, read, compare, join and show measurements.", epilog=epilog("table"))


@table_app.callback()
def table() -> None:
    """Judge, read, compare, join and show measurements."""


@table_app.command("list", epilog=epilog("table list"))
def table_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.table_list/1).")] = False,
) -> int:
    """List the installed tables: devices, evidence, video sizes, and which budgets they answer."""
    from s2search.api.table import table_list as run

    found = run()
    if as_json:
        say_json(found.to_json())
    else:
        say(found)
    return 0


@table_app.command("retabulate", epilog=epilog("table retabulate"))
def table_retabulate(
    folder: Annotated[Path, typer.Argument(help="The folder of a table that was measured here: it has samples.jsonl.")],
) -> int:
    """Make a measured table again from its raw samples, with today's statistics and drift correction."""
    from s2search.api.table import table_retabulate as run
    from s2search.reporting.terminal import table_text

    say(table_text(run(folder)))
    return 0


@table_app.command("lint", epilog=epilog("table lint"))
def table_lint(
    path: Annotated[str, typer.Argument(help="A table's folder, an installed table, or a CSV with latency_ms.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.table_findings/1).")] = False,
) -> int:
    """Find what is wrong with a table, row by row. Exits with 1 where it finds anything."""
    from s2search.api.table import table_lint as run
    from s2search.lint.linter import to_json
    from s2search.reporting.lint import lint_text

    findings = run(path)
    if as_json:
        say_json(to_json(findings))
    else:
        say(lint_text(findings))
    return 1 if findings else 0


@table_app.command("evaluate", epilog=epilog("table evaluate"))
def table_evaluate(
    layouts: Annotated[Path, typer.Argument(help="CSV of layer_00, layer_01, ..., latency_ms, in measurement order.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws the fifth of the rows that is held out.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.table_evaluation/1).")] = False,
) -> int:
    """Say how well measured layouts predict held-out ones, with and without drift."""
    from s2search.api.table import table_evaluate as run
    from s2search.reporting.evaluation import evaluation_text

    found = run(layouts, seed=seed)
    if as_json:
        say_json(found.to_json())
    else:
        say(evaluation_text(found))
    return 0


@table_app.command("import", epilog=epilog("table import"))
def table_import(
    reader: Annotated[str, typer.Argument(metavar="FORMAT", help="hat, aihub[device=Samsung Galaxy S24], ...")],
    file: Annotated[Path, typer.Argument(help="A file that another project publishes.")],
    out: OutOption,
) -> int:
    """Read what others publish, with its provenance.

    No row is dropped or mended: what the linter finds is shown, and stays.
    """
    from s2search.api.table import table_import as run
    from s2search.lint.linter import lint
    from s2search.reporting.tables import import_text

    say(import_text(run(reader, file, out), lint(out)))
    return 0


@table_app.command("compare", epilog=epilog("table compare"))
def table_compare(
    before: TableArgument,
    after: TableArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (schema s2search.table_comparison/1).")] = False,
) -> int:
    """Compare two tables, row by row.

    Ratios of latencies with their uncertainty, what differs beyond noise, ranks, and where the cards differ.
    """
    from s2search.api.table import table_compare as run
    from s2search.reporting.tables import comparison_text

    found = run(before, after)
    say_misleading([before, after])
    if as_json:
        say_json(found.to_json())
    else:
        say(comparison_text(found))
    return 0


@table_app.command("merge", epilog=epilog("table merge"))
def table_merge(
    tables: Annotated[list[str], typer.Argument(help="Tables of one device, runtime and precision.")],
    out: OutOption,
    overlap: Annotated[Overlap, typer.Option(help="A row that several tables have: refuse, newer or pool.")] = "refuse",
) -> int:
    """Join tables of one device, runtime and precision.

    Every row says which table it comes from. A row that several have is refused, unless --overlap settles it.
    """
    from s2search.api.table import table_merge as run
    from s2search.reporting.tables import show_text

    merged = run(tables, out, overlap=overlap)
    say_misleading(tables)
    say(show_text(merged))
    return 0


@table_app.command("show", epilog=epilog("table show"))
def table_show(
    table: TableArgument,
    figure: FigureOption = None,
) -> int:
    """Show a table's rows and origin, and draw it."""
    from s2search.api.table import table_show as run
    from s2search.reporting.tables import show_text

    check_outputs(None, figure)
    found = run(table)
    if figure is not None:
        from s2search.reporting.figures import save_figure
        from s2search.reporting.table_figure import table_figure

        save_figure(table_figure(found), figure)
    say(show_text(found))
    return 0


@table_app.command("transfer", epilog=epilog("table transfer"))
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
    from s2search.api.table import table_transfer as run
    from s2search.reporting.transfer import transfer_text

    found = run(known, target, shots=shots, draws=draws, seed=seed)
    if as_json:
        say_json(found.to_json())
    else:
        say(transfer_text(found))
    return 0

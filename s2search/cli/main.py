"""The command line: one command per stage, each of which parses, makes one call and prints.

Exit codes: 0 done; 1 a check failed; 2 bad input; 3 no layout fits. An `S2SearchError` is one line on stderr; anything
else is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer

from s2search.border.printable import printable
from s2search.cli.cache import cache_app
from s2search.cli.data import data_app
from s2search.cli.design import design
from s2search.cli.distance import distance_app
from s2search.cli.examples import epilog
from s2search.cli.export import export
from s2search.cli.frontier import frontier
from s2search.cli.interrupted import kept
from s2search.cli.kit import kit_app
from s2search.cli.measure import measure
from s2search.cli.options import say
from s2search.cli.package import package_app
from s2search.cli.plan import plan_app
from s2search.cli.precision import plan_precision, sensitivity
from s2search.cli.recalibrate import recalibrate
from s2search.cli.report import report
from s2search.cli.run import run
from s2search.cli.schema import schema
from s2search.cli.score import score_app
from s2search.cli.stream import stream
from s2search.cli.table import table_app
from s2search.cli.train import train_app
from s2search.cli.verify import verify
from s2search.errors import InputError, S2SearchError, extras_named

# Typer carries its own copy of click; all its complaints about the command line share this base.
_UsageError: Any = typer.BadParameter.__base__
_INTERRUPTED = 130

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, epilog=epilog(""))
app.add_typer(plan_app, name="plan")
app.add_typer(table_app, name="table")
app.add_typer(kit_app, name="kit")
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
app.add_typer(distance_app, name="distance")
app.add_typer(score_app, name="score")
app.add_typer(train_app, name="train")
app.add_typer(package_app, name="package")
for command in (run, design, frontier, measure, stream, sensitivity, export, verify, recalibrate, report, schema):
    app.command(epilog=epilog(command.__name__))(command)
plan_app.command("precision", epilog=epilog("plan precision"))(plan_precision)


def _show_version(asked: bool) -> None:
    if asked:
        from s2search.registry import own_version

        typer.echo(f"s2search {own_version()}")
        raise typer.Exit


@app.callback()
def s2search(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Plan, measure, stream, export and verify video diffusion transformers for one device."""


@app.command(epilog=epilog("plugins"))
def plugins() -> int:
    """List what is installed, by family, and from which distribution."""
    from s2search.reporting.terminal import plugins_text

    say(plugins_text())
    return 0


def main() -> None:
    """Run the command line and exit with its code."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, TextIOWrapper):
            output.reconfigure(errors="replace")  # a terminal without Unicode shows ? rather than a traceback
    try:
        with extras_named():
            code = app(standalone_mode=False)
        if sys.stdout is not None:  # closed by who started it
            sys.stdout.flush()
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except S2SearchError as error:
        _fail(str(error), error.exit_code)
    except _UsageError as error:
        _fail(_complaint(error), InputError.exit_code)
    except KeyboardInterrupt:
        _fail(f"interrupted; {kept(sys.argv[1:])}", _INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except OSError as error:
        if error.errno is None:  # of no system call: a library's own
            raise
        place = "the output cannot be written" if error.filename is None else f"{str(error.filename)!r} cannot be used"
        _fail(f"{place}: {error.strerror}; make room, or choose another place", InputError.exit_code)
    except (Exception, SystemExit) as error:
        from s2search.registry import at_fault

        if not (plugin := at_fault(error)):
            raise
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _fail(f"{plugin} fails with {problem}; uninstall it, or tell those who made it", InputError.exit_code)
    sys.exit(code)


def _complaint(error: Any) -> str:
    """Return what Typer found wrong with the command line, with the value that it leaves out."""
    details = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []
    value = f" {details[0]['input']!r}:" if details else ""
    message = error.format_message().rstrip(".").replace("Value error, ", "").replace("': ", f"':{value} ", 1)
    return f"{message}; see {error.ctx.command_path if error.ctx else 's2search'} --help"


def _fail(line: str, code: int) -> NoReturn:
    with suppress(OSError, AttributeError):  # full, or closed
        sys.stderr.write(f"s2search: {printable(line)}\n")
    for output in (sys.stdout, sys.stderr):
        _drop_where_full(output)
    sys.exit(code)


def _drop_where_full(output: Any) -> None:
    """Point an output that takes no more to nowhere: else Python fails once more when it ends."""
    try:
        if output is not None:
            output.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


if __name__ == "__main__":
    main()

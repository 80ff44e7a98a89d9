"""`s2search package`: Core ML packages of anybody, held against what is known of the Neural Engine, and run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.examples import epilog
from s2search.cli.options import say, say_json

package_app = typer.Typer(help="Lint and run Core ML packages, ours or a stranger's.", epilog=epilog("package"))

PathArgument = Annotated[Path, typer.Argument(help="An .mlpackage, or a folder that s2search export wrote.")]


@package_app.callback()
def package() -> None:
    """Lint and run Core ML packages, ours or a stranger's."""


@package_app.command("lint", epilog=epilog("package lint"))
def package_lint(
    path: PathArgument, as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False
) -> int:
    """Say what is known to keep a package from the Neural Engine; exit code 0 clean, 1 findings, 2 no package."""
    from s2search.api.package import package_lint as run

    found = run(path)
    if as_json:
        say_json(found.to_json())
    else:
        say(found)
    return 0 if found.clean else 1


@package_app.command("evaluate", epilog=epilog("package evaluate"))
def package_evaluate(
    path: PathArgument,
    inputs: Annotated[Path, typer.Option(help="An .npz of inputs, and of states that shall not be zeros.")],
    mode: Annotated[
        str, typer.Option(help="float32 rounds nothing, float16 what operations return, pessimistic also sums.")
    ] = "float16",
    function: Annotated[
        str | None, typer.Option(help="Which function.", show_default="the package's own choice")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="An .npz for outputs and states.")] = None,
) -> int:
    """Run a function of a package once, without Core ML."""
    from s2search.api.package import package_evaluate as run
    from s2search.reporting.package import evaluated_text

    found = run(path, inputs, mode=mode, function=function, out=out)  # type: ignore[arg-type]  # it is refused there
    say(evaluated_text(found))
    return 0

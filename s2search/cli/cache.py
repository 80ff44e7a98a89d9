"""`s2search cache`: a teacher's answers, asked for once and for all of distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.examples import epilog
from s2search.cli.options import is_first_process, say, say_json
from s2search.errors import InputError

cache_app = typer.Typer(help="Make, inspect and verify a cache of a teacher's answers.", epilog=epilog("cache"))

FolderArgument = Annotated[Path, typer.Argument(help="What `cache make` wrote.")]
DataOption = Annotated[Path, typer.Option(help="A folder that `data make` wrote.")]
DeviceOption = Annotated[str, typer.Option(help="Where it is computed: cpu or cuda.")]


@cache_app.callback()
def cache() -> None:
    """Make, inspect and verify a cache of a teacher's answers."""


@cache_app.command("make", epilog=epilog("cache make"))
def cache_make(
    teacher: Annotated[str, typer.Argument(help="local[folder=run/model], wan22[folder=DIR].")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="The folder. An unfinished cache is finished.")] = Path("cache"),
    levels: Annotated[int, typer.Option(min=1, max=4096, help="Noise levels of each clip; each expert gets one.")] = 4,
    shift: Annotated[
        float | None, typer.Option(help="How far they are pushed towards 1.", show_default="the teacher's own")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of levels and noise.")] = 0,
    dtype: Annotated[str, typer.Option(help="The teacher computes in float32 or bfloat16.")] = "float32",
    store: Annotated[str, typer.Option(help="Answers are kept in float32, bfloat16 or float8.")] = "bfloat16",
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Records that are asked about at once.")] = 8,
    device: DeviceOption = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print bytes, memory and hours from 20 batches; keep nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run, print it as JSON.")] = False,
) -> int:
    """Ask a teacher about noisy clips, and keep what it answers."""
    from s2search.reporting.cache import estimate_text, made_text

    if as_json and not dry_run:
        raise InputError("--json is given without --dry-run", remedy="add it, or use cache inspect --json")
    if dry_run:
        from s2search.api.cache import cache_dry

        estimate = cache_dry(
            teacher,
            data,
            levels=levels,
            shift=shift,
            seed=seed,
            dtype=dtype,  # type: ignore[arg-type]  # it is refused there
            store=store,  # type: ignore[arg-type]
            batch=batch,
            device=device,
        )
        if is_first_process():
            say_json(estimate.to_json()) if as_json else say(estimate_text(estimate))
        return 0
    from s2search.api.cache import cache_make as run

    made = run(
        teacher,
        data,
        out,
        levels=levels,
        shift=shift,
        seed=seed,
        dtype=dtype,  # type: ignore[arg-type]  # it is refused there
        store=store,  # type: ignore[arg-type]
        batch=batch,
        device=device,
    )
    if is_first_process():
        say(made_text(made))
    return 0


@cache_app.command("inspect", epilog=epilog("cache inspect"))
def cache_inspect(
    folder: FolderArgument, as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False
) -> int:
    """Say what a cache holds, whole or not."""
    from s2search.api.cache import cache_inspect as run
    from s2search.document import as_json as json_of
    from s2search.reporting.cache import inspection_text

    found = run(folder)
    if as_json:
        say_json(json_of(found))
    else:
        say(inspection_text(found))
    return 0


@cache_app.command("verify", epilog=epilog("cache verify"))
def cache_verify(
    folder: FolderArgument,
    data: DataOption,
    recompute: Annotated[int, typer.Option(min=0, help="Records that the teacher is asked about again.")] = 0,
    teacher: Annotated[str | None, typer.Option(help="Who answered; needed to ask again.")] = None,
    device: DeviceOption = "cpu",
) -> int:
    """Check every file and record of a cache; 1 where something does not hold."""
    from s2search.api.cache import cache_verify as run
    from s2search.reporting.cache import problems_text

    problems = run(folder, data, recompute=recompute, teacher=teacher, device=device)
    say(problems_text(problems, folder, recompute))
    return 1 if problems else 0

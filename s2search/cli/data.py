"""`s2search data`: clips to train on, cut out of videos and encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.examples import epilog
from s2search.cli.options import VideoOption, say, say_json

data_app = typer.Typer(help="Make, inspect and verify clips to train on.", epilog=epilog("data"))

FolderArgument = Annotated[Path, typer.Argument(help="What `data make` wrote.")]


@data_app.callback()
def data() -> None:
    """Make, inspect and verify clips to train on."""


@data_app.command("make", epilog=epilog("data make"))
def data_make(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="Video files, folders, tar archives; or shapes, doom.")
    ],
    out: Annotated[Path, typer.Option(help="The folder. An unfinished one is finished.")],
    video: VideoOption = "256x144",
    frames: Annotated[int, typer.Option(min=1, help="Pixel frames of a clip: 1 + 4 k.")] = 33,
    codec: Annotated[str, typer.Option(help="Codec: dct, wan[folder=FOLDER].")] = "dct",
    clips: Annotated[int, typer.Option(min=1, help="Clips of a recording, at most.")] = 8,
    stride: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Take every n-th frame; of several, one is drawn. Repeatable.", show_default="1"),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Part of the recordings that is kept from training.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of cuts and of the division.")] = 0,
    max_skipped: Annotated[
        int | None, typer.Option(min=0, help="Recordings that may give no clip.", show_default="any number")
    ] = None,
    uncached: Annotated[bool, typer.Option("--uncached", help="Encode clips whenever they are read, not now.")] = False,
    device: Annotated[str, typer.Option(help="Where clips are encoded: cpu or cuda.")] = "cpu",
) -> int:
    """Cut clips out of recordings and encode them, once and for all of training."""
    from s2search.api.data import data_make as run
    from s2search.reporting.data import made_text

    made = run(
        sources,
        out,
        video=video,
        frames=frames,
        codec=codec,
        clips=clips,
        stride=stride or (1,),
        held_out=held_out,
        seed=seed,
        max_skipped=max_skipped,
        uncached=uncached,
        device=device,
    )
    say(made_text(made, out))
    return 0


@data_app.command("inspect", epilog=epilog("data inspect"))
def data_inspect(
    folder: FolderArgument, as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False
) -> int:
    """Say what a data set holds."""
    from s2search.api.data import data_inspect as run
    from s2search.document import as_json as json_of
    from s2search.reporting.data import inspection_text

    found = run(folder)
    if as_json:
        say_json(json_of(found))
    else:
        say(inspection_text(found))
    return 0


@data_app.command("verify", epilog=epilog("data verify"))
def data_verify(folder: FolderArgument) -> int:
    """Check every file and clip of a data set; 1 where something does not hold."""
    from s2search.api.data import data_verify as run
    from s2search.reporting.data import problems_text

    problems = run(folder)
    say(problems_text(problems, folder))
    return 1 if problems else 0

"""`s2search distance`: how far generated video is from real video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2search.cli.examples import epilog
from s2search.cli.options import check_outputs, is_first_process, say, say_json

distance_app = typer.Typer(help="Measure how far generated video is from real video.", epilog=epilog("distance"))


@distance_app.callback()
def distance() -> None:
    """Measure how far generated video is from real video."""


@distance_app.command("train", epilog=epilog("distance train"))
def distance_train(
    data: Annotated[Path, typer.Argument(help="A folder that `data make` wrote.")],
    out: Annotated[Path, typer.Option(help="The file of both networks.")] = Path("distance.safetensors"),
    features: Annotated[int, typer.Option(min=2, max=64, help="Of each; 4 samples are needed per feature.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Of 32 clips each.")] = 2500,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and noise.")] = 0,
) -> int:
    """Make the two networks that look at clips: one random, one trained on the training split."""
    from s2search.api.distance import distance_train as run
    from s2search.reporting.distance import networks_text

    networks = run(data, out, features=features, steps=steps, seed=seed)
    if is_first_process():
        say(networks_text(networks, out))
    return 0


@distance_app.command("measure", epilog=epilog("distance measure"))
def distance_measure(
    data: Annotated[Path, typer.Option(help="A folder that `data make` wrote.")],
    network: Annotated[Path, typer.Option(help="What `distance train` wrote.")],
    models: Annotated[list[Path] | None, typer.Argument(help="Folders of weights, such as RUN/model.")] = None,
    out: Annotated[Path, typer.Option(help="The folder. Unfinished samples are finished.")] = Path("distance"),
    samples: Annotated[int, typer.Option(min=1, help="Of each row; 4 or more per feature.")] = 512,
    steps: Annotated[str, typer.Option(help="Of the samplers, 1,2,4; a model's own by default.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of all noise.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Samples that are made side by side.")] = 16,
    text: Annotated[
        str | None, typer.Option(help="The models' text encoder.", show_default="hashing, as wide as a model")
    ] = None,
    device: Annotated[str, typer.Option(help="Where models compute: cpu or cuda.")] = "cpu",
    csv: Annotated[Path | None, typer.Option(help="Write a row per model and number of steps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> int:
    """Say how far models' clips are from real ones, beside how far spoilt ones are."""
    from s2search.document import write_text

    check_outputs(None, others=[csv])
    from s2search.api.distance import distance_measure as run
    from s2search.reporting.distance import distances_csv, distances_text

    found = run(
        models or (),
        data=data,
        network=network,
        out=out,
        samples=samples,
        steps=steps,
        seed=seed,
        batch=batch,
        text=text,
        device=device,
    )
    if csv is not None:
        write_text(csv, distances_csv(found))
    if as_json:
        say_json(found.to_json())
    else:
        say(distances_text(found))
    return 0

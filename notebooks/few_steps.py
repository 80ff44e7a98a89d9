"""One, two and four steps, chunk by chunk and frame by frame, after equal training: their distances and their speed.

    s2search run --preset small --out small
    python notebooks/few_steps.py small small-steps

It begins with the student, the teacher and the networks that the run left, and trains as its stages `causal`,
`consistency` and `self_forcing` were: two causal models, of three latent frames a chunk and of one, and from each a
model of one, two and four steps. All commit by a clean pass, since one step sees nothing but noise. After Ctrl-C or
kill -9 the same command goes on.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from s2search import distance_measure, registry, train
from s2search.document import read_json, read_object
from s2search.network.config import CONFIG, ModelConfig
from s2search.reporting.console import PrintableConsole
from s2search.reporting.distance import distances_text

STEPS = (4, 2, 1)
FRAMES = {"chunks": 3, "frames": 1}  # latent frames that are made at once


def trained(out: Path, like: str, weights: Path | str, **options: Any) -> Path:
    """Train as a stage of the run was trained, but for some options, and return the folder of the weights."""
    settings: dict[str, Any] = read_object(Path(like, "run.json"))["settings"]
    trainer = dataclasses.replace(registry.create("trainers", settings["trainer"]), **options)
    if train(settings | {"trainer": trainer.label, "model": {"weights": str(weights)}}, out).interrupted:
        sys.exit(130)
    return out / "model"


def few_step_models(out: Path) -> list[Path]:
    """Train all models in folders of `out`, from a run's folder, and return the folders of their weights."""
    seen, found = read_json(Path("causal/model") / CONFIG, ModelConfig, what="model config").preset, []
    for way, frames in FRAMES.items():
        window = (seen.window_chunks or 1) * seen.chunk_frames // frames  # as many latent frames of the past
        own = {"commit": "clean_pass", "chunk": frames, "window": max(1, window)}
        causal = trained(out / f"{way}-causal", "causal", "distill/model", **own)
        for steps in STEPS:
            first = trained(out / f"{way}-{steps}-consistency", "consistency", causal, steps=steps)
            found.append(trained(out / f"{way}-{steps}", "self_forcing", first, steps=steps))
    return found


if __name__ == "__main__":
    run = sys.argv[1]
    out = Path(os.path.relpath(sys.argv[2], run))
    os.chdir(run)  # paths in its settings are its own
    (out / "distance").mkdir(parents=True, exist_ok=True)
    networks = "networks/networks.safetensors"
    models = few_step_models(out)
    PrintableConsole().print(
        distances_text(distance_measure(models, data="data", network=networks, out=out / "distance"))
    )

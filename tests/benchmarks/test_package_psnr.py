"""What a package loses in PSNR: clips of a trained model, streamed by torch and from packages out of the same noise.

    python -m tests.benchmarks.test_package_psnr WEIGHTS 128x64 'dct[channels=4]' prompts.txt

prints the second table of docs/export.md, "What precision costs". Each clip is a free stream: a package denoises what
it made itself, and reads what it remembers itself. Frames are compared before any of them becomes a video file.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2search import registry
from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.prompt_tokens import PromptTokens
from s2search.exporters.streamed import StreamedPackage
from s2search.network.network import S2DiT
from s2search.preset import token_grid
from s2search.streaming.pipeline import StreamPipeline
from s2search.streaming.prompt_list import PromptList
from s2search.streaming.sampler_of import sampler_of
from s2search.streaming.state import StreamState
from s2search.text.hashing import Hashing
from s2search.verification.inspectors.coreml_emulated import EmulatedCoreML
from tests.export.overfitted import GRID, overfitted

EXPORTERS = {
    "float16": CoreMLExporter(),
    "w4a16": CoreMLExporter(bits=4),
    "w4a8": CoreMLExporter(bits=4, activations=8),
}
_LARGEST = 255  # of a pixel


def psnr_db(wanted_THWC: np.ndarray, got_THWC: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of 8-bit frames; 99 dB of equal ones."""
    noise = np.square(wanted_THWC.astype(float) - got_THWC.astype(float)).mean()
    return float(min(99.0, 10 * np.log10(_LARGEST**2 / max(noise, 1e-12))))


def frames_of(
    model: Any, codec: str, prompt: str, grid: tuple[int, int], *, seed: int, chunks: int
) -> Iterator[np.ndarray]:
    """Yield the frames of every chunk of a stream."""
    preset = model.config.preset
    encoder = Hashing(channels=preset.text_channels, tokens=preset.text_tokens)
    pipeline = StreamPipeline(
        model=model,
        text=encoder.load(torch.device("cpu"), torch.float32),
        codec=registry.create("codecs", codec).load(torch.device("cpu")),
        sampler=sampler_of(model.config),
    )
    state = StreamState.start(model, grid, seed=seed, window=preset.window)
    for chunk in pipeline.chunks(lambda number: prompt, chunks, state):
        yield chunk.frames_THWC


def measured(
    model: S2DiT, grid: tuple[int, int], codec: str, prompts: tuple[str, ...], chunks: int, exporters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the PSNR of every clip and chunk, by exporter: an array of clips and chunks."""
    clips = list(enumerate(prompts))
    wanted = [list(frames_of(model, codec, prompt, grid, seed=seed, chunks=chunks)) for seed, prompt in clips]
    found = {}
    for label, exporter in exporters.items():
        with tempfile.TemporaryDirectory() as folder:
            package = exporter.export(model, grid, Path(folder, "package"))
            pupil = StreamedPackage(package, EmulatedCoreML(package))
            found[label] = np.array(
                [
                    [
                        psnr_db(*pair)
                        for pair in zip(
                            wanted[seed],
                            frames_of(pupil, codec, prompt, grid, seed=seed, chunks=chunks),
                            strict=True,
                        )
                    ]
                    for seed, prompt in clips
                ]
            )
    return found


@pytest.mark.slow
def test_a_package_of_an_overfitted_model_makes_its_frames():
    preset_text = Hashing(channels=64, tokens=16)
    own = PromptTokens.of(preset_text, ("a man talks in a moving car",))
    model, _ = overfitted(text_BSE=own.text_PSE)
    found = measured(model, GRID, "dct", ("a man talks in a moving car",) * 2, 4, EXPORTERS)
    lowest = {label: float(db.min()) for label, db in found.items()}
    assert lowest["float16"] > lowest["w4a16"]
    assert lowest["float16"] > 40, lowest
    assert lowest["w4a8"] > lowest["w4a16"] - 3, lowest


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("weights", "video", "codec", "prompts"):
        parser.add_argument(name)
    parser.add_argument("--chunks", type=int, default=6)
    asked = parser.parse_args()
    model = S2DiT.from_pretrained(asked.weights)
    prompts = PromptList.read(Path(asked.prompts)).prompts
    found = measured(model, token_grid(asked.video), asked.codec, prompts, asked.chunks, EXPORTERS)
    print("| | mean | lowest chunk | lowest clip | " + " | ".join(f"chunk {i}" for i in range(asked.chunks)) + " |")
    print("|---|---|---|---|" + "---|" * asked.chunks)
    for label, db in found.items():
        told = [db.mean(), db.min(), db.mean(axis=1).min(), *db.mean(axis=0)]
        print(f"| {label} | " + " | ".join(f"{x:.1f}" for x in told) + " |")
    print(f"{len(prompts)} clips of {asked.chunks} chunks")


if __name__ == "__main__":
    main()

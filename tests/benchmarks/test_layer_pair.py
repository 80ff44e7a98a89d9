"""What the packed float16 form costs over a layer pair of s2dit-1.8b's width: projections, norms and feed-forwards too.

    python -m tests.benchmarks.test_layer_pair "one large token" --folder /tmp/pair       one row of docs/export.md

An LCHA and an SSA layer, 2,048 wide, with stem, switches and head around them, as `coreml` exports them at 512x288:
three frames of 18x32 tokens, 77 tokens of text, a window of two chunks. A stream of 32 chunks, each read and committed
in one pass at the last step's noise level; package and source in float64 are given the same latents and keep a state
each, so what grows would be seen. Three of the streams are adverse: see `latents_of`.

One chunk took 23 s in the evaluator's float16, 20 s in float64, and 283 s in its pessimistic mode (one of two cores
that others shared), so the test runs a narrow pair.

Axes: see s2search/exporters/step.py
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.host import HostForm
from s2search.exporters.package import Package
from s2search.exporters.packed_source import state_to_source
from s2search.exporters.streamed import StreamedPackage
from s2search.mil.evaluator import Mode
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.verification.inspectors.coreml_emulated import EmulatedCoreML

SCENARIOS = ("random", "one large token", "long silence", "a scene that returns")
LEVEL = 0.625  # of the last of four steps
CHUNKS = 32


def pair(preset: Preset) -> S2DiT:
    """Return the two layers with random weights, whose gates, maps and modulations are not those of a fresh one."""
    torch.manual_seed(0)
    model = S2DiT.from_preset(dataclasses.replace(preset, depth=2), "LS").eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def latents_of(scenario: str, grid: tuple[int, int]) -> Iterator[Tensor]:
    """Yield noisy latents, chunk after chunk (1, C, T, Y, X).

    One large token has 60 times the latents of the others; the silence is a thousandth of them, from the 5th to the
    28th chunk; another scene comes with the 9th chunk, and the first one returns with the 26th.
    """
    generator = torch.Generator().manual_seed(0)
    size = (1, 16, 3, 2 * grid[0], 2 * grid[1])
    scenes = 1.5 * torch.randn(2, 16, generator=generator)
    number = 0
    while True:
        x_BCTYX = torch.randn(size, generator=generator)
        if scenario == "one large token":
            x_BCTYX[..., 1, 2:4, 2:4] *= 60
        elif scenario == "long silence" and 4 <= number < 28:
            x_BCTYX *= 1e-3
        elif scenario == "a scene that returns":
            x_BCTYX = 0.7 * x_BCTYX + scenes[int(8 <= number < 25)][:, None, None, None]
        yield x_BCTYX
        number += 1


@torch.no_grad()
def ratios(
    model: S2DiT, package: Package, scenario: str, mode: Mode = "float16", chunks: int = CHUNKS
) -> Iterator[dict[str, float]]:
    """Yield decibels of every chunk: of the velocity, and of the state after it, a tensor of each layer at a time.

    Args:
        model: The source, in float64.
        package: Of it.
        scenario: One of `SCENARIOS`.
        mode: The package's arithmetic.
        chunks: How many.
    """
    preset, grid, form = model.config.preset, package.manifest.grid, package.manifest.host
    assert form is not None
    pupil = StreamedPackage(package, EmulatedCoreML(package, mode))
    wanted = model.initial_state(1, grid, window=preset.window)
    got = pupil.initial_state(1, grid)
    text_BSE = torch.randn(1, preset.text_tokens, preset.text_channels, generator=torch.Generator().manual_seed(1))
    s_BT = torch.full((1, 1), LEVEL)
    for _, x_BCTYX in zip(range(chunks), latents_of(scenario, grid), strict=False):
        asked = (x_BCTYX.half(), s_BT, text_BSE.half())
        v_BCTYX, wanted = model.advance(*(x.double() for x in asked), wanted)
        u_BCTYX, got = pupil.advance(*(x.float() for x in asked), got)
        yield {"velocity": _db(v_BCTYX, u_BCTYX)} | _of_states(form, wanted, pupil.named(got))


def _of_states(form: HostForm, wanted: Any, kept: dict[str, Any]) -> dict[str, float]:
    """Return decibels of what LCHA (layer 0) and SSA (layer 1) remember."""
    linear, ring = wanted
    exact = {"sum_00": linear.sum_BCAKK[0], "norm_00": linear.norm_BCAK[0], "tail_00": linear.tail_BTHWD}
    exact |= {"keys_01": ring.keys_BTHWAK, "values_01": ring.values_BTHWAK}
    like = {name: np.empty(x.shape) for name, x in exact.items()}
    slots = np.empty((1, form.slots, *ring.keys_BTHWAK.shape[2:]))
    found = state_to_source(form, kept, like | {"keys_01": slots, "values_01": slots})
    return {name: _db(x, torch.from_numpy(found[name][-len(x) :, -x.shape[1] :].copy())) for name, x in exact.items()}


def _db(wanted: Tensor, got: Tensor) -> float:
    noise = (wanted.double() - got.double()).square().sum().item()
    return float(10 * np.log10(wanted.double().square().sum().item() / max(noise, 1e-300)))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_narrow_pair_stays_above_40_db_for_32_chunks_without_a_trend(scenario, tmp_path):
    preset = dataclasses.replace(Preset.named("s2dit-tiny"), channels=256, heads=2, feed_forward=1024)
    model = pair(preset)
    package = CoreMLExporter().export(model, (6, 8), tmp_path / "package")
    found = list(ratios(model.double(), package, scenario))
    lowest = [min(one.values()) for one in found]
    assert min(lowest) >= 40
    assert min(lowest[-4:]) > min(lowest[:8]) - 6


def main() -> None:
    """Print what every chunk comes to, then the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "layer_pair"))
    parser.add_argument("--mode", default="float16", choices=("float16", "pessimistic"))
    parser.add_argument("--chunks", type=int, default=CHUNKS)
    asked = parser.parse_args()
    if not asked.folder.exists():
        CoreMLExporter().export(pair(Preset.named("s2dit-1.8b")), (18, 32), asked.folder)
    package = Package.load(asked.folder)
    model = S2DiT.from_pretrained(package.source).eval().requires_grad_(False).double()
    lowest: dict[str, list[float]] = {}
    for number, found in enumerate(ratios(model, package, asked.scenario, asked.mode, asked.chunks)):
        for name, value in found.items():
            lowest.setdefault(name, []).append(value)
        print(number, {name: round(value, 1) for name, value in found.items()}, flush=True)
    print(asked.scenario, {name: f"{min(x):.1f} lowest, {x[-1]:.1f} last" for name, x in lowest.items()})


if __name__ == "__main__":
    main()

"""What the packed float16 form costs in accuracy: attentions of s2dit-1.8b's widths over streams of 1,000 chunks.

    python -m tests.benchmarks.test_half_form           prints both tables of docs/host.md
    python -m tests.benchmarks.test_half_form w4a8      and the third: with 4-bit weights and 8-bit inputs

Two heads of 128, three frames of 18x32 tokens, projections included. The program is evaluated in float16, and with sums
rounded to float16 every 16 terms (`pessimistic`); the host's arithmetic is the host's (`exporters/host.py`). It is held
against the block itself in float64, with its own float32 weights. Of linear attention a chunk's sums depend on the
chunk alone, so a stream here repeats few chunks and adds their sums a thousand times.

With w4a8 the weights have 16 values on both sides, so what is left is the rounding of what matrices read. A third side
tells what this costs by itself: the block in float64 that rounds its inputs to the same 256 values, and nothing else.

Axes: see `exporters/host.py`
"""

from __future__ import annotations

import copy
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from s2search_blocks.lcha.spec import LCHA
from s2search_blocks.softmax.ssa import SSA
from torch import Tensor, nn

from s2search.block import Shape, Window
from s2search.exporters.coreml.compression import rounding_pipeline
from s2search.exporters.coreml.conversion import convert_program
from s2search.exporters.coreml.operators import decompositions_for_coreml
from s2search.exporters.functions import program_of
from s2search.exporters.host import Host, HostForm
from s2search.exporters.quantised import InputRange, matrices, rounded_weight
from s2search.mil.evaluator import Evaluator, Mode
from s2search.mil.program import Program
from s2search.precision.part import PartPrecision

SHAPE = Shape(frames=3, height=18, width=32, channels=256, heads=2, feed_forward=256, text_tokens=4, text_channels=32)
WINDOW = Window(frames=6)
MODES: tuple[Mode, ...] = ("float16", "pessimistic")
LOOKS = (1, 16, 128, 1000)  # chunks that were committed when the next one reads


class Function(nn.Module):
    """An attention that reads and returns what is new, with the paths of its heads for their own ratio."""

    def __init__(self, twin: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self._names = twin.attention, names  # packages name weights by `model.`

    def forward(self, h_1D1S: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        past = dict(zip(self._names, given, strict=True))
        new = self.model.new(h_1D1S)
        y_1D1S = self.model.read(h_1D1S, past)
        linear = getattr(self.model, "linear", None)
        heads = () if linear is None else (linear.read(h_1D1S, past["sums"]),)
        return (y_1D1S, *heads, *(new[name] for name in new))


class Setup:
    """A block's attention as a program, as the source in float64, and what a host keeps of it.

    Args:
        block: Of the attention.
        grid: Token rows and columns.
        folder: To write the program to.
        rounded_for: Weights are of 4 bits, and inputs of 8 in the ranges of this stream; float16 without one.
    """

    def __init__(self, block: Any, grid: tuple[int, int], folder: Path, rounded_for: str = "") -> None:
        torch.manual_seed(0)
        layer = block.build(SHAPE).eval().requires_grad_(False)
        for parameter in layer.attention.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        if rounded_for:
            _round_weights(layer.attention)
        self.grid, tokens = grid, grid[0] * grid[1]
        twin = block.channels_first(layer, SHAPE.frames, grid, WINDOW)
        kept = {type(one).__name__: one for one in twin.kept}
        self.form = HostForm(
            latents=(16, SHAPE.frames, 2, 2),
            text=(4, 32),
            time_channels=32,
            residual=False,
            channels=SHAPE.channels,
            slots=WINDOW.frames or 0,
            sink_frames=0,
            chunk_slots=2,
            sink_chunks=0,
            rings=tuple(one for name, one in kept.items() if name == "KeptRing"),
            tails=tuple(one for name, one in kept.items() if name == "KeptTail"),
            sums=tuple(one for name, one in kept.items() if name == "KeptSums"),
        )
        self.host, self.source = Host(self.form), layer.attention.double()
        self.ranges = self._ranges(rounded_for) if rounded_for else {}
        self.alone = _rounding(self.source, self.ranges)
        shapes = self.form.shapes()
        sizes = {"keys": shapes.get("keys"), "values": shapes.get("values"), "bias": None}
        if self.form.rings:
            sizes["bias"] = (1, 1, 1, (self.form.slots + SHAPE.frames) * self.form.grids[-1])
        width = SHAPE.channels // SHAPE.heads
        sizes |= {"tail": shapes.get("tails"), "sums": (1, SHAPE.heads, width + 2, width) if self.form.sums else None}
        self.sizes = {name: size for name, size in sizes.items() if size}
        function = Function(block.channels_first(_float(block, layer), SHAPE.frames, grid, WINDOW), tuple(self.sizes))
        new = function.model.new(torch.zeros(1, SHAPE.channels, 1, SHAPE.frames * tokens))
        self.new = tuple(new)
        self.outputs = ["y", *(["heads"] if self.form.sums else []), *(f"new_{name}" for name in new)]
        arguments = (torch.randn(1, SHAPE.channels, 1, SHAPE.frames * tokens),)
        arguments += tuple(torch.rand(size) for size in self.sizes.values())
        self.program = _converted(function.eval(), arguments, ["h", *self.sizes], self.outputs, folder, self.ranges)

    @torch.no_grad()
    def _ranges(self, scenario: str) -> dict[str, InputRange]:
        """Return what every matrix reads of the first 20 chunks, which both scenes of every stream are among."""
        found: dict[str, InputRange] = {}

        def note(name: str, x: Tensor) -> None:
            found[name] = found.get(name, InputRange(low=0.0, high=0.0)).joined(x)

        hooks = [
            linear.register_forward_pre_hook(lambda module, inputs, name=name: note(name, inputs[0]))
            for name, linear in matrices(self.source).items()
        ]
        state = self.source.initial_state(1, self.grid, WINDOW, "cpu", torch.float64)
        tokens = SHAPE.frames * self.grid[0] * self.grid[1]
        for _, h_SD in zip(range(20), chunks_of(scenario, tokens), strict=False):
            h_BTHWD = torch.from_numpy(h_SD).reshape(1, SHAPE.frames, *self.grid, SHAPE.channels)
            self.source(h_BTHWD, state)
            state = self.source.commit(h_BTHWD, state)
        for hook in hooks:
            hook.remove()
        return found

    def evaluated(self, mode: Mode, h_SD: np.ndarray, past: Mapping[str, Any]) -> dict[str, np.ndarray]:
        given = {"keys": past.get("keys"), "values": past.get("values"), "bias": past.get("past_bias")}
        given |= {"tail": past.get("tails"), "sums": past.get("sums")}
        inputs = {
            name: torch.from_numpy(given[name][..., : size[-1]].astype(np.float32)).reshape(size)
            for name, size in self.sizes.items()
        }
        inputs["h"] = torch.from_numpy(h_SD.T[None, :, None].astype(np.float16).astype(np.float32))
        found = Evaluator(self.program, mode=mode).run(inputs).outputs
        return {name: x.numpy() for name, x in found.items()}


def _float(block: Any, layer: Any) -> Any:
    copy = block.build(SHAPE).eval().requires_grad_(False)
    copy.load_state_dict({name: x.float() for name, x in layer.state_dict().items()})
    return copy


def _round_weights(attention: nn.Module) -> None:
    four = PartPrecision(weight_bits=4)
    for linear in matrices(attention).values():
        linear.weight.copy_(rounded_weight(linear.weight, four, "kmeans"))


def _rounding(source: nn.Module, ranges: Mapping[str, InputRange]) -> Any:
    """Return a source that rounds what its matrices read, and nothing else."""
    alone = copy.deepcopy(source)
    for name, span in ranges.items():

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], span: InputRange = span) -> tuple[Tensor]:
            return (span.rounded(inputs[0]),)

        alone.get_submodule(name).register_forward_pre_hook(hook)
    return alone


def _converted(
    module: nn.Module,
    arguments: Any,
    inputs: list[str],
    outputs: list[str],
    folder: Path,
    ranges: Mapping[str, InputRange],
) -> Program:
    program = program_of(module, arguments, decompositions_for_coreml())
    kinds: Any = (dict.fromkeys(names, "float16") for names in (inputs, outputs))
    taken, returned = kinds
    model = convert_program(program, inputs=taken, outputs=returned, pipeline=rounding_pipeline(ranges))
    model.save(str(folder / "block.mlpackage"))
    return Program.load(folder / "block.mlpackage")


def chunks_of(scenario: str, tokens: int) -> Iterator[np.ndarray]:
    """Yield the tokens that go into the attention, chunk after chunk: normalised and modulated ones, (S, D)."""
    generator = np.random.default_rng(0)
    scenes = generator.normal(size=(2, 1, SHAPE.channels)) * 0.7
    distinct = generator.normal(size=(8, tokens, SHAPE.channels))
    number = 0
    while True:
        x = distinct[number % 8]
        if scenario == "one large token":
            x = x.copy()
            x[tokens // 3] *= 60
        elif scenario == "long silence" and 4 <= number % 1000 < 996:
            x = 1e-3 * x
        elif scenario == "a scene that returns":
            x = 0.7 * x + 1.5 * scenes[int(16 <= number % 1000 < 990)]
        yield x
        number += 1


SCENARIOS = ("random", "one large token", "long silence", "a scene that returns")


@torch.no_grad()
def ratios(setup: Setup, scenario: str, mode: Mode, looks: tuple[int, ...] = LOOKS) -> dict[int, dict[str, float]]:
    """Return the signal-to-noise ratios of what is read after so many chunks: of the block, and of every head.

    Where inputs are rounded, also `alone`: of the block, by this rounding alone.
    """
    tokens = SHAPE.frames * setup.grid[0] * setup.grid[1]
    empty = setup.source.initial_state(1, setup.grid, WINDOW, "cpu", torch.float64)
    state, exact, rounded = setup.host.start(), empty, empty
    found: dict[int, dict[str, float]] = {}
    seen: dict[bytes, Any] = {}
    for number, h_SD in zip(range(max(looks) + 1), chunks_of(scenario, tokens), strict=False):
        h_BTHWD = torch.from_numpy(h_SD).reshape(1, SHAPE.frames, *setup.grid, SHAPE.channels)
        if number in looks:
            got = setup.evaluated(mode, h_SD, setup.host.past(state))
            found[number] = _ratios(setup, h_BTHWD, exact, got)
            if setup.ranges:
                wanted_1D1S = _first(setup.source(h_BTHWD, exact))
                found[number]["alone"] = _db(wanted_1D1S, _first(setup.alone(h_BTHWD, rounded)))
        key = h_SD.tobytes()[:4096] + bytes([int(h_SD.std() > 0.1)])
        if key not in seen or not setup.form.sums:
            new = setup.evaluated(mode, h_SD, setup.host.past(state))
            seen[key] = (_new(setup, new), *(one.commit(h_BTHWD, empty) for one in (setup.source, setup.alone)))
        new, by_itself, rounded_itself = seen[key]
        state = setup.host.after(state, new)
        exact = _later(exact, by_itself) if setup.form.sums else setup.source.commit(h_BTHWD, exact)
        rounded = _later(rounded, rounded_itself) if setup.form.sums else setup.alone.commit(h_BTHWD, rounded)
    return found


def _new(setup: Setup, got: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what is new as a host is given it."""
    shapes = setup.form.shapes()
    names = {"keys": "new_keys", "values": "new_values", "tail": "new_tails", "sums": "new_sums"}
    found = {}
    for name in setup.new:
        size = shapes[names[name]]
        rows = got[f"new_{name}"].astype(np.float16).reshape(*size[:-1], -1)
        found[names[name]] = np.pad(rows, [(0, 0)] * 3 + [(0, size[-1] - rows.shape[-1])])
    return found


def _later(exact: Any, alone: Any) -> Any:
    return dataclasses.replace(
        exact,
        sum_BCAKK=exact.sum_BCAKK + alone.sum_BCAKK,
        norm_BCAK=exact.norm_BCAK + alone.norm_BCAK,
        tail_BTHWD=alone.tail_BTHWD,
    )


def _ratios(setup: Setup, h_BTHWD: Tensor, exact: Any, got: Mapping[str, np.ndarray]) -> dict[str, float]:
    wanted_1D1S = _first(setup.source(h_BTHWD, exact))
    found = {"block": _db(wanted_1D1S, got["y"])}
    if setup.form.sums:
        heads = _first(setup.source.linear(h_BTHWD, exact)).reshape(SHAPE.heads, -1)
        pairs = zip(heads, got["heads"].reshape(SHAPE.heads, -1), strict=True)
        found |= {f"head {head}": _db(*pair) for head, pair in enumerate(pairs)}
    return found


def _first(x_BTHWD: Tensor) -> np.ndarray:
    return x_BTHWD.reshape(-1, SHAPE.channels).T.numpy()


def _db(wanted: np.ndarray, got: np.ndarray) -> float:
    wanted = wanted.ravel()
    return float(10 * np.log10((wanted**2).sum() / ((got.ravel() - wanted) ** 2).sum()))


def made(label: str, folder: Path, rounded_for: str = "") -> Setup:
    """Return the set-up of a block by its label."""
    blocks: dict[str, tuple[Any, tuple[int, int]]] = {
        "lcha": (LCHA(), (SHAPE.height, SHAPE.width)),
        "lcha[rope_order=post]": (LCHA(rope_order="post"), (SHAPE.height, SHAPE.width)),
        "ssa": (SSA(), (SHAPE.low_height, SHAPE.low_width)),
    }
    return Setup(*blocks[label], folder, rounded_for)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["lcha", "lcha[rope_order=post]", "ssa"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_block_stays_above_50_db_for_a_thousand_chunks(label, scenario, tmp_path):
    looks = (1, 1000) if label != "ssa" else (1, 4)
    found = ratios(made(label, tmp_path), scenario, "pessimistic", looks)
    first, last = (min(found[look].values()) for look in looks)
    assert min(first, last) >= 50
    assert last > first - 6


@pytest.mark.slow
@pytest.mark.parametrize("label", ["lcha", "ssa"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_with_8_bit_inputs_a_block_is_as_exact_as_their_rounding_alone_allows(label, scenario, tmp_path):
    looks = (1, 1000) if label == "lcha" else (1, 4)
    found = ratios(made(label, tmp_path, scenario), scenario, "float16", looks)
    for one in found.values():
        assert one["block"] >= one["alone"] - 0.5
    assert found[looks[1]]["block"] > found[looks[0]]["block"] - 6


def print_rounded() -> None:
    """Print the table of w4a8."""
    print("| block | stream | arithmetic | " + " | ".join(f"after {look:,}" for look in LOOKS) + " |")
    print("|---|---|---|" + "---|" * len(LOOKS))
    for label in ("lcha", "ssa"):
        for scenario in SCENARIOS:
            with tempfile.TemporaryDirectory() as folder:
                setup = made(label, Path(folder), scenario)
            looks = LOOKS if setup.form.sums else tuple(look for look in LOOKS if look <= 16)
            found = ratios(setup, scenario, "float16", looks)
            rows = {"8-bit inputs alone": "alone", "float16": "block"}
            for arithmetic, of in rows.items():
                values = [found[look][of] for look in looks]
                told = [f"{value:.1f}" for value in values] + [""] * (len(LOOKS) - len(looks))
                print(f"| {label} | {scenario} | {arithmetic} | " + " | ".join(told) + " |", flush=True)


def main() -> None:
    """Print the tables."""
    if sys.argv[1:] == ["w4a8"]:
        print_rounded()
        return
    print("| block | stream | arithmetic | " + " | ".join(f"after {look:,}" for look in LOOKS) + " |")
    print("|---|---|---|" + "---|" * len(LOOKS))
    for label in ("lcha", "lcha[rope_order=post]", "ssa"):
        with tempfile.TemporaryDirectory() as folder:
            setup = made(label, Path(folder))
        for scenario in SCENARIOS:
            for mode in MODES:
                looks = LOOKS if setup.form.sums else tuple(look for look in LOOKS if look <= 16)
                found = ratios(setup, scenario, mode, looks)
                told = [" / ".join(f"{x:.1f}" for x in found[look].values()) if look in found else "" for look in LOOKS]
                print(f"| {label} | {scenario} | {mode} | " + " | ".join(told) + " |")
                sys.stdout.flush()


if __name__ == "__main__":
    main()

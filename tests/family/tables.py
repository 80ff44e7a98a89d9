"""The tables of docs/families, made from public measurements: `python -m tests.family.tables [TFNAS_CSV]` writes them.

TF-NAS's whole table is not kept here (36,481 rows); its file is written only where that is named.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from s2search.transfer.additive import autocorrelation, fit_additive, indicators_TF

ROOT = Path(__file__).parents[2]
DATA, FAMILIES = ROOT / "tests/data", ROOT / "docs/families"

#: What is taken of TF-NAS: widths, as multiples of the input's channels. The least has latencies below 0.
EXPANSIONS = (0.25, 1, 2, 3, 4, 6, 8)
_OPERATION = re.compile(r"MBInvertedResBlock_(\d+)_(\d+)_(\d+)_(\d+)_k(\d)_s(\d)_(\w+)")

HELD_OUT = 1000  # layouts, the last of the campaign

#: Assumed, since no profile of Galvatron's holds them: bytes a second between devices; backward passes per forward.
BANDWIDTH, BACKWARD = 100e9, 2
_DEVICES, _BATCH, _SEQUENCE, _HIDDEN = 8, 16, 2048, 4096


def written(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a CSV file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([header, *rows])
    return out.getvalue()


def tfnas(source: str) -> str:
    """Return the rows of a few widths, with a score that stands in: log2 of a million multiply-adds, and one."""
    rows: list[list[object]] = []
    for op, width, latency_ms in list(csv.reader(io.StringIO(source)))[1:]:
        if width == "base":
            rows.append(["base", *[""] * 7, latency_ms, 0])
        elif match := _OPERATION.fullmatch(op):
            size, inside, squeezed, outside, kernel, stride = map(int, match.groups()[:6])
            if int(width) in [inside * expansion for expansion in EXPANSIONS]:
                score = stand_in(size, inside, squeezed, outside, kernel, stride, int(width))
                rows.append(["block", size, inside, outside, stride, kernel, squeezed, width, latency_ms, score])
    header = ("part", "resolution", "in_channels", "out_channels", "stride", "kernel", "se_channels", "width")
    return written((*header, "latency_ms", "score"), rows)


def stand_in(size: int, inside: int, squeezed: int, outside: int, kernel: int, stride: int, width: int) -> str:
    """Return how much a block computes, as a score: nobody measured how good it is."""
    after = (size // stride) ** 2
    multiply_adds = size**2 * inside * width + after * kernel**2 * width + after * width * outside
    return f"{math.log2(1 + (multiply_adds + 2 * width * squeezed) / 1e6):.6f}"


def layouts(device: str) -> tuple[np.ndarray, np.ndarray]:
    """Return FBNet's layouts, and what each took on a device, in the order of the measurement."""
    table = np.loadtxt(DATA / f"fbnet_layouts/{device}.csv", delimiter=",", skiprows=1)
    return table[:, :-1].astype(np.int64), table[:, -1]


def effects(device: str, rows: slice) -> tuple[np.ndarray, float]:
    """Return what every block adds at every layer, 0 for the fastest there, and what is left: ms, by least squares."""
    layout_TL, latency_ms_T = layouts(device)
    feature_TF = indicators_TF(layout_TL)
    effect_F = fit_additive(feature_TF[rows], latency_ms_T[rows], np.ones(len(latency_ms_T[rows])))
    effect_LC = effect_F[:-1].reshape(layout_TL.shape[1], -1)
    least_L1 = effect_LC.min(axis=1, keepdims=True)
    return effect_LC - least_L1, float(effect_F[-1] + least_L1.sum())


def held_out(device: str) -> tuple[float, float]:
    """Return how far a fit to the first layouts is from the last ones (root mean square, %), and their drift."""
    layout_TL, latency_ms_T = layouts(device)
    effect_LC, rest_ms = effects(device, slice(None, -HELD_OUT))
    found_ms_T = rest_ms + effect_LC[np.arange(effect_LC.shape[0]), layout_TL].sum(axis=1)
    share_T = (found_ms_T / latency_ms_T - 1)[-HELD_OUT:]
    return 100 * float(np.sqrt(np.mean(share_T**2))), autocorrelation(latency_ms_T - found_ms_T)


def fbnet(device: str = "samsung_a50", stands_in: str = "silver_4114") -> str:
    """Return what the blocks add on a phone; as a score, the square root of what they add on a server's CPU."""
    phone_LC, rest_ms = effects(device, slice(None))
    server_LC, _ = effects(stands_in, slice(None))
    rows: list[list[object]] = [["rest", "", f"{rest_ms:.4f}", 0]]
    for layer, (phone_C, server_C) in enumerate(zip(phone_LC, server_LC, strict=True)):
        for block, (latency_ms, there_ms) in enumerate(zip(phone_C, server_C, strict=True)):
            rows.append([layer, block, f"{latency_ms:.4f}", f"{math.sqrt(there_ms):.4f}"])
    return written(("layer", "block", "latency_ms", "score"), rows)


def galvatron() -> str:
    """Return a layer of Llama 2 7B in several strategies on 8 devices: ms of a step, and MiB of one device."""
    folder = DATA / "galvatron"
    times = json.loads((folder / "computation_profiling_bf16_llama2-7b_all.json").read_text())
    memory = json.loads((folder / "memory_profiling_bf16_llama2-7b_all.json").read_text())
    activations = memory["layertype_0_sp"][str(_SEQUENCE)]["tp_activation_per_bsz_dict"]
    whole, other = 1 + BACKWARD, memory["other_memory_pp_off_sp"][str(_SEQUENCE)]
    sample = _SEQUENCE * _HIDDEN * 2  # bytes of what goes from layer to layer, bfloat16
    rows: list[list[object]] = []
    for tensor in (1, 2, 4):
        samples = _BATCH * tensor // _DEVICES
        forward_ms = times[f"layertype_0_bsz{samples}_seq{_SEQUENCE}"] * samples / tensor
        reduce_ms = 2 * 2 * (tensor - 1) / tensor * samples * sample / BANDWIDTH * 1e3  # twice a pass
        states = _a_layer(memory[f"1_{tensor}_{_DEVICES // tensor}_sp"])
        kept = activations[str(tensor)] * samples
        name = f"tp{tensor} dp{_DEVICES // tensor}"
        rows.append(["layer", name, *_cells(whole * forward_ms, 2 * reduce_ms, states + kept, 0)])
        if tensor == 1:
            less = activations["checkpoint"] * samples
            made_again = kept - less
            row = _cells((whole + 1) * forward_ms, 0, states + less, made_again)
            rows.append(["layer", f"{name} checkpoint", *row])
    samples = _BATCH // _DEVICES
    outside_ms = times[f"layertype_other_bsz{samples}_seq{_SEQUENCE}"] * samples * whole
    outside = other["model_states"]["1"] + other["activation"]["1"] * samples
    rows.append(["outside", "", *_cells(outside_ms, 0, outside, 0)])
    moved_ms = 2 * samples * sample / BANDWIDTH * 1e3  # there and, in the backward pass, back
    rows.append(["reshard", "", *_cells(0, moved_ms, 0, 0)])
    return written(("part", "strategy", "compute_ms", "transfer_ms", "step_ms", "memory_mib", "again_mib"), rows)


def _cells(compute_ms: float, transfer_ms: float, memory_mib: float, again_mib: float) -> list[str]:
    times = (compute_ms, transfer_ms, compute_ms + transfer_ms)
    return [f"{value:.3f}" for value in (*times, memory_mib, again_mib)]


def _a_layer(section: dict[str, float]) -> float:
    one, two = (section[f"layernum[{n}]_bsz8_seq{_SEQUENCE}_rank0_ms"] for n in (1, 2))
    return two - one


if __name__ == "__main__":
    (FAMILIES / "fbnet.csv").write_text(fbnet())
    (FAMILIES / "galvatron.csv").write_text(galvatron())
    for path in sys.argv[1:]:
        (FAMILIES / "tfnas.csv").write_text(tfnas(Path(path).read_text()))
    sys.stdout.write(
        "samsung_a50: {:.1f} % off on held-out layouts, autocorrelation {:.2f}\n".format(*held_out("samsung_a50"))
    )

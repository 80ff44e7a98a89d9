"""Files to read, one per reader: real ones where they may be redistributed (tests/data, ORIGIN.md)."""

from __future__ import annotations

import re
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
SAMPLES = {
    "aihub": "aihub/stable_diffusion_v1_5.perf.yaml",
    "galvatron": "galvatron/memory_profiling_bf16_llama2-7b_all.json",
    "hat": "hat/wmt14ende_cpu_raspberrypi_all.csv",
    "ofa": "look_alikes/ofa.yaml",
    "proxylessnas": "look_alikes/proxylessnas.yaml",
    "puzzletron": "look_alikes/subblock_stats.json",
    "tfnas": "tfnas/latency_cpu.csv",
}
COMPUTATION = DATA / "galvatron/computation_profiling_bf16_llama2-7b_all.json"


def sample(name: str) -> bytes:
    """Return a reader's whole sample."""
    return (DATA / SAMPLES[name]).read_bytes()


def short(name: str, lines: int = 40) -> bytes:
    """Return a sample of few lines that can still be read, or the whole where lines cannot be left out."""
    if name in ("hat", "tfnas"):
        return b"\n".join(sample(name).split(b"\n")[: lines + 1]) + b"\n"
    if name == "aihub":
        head, metrics = sample(name).split(b"        performance_metrics:\n", 2)[:2]
        devices = re.split(rb"\n(?=          \w)", metrics)
        head = b"precisions:\n" + head.split(b"precisions:\n", 1)[1]
        return head + b"        performance_metrics:\n" + b"\n".join(devices[: lines // 10 + 1]) + b"\n"
    return COMPUTATION.read_bytes() if (name, lines) == ("galvatron", 5) else sample(name)

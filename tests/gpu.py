"""What only a GPU can say, in at most eight minutes: `make gpu` writes gpu.json.

    streaming   tests/benchmarks/test_stream_speed.py: 1.8 billion parameters beside a Wan-shaped causal transformer
    tests       the tests that need CUDA
    table       `s2search measure --profiler torch_cuda` of s2dit-1.8b, in the folder gpu-table
    training    tokens per second of a step at width 2048, against the arithmetic limit, with what it keeps
    flow        three minutes of `s2search train` at width 512

Parts run one after another, each in a process of its own with a limit; what one does not reach is written as such, and
the others go on. `--rehearse` runs all of it on the processor, in small: to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LONGEST_TAIL = 6000  # characters of a part's output that are kept

#: Sizes of the run of three minutes.
WIDTH_512 = """
name = "w512"
depth = 28
channels = 512
heads = 8
feed_forward = 2048
text_channels = 64
text_tokens = 16
"""

STEP = """
import json, sys, time, torch
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT
from s2search.preset import Preset

preset, layout, video, frames, batch, device, dtype = sys.argv[1:]
kind = getattr(torch, dtype)
sizes = Preset.named(preset)
model = S2DiT.from_preset(sizes, layout).to(device, kind)
shape = sizes.shape(video, "clip", frames=int(frames))
size = (int(batch), 16, int(frames), 2 * shape.height, 2 * shape.width)
x, s = torch.randn(size, device=device, dtype=kind), torch.rand(int(batch), 1, device=device)
text = torch.randn(int(batch), sizes.text_tokens, sizes.text_channels, device=device, dtype=kind)

def wait():
    if device == "cuda":
        torch.cuda.synchronize()

def step():
    model(x, s, text).float().square().mean().backward()
    model.zero_grad(set_to_none=True)

step(), step(), wait()
times = []
for _ in range(5):
    begun = time.perf_counter()
    step(), wait()
    times.append(time.perf_counter() - begun)
tokens = int(batch) * int(frames) * shape.height * shape.width
flops = 3 * int(batch) * sum(block.flops(shape) for block in model.blocks)
took = sorted(times)[2]
peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
print(json.dumps({"tokens_per_s": tokens / took, "step_s": took, "flops_per_s": flops / took,
                  "parameters": model.parameter_count, "memory_bytes": peak}))
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part: its command, and seconds that it may take."""

    name: str
    words: list[str]
    limit_s: float


def parts(out: Path, *, small: bool) -> list[Part]:
    """Return the parts in the order in which they are wanted most."""
    python, device = sys.executable, "cpu" if small else "cuda"
    search = [python, "-m", "s2search"]
    (out / "w512.toml").write_text(WIDTH_512 if not small else WIDTH_512.replace("512", "64").replace("28", "4"))
    step = ["s2dit-tiny", "L4S4", "128x64", "5", "2"] if small else ["s2dit-1.8b", "L4S8L4S8L4", "256x144", "21", "1"]
    measure = [*search, "measure", "--out", str(out / "gpu-table"), "--video", "64x48" if small else "512x288"]
    measure += ["--profiler", "torch_cpu" if small else "torch_cuda", "--rounds", "3" if small else "10"]
    measure += ["--preset", "s2dit-tiny" if small else "s2dit-1.8b", "--scenario", "stream"]
    clips = [*search, "data", "make", "shapes[count=40]", "--out", str(out / "clips"), "--frames", "33"]
    sets = {
        "model.preset": str(out / "w512.toml"),
        "model.layout": "L2" if small else "L4S8L4S8L4",
        "optimizer.batch": 4 if small else 32,
        "optimizer.steps": 3 if small else 100_000,
        "optimizer.lr": 5e-4,
        "engine.device": device,
        "engine.dtype": "bfloat16",
        "judge.samples": 8 if small else 512,
        "judge.strips": 0,
    }
    if small:
        sets["model.layout"] = "LSSL"
    train = [*search, "train", "--data", str(out / "clips"), "--out", str(out / "run")]
    train += [word for key, value in sets.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    floor = "floor" if small else "on_a_gpu or floor"
    bench = [python, "-m", "pytest", "-q", "-s", str(ROOT / "tests/benchmarks/test_stream_speed.py"), "-k", floor]
    cuda = [python, "-m", "pytest", "-q", str(ROOT / "tests/measure"), str(ROOT / "tests/stream"), "-k", "cuda or gpu"]
    return [
        Part(name="streaming", words=bench, limit_s=120),
        Part(name="training", words=[python, "-c", STEP, *step, device, "bfloat16"], limit_s=35),
        Part(name="table", words=measure, limit_s=40),
        Part(name="clips", words=[*clips, "--video", "64x32" if small else "256x144"], limit_s=40),
        Part(name="flow", words=train, limit_s=60 if small else 180),
        Part(name="tests", words=cuda, limit_s=30),
    ]


def run(part: Part) -> dict[str, object]:
    """Run a part; one that is not done in time is interrupted, and what it printed is kept."""
    begun = time.monotonic()
    process = subprocess.Popen(
        part.words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True
    )
    ended = "done"
    try:
        output, _ = process.communicate(timeout=part.limit_s)
    except subprocess.TimeoutExpired:
        ended = "interrupted at its limit"
        os.killpg(process.pid, signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
    return {
        "ended": ended,
        "code": process.returncode,
        "seconds": round(time.monotonic() - begun, 1),
        "output": output[-_LONGEST_TAIL:],
    }


def figures(out: Path) -> dict[str, object]:
    """Return what the parts left in files: the last figures of the run, and the table's rows."""
    found: dict[str, object] = {}
    metrics = out / "run/metrics.csv"
    if metrics.exists():
        rows = [line.split(",") for line in metrics.read_text().splitlines()[1:]]
        found["flow"] = {name: [int(step), float(value)] for step, name, value in rows}
    if (out / "run/judgement.json").exists():
        found["judgement"] = json.loads((out / "run/judgement.json").read_text())
    if (out / "gpu-table/table.csv").exists():
        found["table"] = (out / "gpu-table/table.csv").read_text()
    return found


def main() -> int:
    """Run all parts and write gpu.json; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--rehearse", action="store_true", help="On the processor, in small.")
    asked = parser.parse_args()
    import torch

    if not asked.rehearse and not torch.cuda.is_available():
        sys.stderr.write("there is no CUDA device here; --rehearse runs the parts on the processor, in small\n")
        return 2
    asked.out.mkdir(parents=True, exist_ok=True)
    device = "processor, rehearsed" if asked.rehearse else torch.cuda.get_device_name()
    report: dict[str, object] = {"device": device, "torch": torch.__version__, "parts": {}}
    results: dict[str, dict[str, object]] = {}
    for part in parts(asked.out.absolute(), small=asked.rehearse):
        sys.stderr.write(f"{part.name} (at most {part.limit_s:.0f} s)\n")
        results[part.name] = run(part)
        report["parts"], report["figures"] = results, figures(asked.out)
        (asked.out / "gpu.json").write_text(json.dumps(report, indent=2) + "\n")
    failed = [name for name, result in results.items() if result["ended"] == "done" and result["code"] not in (0, 5)]
    sys.stderr.write(f"{asked.out}/gpu.json" + (f"; failed: {', '.join(failed)}\n" if failed else "\n"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

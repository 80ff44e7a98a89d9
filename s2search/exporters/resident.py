"""By how much a process grows when it loads a program and runs it: measured in a process of its own.

In the process that times, nothing can be told: what it exported and freed before is reused. So a child loads the
program, with nothing but the runtime in memory, and tells what the kernel says of it: when it is loaded with its inputs
(the streaming state among them), after the first call, when calls have become steady, and the most that ever was.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2search.errors import InputError
from s2search.exporters.counters import RSS_AND_HWM, why_no_counters

_MOMENTS = ("load", "first", "steady", "peak")
_CALLS = 6  # arenas and memory patterns grow with the first two
_TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Resident:
    """By how much a process grew when it loaded a program and ran it, bytes, by a counter; None is not known.

    Attributes:
        counter: Which one, as tables name it; see a row's `memory_counter`.
        load_bytes: Once the program is loaded, with its inputs.
        first_bytes: After the first call.
        steady_bytes: When calls have become steady.
        peak_bytes: The most.
    """

    counter: str
    load_bytes: int | None = None
    first_bytes: int | None = None
    steady_bytes: int | None = None
    peak_bytes: int | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """A row's columns of measured memory; none where nothing is known."""
        moments = {f"memory_{moment}_bytes": getattr(self, f"{moment}_bytes") for moment in _MOMENTS}
        return {} if self.most_bytes is None else {**moments, "memory_counter": self.counter}

    @property
    def most_bytes(self) -> int | None:
        """The largest of what is known: that which must fit."""
        known = (getattr(self, f"{moment}_bytes") for moment in _MOMENTS)
        return max((one for one in known if one is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class OnnxJob:
    """ONNX graphs to load together, each with its inputs by name, and the threads of a session."""

    graphs: Sequence[tuple[Path | bytes, Mapping[str, Any]]]
    threads: int = 1

    def run(self) -> Resident | None:
        """Load and run them in a process of its own; None where the system does not tell.

        Raises:
            InputError: The process did not come to its end.
        """
        if why_no_counters():
            return None
        with tempfile.TemporaryDirectory(prefix="s2search.") as scratch:
            job = Path(scratch, "job.json")
            graphs = [_written(Path(scratch), n, graph, inputs) for n, (graph, inputs) in enumerate(self.graphs)]
            job.write_text(json.dumps({"graphs": graphs, "threads": self.threads, "calls": _CALLS}), encoding="utf-8")
            return told(_child("s2search.exporters.resident_onnx", job))


def _written(scratch: Path, number: int, graph: Path | bytes, inputs: Mapping[str, Any]) -> dict[str, str]:
    import numpy as np

    arrays = scratch / f"{number}.npz"
    np.savez(arrays, **inputs)
    if isinstance(graph, bytes):
        path = scratch / f"{number}.onnx"
        path.write_bytes(graph)
        graph = path
    return {"path": str(graph), "inputs": str(arrays)}


def _child(module: str, job: Path) -> list[Any]:
    """Run a process to its end, and return what it tells, line by line."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, str(job)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"what a program takes could not be measured within {_TIMEOUT_S:g} s", remedy="try again on a quiet machine"
        ) from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise InputError(
            f"the process that measures what a program takes ended with {how}: {said}",
            remedy="give it more memory, or measure a smaller program",
        )
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(moments: Sequence[Mapping[str, int]]) -> Resident:
    """Return the growth from the first of four moments: before, loaded, after the first call, steady.

    The peak is of the life of the process: where it was larger before anything was loaded, it is not known.

    >>> moments = [{"rss": 20, "peak": 25}, *({"rss": n, "peak": 90} for n in (50, 60, 70))]
    >>> told(moments)
    Resident(counter='rss+vm_hwm', load_bytes=30, first_bytes=40, steady_bytes=50, peak_bytes=70)
    """
    before, *later = moments
    load, first, steady = (max(0, moment["rss"] - before["rss"]) for moment in later)
    risen = later[-1]["peak"] > before["peak"]
    return Resident(
        counter=RSS_AND_HWM,
        load_bytes=load,
        first_bytes=first,
        steady_bytes=steady,
        peak_bytes=later[-1]["peak"] - before["rss"] if risen else None,
    )

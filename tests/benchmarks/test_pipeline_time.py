"""How long the whole way takes: `s2search run` as a user starts it, in processor time of all its processes.

On one thread, which waits for nobody, a run takes as long by the clock of an idle machine; and processor time does not
count what else the machine does. Of two threads on a busy one each spins until the other gets a core.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s2search.pipeline.stages import PARENTS

pytestmark = pytest.mark.benchmark

MINUTE_S = 60.0


def children_s() -> float:
    """Processor time of all processes that this one started and that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("preset", "limit_s"),
    [("nano", 1.5 * MINUTE_S), pytest.param("tiny", 15 * MINUTE_S, marks=pytest.mark.slow)],
)
def test_the_whole_way_takes_no_longer_than_is_said(tmp_path: Path, preset: str, limit_s: float) -> None:
    before_s, begun_s = children_s(), time.monotonic()
    words = (sys.executable, "-m", "s2search", "run", "--preset", preset, "--out", "run")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=one_thread, capture_output=True, text=True, check=False)
    took_s, clock_s = children_s() - before_s, time.monotonic() - begun_s
    print(f"{preset}: {took_s:.0f} s of processor time, {clock_s:.0f} s by the clock, limit {limit_s:.0f} s")
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "run/stages.json").read_text())["stages"]
    assert {name: stage["state"] for name, stage in stages.items()} == dict.fromkeys(PARENTS, "done")
    assert took_s < limit_s

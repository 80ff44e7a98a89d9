"""A lab of phones that keeps its jobs in a file, as a real one keeps them whatever happens to who asks.

Run as a program, it measures a table into the folder it is given, and may die inside the lab's door.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from s2search.errors import InputError
from s2search.measurement.campaign import measure
from s2search.measurement.jobs import JobAnswer, JobFailedError
from s2search.measurement.labs.base import Lab, LabPhone, LabProfiler
from s2search.measurement.litert import model_name
from s2search.measurement.samples import Protocol
from s2search.testing.profilers import miniature_items

ITEMS = [
    item for item in miniature_items() if item.key in ("stream ssa 1x3x3", "stream down 1x3x3", "stream lcha 1x3x3")
]
PROTOCOL = Protocol(rounds=3, seed=1)


class FileLab(Lab):
    """Answers the second time it is asked; `names` says whether it can be asked for a job by its name."""

    names = True
    failing: ClassVar[set[str]] = set()  # files whose next job fails
    placement: ClassVar[dict[str, int]] = {"npu": 12}
    door: ClassVar[dict[str, object]] = {"calls": 0, "before": None, "after": None}

    def __init__(self, folder, device):
        self.device = device
        self.file = Path(folder, "lab.json")
        self.looked = set()

    def jobs(self):
        return json.loads(self.file.read_text()) if self.file.exists() else []

    def phone(self):
        if self.device != "Galaxy":
            raise InputError(f"the lab has no device {self.device!r}", remedy="see its list")
        return LabPhone(name="Galaxy", chip="SM8750", os="Android 15")

    def submit(self, name, model):
        self.pass_door("before")
        jobs = self.jobs()
        failed = model.name in self.failing
        self.failing.discard(model.name)
        jobs.append({"name": name, "model": model.name, "failed": failed})
        self.file.write_text(json.dumps(jobs))
        self.pass_door("after")
        return f"j{len(jobs)}"

    def find(self, name):
        found = [n for n, job in enumerate(self.jobs(), start=1) if job["name"] == name]
        return f"j{found[0]}" if found and self.names else None

    def look(self, job):
        if job not in self.looked:
            self.looked.add(job)
            return None
        number = int(job[1:])
        told = self.jobs()[number - 1]
        if told["failed"]:
            raise JobFailedError(f"the job {job} failed: no memory", remedy="the same command submits it anew")
        ms = len(told["model"]) * (1 + 0.01 * (number % 3))
        return JobAnswer(ms=ms, device="Galaxy", placement=self.placement)

    def pass_door(self, side):
        self.door["calls"] += side == "before"
        if self.door["calls"] == self.door[side]:
            self.door["stop"]()


@dataclass(frozen=True, kw_only=True)
class FakeLabProfiler(LabProfiler):
    name: ClassVar[str] = "fake_lab"
    method: ClassVar[str] = "arithmetic"
    runtime: ClassVar[str] = "LiteRT on a fake"
    no_token: ClassVar[str | None] = None

    phone: str = "Galaxy"
    unit: str = "npu"
    poll_s: float = 0.0
    folder: str = ""

    def missing(self):
        return self.no_token

    def runtime_version(self):
        return "1"

    def lab(self):
        return FileLab(self.folder, self.phone)


def models(folder):
    folder = Path(folder, "models")
    folder.mkdir(exist_ok=True)
    for item in miniature_items():
        (folder / model_name(item)).write_bytes(b"TFL3" * 8)
    return str(folder)


def run(folder, out="t", **options):
    profiler = FakeLabProfiler(models=models(folder), folder=str(folder), **options)
    moment = datetime(2026, 11, 30, tzinfo=UTC)
    return measure(profiler, ITEMS, Path(folder, out), preset="mini", protocol=PROTOCOL, clock=lambda: moment)


if __name__ == "__main__":
    FileLab.door |= {sys.argv[2]: int(sys.argv[3]), "stop": lambda: os.kill(os.getpid(), signal.SIGKILL)}
    run(sys.argv[1])

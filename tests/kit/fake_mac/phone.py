"""What the app in swift/ does, in Python, on a phone whose every sample follows from its slot.

So two campaigns agree to the last digit exactly if every sample was taken once. Under sustained load it takes a sample
a second, and throttles. Faults: `unplug_at` and `dies_at_sample` (numbers of samples on the phone), `unplug_hot_at` and
`dies_hot_at` (the same of samples under sustained load), `fails_hot` (row -> second of that load), `dies_loading`
(row -> how often), `fails` (row), `hot` (first slot, last slot), `hangs_at_launch`,
`tells_no_memory` (row). With `imitation`, times are those of `imitation.py`, drawn from its seed.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta

import world
from imitation import Imitation
from latencies import hot_ms, sample_ms, thermal_under_load
from sizes import APP_BYTES, row_bytes

_DEATHS = 2
_ROUNDS = 3


def run(folder, arguments, launch):
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    faults = world.faults()
    if launch in faults.get("hangs_at_launch", []):
        time.sleep(3600)
    app = App(folder, options, faults)
    try:
        app.run()
    except DeathError as death:
        print(f"App terminated due to signal {death}.", flush=True)
        return 1
    return 0


class DeathError(Exception):
    pass


class App:
    def __init__(self, folder, options, faults):
        self.folder, self.faults, self.options = folder, faults, options
        self.manifest = json.loads((folder / "manifest.json").read_text())
        path = folder / "steady.jsonl"
        content = path.read_bytes() if path.exists() else b""
        self.lines = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
        self.file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self.file.truncate(content.rfind(b"\n") + 1)
        self.file.seek(0, os.SEEK_END)
        self.taken = self.at_most = APP_BYTES
        self.imitation = Imitation(**faults["imitation"]) if "imitation" in faults else None

    def append(self, kind, at_slot=None, **fields):
        samples = [line["slot"] for line in self.lines if line["kind"] == "sample"]
        moment = max(samples, default=0) if at_slot is None else at_slot
        at = datetime(2026, 1, 2, 12, tzinfo=UTC) + timedelta(seconds=moment)
        line = {"kind": kind, "n": len(self.lines) + 1, "at": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"), **fields}
        text = json.dumps(line, separators=(",", ":"))
        self.file.write(text.encode() + b"\n")
        self.lines.append(line)
        print(text, flush=True)

    def sample_ms(self, slot):
        if self.imitation is None:
            return sample_ms(slot, self.faults.get("drift", 0.0))
        row, least_ms = self.manifest["rows"][slot["row"]], self.manifest["protocol"]["least_sample_ms"]
        return self.imitation.sample_ms(row, slot["slot"], len(self.manifest["order"]), least_ms)

    def hot_ms(self, slot, second):
        if self.imitation is None:
            return hot_ms(slot, second)
        row, least_ms = self.manifest["rows"][slot["row"]], self.manifest["protocol"]["least_sample_ms"]
        return self.imitation.hot_ms(row, second, least_ms)

    def thermal(self, slot):
        if self.imitation is not None and self.imitation.is_too_hot(slot, len(self.manifest["order"])):
            return "serious"
        first, last = self.faults.get("hot", (1, 0))
        return "serious" if first <= slot <= last else "nominal"

    def run(self):
        deaths, loading = [], None
        for line in [*self.lines, {"kind": "session", "crashed": self.options["--crashed"] == "1"}]:
            if line["kind"] == "session":
                deaths += [loading] if line["crashed"] and loading is not None else []
                loading = None
            elif line["kind"] in ("loading", "ready", "failed"):
                loading = line["row"] if line["kind"] == "loading" else None
        given = {int(row) for row in self.options["--skip"].split(",") if row != "none"}
        given |= {line["row"] for line in self.lines if line["kind"] == "failed"}
        self.append(
            "session",
            kit=self.options["--kit"],
            machine="iPhone17,2",
            os="iOS 26.1",
            thermal="nominal",
            low_power_mode=False,
            battery=0.8,
            charging=True,
            crashed=self.options["--crashed"] == "1",
        )
        for row in sorted({row for row in deaths if deaths.count(row) >= _DEATHS} - given):
            given.add(row)
            self.append(
                "failed",
                row=row,
                stage="load",
                reason="out_of_memory",
                message="the app died twice while it loaded this row",
            )
        for group in range(len(self.manifest["groups"])):
            self.measure(group, given)
        heated = {line["group"] for line in self.lines if line["kind"] == "heated"}
        for group, rows in enumerate(self.manifest["groups"]):
            if self.manifest["protocol"]["sustained_s"] is not None and group not in heated and not given >= {*rows}:
                self.heat(group, given)
        self.append("done")

    def measure(self, group, given):
        done = {line["slot"] for line in self.lines if line["kind"] == "sample"}
        slots = [
            slot
            for slot in self.manifest["order"]
            if slot["group"] == group and slot["row"] not in given and slot["slot"] not in done
        ]
        self.load({slot["row"] for slot in slots}, given)
        for slot in slots:
            if slot["row"] in given:
                continue
            number = len([line for line in self.lines if line["kind"] == "sample"])
            self.disturb(number, unplug_at=world.unplug, dies_at_sample=lambda: None)
            hot = self.thermal(slot["slot"])
            if hot == "serious":
                self.append("pause", thermal=hot, seconds=600.0, thermal_after=hot)
            self.append(
                "sample",
                at_slot=slot["slot"],
                slot=slot["slot"],
                round=slot["round"],
                row=slot["row"],
                sentinel=slot["sentinel"],
                ms=self.sample_ms(slot),
                thermal=hot,
                thermal_after=hot,
            )
            time.sleep(self.faults.get("sample_s", 0.0))

    def heat(self, group, given):
        slots = [slot for slot in self.manifest["order"] if slot["group"] == group]
        self.load({slot["row"] for slot in slots} - given, given)
        begin = 3600 * (1 + group)
        self.append("heating", at_slot=begin, group=group)
        second, starts, lap = 0, [], 0
        while True:
            for place, slot in enumerate(slots):
                if place == 0 or slot["round"] != slots[place - 1]["round"]:
                    passed = max(0, second - 1)
                    late = [start for start in starts if start >= passed * 2 / 3]
                    if passed >= self.manifest["protocol"]["sustained_s"] and len(late) >= _ROUNDS:
                        self.append("heated", at_slot=begin + second, group=group, seconds=float(passed))
                        return
                    starts.append(passed)
                if slot["row"] in given:
                    continue
                number = len([line for line in self.lines if line["kind"] == "hot"])
                self.disturb(number, unplug_hot_at=world.unplug, dies_hot_at=lambda: None)
                if self.faults.get("fails_hot", {}).get(str(slot["row"]), second) < second:
                    given.add(slot["row"])
                    self.append("failed", row=slot["row"], stage="predict", reason="error", message="too hot")
                    continue
                self.append(
                    "hot",
                    at_slot=begin + second,
                    slot=slot["slot"],
                    lap=lap,
                    row=slot["row"],
                    sentinel=slot["sentinel"],
                    ms=self.hot_ms(slot, second),
                    thermal=thermal_under_load(second),
                    thermal_after=thermal_under_load(second + 1),
                )
                second += 1
            lap += 1

    def disturb(self, number, **actions):
        for fault, action in actions.items():
            marker = world.ROOT / f"{fault}.{number}"
            if number in self.faults.get(fault, []) and not marker.exists():
                marker.touch()
                action()
                raise DeathError(9 if fault.startswith("dies") else 15)

    def load(self, rows, given):
        for row in sorted(rows):
            self.append("loading", row=row)
            if world.count(f"load.{row}") <= self.faults.get("dies_loading", {}).get(str(row), 0):
                raise DeathError(9)
            if row in self.faults.get("fails", []):
                given.add(row)
                self.append("failed", row=row, stage="load", reason="error", message="Error Domain=com.apple.CoreML")
                continue
            self.append(
                "ready",
                row=row,
                load_ms=100.5,
                warm_ups=7,
                settled=True,
                repetitions=4,
                first_ms=40.25,
                **self.memory(row),
            )

    def memory(self, row):
        """What task_info says while a row is loaded; a row in `tells_no_memory` makes it fail."""
        if row in self.faults.get("tells_no_memory", []):
            return {}
        before = self.taken
        self.taken += row_bytes(row, "steady")
        at_most, self.at_most = self.at_most, max(self.at_most, before + row_bytes(row, "peak"))
        moments = {f"{moment}_bytes": before + row_bytes(row, moment) for moment in ("load", "first", "steady")}
        return {"memory": {"before_bytes": before, **moments, "peak_before_bytes": at_most, "peak_bytes": self.at_most}}

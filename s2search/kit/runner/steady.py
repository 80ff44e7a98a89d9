"""Steady samples: builds the app in `swift/`, puts the packages on the phone, runs it, and fetches what it wrote.

The app keeps a journal of its own on the phone and goes on from it; this side copies new lines to results.jsonl after
every launch, and gives the journal back to an app that was deleted meanwhile.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from .apple import Apple, Phone, ToolError, UnpluggedError
from .journal import Journal, RefusalError

FOLDER = "Documents/kit"
_JOURNAL = f"{FOLDER}/steady.jsonl"
_LAUNCHES = 3  # without a new sample, before giving up


def measure_steady(
    kit: Path, manifest: dict[str, Any], journal: Journal, apple: Apple, phone: Phone, team: str
) -> None:
    """Run the app until every slot has its sample or its row has failed, and every group its sustained load."""
    if finished(manifest, journal):
        return
    _compile(kit, manifest, journal, apple)
    print("building the app", flush=True)
    app = apple.build_app(kit / "swift" / "KitRunner.xcodeproj", phone, team, kit / "build" / "app")
    bundle = apple.install(phone, app)
    _send(kit, manifest, journal, apple, phone, bundle)
    fruitless = 0
    crashed = False
    while not finished(manifest, journal):
        if fruitless == _LAUNCHES:
            raise RefusalError(f"the app ended {_LAUNCHES} times without a new sample; see runner.log and the phone")
        before = _results(journal)
        status = _launch(manifest, journal, apple, phone, bundle, crashed)
        if not apple.is_connected(phone):
            raise UnpluggedError
        crashed = status != 0
        fruitless = 0 if _results(journal) > before else fruitless + 1


def finished(manifest: dict[str, Any], journal: Journal) -> bool:
    """Return whether nothing is left to be measured."""
    return not left(manifest, journal) and not unheated(manifest, journal)


def unheated(manifest: dict[str, Any], journal: Journal) -> list[int]:
    """Return the groups whose sustained load has not lasted long enough yet."""
    if manifest["protocol"].get("sustained_s") is None:
        return []
    heated, failed = {line["group"] for line in journal.of("heated")}, _given_up(journal)
    return [n for n, rows in enumerate(manifest["groups"]) if n not in heated and not failed.issuperset(rows)]


def _results(journal: Journal) -> int:
    return sum(len(journal.of(kind)) for kind in ("sample", "failed", "heated"))


def left(manifest: dict[str, Any], journal: Journal) -> int:
    """Return how many samples are still to be taken."""
    done, failed = {line["slot"] for line in journal.of("sample")}, _given_up(journal)
    return sum(slot["slot"] not in done and slot["row"] not in failed for slot in manifest["order"])


def _given_up(journal: Journal) -> set[int]:
    """Return rows that the phone could not run, or that do not compile. What coremltools alone failed at is tried."""
    return {line["row"] for line in journal.of("failed") if "n" in line or line["reason"] == "does_not_compile"}


def _compile(kit: Path, manifest: dict[str, Any], journal: Journal, apple: Apple) -> None:
    """Compile every package that is still needed; a package that does not compile fails its rows."""
    folder = kit / "build" / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    for package in _needed(manifest, journal):
        target = folder / f"{_name(package)}.mlmodelc"
        if target.exists():
            continue
        try:
            apple.compile(kit / package["path"], target)
        except ToolError as error:
            if error.timed_out:
                raise RefusalError(f"{package['path']}: {error}; repeat the command") from error
            for row in manifest["rows"]:
                if row["package"] == package["digest"]:
                    line = {"stage": "compile", "reason": "does_not_compile", "message": str(error)[:300]}
                    journal.append({"kind": "failed", "row": row["id"], **line})


def _send(kit: Path, manifest: dict[str, Any], journal: Journal, apple: Apple, phone: Phone, bundle: str) -> None:
    print("copying packages to the phone", flush=True)
    apple.send(phone, bundle, kit / "manifest.json", f"{FOLDER}/manifest.json")
    for name in dict.fromkeys(f"{_name(package)}.mlmodelc" for package in _needed(manifest, journal)):
        apple.send(phone, bundle, kit / "build" / "compiled" / name, f"{FOLDER}/{name}")


def _launch(manifest: dict[str, Any], journal: Journal, apple: Apple, phone: Phone, bundle: str, crashed: bool) -> int:
    """Run the app once, and take its lines whatever became of it."""
    kit_digest = journal.lines[0]["kit"]
    _restore(journal, apple, phone, bundle)
    words = ["--kit", kit_digest, "--crashed", str(int(crashed))]
    words += ["--skip", ",".join(str(row) for row in sorted(_given_up(journal))) or "none"]
    protocol = manifest["protocol"]
    meter = _Meter(left(manifest, journal), protocol.get("sustained_s"))
    status = apple.launch(
        phone, bundle, words, stall_s=protocol["timeout_s"] + protocol["cool_down_s"], heard=meter.heard
    )
    journal.take(_received(apple, phone, bundle))
    return status


def _restore(journal: Journal, apple: Apple, phone: Phone, bundle: str) -> None:
    """Take what the phone wrote since; where it has less than this side, give it all lines back."""
    content = _received(apple, phone, bundle)
    there = content.count(b"\n")
    if there >= len(journal.phone_lines):
        journal.take(content)
        return
    lines = journal.phone_lines
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "steady.jsonl")
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
        apple.send(phone, bundle, path, _JOURNAL)


def _received(apple: Apple, phone: Phone, bundle: str) -> bytes:
    return apple.receive(phone, bundle, _JOURNAL) or b""


def _needed(manifest: dict[str, Any], journal: Journal) -> list[dict[str, Any]]:
    given_up = _given_up(journal)
    digests = {row["package"] for row in manifest["rows"] if row["id"] not in given_up}
    return [package for package in manifest["packages"] if package["digest"] in digests]


def _name(package: dict[str, Any]) -> str:
    return Path(package["path"]).stem


class _Meter:
    """Prints how many samples are left and the time that they will take, or that sustained load has begun."""

    def __init__(self, samples: int, sustained_s: float | None) -> None:
        self._samples, self._done, self._begin = samples, 0, time.monotonic()
        self._sustained_s = sustained_s or 0.0

    def heard(self, line: str) -> None:
        try:
            kind = json.loads(line).get("kind")
        except (ValueError, AttributeError):
            return
        if kind == "heating":
            print(f"sustained load has begun: {self._sustained_s / 60:.1f} minutes; leave the phone alone", flush=True)
        if kind != "sample":
            return
        self._done += 1
        if self._done % 20 == 0:
            minutes = (time.monotonic() - self._begin) / self._done * (self._samples - self._done) / 60
            print(f"{self._samples - self._done} samples left, about {minutes:.0f} minutes", flush=True)

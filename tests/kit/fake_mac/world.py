"""The folder that all imitations share: what is plugged in, what goes wrong, and what has been called."""

from __future__ import annotations

import json
import os
from pathlib import Path

ROOT = Path(os.environ.get("FAKE_MAC", "."))
UDID = "00008140-000A11112222001C"
DEVICE = {
    "identifier": "11111111-2222-3333-4444-555555555555",
    "deviceProperties": {
        "name": "Test Phone",
        "osVersionNumber": "26.1",
        "osBuildUpdate": "23B85",
        "developerModeStatus": "enabled",
    },
    "hardwareProperties": {
        "deviceType": "iPhone",
        "udid": UDID,
        "marketingName": "iPhone 16 Pro Max",
        "productType": "iPhone17,2",
        "platform": "iOS",
    },
}


def faults() -> dict:
    path = ROOT / "faults.json"
    return json.loads(path.read_text()) if path.exists() else {}


def count(name: str) -> int:
    """How often something happened, this time included."""
    path = ROOT / f"count.{name}"
    number = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(number))
    return number


def note(name: str, *words) -> None:
    """Write down what was asked for, a line each."""
    with (ROOT / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(words) + "\n")


def unplugged() -> bool:
    """An unplugged phone comes back after it was looked for a few times, if at all."""
    path = ROOT / "unplugged"
    if not path.exists():
        return False
    left = int(path.read_text())
    if left == 0:
        path.unlink()
        return False
    path.write_text(str(left - 1))
    return True


def unplug() -> None:
    (ROOT / "unplugged").write_text(str(faults().get("looks_until_back", 8)))

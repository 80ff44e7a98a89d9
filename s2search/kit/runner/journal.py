"""results.jsonl: one JSON object per line, appended and synced line by line.

A runner that dies leaves at most one torn line at the end, which the next one drops.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class RefusalError(Exception):
    """Something that the user can mend; it is printed as one line."""


class Journal:
    """The lines of a campaign so far, and the end of its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  it stays open as long as the journal
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusalError(f"another runner writes {path}; let it finish, or stop it") from None
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self._file.truncate(len(whole))
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def begin(self, campaign: dict[str, Any]) -> None:
        """Write the first line, or make sure that it is of the same kit and phone."""
        if not self.lines:
            self.append({"kind": "campaign", "schema": "s2search.kit_results/1", **campaign})
            return
        for key in ("kit", "device_digest"):
            if self.lines[0][key] != campaign[key]:
                what = "kit" if key == "kit" else "phone"
                raise RefusalError(f"{self._path} was started with another {what}; move it away, or use that {what}")

    def append(self, line: dict[str, Any]) -> None:
        """Write one line, with the time if it has none, and sync it to the disk."""
        line = {"at": now(), **line}
        left = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
            os.fsync(self._file.fileno())
        except OSError as error:
            problem = f"{self._path} cannot be written: {error.strerror}"
            raise RefusalError(
                f"{problem}; make room and repeat the command: it goes on from the last whole line"
            ) from error
        self.lines.append(line)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of one kind."""
        return [line for line in self.lines if line["kind"] == kind]

    def rows(self, kind: str) -> set[int]:
        """Return the rows that have a line of one kind."""
        return {line["row"] for line in self.of(kind)}

    @property
    def phone_lines(self) -> list[dict[str, Any]]:
        """The lines that came from the phone, in its order."""
        return [line for line in self.lines if "n" in line]

    def take(self, content: bytes) -> int:
        """Append those whole lines of the phone's journal that are not here yet; return how many there were.

        A phone that was wiped meanwhile counts anew; its lines are refused by their numbers, never mixed in.
        """
        taken, last = 0, len(self.phone_lines)
        for text in content[: content.rfind(b"\n") + 1].splitlines():
            line = json.loads(text)
            if line["n"] > last:
                if line["n"] != last + 1:
                    raise RefusalError(
                        f"the phone's line {line['n']} follows its line {last}; delete the app and repeat"
                    )
                self.append(line)
                taken, last = taken + 1, line["n"]
        return taken


def now() -> str:
    """Return the time in UTC as ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

"""The way to an Android phone: one call per adb command, so that tests can replay a recorded transcript."""

from __future__ import annotations

import re
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass

from typing_extensions import override

from s2search.errors import InputError


class Transport(ABC):
    """Runs adb."""

    @abstractmethod
    def run(self, *words: str, check: bool = True) -> str:
        """Run `adb WORDS` and return what it printed, both streams.

        Raises:
            InputError: It failed, and `check` is set.
        """


@dataclass(frozen=True, kw_only=True)
class AdbTransport(Transport):
    """Attributes: `serial` of the phone, or empty for the only one; seconds after which a command is given up."""

    serial: str = ""
    timeout_s: float = 600.0

    @override
    def run(self, *words: str, check: bool = True) -> str:
        chosen = ["-s", self.serial] if self.serial else []
        try:
            done = subprocess.run(
                ["adb", *chosen, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=self.timeout_s,
            )
        except subprocess.TimeoutExpired:
            problem = f"the phone did not answer `adb {' '.join(words)[:80]}` within {self.timeout_s:g} s"
            raise InputError(problem, remedy="wake it; the same command goes on where this one stopped") from None
        if check and done.returncode:
            raise InputError(
                f"`adb {' '.join(words)[:80]}` failed with {done.returncode}: {done.stdout.strip()[-200:]}",
                remedy="plug the phone in and unlock it; the same command goes on where this one stopped",
            )
        return done.stdout


def devices(transport: Transport, serial: str) -> str | None:
    """Return None if adb sees the phone, ready to work; else why not, in one line."""
    try:
        printed = transport.run("devices")
    except InputError as error:
        return str(error)
    seen = dict(re.findall(r"^(\S+)\t(\S+)", printed, re.M))
    if not seen:
        return "adb sees no phone; connect one with USB debugging switched on"
    if serial and serial not in seen:
        return f"adb sees no phone {serial!r}, only {', '.join(seen)}; choose one of these with adb[serial=...]"
    if not serial and len(seen) > 1:
        return f"adb sees {len(seen)} phones: {', '.join(seen)}; choose one with adb[serial=...]"
    state = seen[serial or next(iter(seen))]
    if state != "device":
        return f"the phone {serial or next(iter(seen))} is {state}; unlock it and allow USB debugging"
    return None

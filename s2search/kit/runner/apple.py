"""Apple's command-line tools: xcrun devicectl, xcrun coremlcompiler, xcodebuild. Every call is logged to runner.log."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .journal import RefusalError, now

BUNDLE = "org.s2search.kitrunner"


class UnpluggedError(Exception):
    """The phone is gone. It may come back."""


class ToolError(Exception):
    """One of Apple's tools failed: `stage` says at what, the message is the end of what it said."""

    def __init__(self, stage: str, message: str, *, timed_out: bool = False) -> None:
        self.stage, self.timed_out = stage, timed_out
        super().__init__(message)


@dataclass(frozen=True)
class Phone:
    """A phone as devicectl lists it."""

    identifier: str
    udid: str
    name: str
    kind: str
    product: str
    os: str
    developer_mode: str
    connected: bool


class Apple:
    """Calls the tools.

    Args:
        log: Where calls and their whole answers go.
        timeout_s: How long one call may take, seconds.
    """

    def __init__(self, log: Path, timeout_s: float) -> None:
        self._log, self._timeout_s = log, timeout_s

    def check(self) -> None:
        """Raise a refusal where a tool is missing."""
        for tool in ("xcrun", "xcodebuild"):
            if shutil.which(tool) is None:
                raise RefusalError(f"there is no {tool}; install Xcode and start it once")
        if shutil.which("devicectl") is None:  # coremltools looks for it on PATH
            found = subprocess.run(["xcrun", "-f", "devicectl"], capture_output=True, text=True, check=False)
            if found.returncode:
                raise RefusalError("there is no devicectl; install Xcode 15 or newer and start it once")
            os.environ["PATH"] = f"{Path(found.stdout.strip()).parent}{os.pathsep}{os.environ['PATH']}"

    def phones(self) -> list[Phone]:
        """Return all iPhones that this Mac knows.

        A phone that is plugged in counts as connected only while a tunnel to it is open; asking it anything opens one.
        """
        found = self._listed()
        asleep = [phone for phone in found if not phone.connected]
        for phone in asleep:
            with contextlib.suppress(ToolError):
                self._json("device", ["info", "details", "--device", phone.identifier])
        return self._listed() if asleep else found

    def _listed(self) -> list[Phone]:
        devices = self._json("list", ["devices"]).get("result", {}).get("devices", [])
        found = []
        for device in devices:
            hardware, properties = device.get("hardwareProperties", {}), device.get("deviceProperties", {})
            if hardware.get("deviceType", "").lower() != "iphone":
                continue
            system = f"iOS {properties.get('osVersionNumber', '?')} ({properties.get('osBuildUpdate', '?')})"
            found.append(
                Phone(
                    identifier=device["identifier"],
                    udid=hardware.get("udid", ""),
                    name=properties.get("name", ""),
                    kind=hardware.get("marketingName") or hardware.get("productType", "iPhone"),
                    product=hardware.get("productType", ""),
                    os=system,
                    developer_mode=properties.get("developerModeStatus", ""),
                    connected=device.get("connectionProperties", {}).get("tunnelState", "").lower() == "connected",
                )
            )
        return found

    def compile(self, package: Path, target: Path) -> None:
        """Compile a package to `target`, a .mlmodelc folder."""
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            self._run("compile", ["xcrun", "coremlcompiler", "compile", str(package), scratch])
            made = next(Path(scratch).glob("*.mlmodelc"), None)
            if made is None:
                raise ToolError("compile", "coremlcompiler made nothing")
            made.rename(target)

    def build_app(self, project: Path, phone: Phone, team: str, build: Path) -> Path:
        """Build the app of the steady loop and return it."""
        words = ["-project", str(project), "-scheme", "KitRunner", "-configuration", "Release", "-sdk", "iphoneos"]
        words += ["-destination", f"platform=iOS,id={phone.udid}", "-allowProvisioningUpdates"]
        words += ["-allowProvisioningDeviceRegistration", f"SYMROOT={build}", f"DEVELOPMENT_TEAM={team}"]
        words += [f"PRODUCT_BUNDLE_IDENTIFIER={BUNDLE}.{team.lower()}"]
        self._run("build", ["xcodebuild", *words])
        app = next(build.rglob("KitRunner.app"), None)
        if app is None:
            raise ToolError("build", "xcodebuild made no KitRunner.app")
        return app

    def install(self, phone: Phone, app: Path) -> str:
        """Install an app; return its bundle identifier."""
        answer = self._json("device", ["install", "app", "--device", phone.identifier, str(app)])
        return str(answer["result"]["installedApplications"][0]["bundleID"])

    def send(self, phone: Phone, bundle: str, source: Path, destination: str) -> None:
        """Copy a file or folder into the app's container."""
        self._json("device", ["copy", "to", *self._container(phone, bundle, str(source), destination)])

    def receive(self, phone: Phone, bundle: str, source: str) -> bytes | None:
        """Return a file of the app's container; None where there is none."""
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch, "received")
            try:
                self._json("device", ["copy", "from", *self._container(phone, bundle, source, str(target))])
            except ToolError:
                if not self.is_connected(phone):
                    raise UnpluggedError from None
                return None
            return target.read_bytes() if target.exists() else None

    def launch(
        self, phone: Phone, bundle: str, words: Sequence[str], *, stall_s: float, heard: Callable[[str], None]
    ) -> int:
        """Run the app until it ends and return its exit status; -9 where it was silent for `stall_s` seconds.

        `heard` is told every line that the app prints.
        """
        command = ["xcrun", "devicectl", "device", "process", "launch", "--console", "--terminate-existing"]
        command += ["--device", phone.identifier, bundle, *words]
        self._note(command, "launched")
        with tempfile.TemporaryFile("w+b") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            try:
                return self._follow(process, output, stall_s, heard)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def is_connected(self, phone: Phone) -> bool:
        """Whether the phone is there now."""
        try:
            return any(one.udid == phone.udid and one.connected for one in self.phones())
        except (ToolError, KeyError):
            return False

    def _follow(
        self, process: subprocess.Popen[bytes], output: Any, stall_s: float, heard: Callable[[str], None]
    ) -> int:
        silent_s, place, step_s = 0.0, 0, 0.2
        while True:
            try:
                process.wait(step_s)
            except subprocess.TimeoutExpired:
                silent_s += step_s
            output.seek(place)
            new = output.read()
            whole = new[: new.rfind(b"\n") + 1]
            place += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                silent_s = 0.0
                heard(line)
            if process.returncode is not None:
                return process.returncode
            if silent_s >= stall_s:
                return -9

    def _container(self, phone: Phone, bundle: str, source: str, destination: str) -> list[str]:
        words = ["--device", phone.identifier, "--domain-type", "appDataContainer", "--domain-identifier", bundle]
        return [*words, "--source", source, "--destination", destination]

    def _json(self, stage: str, words: Sequence[str]) -> Any:
        with tempfile.NamedTemporaryFile(suffix=".json") as answer:
            self._run(stage, ["xcrun", "devicectl", stage, *words, "--json-output", answer.name])
            try:
                return json.loads(Path(answer.name).read_bytes())
            except ValueError as error:
                raise ToolError(stage, f"devicectl answered no JSON: {error}") from error

    def _run(self, stage: str, command: Sequence[str]) -> None:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            self._note(command, "timed out")
            raise ToolError(stage, f"{command[0]} took longer than {self._timeout_s:g} s", timed_out=True) from error
        said = done.stdout.decode(errors="replace")
        self._note(command, f"exit {done.returncode}\n{said}")
        if done.returncode:
            lines = [line.strip() for line in said.splitlines() if line.strip()]
            raise ToolError(stage, " / ".join(lines[-3:]) or f"exit status {done.returncode}")

    def _note(self, command: Sequence[str], outcome: str) -> None:
        with contextlib.suppress(OSError), self._log.open("a") as log:  # a full disk is said where it costs a result
            log.write(f"{now()} {' '.join(command)}: {outcome}\n")

"""litert_cloud: lab devices of Google's Developer Device Platform, through LiteRT's command line (`litert-cli` 0.2.1).

`litert benchmark MODEL --ddp` uploads a model, asks for one session of `benchmark_model` and waits for it. A job is
submitted by that command, which is stopped as soon as it has said the operation's name; the operation is asked for as
the command asks, and answered by any process, with the token of `gcloud auth application-default login`. That release
cannot ask these devices for the NPU.

Source: litert_cli/commands/benchmark/ddp.py of litert-cli 0.2.1 (Apache-2.0).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.measurement.delegation import Unit, delegated
from s2search.measurement.jobs import JobAnswer, JobFailedError
from s2search.measurement.labs.base import GOES_ON, Lab, LabPhone, LabProfiler
from s2search.measurement.litert import WARM_UPS, litert_ms

_ENDPOINT = "https://devicerun.googleapis.com/v1alpha"
_TIMEOUT_S = 60
_SUBMITTED = re.compile(r"\(Operation: (\S+), timeout: ")
_SIGN_IN = "sign in: gcloud auth application-default login"


@dataclass(frozen=True, kw_only=True)
class LiteRTCloud(LabProfiler):
    """Times .tflite files on devices of Google's Developer Device Platform.

    Attributes:
        project: The Google Cloud project that pays; by default LITERT_GCP_PROJECT.
        bucket: The bucket for models and outputs; by default the command's own.
        runs: Calls of one job that count.
    """

    method: ClassVar[str] = (
        "one session of LiteRT's benchmark_model per sample, on a device that the lab chooses: its average time, 3 "
        "calls before left out; weights: bytes of the file; state and peak: formulas, not measured"
    )
    units: ClassVar[tuple[Unit, ...]] = ("cpu", "gpu")
    runtime: ClassVar[str] = "LiteRT on DDP"

    project: str = ""
    bucket: str = ""
    runs: int = 50

    @override
    def missing(self) -> str | None:
        if missing := missing_extra("litert_cli"):
            return str(missing)
        if shutil.which("gcloud") is None:
            return f"gcloud is not on PATH; install Google Cloud's command line, and {_SIGN_IN}"
        if not self._project:
            return "no Google Cloud project is named; give litert_cloud[project=ID], or set LITERT_GCP_PROJECT"
        return None

    @override
    def runtime_version(self) -> str:
        return f"as of litert-cli {version('litert-cli')}"

    @override
    def lab(self) -> Lab:
        words = [*_litert(), "benchmark", "{model}", "--ddp", f"--{self.unit}", "--device", self.phone]
        words += ["--gcp-project", self._project, *(["--gcp-bucket", self.bucket] if self.bucket else [])]
        words += ["--num-runs", str(self.runs), "--min-secs", "0"]
        words += ["--warmup-runs", str(WARM_UPS), "--warmup-min-secs", "0"]
        endpoint = os.environ.get("DEVICE_RUN_ENDPOINT", _ENDPOINT).rstrip("/")  # the command's own variable
        return DeviceRun(words, phone=self.phone, endpoint=endpoint, project=self._project, unit=self.unit)

    @property
    def _project(self) -> str:
        return self.project or os.environ.get("LITERT_GCP_PROJECT", "")


class DeviceRun(Lab):
    """The way to the Device Run API: `command` submits, `{model}` in it being the file."""

    def __init__(self, command: list[str], *, phone: str, endpoint: str, project: str, unit: Unit) -> None:
        self._command, self._endpoint, self._project, self._unit = command, endpoint, project, unit
        self._phone = phone
        self._token = ""

    @override
    def phone(self) -> LabPhone:
        """Return the name alone: the client cannot list devices, and an unknown one is refused when it is asked for."""
        return LabPhone(name=self._phone)

    @override
    def submit(self, name: str, model: Path) -> str:
        command = [str(model) if word == "{model}" else word for word in self._command]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        said = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
        ) as process:
            assert process.stdout
            try:
                for line in process.stdout:
                    said.append(line)
                    if found := _SUBMITTED.search(line):
                        return found[1]
            finally:
                process.kill()  # the session goes on without it
        raise _refused("".join(said))

    @override
    def look(self, job: str) -> JobAnswer | None:
        operation = self._get(job)
        if not operation.get("done"):
            return None
        report = operation.get("response", {}).get("sessionReport", {})
        ended = report.get("jobReports", [{}])[0]
        result = ended.get("result", {}).get("resultType", "UNKNOWN")
        if "error" in operation or result != "PASSED":
            why = operation.get("error", {}).get("message") or f"it ended as {result}"
            raise JobFailedError(f"the job {job} failed: {why}", remedy="the same command submits it anew")
        log = _gcloud("storage", "cat", _logcat(ended, job))
        return JobAnswer(ms=litert_ms(log), device=self._phone, placement=delegated(log, self._unit))

    def _get(self, operation: str, *, again: bool = True) -> dict[str, Any]:
        self._token = self._token or _gcloud("auth", "application-default", "print-access-token").strip()
        headers = {"Authorization": f"Bearer {self._token}", "X-Goog-User-Project": self._project}
        request = urllib.request.Request(f"{self._endpoint}/{operation}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            if error.code == 401 and again:  # tokens last an hour
                self._token = ""
                return self._get(operation, again=False)
            raise _refused(f"{error.code} {error.reason}") from error
        except (OSError, ValueError) as error:
            raise InputError(f"the Device Run API cannot be reached: {error}", remedy=GOES_ON) from error


def _litert() -> list[str]:
    beside = Path(sys.executable).with_name("litert")
    return [str(beside) if beside.exists() else "litert"]


def _logcat(report: Mapping[str, Any], job: str) -> str:
    """Return where a job's log is."""
    files = [file for run in report.get("executionReports", ()) for file in run.get("outputFiles", ())]
    paths = [str(file.get("gcsOutputFile", {}).get("path", "")) for file in files]
    if found := next((path for path in paths if path.endswith("/logcat.txt")), None):
        return found
    raise InputError(f"the job {job} left no logcat.txt", remedy="look at the session's outputs in its bucket")


def _gcloud(*words: str) -> str:
    done = subprocess.run(["gcloud", *words], capture_output=True, text=True, errors="replace", timeout=600)
    if done.returncode:
        raise _refused(f"gcloud {words[0]}: {done.stderr}")
    return done.stdout


def _refused(said: str) -> InputError:
    """Return the line for what the command, gcloud or the API printed last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(Error|ERROR)\b|\d{3} |gcloud ", line)]
    last = (errors or lines or ["it printed nothing"])[-1].removeprefix("Error: ")[:300]
    everything = said.lower()
    if "429" in everything or "quota" in everything:
        return InputError(f"the lab takes no more jobs now: {last}", remedy=f"wait, or ask for more quota; {GOES_ON}")
    if "token" in everything or "credentials" in everything or "401" in everything or "403" in everything:
        return InputError(f"Google Cloud does not know who asks: {last}", remedy=_SIGN_IN)
    if "device ids" in everything:
        remedy = "list them: gcloud beta device-run devices list --project ID; give litert_cloud[phone=DEVICE_ID]"
        return InputError(f"the lab does not take the job: {last}", remedy=remedy)
    return InputError(f"the lab does not take the job: {last}", remedy=GOES_ON)

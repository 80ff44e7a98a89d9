"""embedl: phones of Embedl Hub's device cloud, through its client (`embedl-hub` 0.0.7).

0.0.7 is the last release that submits jobs: 0.0.8 records runs and knows no devices. What submits, polls and downloads
lies in its `_internal` modules, so the extra names that one version. The device cloud keeps no names of jobs: a process
that is killed inside the request itself may leave a job that nobody asks for.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.measurement.delegation import Unit, delegated
from s2search.measurement.jobs import JobAnswer, JobFailedError
from s2search.measurement.labs.base import GOES_ON, Lab, LabPhone, LabProfiler
from s2search.measurement.litert import WARM_UPS, litert_ms

_LOG = "tflite-logs.txt"


@dataclass(frozen=True, kw_only=True)
class Embedl(LabProfiler):
    """Times .tflite files on Embedl Hub's device cloud.

    Attributes:
        runs: Calls of one job that count.
    """

    method: ClassVar[str] = (
        "one benchmark job of Embedl Hub per sample, on a phone that it chooses: the average that TensorFlow Lite's "
        "benchmark_model prints, with operators profiled, 3 calls before left out; weights: bytes of the file; state "
        "and peak: formulas, not measured"
    )
    units: ClassVar[tuple[Unit, ...]] = ("cpu", "gpu")
    runtime: ClassVar[str] = "LiteRT on Embedl Hub"

    runs: int = 50

    @override
    def missing(self) -> str | None:
        if missing := missing_extra("embedl_hub"):
            return str(missing)
        if find_spec("embedl_hub._internal.core") is None:
            return f"embedl-hub {version('embedl-hub')} submits no jobs; pip install embedl-hub==0.0.7"
        try:
            with _plainly():
                assert _client().api_config
        except InputError as error:
            return str(error)
        return None

    @override
    def runtime_version(self) -> str:
        return f"as of embedl-hub {version('embedl-hub')}"

    @override
    def lab(self) -> Lab:
        return EmbedlLab(_client(), self.phone, self.unit, self.runs)


class EmbedlLab(Lab):
    """The way to the device cloud; `client` is an `embedl_hub.tracking.Client`."""

    def __init__(self, client: Any, phone: str, unit: Unit, runs: int) -> None:
        self._client, self._phone, self._unit, self._runs = client, phone, unit, runs

    @override
    def phone(self) -> LabPhone:
        with _plainly():
            device = self._client.validate_device(self._phone)
        return LabPhone(name=f"{device.vendor} {device.name}".strip(), os=f"{device.platform.title()} {device.os}")

    @override
    def submit(self, name: str, model: Path) -> str:
        from embedl_hub._internal.core.utils.tflite_device_cloud import TFLiteBenchmarkParams, run_tflite_benchmark

        told = {"num_runs": str(self._runs), "warmup_runs": str(WARM_UPS), "verbose": "true"}
        told |= {"use_gpu": "true"} if self._unit == "gpu" else {}
        with _plainly():
            job = run_tflite_benchmark(self._client, model, self._phone, TFLiteBenchmarkParams(told))
        return str(job.id)

    @override
    def look(self, job: str) -> JobAnswer | None:
        from embedl_hub._internal.tracking import rest_api

        config = self._client.api_config
        with _plainly():
            found = rest_api.get_device_cloud_job(config, job)
            if not found.status.is_final():
                return None
            if found.result not in (None, "PASSED"):
                problem = f"the job {job} failed on Embedl Hub: it ended as {found.result}"
                raise JobFailedError(problem, remedy="the same command submits it anew")
            artefacts = rest_api.get_device_cloud_job_artifacts(config, job)
            log = _log(rest_api.download_file(artefacts.url), job)
        return JobAnswer(ms=litert_ms(log), device=self._phone, placement=delegated(log, self._unit))


def _client() -> Any:
    from embedl_hub.tracking import Client

    return Client()


def _log(content: bytes, job: str) -> str:
    """Return the benchmark's log from the archive of what a job left."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            file = next(name for name in archive.namelist() if Path(name).name == _LOG)
            return archive.read(file).decode(errors="replace")
    except (zipfile.BadZipFile, StopIteration):
        raise InputError(f"the job {job} left no {_LOG}", remedy="look at it on Embedl Hub") from None


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn the client's errors into one line each."""
    from embedl_hub._internal.tracking.errors import DomainError, JobQuotaExceededError, UnsupportedDeviceError
    from embedl_hub._internal.tracking.rest_api import ApiError, NetworkRequestError

    try:
        yield
    except JobQuotaExceededError as error:
        raise InputError(f"Embedl Hub takes no more jobs now: {_one_line(error)}", remedy=f"wait; {GOES_ON}") from error
    except UnsupportedDeviceError as error:
        raise InputError(f"Embedl Hub: {_one_line(error)}", remedy="see its list of devices") from error
    except NetworkRequestError as error:
        raise InputError(f"Embedl Hub cannot be reached: {_one_line(error)}", remedy=GOES_ON) from error
    except (ApiError, DomainError, RuntimeError) as error:
        key = "API key" in str(error)
        remedy = "sign in: embedl-hub auth --api-key KEY" if key else GOES_ON
        raise InputError(f"Embedl Hub says: {_one_line(error)}", remedy=remedy) from error


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:300].rstrip(".")

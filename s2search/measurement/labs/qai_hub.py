"""qai_hub: phones of Qualcomm AI Hub, through its own client (`qai-hub` 0.56, whose classes the tests run).

A profile job is an inference job without inputs and with `profile=True`, which the deprecated `submit_profile_job`
forwards to. It calls the model 100 times by default and says for every layer where it ran: AI Hub's TFLite runtime
always has the CPU to fall back on, whatever `--compute_unit` asks for.
"""

from __future__ import annotations

import functools
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from s2search.errors import InputError, missing_extra
from s2search.measurement.delegation import Unit
from s2search.measurement.jobs import JobAnswer, JobFailedError
from s2search.measurement.labs.base import GOES_ON, Lab, LabPhone, LabProfiler

_RECENT = 100  # jobs among which one is looked for by its name: the newest


@dataclass(frozen=True, kw_only=True)
class QaiHub(LabProfiler):
    """Times .tflite files on Qualcomm AI Hub.

    Attributes:
        more: More of AI Hub's options for profile jobs, as it writes them.
    """

    method: ClassVar[str] = (
        "one profile job of Qualcomm AI Hub per sample, on a phone that it chooses: the median of its inference times; "
        "weights: bytes of the file; state and peak: formulas, not measured"
    )
    runtime: ClassVar[str] = "LiteRT on Qualcomm AI Hub"

    unit: Unit = "npu"
    more: str = ""

    @override
    def missing(self) -> str | None:
        if missing := missing_extra("qai_hub"):
            return str(missing)
        try:
            with _plainly():
                assert _client().config
        except InputError as error:
            return str(error)
        return None

    @override
    def runtime_version(self) -> str:
        return f"as of qai-hub {version('qai-hub')}"

    @override
    def lab(self) -> Lab:
        return QaiHubLab(_client(), self.phone, f"--compute_unit {self.unit} {self.more}".strip())


class QaiHubLab(Lab):
    """The way to AI Hub; `client` is a `qai_hub.Client`. A model is uploaded once, whatever the number of its jobs."""

    def __init__(self, client: Any, phone: str, options: str) -> None:
        self._client, self._name, self._options = client, phone, options
        self._models: dict[Path, Any] = {}

    @override
    def phone(self) -> LabPhone:
        chips = [text.removeprefix("chipset:") for text in self._device.attributes if text.startswith("chipset:")]
        return LabPhone(
            name=self._device.name, chip=chips[0] if chips else "not stated", os=f"Android {self._device.os}"
        )

    @functools.cached_property
    def _device(self) -> Any:
        """AI Hub's own record of the device; of several with one name, the last one that it lists."""
        with _plainly():
            devices = self._client.get_devices(name=self._name)
        if not devices:
            raise InputError(f"Qualcomm AI Hub has no device {self._name!r}", remedy="see `qai-hub list-devices`")
        return devices[-1]

    @override
    def submit(self, name: str, model: Path) -> str:
        device = self._device
        with _plainly():
            if model not in self._models:
                self._models[model] = self._client.upload_model(str(model), name=model.name)
            job = self._client.submit_inference_job(
                self._models[model],
                device,
                name=name,
                options=self._options,
                retry=False,
                profile=True,
            )
        return str(job.job_id)

    @override
    def find(self, name: str) -> str | None:
        with _plainly():
            jobs = self._client.get_job_summaries(limit=_RECENT)
        return next((str(job.job_id) for job in jobs if job.name == name), None)

    @override
    def look(self, job: str) -> JobAnswer | None:
        with _plainly():
            found = self._client.get_job(job)
            status = found.get_status()
            if status.failure:
                raise JobFailedError(
                    f"the job {job} failed on Qualcomm AI Hub: {_one_line(status.message or 'no reason given')}",
                    remedy=f"see {found.url}; the same command submits it anew",
                )
            return profile_answer(found.download_profile(), found.device.name, job) if status.success else None


def profile_answer(profile: Mapping[str, Any], device: str, job: str) -> JobAnswer:
    """Return what a profile says, as `InferenceJob.download_profile` returns it.

    >>> layers = [{"name": "a", "type": "CONV_2D", "compute_unit": "NPU"}]
    >>> summary = {"estimated_inference_time": 1400, "all_inference_times": [1600, 1400, 1500]}
    >>> profile_answer({"execution_summary": summary, "execution_detail": layers}, "Phone", "j1")
    JobAnswer(ms=1.5, device='Phone', placement={'npu': 1})

    Raises:
        InputError: It has no times, or no layers.
    """
    summary = profile.get("execution_summary", {})
    times_us = summary.get("all_inference_times") or [summary.get("estimated_inference_time")]
    placement = Counter(str(layer["compute_unit"]).lower() for layer in profile.get("execution_detail", ()))
    if not all(isinstance(us, int | float) and us > 0 for us in times_us) or not placement:
        raise InputError(
            f"the job {job} has no {'inference times' if placement else 'layers, so nothing says where it ran'}",
            remedy="look at it on Qualcomm AI Hub",
        )
    return JobAnswer(ms=statistics.median(times_us) / 1000, device=device, placement=dict(placement))


def _client() -> Any:
    import qai_hub

    return qai_hub.Client()


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn the client's errors into one line each."""
    from qai_hub.client import Error, RateLimitedError

    try:
        yield
    except RateLimitedError as error:
        remedy = f"wait until jobs of yours are finished, or ask Qualcomm for more; {GOES_ON}"
        raise InputError(f"Qualcomm AI Hub takes no more jobs now: {_one_line(error)}", remedy=remedy) from error
    except (Error, OSError) as error:
        said = _one_line(error)
        token = "token" in said.lower() or "configuration" in said.lower()
        remedy = "sign in: qai-hub configure --api_token TOKEN" if token else GOES_ON
        raise InputError(f"Qualcomm AI Hub says: {said}", remedy=remedy) from error


def _one_line(said: object) -> str:
    r"""Return a message without the box that AI Hub draws around it.

    >>> _one_line("Failed.\n┌────┐\n| Your token   |\n| is missing. |\n└────┘")
    'Failed. Your token is missing'
    """
    return " ".join(re.sub(r"[┌┐└┘─│|]", " ", str(said)).split())[:300].rstrip(".")

"""Qualcomm AI Hub's `perf.yaml`: latency and peak memory of a model's components, per phone and runtime.

Source: github.com/qualcomm/ai-hub-models, qai_hub_models/configs/perf_yaml.py. There `estimated_peak_memory_range_mb`
is bytes divided by 2^20 and rounded to whole numbers, so the bytes here are good to half a MiB; latencies are
milliseconds, without a spread. Files up to v0.27.1 have `inference_time` in microseconds and
`estimated_peak_memory_range` in bytes, and name a list of models in place of precisions and components. Results for a
device that was not measured may be copies of a similar one's: the linter looks for those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from s2search.errors import TableError
from s2search.readers.base import Reader, Reading
from s2search.readers.strict import absent, count, decode, listing, mapping, mebibytes, number, read_yaml, words
from s2search.tables.foreign import NOT_STATED, ImportedRow

_COLUMNS = {
    "device": "device, as AI Hub names it",
    "runtime": "runtime, as AI Hub names it",
    "precision": "number format",
    "compute_unit": "where most layers ran, by the source's count",
    "layers": "layers in all",
    "layers_npu": "layers on the neural processing unit",
    "layers_gpu": "layers on the graphics unit",
    "layers_cpu": "layers on the processor",
    "tool_versions": "versions of the runtime and its tools",
    "job": "AI Hub's number of the profiling job",
}
_FACTS = ("compute_unit", "layers", "layers_npu", "layers_gpu", "layers_cpu", "tool_versions", "job")
_LAYERS = ("total", "npu", "gpu", "cpu")
_OLD_UNITS = "inference_time (files up to v0.27.1) is taken as microseconds, and their memory as bytes"
_OLD_LAYERS = ("total_layers", "layers_on_npu", "layers_on_gpu", "layers_on_cpu")


@dataclass(frozen=True, kw_only=True)
class AIHub(Reader):
    """Reads `perf.yaml`."""

    statement: ClassVar[str] = "published by Qualcomm AI Hub: components of models, profiled on its devices"

    def parse(self, content: bytes) -> Reading:
        """Return one row per component, device and runtime that has a latency."""
        document = mapping(read_yaml(decode(content)), "the document")
        if "precisions" not in document and "models" not in document:
            raise TableError(
                "it has neither 'precisions' nor 'models'",
                allowed="a perf.yaml with inference_time_milliseconds, or up to v0.27.1 with inference_time",
                remedy="fetch the perf.yaml of a model",
            )
        left_out: Counter[str] = Counter()
        rows = [
            row
            for entry in (
                _entries(mapping(document["precisions"], "precisions"))
                if "precisions" in document
                else _old_entries(listing(document["models"], "models"))
            )
            if (row := _row(*entry, left_out)) is not None
        ]
        if not rows:
            raise TableError("it has no inference time", remedy="choose a model with profiled components")
        return Reading(
            rows=rows,
            columns=_COLUMNS,
            facts=_FACTS,
            assumptions=[
                "memory is the estimated range of the peak, in MiB rounded to whole numbers by the source",
                "latency_ms is inference_time_milliseconds; its spread and the number of runs are not in the file",
                *([_OLD_UNITS] if b"inference_time:" in content else []),
                *(f"{number_of} entries have no row: {why}" for why, number_of in sorted(left_out.items())),
            ],
        )


def _entries(precisions: dict[str, Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Yield precision, component, device, runtime, and what is said of them."""
    for precision, within in precisions.items():
        components = mapping(mapping(within, f"precision {precision!r}").get("components", {}), "components")
        for component, parts in components.items():
            own = mapping(parts, f"component {component!r}").get("precision", precision)
            metrics = parts.get("performance_metrics", {})
            if isinstance(metrics, list):
                yield from _by_device(metrics, component, words(own, "precision"))
                continue
            metrics = mapping(metrics, f"performance_metrics of {component!r}")
            for device, runtimes in metrics.items():
                for runtime, details in mapping(runtimes, f"device {device!r}").items():
                    where = f"{runtime} on {device}"
                    yield words(own, "precision"), component, device, runtime, mapping(details, where)


def _old_entries(models: list[Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Yield the same of a file up to v0.27.1: models, each with a list of devices that tell their runtimes."""
    for number_of, model in enumerate(models):
        parts = mapping(model, f"model {number_of}")
        component = words(parts.get("name"), f"the name of model {number_of}")
        metrics = parts.get("performance_metrics", [])
        own = parts.get("precision", NOT_STATED)
        yield from _by_device(listing(metrics, f"performance_metrics of {component!r}"), component, own)


def _by_device(
    metrics: list[Any], component: str, precision: str
) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    for entry in metrics:
        runtimes = mapping(entry, f"an entry of {component!r}")
        told = mapping(runtimes.get("reference_device_info"), f"reference_device_info of {component!r}")
        device = words(told.get("name"), f"the name of a device of {component!r}")
        for runtime, details in runtimes.items():
            if isinstance(details, dict) and runtime != "reference_device_info":
                own = details.get("precision")
                yield precision if _none(own) else words(own, "precision"), component, device, runtime, details


def _none(value: Any) -> bool:
    """Whether there is no value; files up to v0.27.1 write it as the text 'null'."""
    return absent(value) or value == "null"


def _row(
    precision: str, component: str, device: str, runtime: str, details: dict[str, Any], left_out: Counter[str]
) -> ImportedRow | None:
    where = f"of {component} with {runtime} on {device}"
    old = "inference_time_milliseconds" not in details and "inference_time" in details
    time = details.get("inference_time" if old else "inference_time_milliseconds")
    status = details.get("job_status", "Passed")
    if _none(time):
        tokens = "llm_metrics" in details
        left_out["tokens per second in place of a latency" if tokens else f"the job is {words(status, 'status')}"] += 1
        return None
    if status != "Passed":
        raise TableError(f"the job {where} is {str(status)[:40]!r}, and has a latency", remedy="correct the file")
    span, layers, versions = (
        {} if _none(details.get(name)) else mapping(details[name], f"{name} {where}")
        for name in (
            ("estimated_peak_memory_range", "layer_info", "tool_versions")
            if old
            else ("estimated_peak_memory_range_mb", "layer_counts", "tool_versions")
        )
    )
    size = count if old else mebibytes
    unit = details.get("primary_compute_unit")
    return ImportedRow(
        part=component,
        about=(
            device,
            runtime,
            precision,
            NOT_STATED if _none(unit) else words(unit, f"primary_compute_unit {where}"),
            *(
                str(count(layers[name], f"layers {where}")) if name in layers else ""
                for name in (_OLD_LAYERS if old else _LAYERS)
            ),
            "; ".join(f"{tool} {words(value, f'the version of {tool}')}" for tool, value in versions.items()),
            "" if _none(details.get("job_id")) else words(details["job_id"], f"job_id {where}"),
        ),
        latency_ms=number(time, f"the latency {where}") / (1000 if old else 1),
        memory_least_bytes=size(span["min"], f"the least memory {where}") if "min" in span else None,
        memory_bytes=size(span["max"], f"the most memory {where}") if "max" in span else None,
    )

"""Where operations run: on what the package was made for, or on what catches the rest."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s2search.verification.check import Check
from s2search.verification.opened import CannotRunError, Opened
from s2search.verification.result import Bound, CheckResult


@dataclass(frozen=True, kw_only=True)
class PlacementCheck(Check):
    """Most operations run where they should. It is not required: what runs elsewhere is slow, and not wrong.

    Attributes:
        least_percent: Of operations.
    """

    name: ClassVar[str] = "placement"
    unit: ClassVar[str] = "% there"
    bound: ClassVar[Bound] = "at least"
    required: ClassVar[bool] = False

    least_percent: float = 50.0

    def run(self, opened: Opened) -> Iterator[CheckResult]:
        """Ask the platform. See the base class."""
        exporter = opened.package.manifest.exporter
        if exporter not in _ASKED:
            raise CannotRunError(f"packages of {exporter!r} run in one place, or nobody tells where")
        wanted, counts, whose = _ASKED[exporter](opened)
        share = 100 * counts.get(wanted, 0) / max(sum(counts.values()), 1)
        parts = {place: float(count) for place, count in counts.items()}
        why = f"{', '.join(f'{count} on {place}' for place, count in sorted(counts.items()))}, {whose}"
        yield self.judge(opened, share, self.least_percent, of=exporter, where=wanted, why=why, parts=parts)


def _executorch(opened: Opened) -> tuple[str, Mapping[str, int], str]:
    facts = opened.package.manifest.facts
    prefix = "operations_"
    counts = {key.removeprefix(prefix): int(value) for key, value in facts.items() if key.startswith(prefix)}
    if not counts:
        raise CannotRunError("the exporter did not count where operations went; export it again")
    return str(getattr(opened.exporter, "delegate", "xnnpack")), counts, "as the exporter counted"


def _onnx(opened: Opened) -> tuple[str, Mapping[str, int], str]:
    import onnxruntime

    function = opened.functions()[0]
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "call"))
        options.log_severity_level = 3
        path = opened.package.folder / opened.package.manifest.function(function).file
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            session.run(None, opened.inputs(function))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except CannotRunError:
            raise
        except Exception as error:  # its errors share no base
            raise CannotRunError(f"ONNX Runtime cannot profile {function!r}: {error}") from error
    nodes = {event["name"]: event["args"]["provider"] for event in events if "provider" in (event.get("args") or {})}
    return "CPUExecutionProvider", Counter(nodes.values()), f"in {function!r}, as ONNX Runtime's profile says"


def _coreml(opened: Opened) -> tuple[str, Mapping[str, int], str]:
    if opened.evaluated:
        raise CannotRunError("only a Mac tells where Core ML runs operations (MLComputePlan)")
    return "neural engine", Counter(_compute_plan(opened)), "preferred by MLComputePlan"


def _compute_plan(opened: Opened) -> Iterator[str]:
    """Yield the preferred device of every operation. It takes a Mac: coremltools 9's interface, not run on one yet."""
    from s2search.mil.library import load_coremltools

    coremltools: Any = load_coremltools()
    from coremltools.models.compute_plan import MLComputePlan

    path = opened.package.folder / opened.package.manifest.functions[0].file
    compiled = coremltools.utils.compile_model(str(path))
    plan = MLComputePlan.load_from_path(compiled, compute_units=coremltools.ComputeUnit.CPU_AND_NE)
    for function in plan.model_structure.program.functions.values():
        for operation in function.block.operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:
                kind = type(usage.preferred_compute_device).__name__
                yield "neural engine" if "NeuralEngine" in kind else kind


_ASKED = {"executorch": _executorch, "onnx": _onnx, "coreml": _coreml}

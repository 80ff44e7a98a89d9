"""coreml: Core ML on this Mac, through coremltools' predict.

It runs on macOS only, and was tested against coremltools' real interface with a fake of the framework behind it: no
number of it has been seen. A phone is measured by the phone kit, not by this.
"""

from __future__ import annotations

import functools
import platform
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from s2search.errors import missing_extra
from s2search.exporters.coreml.form import Form, Layout, StateKeeper
from s2search.measurement.base import Device, Item, Measure, Memory, Prepared, Profiler
from s2search.measurement.host import chip
from s2search.tables.row import ROLES, Role

if TYPE_CHECKING:
    from s2search.measurement.coreml_item import CoreMLItem

_WORDS = {"NeuralEngine": "neural_engine", "GPU": "gpu", "CPU": "cpu"}
_UNITS = {"neural_engine": "CPU_AND_NE", "gpu": "CPU_AND_GPU", "cpu": "CPU_ONLY", "all": "ALL"}


@dataclass(frozen=True, kw_only=True)
class CoreML(Profiler):
    """Times Core ML programs on this Mac, weights and activations in float16, in the form that is exported.

    Attributes:
        compute_unit: What Core ML may use beside the CPU; what it does use is the column `unit_ran`.
        layout: `bc1s`: channels before tokens, or that of the blocks; that of the package that is to be shipped.
        state: Who keeps what is remembered from call to call: the host, which packs it; Core ML, as states of its own;
            or the caller.
    """

    method: ClassVar[str] = (
        "the exporter's own conversion of every item (iOS 18), perf_counter around each sample of MLModel.predict, "
        "copies of inputs and outputs included, states of Core ML made before and full of zeros at first; weights: "
        "weight.bin of the package; peak: of the program, as if every operation's result were written out"
    )
    measures: ClassVar[tuple[Measure, ...]] = ("latency", "placement")

    compute_unit: Literal["neural_engine", "gpu", "cpu", "all"] = "neural_engine"
    layout: Layout = "bc1s"
    state: StateKeeper = "host"

    def __post_init__(self) -> None:
        Form(layout=self.layout, state=self.state)  # refuses what no package is

    @override
    def why_not(self) -> str | None:
        if platform.system() != "Darwin":
            return f"Core ML does not run on {platform.system()}; it needs a Mac"
        missing = missing_extra("coremltools")
        return str(missing) if missing else None

    @override
    def roles(self) -> tuple[Role, ...]:
        return ROLES

    @override
    def device(self) -> Device:
        return Device(
            device=f"Mac {platform.machine()}",
            chip=chip(),
            os=f"macOS {platform.mac_ver()[0]}",
            runtime="Core ML",
            runtime_version=f"coremltools {version('coremltools')}",
            threads=None,
            power_mode="not stated",
            precision="float16",
            compute_unit=self.compute_unit,
        )

    @contextmanager
    @override
    def session(self) -> Iterator[None]:
        yield

    @override
    def prepare(self, item: Item) -> Prepared:
        from s2search.measurement.coreml_item import convert_item

        converted = convert_item(item, self.layout, self.state).kept_by(self.state)
        return CoreMLProgram(converted, _UNITS[self.compute_unit])


class CoreMLProgram(Prepared):
    """A converted and loaded program with its inputs by name, and a state where Core ML keeps one."""

    def __init__(self, converted: CoreMLItem, units: str) -> None:
        from s2search.mil.library import load_coremltools, quiet_coremltools

        self._state_bytes, self._peak_bytes = converted.state_bytes, converted.peak_bytes
        folder = tempfile.mkdtemp(prefix="s2search.")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._package = Path(folder, "item.mlpackage")
        ct = load_coremltools()
        with quiet_coremltools():
            converted.model.save(str(self._package))
            self._model = ct.models.MLModel(str(self._package), compute_units=ct.ComputeUnit[units])
        self._inputs = {name: tensor.numpy() for name, tensor in converted.inputs.items()}
        self._state = self._model.make_state() if converted.states else None

    @override
    def time_ms(self, repetitions: int) -> float:
        predict, inputs, state = self._model.predict, self._inputs, self._state
        start = time.perf_counter()
        for _ in range(repetitions):
            predict(inputs, state)
        return 1000 * (time.perf_counter() - start) / repetitions

    def output(self) -> Any:
        """Return the first output of a call, a NumPy array. States of Core ML's own are as the last call left them."""
        outputs = self._model.predict(self._inputs, self._state)
        return outputs[self._model.get_spec().description.output[0].name]

    @override
    def memory(self) -> Memory:
        weights = sum(file.stat().st_size for file in self._package.rglob("weight.bin"))
        return Memory(weight_bytes=weights, state_bytes=self._state_bytes, peak_bytes=self._peak_bytes)

    def placement(self) -> Mapping[str, int]:
        """Count operations by the unit that Core ML's compute plan prefers for them."""
        return dict(Counter(kind for kind, _ in self._planned))

    @override
    def unit_work(self) -> Mapping[str, float]:
        """Return the plan's estimated cost by unit; where it estimates none, the count of operations."""
        counted = any(cost for _, cost in self._planned)
        work: Counter[str] = Counter()
        for kind, cost in self._planned:
            work[_WORDS.get(kind, "unknown")] += cost if counted else 1.0  # type: ignore[assignment]
        return dict(work)

    @functools.cached_property
    def _planned(self) -> list[tuple[str, float]]:
        """The unit that the compute plan prefers for every operation, and its estimated cost, 0 where there is none."""
        from s2search.mil.library import quiet_coremltools

        with quiet_coremltools():
            from coremltools.models.compute_plan import MLComputePlan

        plan = MLComputePlan.load_from_path(
            path=self._model.get_compiled_model_path(), compute_units=self._model.compute_unit
        )
        found = []
        for operation in plan.model_structure.program.functions["main"].block.operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:
                cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
                kind = type(usage.preferred_compute_device).__name__
                found.append((kind.removeprefix("ML").removesuffix("ComputeDevice"), cost.weight if cost else 0.0))
        return found

"""How large numbers become on their way, and the first operation that gives one that is not finite.

The source says it: every operation of one pass is watched, in the package's own precision. That is an estimate of the
package; where its inspector can watch the package itself, that is judged too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from s2search.exporters.step import FunctionName, Steps
from s2search.network.network import S2DiT
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import CheckResult


@dataclass(frozen=True, kw_only=True)
class ActivationsCheck(Check):
    """The largest activation fits the package's type, with nothing on the way that is not finite."""

    name: ClassVar[str] = "activations"
    unit: ClassVar[str] = "largest"

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        dtype = torch.float32 if opened.package.manifest.precision == "float32" else torch.float16
        function: FunctionName = "advance" if "advance" in opened.functions() else opened.functions()[0]
        yield self._of_source(opened, function, dtype)
        if dtype != torch.float16:  # what a shorter type would do, before somebody exports it
            yield replace(self._of_source(opened, function, torch.float16), required=False)
        if largest := opened.inspector.largest(opened, function):
            limit = float(torch.finfo(torch.float16).max)
            found = self._judged(opened, "program", largest.value, limit, largest.where, largest.why)
            yield replace(found, mode=largest.mode)

    def _of_source(self, opened: Opened, function: FunctionName, dtype: torch.dtype) -> CheckResult:
        watch = SourceWatch()
        model = S2DiT.from_pretrained(opened.package.source, dtype=dtype) if dtype != torch.float32 else opened.source
        _ = opened.steps
        steps = Steps(model, opened.steps.shape)
        example = steps.example(function, seed=opened.options.seed)
        with torch.no_grad(), watch.modules(model), watch:
            steps.function(function)(*example.values())
        name = str(dtype).removeprefix("torch.")
        why = f"an estimate: the source in {name}"
        if watch.first_non_finite:
            why += f"; the first operation that is not finite: {watch.first_non_finite}"
        limit = float(torch.finfo(dtype).max)
        return self._judged(opened, f"source_{name}", watch.largest, limit, watch.first_non_finite or watch.at, why)

    def _judged(self, opened: Opened, of: str, largest: float, limit: float, where: str, why: str) -> CheckResult:
        if math.isfinite(largest):
            return self.judge(opened, largest, limit, of=of, where=where, why=why)
        name = f"{self.name}.{of}"
        return CheckResult(
            name=name, status="failed", unit=self.unit, threshold=limit, bound="at most", where=where, why=why
        )


class SourceWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the largest absolute value that an operation gives, and the first operation with one that is not finite."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest, self.at, self.first_non_finite = 0.0, "", ""
        self._module = ""

    @contextmanager
    def modules(self, model: nn.Module) -> Iterator[None]:
        """Know the module that runs, for the names of places."""
        hooks = [
            module.register_forward_pre_hook(partial(self._enter, name))
            for name, module in model.named_modules()
            if name
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, name: str, *_: Any) -> None:
        self._module = name

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at what it gives."""
        given = func(*args, **(kwargs or {}))
        for x in tree_leaves(given):
            if isinstance(x, Tensor) and x.is_floating_point() and x.numel():
                self._note(x.abs().max().item(), func)
        return given

    def _note(self, peak: float, func: Any) -> None:
        place = f"{func} in or after {self._module or 'the step'}"
        if not math.isfinite(peak):
            self.first_non_finite = self.first_non_finite or place
            self.largest = math.inf
        elif peak > self.largest:
            self.largest, self.at = peak, place

"""What in a package's graphs is known to go wrong, or slowly, on phones.

A convolution over three axes is refused by ExecuTorch and LiteRT and reported never to run on the Neural Engine. Core
ML takes five axes, and the Neural Engine works on four. softplus is reported to fall to 0 there above an input of about
10.4 (coremltools issue 2687).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from s2search.mil import lint as coreml_lint
from s2search.mil.watch import Peaks
from s2search.verification.check import Check
from s2search.verification.inspectors.stored import read_onnx
from s2search.verification.inspectors.taps import OnnxTaps
from s2search.verification.opened import CannotRunError, Opened
from s2search.verification.result import CheckResult, not_run

_LARGEST_SOFTPLUS = 10.0
_RULES = ("conv_3d", "rank_above_5", "rank_above_4", "softplus_above_10")
_ADVICE = ("rank_above_4",)  # slower on a phone, and not wrong


@dataclass(frozen=True, kw_only=True)
class LintCheck(Check):
    """No operation of the package's graphs is one that phones refuse or compute wrongly."""

    name: ClassVar[str] = "lint"
    unit: ClassVar[str] = "operations"

    def run(self, opened: Opened) -> Iterator[CheckResult]:
        """Look at every operation. See the base class."""
        exporter = opened.package.manifest.exporter
        if exporter not in _LINTED:
            yield not_run(self.name, f"nothing here reads the operations of {exporter!r}", required=False)
            return
        look, rules = _LINTED[exporter]
        found: dict[str, list[str]] = {rule: [] for rule in rules}
        for rule, operation in look(opened):
            found[rule].append(operation)
        for rule, operations in found.items():
            where = ", ".join(f"{name} ({count})" for name, count in Counter(operations).most_common(3))
            result = self.judge(opened, len(operations), 0, of=rule, where=where)
            yield replace(result, required=rule not in _ADVICE or _promises_four_axes(opened))


def _promises_four_axes(opened: Opened) -> bool:
    """Whether the package's layout is one of four axes, and all of its layers are in it."""
    return getattr(opened.exporter, "layout", "") == "bc1s" and not getattr(opened.exported, "own_layout", ())


def _coreml(opened: Opened) -> Iterator[tuple[str, str]]:
    runtime = opened.evaluator("float32")
    for function in opened.functions():
        peaks = Peaks()
        runtime.watched(function, opened.inputs(function), [peaks])
        for finding in coreml_lint.lint(runtime.evaluator(function).function, peaks):
            yield finding.rule, f"{finding.problem.partition(':')[0]} in {function}"


def _onnx(opened: Opened) -> Iterator[tuple[str, str]]:
    import onnx

    for function in opened.functions():
        model = read_onnx(opened.package, opened.package.manifest.function(function).file)
        try:
            graph = onnx.shape_inference.infer_shapes(model).graph
        except Exception as error:  # what onnx raises shares no base
            raise CannotRunError(f"onnx cannot tell the shapes in {function!r}: {error}") from error
        ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.output)}
        for node in graph.node:
            rank = max((ranks.get(name, 0) for name in node.output), default=0)
            if rank > 4:
                yield ("rank_above_5" if rank > 5 else "rank_above_4"), f"{node.op_type} in {function}"
        yield from convolutions(graph, function)
        yield from _softplus(opened, function, [node for node in graph.node if node.op_type == "Softplus"])


def convolutions(graph: Any, function: str) -> Iterator[tuple[str, str]]:
    """Yield the convolutions of an ONNX graph that go over three axes: their kernels have five."""
    kernels = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and max(kernels.get(name, 0) for name in node.input) > 4:
            yield "conv_3d", f"Conv in {function}"


def _softplus(opened: Opened, function: Any, nodes: list[Any]) -> Iterator[tuple[str, str]]:
    if nodes:
        values = OnnxTaps(opened, function).run(opened.inputs(function), {node.input[0] for node in nodes})
        for node in nodes:
            if not float(values[node.input[0]].max()) <= _LARGEST_SOFTPLUS:
                yield "softplus_above_10", f"Softplus in {function}"


_LINTED = {"onnx": (_onnx, _RULES), "coreml": (_coreml, (*_RULES, "no_cover"))}

"""Which operations of a .tflite ran where, read from what LiteRT logs when a delegate takes them.

TensorFlow Lite's interpreter, which LiteRT 2 still has inside, says for every delegate `Replacing 49 out of 49 node(s)
with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0.`; LiteRT 2 names its own LITERT_CL (GPU)
and DispatchDelegate (NPU). Its compiler plugin for an NPU says before that what it selected: `Partitioned subgraph<0>,
selected 3911 ops, from a total of 3912 ops. resulted in 2 partitions.` Without such a line nothing is proved: LiteRT
goes on, on the CPU and without an error, where a delegate could not be made.

Source: tensorflow/lite/core/subgraph.cc, tflite/tools/benchmark/benchmark_tflite_model.cc ("Explicitly applied ... will
be completely executed by the delegate") and litert/compiler/plugin/compiler_plugin.cc of google-ai-edge/LiteRT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from s2search.errors import InputError

Unit = Literal["cpu", "gpu", "npu"]

_REPLACING = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\) node")
_SELECTED = re.compile(r"Partitioned subgraph<\d+>, selected (\d+) ops, from a total of (\d+) ops")
_APPLIED = re.compile(
    r"Explicitly applied (\w+) delegate, and the model graph will be (completely|partially) executed by the delegate"
)
_CPU_DELEGATE = "xnnpack"


def delegated(log: str, unit: Unit) -> dict[str, int]:
    """Return how many operations ran on the unit and how many on the CPU, as a log of LiteRT says.

    Args:
        log: What `benchmark_model` logged for one model.
        unit: The unit that was asked for. On the CPU nothing has to be proved, and nothing is counted.

    >>> delegated("Replacing 12 out of 14 node(s) with delegate (LITERT_CL) node, yielding 2 partitions", "gpu")
    {'gpu': 12, 'cpu': 2}

    Raises:
        InputError: No line says that a delegate of the unit took anything.
    """
    if unit == "cpu":
        return {"cpu": 1}
    taken = [(int(n), int(of)) for n, of, name in _REPLACING.findall(log) if _CPU_DELEGATE not in name.lower()]
    if not taken:
        taken = [(1, 1) for name, how in _APPLIED.findall(log) if how == "completely" and name.lower() != _CPU_DELEGATE]
    inside, total = (sum(counts) for counts in zip(*taken, strict=True)) if taken else (0, 0)
    if not inside:
        raise InputError(
            f"no line of the log proves that anything ran on the {unit.upper()}",
            remedy="LiteRT goes on without an error where a delegate cannot be made: look into the whole log",
        )
    # What a compiler plugin took became a few nodes of the graph that the delegate sees: there operations are counted.
    chosen = [(int(n), int(of)) for n, of in _SELECTED.findall(log)] if unit == "npu" else []
    left = sum(of - n for n, of in chosen)
    if chosen and total - inside <= left:
        return {unit: sum(n for n, _ in chosen)} | ({"cpu": left} if left else {})
    return {unit: inside} | ({"cpu": total - inside} if total > inside else {})


def check_whole(placement: Mapping[str, int], unit: Unit, what: str) -> None:
    """Refuse an answer of which not every operation ran on the unit that was asked for.

    Raises:
        InputError: Some ran elsewhere; `what` says of which model or job.
    """
    elsewhere = {name: count for name, count in placement.items() if name != unit and count}
    if elsewhere or not placement.get(unit):
        told = ", ".join(f"{count} on {name}" for name, count in elsewhere.items()) or "none anywhere"
        total = sum(placement.values())
        raise InputError(
            f"{what}: {placement.get(unit, 0)} of {total} operations ran on the {unit.upper()}, {told}",
            remedy="a row is of one unit: rewrite the operations that it does not take, or ask for another unit",
            placement=dict(placement),
        )

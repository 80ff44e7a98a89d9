"""The command line that gives a plan again."""

from __future__ import annotations

import dataclasses
import shlex

from s2search.planner.plan import DeviceAnswer, Plan
from s2search.space import DEFAULT_CANDIDATES


def plan_command(plan: Plan) -> str:
    """Return the command that prices this layout by the same tables, score and constraints of memory and certainty.

    A table or score that is no installed one is called by its name: the command finds its folder or file where that
    lies.

    >>> import s2search
    >>> plan_command(s2search.plan(depth=4, layout="L4"))
    's2search plan --table iphone-16-pro-max.coreml.w4a8 --depth 4 --video 512x288 --precision w4a8 --compute-unit neural_engine --layout L4'
    """  # noqa: E501  a command is one line
    origin, words = plan.provenance, ["s2search", "plan"]
    p95 = [] if plan.p95 is None else [f"p95:{_us(plan.p95.budget)}"]
    for number, device in enumerate(plan.every_device):
        words += ["--table", _table(device, [] if number else p95, alone=not plan.devices)]
    words += ["--depth", str(plan.depth)]  # the default is the table's
    candidates = ",".join(plan.blocks)
    stated = {
        "--scenario": (plan.scenario, "stream"),
        "--group-size": (str(plan.group_size), "1"),
        "--candidates": (candidates, DEFAULT_CANDIDATES),
        "--score": (origin.score_label, "published"),
        "--latency-model": (origin.latency_model_label, "lookup"),
        "--commit": (plan.commit, "reuse_last"),
    }
    for option, (value, default) in stated.items():
        words += [option, value] if value != default else []
    words += ["--video", plan.video, "--precision", plan.precision, "--compute-unit", plan.compute_unit]
    if plan.memory_bytes.budget is not None and not plan.devices:
        words += ["--budget", f"{plan.memory_bytes.budget}B"]
    if not plan.devices:
        words += [word for budget in p95 for word in ("--budget", budget)]
    if plan.confidence is not None and plan.latency_ms.budget is not None:
        words += ["--budget", _us(plan.latency_ms.budget), "--confidence", f"{plan.confidence.asked:g}"]
    told = None if plan.rate is None else plan.rate.told
    for name, number in {} if told is None else dataclasses.asdict(told).items():
        words += [f"--{name.replace('_', '-')}", f"{number:g}"] if number is not None else []
    return shlex.join([*words, "--layout", plan.written])


def _table(device: DeviceAnswer, p95: list[str], *, alone: bool) -> str:
    latency, memory = device.latency_ms.budget, device.memory_bytes.budget
    budgets = [*p95, *([] if latency is None else [_us(latency)])]
    budgets += [] if memory is None else [f"{memory}B"]
    return device.table if alone or not budgets else f"{device.table}:{','.join(budgets)}"


def _us(latency_ms: float) -> str:
    return f"{1000 * latency_ms:.0f}us"

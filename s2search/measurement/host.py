"""What this machine tells of itself, and pinning: shared by the profilers that run on it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from s2search.measurement.base import Device

_SYSTEM = Path("/sys")


@contextmanager
def pinned(count: int | None) -> Iterator[None]:
    """Keep this thread on the last cores that it may use (the first ones serve most interrupts); None: leave it."""
    if count is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def why_no_cores(profiler: str, threads: int, *, pin: bool) -> str | None:
    """Return why so many threads cannot be pinned or run here, in one line."""
    if pin and not hasattr(os, "sched_setaffinity"):
        return f"{platform.system()} cannot pin a process to cores; use {profiler}[pin=false]"
    if cores() < threads:
        return f"{threads} threads need as many cores, and there are {cores()}; use {profiler}[threads={cores()}]"
    return None


def this_processor(*, runtime: str, version: str, threads: int, precision: str) -> Device:
    """Return the facts of this machine's processor, with a runtime on it."""
    return Device(
        device=f"{platform.system()} {platform.machine()}, {cores()} cores",
        chip=chip(),
        os=f"{platform.system()} {platform.release()}",
        runtime=runtime,
        runtime_version=version,
        threads=threads,
        power_mode=governor(),
        precision=precision,
        compute_unit="cpu",
    )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chip() -> str:
    """Return the processor's name as Linux gives it, or what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "not stated"


def governor() -> str:
    """Return how Linux sets the clock, such as `governor performance`."""
    governor = _SYSTEM / "devices/system/cpu/cpu0/cpufreq/scaling_governor"
    return f"governor {governor.read_text(encoding='utf-8').strip()}" if governor.exists() else "not stated"


def conditions(system: Path = _SYSTEM) -> dict[str, float]:
    """Return what Linux tells of heat and power now; a virtual machine mostly tells nothing.

    `celsius`: the hottest thermal zone; `mhz`: the fastest core's clock; `throttled`: how often the first core was
    throttled since it started; `on_battery`: 1 where no mains supply is on line.
    """
    told = {}
    for name, unit, files in (
        ("celsius", 1000, _files(system, "class/thermal/thermal_zone*/temp")),
        ("mhz", 1000, _files(system, "devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")),
        ("throttled", 1, _files(system, "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count")),
    ):
        if values := [value for file in files if (value := _number(file)) is not None]:
            told[name] = max(values) / unit
    if mains := [
        value for file in _files(system, "class/power_supply/*/online") if (value := _number(file)) is not None
    ]:
        told["on_battery"] = float(not any(mains))
    return told


@cache
def _files(system: Path, pattern: str) -> tuple[Path, ...]:
    return tuple(sorted(system.glob(pattern)))


def _number(file: Path) -> float | None:
    try:
        return float(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # a sensor that is asleep

"""LiteRT's `benchmark_model`: the files it times, and the time that it prints.

Two programs bear that name and print differently: TensorFlow Lite's, in microseconds on one line, and LiteRT 2's
(`benchmark_litert_model`), in milliseconds on several.
"""

from __future__ import annotations

import re
from pathlib import Path

from s2search.errors import InputError
from s2search.measurement.base import Item

WARM_UPS = 3  # calls of every process that do not count: each sample is a process of its own

_TFLITE = re.compile(r"Inference timings in us: .*Inference \(avg\): ([0-9.e+]+)")
_LITERT = re.compile(r"Inference \(avg\): +([0-9.]+) ms \(\d+ runs\)")


def litert_ms(printed: str) -> float:
    """Return the mean time of a call that LiteRT's benchmark_model prints.

    >>> litert_ms("INFO: Inference timings in us: Init: 855, First inference: 490, Warmup (avg): 348, "
    ...           "Inference (avg): 332.1")
    0.3321
    >>> litert_ms("INFO: [benchmark_litert_model.h:99] Inference (avg):      4.27 ms (50 runs)")
    4.27
    """
    if match := _TFLITE.search(printed):
        return float(match[1]) / 1000
    if (match := _LITERT.search(printed)) and float(match[1]) > 0:
        return float(match[1])
    raise InputError(
        f"benchmark_model printed no inference time: {last_line(printed)}", remedy="run it by hand on the phone"
    )


def last_line(printed: str) -> str:
    """Return the last line of what a program printed, quoted."""
    lines = [line for line in printed.splitlines() if line.strip()]
    return repr(lines[-1][:200]) if lines else "it printed nothing"


def model_name(item: Item) -> str:
    """Return the name of an item's .tflite file.

    >>> from s2search.testing.profilers import miniature_items
    >>> model_name(miniature_items()[-1])
    'clip-head-2x3x3.tflite'
    """
    return re.sub(r"[^a-z0-9_.=]+", "-", item.key) + ".tflite"


def tflite(folder: Path, item: Item) -> Path:
    """Return where an item's file is.

    Raises:
        InputError: It is not there.
    """
    file = folder / model_name(item)
    if not file.is_file():
        raise InputError(
            f"there is no {str(file)!r} for {item.key}", remedy="convert it with litert-torch: see docs/measure.md"
        )
    return file

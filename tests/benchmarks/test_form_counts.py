"""What a pass of a Core ML package does, in the form whose state the host keeps and in the one that passes it.

    python -m tests.benchmarks.test_form_counts [layout of s2dit-tiny's width]      prints the table of docs/export.md

Bytes moved are those of all values that operations read and write, weights left out, as if nothing were fused.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.past import FUNCTIONS
from s2search.mil.function import Function
from s2search.mil.program import Program
from s2search.network.network import S2DiT
from s2search.preset import PRESETS, Preset
from s2search.testing.exporters import tiny_model

_BYTES = {"float16": 2, "float32": 4, "int32": 4, "bool": 1, "int8": 1, "uint8": 1}
_COLUMNS = ("operations", "casts", "transpositions", "float32", "MB moved")


def counts(function: Function) -> tuple[float, ...]:
    """Return the operations of a function, those that cast, transpose and give float32, and the megabytes moved."""
    kinds = Counter(one.type for one in function.operations)
    sizes = {one.name: _bytes(one.type) for one in (*function.inputs, *function.states)}
    moved = wide = 0
    for operation in function.operations:
        sizes |= {output.name: _bytes(output.type) for output in operation.outputs}
        read = [value for values in operation.inputs.values() for value in values if isinstance(value, str)]
        moved += sum(sizes.get(name, 0) for name in (*read, *(output.name for output in operation.outputs)))
        wide += any(output.type.dtype == "float32" for output in operation.outputs)
    return sum(kinds.values()), kinds["cast"], kinds["transpose"], wide, moved / 1e6


def _bytes(kind: Any) -> int:
    return math.prod(kind.shape) * _BYTES.get(kind.dtype, 0)


def table(model: S2DiT, grid: tuple[int, int]) -> dict[str, dict[str, tuple[float, ...]]]:
    """Return the counts of every function by form."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for state in ("plain", "host"):
        with tempfile.TemporaryDirectory() as folder:
            package = CoreMLExporter(state=state).export(model, grid, Path(folder, "package"))
            program = Program.load(package.folder / "model.mlpackage")
            found[state] = {name: counts(program.function(name)) for name in FUNCTIONS}
    return found


@pytest.mark.slow
def test_the_new_form_does_no_more_than_the_old_one():
    found = table(tiny_model("SLLS"), (3, 4))
    for name in FUNCTIONS:
        old, new = found["plain"][name], found["host"][name]
        assert new[0] <= old[0]
        assert new[1:4] == (0, 0, 0)


def main() -> None:
    """Print the table."""
    layout = sys.argv[1] if len(sys.argv) > 1 else ""
    preset = PRESETS["s2dit-tiny"]
    model = S2DiT.from_preset(preset if not layout else _short(preset, len(layout)), layout).requires_grad_(False)
    found = table(model.eval(), (9, 16))
    print("| function | " + " | ".join(f"{name}, old / new" for name in _COLUMNS) + " |")
    print("|---|" + "---|" * len(_COLUMNS))
    for name in FUNCTIONS:
        pairs = zip(found["plain"][name], found["host"][name], (0, 0, 0, 0, 1), strict=True)
        print(
            f"| {name} | " + " | ".join(f"{old:,.{digits}f} / {new:,.{digits}f}" for old, new, digits in pairs) + " |"
        )


def _short(preset: Preset, depth: int) -> Preset:
    return dataclasses.replace(preset, depth=depth, layout="")


if __name__ == "__main__":
    main()

"""Puzzletron's `subblock_stats.json`: runtime and memory of every subblock that may stand in a layer, per scenario.

A scenario is a GPU, a batch, lengths and number formats (`args`). Runtimes are milliseconds without a spread. Memory
is MiB (2^20 bytes), and computed by the source from parameter and cache sizes, not measured. `plan
--space` chooses among the subblocks of one scenario.

Source: Bercovich et al., "Puzzle" (2024), github.com/NVIDIA/Model-Optimizer,
modelopt/torch/puzzletron/subblock_stats/calc_subblock_stats.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from s2search.errors import TableError
from s2search.readers.base import Reader, Reading, few
from s2search.readers.strict import Plain, absent, count, decode, listing, mapping, mebibytes, number, read_json
from s2search.tables.foreign import MEASURED, NO_OPERATION, NOT_STATED, ImportedRow

_RENAMED = {"gpu": "device", "runtime_backend": "runtime", "weights_dtype": "precision"}
_OWN = {
    "scenario": "position in the source's list, from 0",
    "layer": "parent_layer_index; empty where the source gives none, or -1",
    "subblock": "subblock_config, as JSON",
    "num_params": "parameters",
    "kv_cache_bytes": "the part of memory_bytes that is KV cache",
}


@dataclass(frozen=True, kw_only=True)
class Puzzletron(Reader):
    """Reads `subblock_stats.json`."""

    statement: ClassVar[str] = "made with Puzzletron: subblocks of a language model, memory computed by it"

    def parse(self, content: bytes) -> Reading:
        """Return one row per scenario and subblock, and one for what is no subblock."""
        scenarios = listing(read_json(decode(content)), "the document")
        args = [_args(scenario, position) for position, scenario in enumerate(scenarios)]
        names = few(list(dict.fromkeys(name for one in args for name in one)))
        rows = [
            row
            for position, (scenario, said) in enumerate(zip(scenarios, args, strict=True))
            for row in _rows(scenario, position, tuple(said.get(name, NOT_STATED) for name in names))
        ]
        columns = dict.fromkeys(names, "args of the scenario, as the source names it")
        return Reading(
            rows=rows,
            columns=columns | _OWN,
            facts=("num_params", "kv_cache_bytes"),
            assumptions=[
                "memory is computed by the source from parameters and caches, MiB in the file; it is no measurement",
                "latency_ms is runtime_ms, without a spread; rows without a runtime have none",
                "the date is not in the file",
            ],
        )


def _args(scenario: Any, position: int) -> dict[str, str]:
    """Return what a scenario says of itself, as text, under the names of this project where there are such."""
    where = f"scenario {position}"
    found: dict[str, str] = {}
    for key, value in mapping(mapping(scenario, where).get("args"), f"args of {where}").items():
        name = _RENAMED.get(key, key)
        if name in (*_OWN, *MEASURED, "part", "compute_unit") or name in found or not re.fullmatch(r"[a-z]\w*", name):
            raise TableError(f"args of {where} have {key[:60]!r}", remedy="rename it")
        found[name] = NOT_STATED if absent(value) else _written(value)
    return found


def _rows(scenario: dict[str, Any], position: int, said: tuple[str, ...]) -> list[ImportedRow]:
    where = f"scenario {position}"
    rest = mapping(scenario.get("non_block", {}), f"non_block of {where}")
    rows = [_row("non_block", rest, said, position, ("", ""), f"non_block of {where}")] if rest else []
    for number_of, subblock in enumerate(listing(scenario.get("subblocks"), f"subblocks of {where}")):
        here = f"subblock {number_of} of {where}"
        config = mapping(mapping(subblock, here).get("subblock_config"), f"subblock_config of {here}")
        kind = subblock.get("subblock_config_class", config.get("kind", "subblock"))
        layer = subblock.get("parent_layer_index")
        # -1 is how the source writes that a subblock belongs to no layer of the parent.
        at = "" if absent(layer) or layer == "-1" else str(count(layer, f"parent_layer_index of {here}"))
        row = _row(_written(kind), subblock, said, position, (at, _written(config)), here)
        rows.append(dataclasses.replace(row, note=NO_OPERATION) if config.get("no_op") is True else row)
    return rows


def _row(
    part: str, sizes: dict[str, Any], said: tuple[str, ...], position: int, which: tuple[str, str], where: str
) -> ImportedRow:
    runtime, memory = sizes.get("runtime_ms"), sizes.get("memory_mib")
    parameters, cache = sizes.get("num_params"), sizes.get("kv_cache_memory_mib")
    return ImportedRow(
        part=part,
        about=(
            *said,
            str(position),
            *which,
            "" if absent(parameters) else str(count(parameters, f"num_params of {where}")),
            "" if absent(cache) else str(mebibytes(cache, f"kv_cache_memory_mib of {where}")),
        ),
        latency_ms=None if absent(runtime) else number(runtime, f"runtime_ms of {where}"),
        memory_bytes=None if absent(memory) else mebibytes(memory, f"memory_mib of {where}"),
    )


def _written(value: Any) -> str:
    """Return a value as text; a structure as JSON with its keys in order, so that equal ones are equal text."""
    return str(value) if isinstance(value, str) else json.dumps(_numbers(value), sort_keys=True)


def _numbers(value: Any) -> Any:
    """Return a structure with numbers in place of their text."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    if isinstance(value, Plain):
        return int(value) if value.isdigit() and len(value) < 60 else number(value, "a number in a structure")
    return value

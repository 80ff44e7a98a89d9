"""Galvatron's profiles: JSON of whole models of few layers, from whose differences one layer follows.

A computation profile has the forward pass of models of, say, 2 and 4 equal layers (`layernum[2]_bsz1_seq2048`, ms),
and what Galvatron made of them: `layertype_0_...`, the time of one layer *per sample*, and `layertype_other_...`, the
rest. Rows here are for the whole batch: those are multiplied by it, and refused where they contradict the models.
Where the file holds only the models, one layer is derived: (latency of n2 layers - latency of n1 layers) / (n2 - n1).

A memory profile has, per strategy `pp_tp_dp[_c][_vtp][_sp]` and rank, the model states (`ms`), the activations kept
after the forward pass (`act`) and the most that activations take (`act_peak`), MiB. One layer is derived of the first
two; peaks do not add up.

Source: Miao et al., "Galvatron" (VLDB 2023), github.com/PKU-DAIR/Hetu-Galvatron,
galvatron/core/profiler/model_profiler.py (differences) and utils.py (bytes / 2^20).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar

from s2search.errors import TableError
from s2search.readers.base import Reader, Reading
from s2search.readers.strict import decode, mapping, mebibytes, number, read_json
from s2search.tables.foreign import ImportedRow

_RUN = r"bsz(?P<batch>\d{1,7})_seq(?P<seq_len>\d{1,9})"
_MODEL = re.compile(rf"layernum\[(?P<layers>\d{{1,5}})\]_{_RUN}")
_LAYER = re.compile(rf"layertype_(?P<kind>\d{{1,3}}|other)_{_RUN}")
_MEMORY = re.compile(rf"layernum\[(?P<layers>\d{{1,5}})\]_{_RUN}_rank(?P<rank>\d{{1,6}})_(?P<what>ms|act_peak|act)")
_STRATEGY = re.compile(r"(?P<pp>\d{1,5})_(?P<tp>\d{1,5})_(?P<dp>\d{1,5})(?P<flags>(_c|_vtp|_sp)*)")
_SECTION = re.compile(r"(layertype_\d{1,3}|other_memory_pp_(off|on_first|on_last))(_sp)?")
_PARTS = {"ms": "model_states", "act": "activations", "act_peak": "activation_peak"}
_TOLERANCE = 1e-6

_TIME_COLUMNS = {
    "layers": "transformer layers of the profiled model",
    "batch": "samples per batch, over all devices",
    "seq_len": "tokens per sample",
}
_MEMORY_COLUMNS = {
    "strategy": "Galvatron's name of the strategy or section",
    "pp": "pipeline stages",
    "tp": "tensor-parallel degree",
    "dp": "data-parallel degree",
    "layers": "transformer layers of the profiled model",
    "batch": "samples per batch, over all devices",
    "seq_len": "tokens per sample",
    "rank": "device whose memory this is",
}


@dataclass(frozen=True, kw_only=True)
class Galvatron(Reader):
    """Reads computation and memory profiles. A `galvatron_config` is a plan and is refused."""

    statement: ClassVar[str] = "published by Galvatron: transformer models of few layers, profiled by its authors"

    def parse(self, content: bytes) -> Reading:
        """Return the rows of either kind of profile."""
        document = mapping(read_json(decode(content)), "the document")
        if "pp_deg" in document:
            raise TableError("it is a plan of Galvatron", remedy="give a computation or memory profile")
        if document and all(isinstance(value, dict) for value in document.values()):
            return _memory(document)
        return _computation(document)


def _computation(document: dict[str, Any]) -> Reading:
    models: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    stated: dict[tuple[str, str, str], float] = {}
    for key, value in document.items():
        if match := _MODEL.fullmatch(key):
            models[match["batch"], match["seq_len"]][int(match["layers"])] = number(value, key)
        elif match := _LAYER.fullmatch(key):
            stated[match["kind"], match["batch"], match["seq_len"]] = number(value, key)
        else:
            raise TableError(
                f"it has the key {key[:80]!r}",
                allowed="layernum[N]_bszB_seqS, layertype_N_bszB_seqS, layertype_other_bszB_seqS",
                remedy="give the profile of a model with one kind of layer",
            )
    _check(models, stated)
    rows = [
        ImportedRow(part="model", about=(str(layers), *run), latency_ms=latency_ms)
        for run, by_layers in models.items()
        for layers, latency_ms in by_layers.items()
    ]
    for (kind, *run), per_sample_ms in stated.items():
        part = "outside the layers" if kind == "other" else f"layer of type {kind}"
        note = "per sample in the file, times the batch"
        rows.append(ImportedRow(part=part, about=("", *run), latency_ms=per_sample_ms * int(run[0]), note=note))
    rows += [
        ImportedRow(part="layer of type 0", about=("", *run), latency_ms=layer, note="derived from two models")
        for run, by_layers in models.items()
        if ("0", *run) not in stated and (layer := _layer(by_layers)) is not None
    ]
    return Reading(
        rows=rows,
        columns=_TIME_COLUMNS,
        assumptions=[
            "latencies are forward passes of a whole batch, the source's mean over iterations",
            "their spread is not in the file",
            "layers per sample were multiplied by the batch; a layer is the difference of two models over their layers",
            "device, precision, hidden size and date are not in the file",
        ],
    )


def _layer(by_layers: dict[int, float]) -> float | None:
    """Return what one layer takes, from the smallest and the largest model."""
    fewest, most = min(by_layers), max(by_layers)
    return (by_layers[most] - by_layers[fewest]) / (most - fewest) if most > fewest else None


def _check(models: dict[tuple[str, str], dict[int, float]], stated: dict[tuple[str, str, str], float]) -> None:
    """Raise where a layer is not the difference of the models in the same file."""
    for (kind, *run), per_sample_ms in stated.items():
        by_layers = models.get((run[0], run[1]), {})
        layer = _layer(by_layers) if by_layers and kind == "0" else None
        several = any(other not in ("0", "other") for other, *_ in stated)
        if layer is not None and not several:
            largest = max(map(abs, by_layers.values()))
            if not math.isclose(layer, per_sample_ms * int(run[0]), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE * largest):
                raise TableError(
                    f"layertype_0_bsz{run[0]}_seq{run[1]} is {per_sample_ms:g} ms per sample, and the models of the "
                    f"same file make {layer / max(int(run[0]), 1):g}",
                    remedy="profile again, or correct the file",
                )


def _memory(document: dict[str, Any]) -> Reading:
    rows: list[ImportedRow] = []
    for key, section in document.items():
        if match := _STRATEGY.fullmatch(key):
            rows += _strategy(key, (match["pp"], match["tp"], match["dp"]), section)
        elif _SECTION.fullmatch(key):
            rows += _section(key, section)
        else:
            raise TableError(
                f"it has the key {key[:80]!r}",
                allowed="pp_tp_dp with _c, _vtp, _sp; layertype_N; other_memory_pp_...",
                remedy="give a memory profile",
            )
    return Reading(
        rows=rows,
        columns=_MEMORY_COLUMNS,
        assumptions=[
            "memory is what the allocator of one device held, MiB in the file",
            "what Galvatron made of it (layertype_..., other_memory_...) is per layer or per sample, as it states it",
            "device, precision, hidden size and date are not in the file",
        ],
    )


def _strategy(strategy: str, degrees: tuple[str, str, str], section: dict[str, Any]) -> list[ImportedRow]:
    rows: list[ImportedRow] = []
    by_layers: dict[tuple[str, str, str, str], dict[int, int]] = defaultdict(dict)
    for key, value in section.items():
        if not (match := _MEMORY.fullmatch(key)):
            raise TableError(
                f"{strategy} has the key {key[:80]!r}",
                allowed="layernum[N]_bszB_seqS_rankR_ms, ..._act, ..._act_peak",
                remedy="give the profile of a model with one kind of layer",
            )
        run = (match["batch"], match["seq_len"], match["rank"])
        size = by_layers[match["what"], *run][int(match["layers"])] = mebibytes(value, f"{key} of {strategy}")
        about = (strategy, *degrees, match["layers"], *run)
        rows.append(ImportedRow(part=_PARTS[match["what"]], about=about, memory_bytes=size))
    for (what, *run_of), sizes in by_layers.items():
        layer = _layer({layers: float(size) for layers, size in sizes.items()})
        if layer is None or what == "act_peak" or degrees[0] != "1":
            continue  # a peak is no sum of layers, and with pipeline stages a device holds only some of them
        if layer < 0:
            raise TableError(f"{strategy} has less {_PARTS[what]} with more layers", remedy="profile again")
        rows.append(
            ImportedRow(
                part=f"{_PARTS[what]} of a layer",
                about=(strategy, *degrees, "", *run_of),
                memory_bytes=round(layer),
                note="derived from two models",
            )
        )
    return rows


def _section(name: str, section: dict[str, Any]) -> list[ImportedRow]:
    """Return what Galvatron made of a profile: sizes by sequence length, some by tensor-parallel degree."""
    rows: list[ImportedRow] = []
    for seq_len, sizes in section.items():
        for what, value in mapping(sizes, f"{name} of {seq_len!r}").items():
            by_degree = value if isinstance(value, dict) else {"": value}
            for degree, size in by_degree.items():
                about = (name, "", degree, "", "", "", seq_len, "")
                where = f"{what} of {name}, {degree}"
                rows.append(ImportedRow(part=what, about=about, memory_bytes=mebibytes(size, where)))
    return rows

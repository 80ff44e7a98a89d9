"""Galvatron's profiles: JSON of whole models of few layers, from whose differences one layer follows.

A computation profile has the forward pass of models of, say, 2 and 4 equal layers (`layernum[2]_bsz1_seq2048`, ms),
and what Galvatron made of them: `layertype_0_...`, the time of one layer *per sample*, and `layertype_other_...`, the
rest. Rows here are for the whole batch: those are multiplied by it, and refused where they contradict the models.
Where the file holds only the models, one layer is derived: (latency of n2 layers - latency of n1 layers) / (n2 - n1).

Models of several kinds of layer count each (`layernum[2,4]_bsz1_seq[512,512]`): a kind is derived from two models that
differ in it alone. Older profiles leave the sequence length out (`layernum[2]_bsz8`), or call the rest
`layertype_other_0`.

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

_LENGTHS = r"\d{1,9}|\[\d{1,9}(?:, ?\d{1,9}){0,15}\]"
_RUN = rf"bsz(?P<batch>\d{{1,7}})(?:_seq(?P<seq_len>{_LENGTHS}))?"
_COUNTS = r"layernum\[(?P<layers>\d{1,5}(?:, ?\d{1,5}){0,15})\]"
_MODEL = re.compile(rf"{_COUNTS}_{_RUN}")
_LAYER = re.compile(rf"layertype_(?P<kind>\d{{1,3}}|other(?:_\d{{1,3}})?)_{_RUN}")
_MEMORY = re.compile(rf"{_COUNTS}_{_RUN}_rank(?P<rank>\d{{1,6}})_(?P<what>ms|act_peak|act)")
_STRATEGY = re.compile(r"(?P<pp>\d{1,5})_(?P<tp>\d{1,5})_(?P<dp>\d{1,5})(?P<flags>(_c|_vtp|_sp)*)")
_SECTION = re.compile(r"(layertype_\d{1,3}|other_memory_pp_(off|on_first|on_last))(_sp)?")
_PARTS = {"ms": "model_states", "act": "activations", "act_peak": "activation_peak"}
_REST = {"other": "outside the layers", "other_0": "outside the layers"}
_TOLERANCE = 1e-6

_TIME_COLUMNS = {
    "layers": "transformer layers of the profiled model; of every kind, where it has several",
    "batch": "samples per batch, over all devices",
    "seq_len": "tokens per sample; for every kind of layer, where there are several; empty where the file says none",
}
_MEMORY_COLUMNS = {
    "strategy": "Galvatron's name of the strategy or section",
    "pp": "pipeline stages",
    "tp": "tensor-parallel degree",
    "dp": "data-parallel degree",
    "layers": "transformer layers of the profiled model; of every kind, where it has several",
    "batch": "samples per batch, over all devices",
    "seq_len": "tokens per sample; for every kind of layer, where there are several; empty where the file says none",
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


_Run = tuple[str, str]  # batch, and sequence length or lengths
_Models = dict[tuple[int, ...], float]  # layers of every kind -> what the whole takes


def _computation(document: dict[str, Any]) -> Reading:
    models: dict[_Run, _Models] = defaultdict(dict)
    stated: dict[tuple[str, str, str], float] = {}
    for key, value in document.items():
        if match := _MODEL.fullmatch(key):
            models[_run(match)][_layers(match)] = number(value, key)
        elif match := _LAYER.fullmatch(key):
            stated[match["kind"], *_run(match)] = number(value, key)
        else:
            raise TableError(
                f"it has the key {key[:80]!r}",
                allowed="layernum[N]_bszB_seqS, layertype_N_bszB_seqS, layertype_other_bszB_seqS; N and S may be "
                "lists, and _seqS may be left out",
                remedy="give a computation or memory profile of Galvatron",
            )
    derived = {
        (str(kind), run[0], _length(run[1], kind)): layer
        for run, by_layers in models.items()
        for kind, layer in _by_kind(by_layers).items()
    }
    _check(derived, stated, max((abs(ms) for by_layers in models.values() for ms in by_layers.values()), default=0.0))
    rows = [
        ImportedRow(part="model", about=(",".join(map(str, layers)), *run), latency_ms=latency_ms)
        for run, by_layers in models.items()
        for layers, latency_ms in by_layers.items()
    ]
    for (kind, *run), per_sample_ms in stated.items():
        part = f"layer of type {kind}" if kind.isdigit() else _REST.get(kind, f"outside the layers, {kind}")
        note = "per sample in the file, times the batch"
        rows.append(ImportedRow(part=part, about=("", *run), latency_ms=per_sample_ms * int(run[0]), note=note))
    rows += [
        ImportedRow(part=f"layer of type {kind}", about=("", *run), latency_ms=layer, note="derived from two models")
        for (kind, *run), layer in derived.items()
        if (kind, *run) not in stated
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


def _run(match: re.Match[str]) -> _Run:
    return match["batch"], (match["seq_len"] or "").strip("[]").replace(" ", "")


def _layers(match: re.Match[str]) -> tuple[int, ...]:
    return tuple(map(int, match["layers"].split(",")))


def _length(lengths: str, kind: int) -> str:
    """Return the sequence length of one kind of layer."""
    each = lengths.split(",")
    return each[kind] if len(each) > 1 and kind < len(each) else lengths


def _by_kind(by_layers: _Models) -> dict[int, float]:
    """Return what one layer of every kind takes, from the two models furthest apart that differ in that kind alone."""
    kinds = {len(layers) for layers in by_layers}
    if len(kinds) > 1:
        raise TableError("its models have different numbers of kinds of layers", remedy="split the file")
    found: dict[int, float] = {}
    for kind in range(max(kinds, default=0)):
        alike: dict[tuple[int, ...], _Models] = defaultdict(dict)
        for layers, size in by_layers.items():
            alike[layers[:kind] + layers[kind + 1 :]][layers] = size
        models = max(alike.values(), key=lambda models: max(models)[kind] - min(models)[kind])
        fewest, most = min(models), max(models)
        if most[kind] > fewest[kind]:
            found[kind] = (models[most] - models[fewest]) / (most[kind] - fewest[kind])
    return found


def _check(
    derived: dict[tuple[str, str, str], float], stated: dict[tuple[str, str, str], float], largest_ms: float
) -> None:
    """Raise where a layer is not the difference of the models in the same file."""
    for key, per_sample_ms in stated.items():
        layer, batch = derived.get(key), int(key[1])
        if layer is not None and not math.isclose(
            layer, per_sample_ms * batch, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE * largest_ms
        ):
            kind, _, length = key
            raise TableError(
                f"layertype_{kind}_bsz{batch}{'_seq' + length if length else ''} is {per_sample_ms:g} ms per sample, "
                f"and the models of the same file make {layer / max(batch, 1):g}",
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
    by_layers: dict[tuple[str, str, str, str], _Models] = defaultdict(dict)
    for key, value in section.items():
        if not (match := _MEMORY.fullmatch(key)):
            raise TableError(
                f"{strategy} has the key {key[:80]!r}",
                allowed="layernum[N]_bszB_seqS_rankR_ms, ..._act, ..._act_peak",
                remedy="give a memory profile of Galvatron",
            )
        run, layers = (*_run(match), match["rank"]), _layers(match)
        size = mebibytes(value, f"{key} of {strategy}")
        by_layers[match["what"], *run][layers] = size
        about = (strategy, *degrees, ",".join(map(str, layers)), *run)
        rows.append(ImportedRow(part=_PARTS[match["what"]], about=about, memory_bytes=size))
    for (what, *run_of), sizes in by_layers.items():
        if what == "act_peak" or degrees[0] != "1":
            continue  # a peak is no sum of layers, and with pipeline stages a device holds only some of them
        layers_of = _by_kind(sizes)
        batch, lengths, rank = run_of
        for kind, layer in layers_of.items():
            if layer < 0:
                raise TableError(f"{strategy} has less {_PARTS[what]} with more layers", remedy="profile again")
            rows.append(
                ImportedRow(
                    part=f"{_PARTS[what]} of a layer" + (f" of type {kind}" if len(next(iter(sizes))) > 1 else ""),
                    about=(strategy, *degrees, "", batch, _length(lengths, kind), rank),
                    memory_bytes=round(layer),
                    note="derived from two models",
                )
            )
    return rows


def _section(name: str, section: dict[str, Any]) -> list[ImportedRow]:
    """Return what Galvatron made of a profile: sizes by sequence length, some by tensor-parallel degree."""
    rows: list[ImportedRow] = []
    by_length = all(re.fullmatch(rf"{_LENGTHS}|\d{{1,9}}(?:,\d{{1,9}})*", length) for length in section)
    for seq_len, sizes in section.items() if by_length else [("", section)]:  # older profiles have one length
        for what, value in mapping(sizes, f"{name} of {seq_len!r}").items():
            by_degree = value if isinstance(value, dict) else {"": value}
            for degree, size in by_degree.items():
                about = (name, "", degree, "", "", "", seq_len, "")
                where = f"{what} of {name}, {degree}"
                rows.append(ImportedRow(part=what, about=about, memory_bytes=mebibytes(size, where)))
    return rows

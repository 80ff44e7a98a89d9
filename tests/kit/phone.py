"""A kit and an imagined phone that runs it in this process: a campaign in a fraction of a second, and its truth.

    manifest = imitated_kit(folder, candidates="lcha,ssa", layouts=15, contexts=True)
    phone = Imitation(seed=3)
    results = play(folder, manifest, phone)                  # results.jsonl, as a Mac brings it back
    truth_ms = phone.truth_ms(parts_of(layers)) * phone.level(slots_of(manifest))

Behind the runner and the imitations of Apple's tools it is the same phone: `mac.faults(**imitated(phone, manifest))`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from s2search.block import Block, Precision, Shape
from s2search.kit.build import copy_mac
from s2search.kit.manifest import KitManifest, KitPackage, KitProgram, KitProtocol, KitRow, Shipped, ordered
from s2search.kit.whole import Wholes, program_row, whole_items
from s2search.measurement.items import campaign_items
from s2search.measurement.layouts import layout_text, parts_of_link
from s2search.preset import Preset
from s2search.space import layout_labels, parse_blocks
from tests.kit.fake_mac.imitation import Imitation

__all__ = ["Imitation", "imitated", "imitated_kit", "play", "slots_of"]

_START = datetime(2026, 1, 2, 12, tzinfo=UTC)
_FUNCTIONS = ("first", "denoise", "commit")
_RUNTIME_BYTES, _SPARE_BYTES = 8_000_000, 500_000  # what a program takes beyond weights, state and activations


def imitated_kit(
    folder: Path,
    *,
    candidates: str = "lcha,ssa",
    layouts: int = 15,
    depth: int = 6,
    contexts: bool = True,
    package: str = "",
    links: int = 1,
    preset: str = "s2dit-tiny",
    video: str = "64x48",
    mac: bool = False,
    phone: Imitation | None = None,
    **protocol: Any,
) -> KitManifest:
    """Write a kit without Core ML: the rows of a real one, and a file in place of every package.

    Args:
        folder: Its folder, made here.
        candidates: Blocks.
        layouts: Random layouts of `depth` layers.
        depth: See `layouts`.
        contexts: Pairs and triples.
        package: A layout of any depth, `lcha*4,ssa*8`: then `first`, `denoise` and `commit` of it are rows too.
        links: How many packages that layout is in, cut evenly.
        preset: Sizes.
        video: Pixels.
        mac: With the runner and its sources.
        phone: Which pays for the state of programs: then they say so many bytes.
        protocol: Of `KitProtocol`.
    """
    sizes, blocks = Preset.named(preset), parse_blocks(candidates)
    rules = KitProtocol(**protocol)
    asked: dict[str, Any] = {"precision": "float16", "compute_unit": "cpu_and_neural_engine"}
    half, weight_bytes = Precision.named("float16"), dict[str, int]()
    rows: list[KitRow] = []
    for item in campaign_items(sizes, video, scenarios=["stream"], candidates=blocks):
        rows.append(
            KitRow(
                id=len(rows),
                role=item.role,
                part=item.part.name,
                options=item.part.options_text,
                scenario="stream",
                shape=item.shape,
                package=f"sha256:{len(rows)}",
                state_bytes=item.part.state_bytes(item.shape, half) if isinstance(item.part, Block) else 0,
                peak_bytes=item.part.peak_bytes(item.shape, half),
                **asked,
            )
        )
        weight_bytes[rows[-1].package] = half.weight_bytes(item.part.parameters(item.shape))
    blocks_bytes = {row.part_label: weight_bytes[row.package] for row in rows}
    wholes = Wholes(contexts=contexts, layouts=layouts, depth=depth)
    for item in whole_items(sizes, video, blocks, wholes):
        rows.append(
            program_row(
                len(rows),
                item,
                precision=asked["precision"],
                units=asked["compute_unit"],
                exporter="coreml",
                package=f"sha256:{len(rows)}",
                state_bytes=_state_bytes(item.layers, item.shape, phone),
                peak_bytes=max(block.peak_bytes(item.shape, half) for block in item.layers),
            )
        )
    if package:
        rows += _package_rows(package, links, len(rows), rows[0], asked, phone)
    for row in rows:
        if row.role == "layout":
            weight_bytes[row.package] = sum(n * blocks_bytes[label] for label, n in row.program.counts.items())
    return _written(folder, rows, weight_bytes, rules, sizes, package, mac=mac)


def _state_bytes(layers: Sequence[Block], shape: Shape, phone: Imitation | None) -> int:
    """Return the bytes of a program's state; of those that a phone pays for where it is told."""
    if phone:
        return sum(round(1e6 * phone.state_megabytes(block.label)) for block in layers)
    return sum(block.state_bytes(shape, Precision.named("float16")) for block in layers)


def _package_rows(
    package: str, links: int, number: int, like: KitRow, asked: dict[str, Any], phone: Imitation | None
) -> list[KitRow]:
    layers = tuple(block for label in layout_labels(package) for block in parse_blocks(label))
    ends = [len(layers) * n // links for n in range(links + 1)]
    spans = [(function, *one) for function in _FUNCTIONS for one in enumerate(itertools.pairwise(ends), 1)]
    return [
        KitRow(
            id=number + place,
            role="layout",
            part="",
            options="",
            scenario="stream",
            shape=like.shape,
            package=f"sha256:{number + place}",
            state_bytes=_state_bytes(layers[slice(*span)], like.shape, phone),
            peak_bytes=like.peak_bytes,
            single_calls=True,
            program=KitProgram(
                kind="package",
                layout=layout_text(layers),
                function=function,
                counts=dict(sorted(parts_of_link(layers, *span).items())),
                exporter="coreml",
                link=link if links > 1 else 0,
                links=links,
            ),
            **asked,
        )
        for place, (function, link, span) in enumerate(spans)
    ]


def _written(
    folder: Path,
    rows: Sequence[KitRow],
    weight_bytes: Mapping[str, int],
    rules: KitProtocol,
    sizes: Preset,
    package: str,
    *,
    mac: bool,
) -> KitManifest:
    packages = [
        KitPackage(
            digest=row.package,
            path=f"packages/p{row.id:03}.mlpackage",
            **({"function": row.program.function} if row.single_calls else {}),
            weight_bytes=weight_bytes[row.package],
            operations={"linear": 2},
            inputs=[{"name": "x", "shape": [1, 2], "dtype": "float16", "low": -1.0, "high": 1.0}],
            outputs=["y"],
            parity_db=130.0,
        )
        for row in rows
    ]
    sentinel = next((row.id for row in rows if row.role == "layout" and row.program.kind == "context"), 0)
    groups = [[row.id for row in rows]]
    shipped = Shipped(name="package", digest="sha256:0", exporter="coreml", model_digest="sha256:1", plan_digest=None)
    manifest = KitManifest(
        code_version="s2search test",
        preset=sizes.name,
        converter={"coremltools": "9.0"},
        layout="bc1s",
        state="host",
        protocol=rules,
        packages=packages,
        rows=list(rows),
        sentinel=sentinel,
        groups=groups,
        order=ordered(groups, sentinel, rules),
        **({"shipped": shipped} if package else {}),
    )
    folder.mkdir(parents=True, exist_ok=True)
    manifest = msgspec.json.decode(manifest.to_json(), type=KitManifest)
    (folder / "manifest.json").write_bytes(manifest.to_json())
    if mac:
        for one in packages:
            (folder / one.path).mkdir(parents=True)
            (folder / one.path / "model").write_text(one.digest)
        copy_mac(folder)
    return manifest


def slots_of(manifest: KitManifest) -> list[dict[str, Any]]:
    """Return the order of a kit as the phone reads it."""
    return msgspec.to_builtins(manifest.order)


def imitated(phone: Imitation, manifest: KitManifest) -> dict[str, Any]:
    """Return faults that make the fake Mac's phone this one: its times, and where its compute plans place packages."""
    rows = msgspec.to_builtins(manifest.rows)
    placed = {
        Path(manifest.package(row).path).stem: {unit: [share] for unit, share in phone.cost(rows[row.id]).items()}
        for row in manifest.rows
    }
    return {"imitation": asdict(phone), "placed": placed}


def play(folder: Path, manifest: KitManifest, phone: Imitation, *, unplugged: Sequence[int] = ()) -> Path:
    """Write the results.jsonl that a campaign on this phone brings back.

    Args:
        folder: The kit's.
        manifest: The kit's.
        phone: Which takes a sample a second.
        unplugged: After so many samples it was unplugged: the app is launched anew, and loads all rows again.
    """
    digest = f"sha256:{hashlib.sha256((folder / 'manifest.json').read_bytes()).hexdigest()}"
    rows, order = msgspec.to_builtins(manifest.rows), slots_of(manifest)
    lines = [_campaign(digest), *(line for row in rows for line in _placed(phone, row))]
    heard = [*_launched(digest, phone, rows, manifest, 0)]
    for number, slot in enumerate(order):
        if number in unplugged:
            heard += _launched(digest, phone, rows, manifest, number)
        heard.append(_sample(phone, rows[slot["row"]], slot, len(order), manifest.protocol.least_sample_ms))
    heard.append({"kind": "done", "at": _at(len(order))})
    lines += [{**line, "n": n} for n, line in enumerate(heard, start=1)]
    path = folder / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _campaign(digest: str) -> dict[str, Any]:
    return {
        **{"kind": "campaign", "at": _at(0), "schema": "s2search.kit_results/1", "kit": digest, "device": "iPhone 9"},
        **{"device_type": "iPhone9,1", "device_digest": "0", "chip": "A10", "os": "iOS 26", "tools": {}},
    }


def _placed(phone: Imitation, row: dict[str, Any]) -> list[dict[str, Any]]:
    cold = {"load_ms": [900.0, 90.0], "predict_ms": [2 * phone.row_ms(row), phone.row_ms(row)]}
    operations = {"cpu": 9, "neural_engine": 1} if phone.is_misplaced(row) else {"neural_engine": 97, "cpu": 3}
    where = {"operations": operations, "elsewhere": {}, "cost": phone.cost(row)}
    return [
        {"kind": kind, "at": _at(0), "row": row["id"], **told} for kind, told in (("cold", cold), ("placement", where))
    ]


def _launched(
    digest: str, phone: Imitation, rows: Sequence[dict[str, Any]], manifest: KitManifest, number: int
) -> list[dict[str, Any]]:
    session = {"kit": digest, "machine": "iPhone9,1", "os": "iOS 26", "thermal": "nominal", "low_power_mode": False}
    lines = [{"kind": "session", **session, "battery": 1.0, "charging": True, "crashed": False}]
    taken, weights = 40_000_000, {one.digest: one.weight_bytes for one in manifest.packages}
    for row in rows:
        loaded = taken + _RUNTIME_BYTES + weights[row["package"]] + row["state_bytes"]
        called = loaded + row["peak_bytes"]
        memory = {"before_bytes": taken, "load_bytes": loaded, "first_bytes": called, "steady_bytes": called}
        memory |= {"peak_before_bytes": taken, "peak_bytes": called + _SPARE_BYTES}
        repetitions = phone.repetitions(row, manifest.protocol.least_sample_ms)
        ready = {"load_ms": 100.0, "warm_ups": 6, "settled": True, "repetitions": repetitions}
        lines.append({"kind": "loading", "row": row["id"]})
        lines.append({"kind": "ready", "row": row["id"], **ready, "first_ms": 3 * phone.row_ms(row), "memory": memory})
        taken = called
    return [{"at": _at(number), **line} for line in lines]


def _sample(phone: Imitation, row: dict[str, Any], slot: dict[str, Any], slots: int, least_ms: float) -> dict[str, Any]:
    number = slot["slot"]
    thermal = "serious" if phone.is_too_hot(number, slots) else "nominal"
    fields = {name: slot[name] for name in ("slot", "round", "row", "sentinel")}
    ms = phone.sample_ms(row, number, slots, least_ms)
    return {"kind": "sample", "at": _at(number), **fields, "ms": ms, "thermal": thermal, "thermal_after": thermal}


def _at(second: float) -> str:
    return (_START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.000Z")

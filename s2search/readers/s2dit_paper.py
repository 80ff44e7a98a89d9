"""The S2DiT paper's iPhone totals as per-block rows: a derivation, not a measurement.

Source: Zhao et al., "S2DiT", arXiv 2601.12719 (2026), tables 3 and A3. The paper prints whole-model latencies of 28
layers. A block's `clip` row is its single-type model's total over 28; a variant of LCHA is what its sandwich leaves
after 16 SSA blocks, over 12. The `stream` rows split the 260 ms of one forward pass on a chunk in the same proportion.
Microseconds are rounded down, so that 12 LCHA + 16 SSA fit the 260 ms that they come from.

    python -m s2search.readers.s2dit_paper latency_tables/iphone-16-pro-max.coreml.w4a8
"""

from __future__ import annotations

import dataclasses
import sys
from fractions import Fraction

from s2search import registry
from s2search.block import Block, Part, Precision, Scenario, Shape
from s2search.cost import Pipeline
from s2search.preset import Preset
from s2search.tables.card import Card, Provenance, ProvenanceKind
from s2search.tables.row import Role, Row
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable

#: Whole-model latency in ms of models made of one block type. Source: S2DiT, table 3.
SINGLE_TYPE_MS = {"lcha": 900, "ssa": 258, "kv_compressed": 1348}
#: Whole-model latency in ms of sandwiches with a variant of LCHA. Source: S2DiT, table 3.
SANDWICH_MS = {
    "lcha[local_only=true]": 347,
    "lcha[linear_only=true]": 457,
    "lcha[feature_map=relu]": 499,
    "lcha[linear_head_dim=256]": 569,
    "lcha[gate=false]": 527,
}
#: Whole-model latency in ms of two compositions of known types: what the sums above are checked against. Table 3.
COMPOSED_MS = {"lcha": 531, "kv_compressed": 736}
#: One forward pass on a chunk of 3 latent frames, in ms. Source: S2DiT, table A3.
STREAM_MS = 260
LAYERS, HIGH_LAYERS, LOW_LAYERS = 28, 12, 16

_INCLUDED = "included in the block rows"


def read() -> LatencyTable:
    """Derive the table."""
    return LatencyTable(
        name="iphone-16-pro-max.coreml.w4a8", card=_card(), rows=Rows.of([*_rows("stream"), *_rows("clip")])
    )


def clip_ms() -> dict[str, Fraction]:
    """Return milliseconds per block on a whole clip, exact.

    >>> {label: round(float(ms), 3) for label, ms in clip_ms().items()}["ssa"]
    9.214
    """
    single = {label: Fraction(total, LAYERS) for label, total in SINGLE_TYPE_MS.items()}
    rest = LOW_LAYERS * single["ssa"]
    return single | {label: (total - rest) / HIGH_LAYERS for label, total in SANDWICH_MS.items()}


def stream_ms() -> dict[str, Fraction]:
    """Return milliseconds per block on a chunk: the clip's, scaled so that the published sandwich takes 260 ms."""
    clip = clip_ms()
    scale = STREAM_MS / (HIGH_LAYERS * clip["lcha"] + LOW_LAYERS * clip["ssa"])
    return {label: scale * ms for label, ms in clip.items()}


def consistency() -> dict[str, Fraction]:
    """Return the relative residual of each row: how far published compositions are from the sum of their blocks.

    A composition is 12 layers of a high-resolution type and 16 of SSA. SSA stands in both, and takes the larger.

    >>> {label: f"{float(residual):.2%}" for label, residual in consistency().items()}["lcha"]
    '0.40%'
    """
    clip = clip_ms()
    residual = {
        label: abs((HIGH_LAYERS * clip[label] + LOW_LAYERS * clip["ssa"]) / total - 1)
        for label, total in COMPOSED_MS.items()
    }
    variants = dict.fromkeys(SANDWICH_MS, residual["lcha"])
    return residual | {"ssa": max(residual.values())} | variants


def _rows(scenario: Scenario) -> list[Row]:
    stream = scenario == "stream"
    milliseconds, spread = stream_ms() if stream else clip_ms(), consistency()
    precision = Precision.named("w4a8" if stream else "float16")
    shape = Preset.named("s2dit-1.8b").shape("512x288" if stream else "256x144", scenario)
    rows = []
    for label, ms in milliseconds.items():
        block: Block = registry.create("blocks", label)
        known = not stream or label in ("lcha", "ssa")
        row = _row("block", block, scenario, shape, precision, kind="derived" if known else "estimated")
        floor_ms = int(1000 * ms) / 1000
        rows.append(dataclasses.replace(row, latency_ms=floor_ms, latency_std_ms=round(float(ms * spread[label]), 6)))
    for role, name in (("switch", "down"), ("switch", "up"), ("fixed", "stem"), ("fixed", "head")):
        row = _row(role, registry.create("parts", name), scenario, shape, precision, kind="derived")  # type: ignore[arg-type]
        rows.append(dataclasses.replace(row, latency_std_ms=0.0, note=_INCLUDED))
    skip_bytes = shape.tokens * shape.channels * precision.activation_bits // 8
    buffer = dataclasses.replace(rows[-1], part="long_skip", weight_bytes=0, peak_bytes=0, state_bytes=skip_bytes)
    rows.append(dataclasses.replace(buffer, note="the long skip's buffer; not a computation"))
    decoder = dataclasses.replace(
        buffer, part="codec", state_bytes=0, note="decoder memory is not published: counted as 0"
    )
    return [*rows, decoder]


def _row(
    role: Role, part: Part, scenario: Scenario, shape: Shape, precision: Precision, *, kind: ProvenanceKind
) -> Row:
    """Return a row without latency, its bytes computed from the part's formulas."""
    return Row(
        role=role,
        part=part.name,
        options=part.options_text,
        scenario=scenario,
        **dataclasses.asdict(shape),
        precision=precision.name,
        compute_unit="neural_engine",
        latency_ms=0.0 if role != "block" else 1.0,
        weight_bytes=precision.weight_bytes(part.parameters(shape)),
        state_bytes=part.state_bytes(shape, precision) if isinstance(part, Block) else 0,
        peak_bytes=part.peak_bytes(shape, precision),
        latency_provenance=kind,
        bytes_provenance="derived",
    )


def _card() -> Card:
    return Card(
        device="iPhone 16 Pro Max",
        chip="Apple A18 Pro",
        os="not stated",
        runtime="Core ML",
        runtime_version="not stated",
        threads=None,
        power_mode="not stated",
        date="2026-01",
        code_version="s2search 0.1.0",
        preset="s2dit-1.8b",
        provenance=Provenance(
            kind="derived",
            source="Zhao et al., S2DiT, arXiv 2601.12719v1 (2026), tables 3 and A3",
            statement="derived from published totals: not a measurement",
        ),
        protocol={"method": "not stated in the paper; see s2search/readers/s2dit_paper.py for the derivation"},
        pipeline=Pipeline(chunk_frames=12, steps=4, text_ms=4.0, decoder_ms=80.0),
        assumptions=[
            "clip rows: the total of a 28-layer single-type model over 28; LCHA variants: their sandwich's total less "
            "16 SSA rows, over 12 (12 LCHA + 16 SSA explains the published sandwich within 0.4 %)",
            "stream rows: table A3's 260 ms per forward pass split between 12 LCHA and 16 SSA in table 3's proportion; "
            "the same scale carries over to the other blocks, which makes those rows estimates",
            "full attention has no row: it ran out of memory on the phone",
            "latencies are rounded down to a microsecond",
            "switches, stem and head cost 0: they are included in the block rows",
            "standard deviations are the relative residual of a published composition against the sum of its blocks "
            "(sandwich 533 against 531 ms, hourglass 725 against 736 ms), not a spread of timings",
            "weight, state and activation bytes are computed from the block formulas: 4-bit matrices of layers, 8-bit "
            "text projections, ends, time embedding and switches, float16 small parameters and rings, 8-bit "
            "activations for stream rows; float16 for clip rows",
            "table 3 states neither clip length nor size: clip rows are labelled 21 latent frames at 256x144, the "
            "pre-training size; the label decides their bytes, not their latency",
            "the decoder's and the text encoder's memory is not published and is not counted",
        ],
    )


if __name__ == "__main__":
    read().save(sys.argv[1])

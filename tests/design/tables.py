"""Tables of random rows that state everything `design` can choose among, and what a design costs by the definition."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from s2search.block import Scenario
from s2search.cost import Pipeline
from s2search.preset import Preset, token_grid, video_size
from s2search.score.base import Score
from s2search.space import Space
from s2search.tables.application import Application, Component
from s2search.tables.card import Card, Provenance
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable

STREAM: Scenario = "stream"
STREAMS = {"lcha": 0, "ssa": 1}
VIDEOS = ("256x144", "512x288")
PRECISIONS = ("bfloat16", "float32")


def random_table(rng: np.random.Generator, **card: object) -> LatencyTable:
    """Return rows of two blocks at two sizes and two precisions; larger and more precise is slower on average."""
    rows = []
    for video, precision in itertools.product(VIDEOS, PRECISIONS):
        scale = (1 + 3 * VIDEOS.index(video)) * (1 + 0.7 * PRECISIONS.index(precision))
        shape = Preset.named("s2dit-tiny").shape(video, STREAM)
        for role, part, ms in (
            *(("block", block, 3.0 - STREAMS[block]) for block in STREAMS),
            *(("switch", part, 0.3) for part in ("down", "up")),
            *(("fixed", part, 0.5) for part in ("stem", "head")),
        ):
            rows.append(
                Row(
                    role=role,  # type: ignore[arg-type]  # one of the three
                    part=part,
                    scenario=STREAM,
                    **dataclasses.asdict(shape),
                    precision=precision,
                    compute_unit="cpu",
                    latency_ms=round(scale * ms * rng.uniform(0.7, 1.4), 3),
                    latency_std_ms=0.01,
                    samples=30,
                    weight_bytes=int(1e6 * rng.uniform(0.5, 1.5)),
                    state_bytes=int(2e5 * rng.uniform(0.0, 1.0)),
                    peak_bytes=int(5e5 * scale * rng.uniform(0.0, 1.0)),
                    latency_provenance="measured",
                    bytes_provenance="measured",
                )
            )
    return LatencyTable(name="random", card=random_card(rng, **card), rows=rows)  # type: ignore[arg-type]  # see Rows


def random_card(rng: np.random.Generator, **changes: object) -> Card:
    card = Card(
        device="a random one",
        chip="none",
        os="none",
        runtime="none",
        runtime_version="0",
        threads=1,
        power_mode="none",
        date="2026-11-30",
        code_version="s2search 0.1.0",
        preset="s2dit-tiny",
        provenance=Provenance(kind="measured", source="random numbers", statement="drawn, not measured"),
        protocol={},
        pipeline=Pipeline(chunk_frames=12, steps=4, text_ms=1.5, decoder_ms=9.0),
        application=Application(
            decoders=tuple(
                Component(
                    name=name,
                    ms=float(rng.integers(3, 30)),
                    video=VIDEOS[1],
                    weight_bytes=int(rng.integers(10**5, 10**7)),
                    state_bytes=int(rng.integers(0, 10**6)),
                    peak_bytes=int(rng.integers(0, 10**7)),
                    load_ms=float(rng.integers(1, 9)),
                    source="drawn",
                )
                for name in ("small", "large")
            ),
            text_encoders=(
                Component(
                    name="words",
                    ms=2.0,
                    weight_bytes=int(rng.integers(10**5, 10**7)),
                    state_bytes=int(rng.integers(0, 10**6)),
                    peak_bytes=int(rng.integers(0, 10**7)),
                    load_ms=3.0,
                    source="drawn",
                ),
            ),
            steps=(1, 2, 4),
            commits=("reuse_last", "clean_pass"),
            load_ms=4.0,
        ),
    )
    return dataclasses.replace(card, **changes)  # type: ignore[arg-type]  # fields of a card


@dataclass(frozen=True, kw_only=True)
class Naive:
    """One design, by the plain definition."""

    settings: tuple[tuple[str, object], ...]
    layout: tuple[str, ...]
    rate_fps: float
    pass_us: int
    first_us: int
    memory_bytes: int
    score: float

    @property
    def named(self) -> dict[str, object]:
        return dict(self.settings)


def every_design(table: LatencyTable, score: Score, axes: dict[str, Sequence[object]]) -> Iterator[Naive]:
    """Yield every layout of every combination with what it costs."""
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        space = Space.parse("lcha,ssa", depth=int(str(settings["depth"])))
        score_LC = score.score_LC(space)
        for choice_L in itertools.product(range(2), repeat=space.depth):
            yield _priced(table, settings, choice_L, score_LC)


def _priced(table: LatencyTable, settings: dict[str, object], choice_L: tuple[int, ...], score_LC: np.ndarray) -> Naive:
    rows = {
        row.part: row
        for row in table.rows
        if (video_size(row.height, row.width), row.precision) == (settings["video"], settings["precision"])
    }
    blocks = [rows[("lcha", "ssa")[c]] for c in choice_L]
    streams = [0, *choice_L, 0]
    changes = [(a, b) for a, b in itertools.pairwise(streams) if a != b]
    us = sum(round(1000 * row.latency_ms) for row in (*blocks, rows["stem"], rows["head"]))
    us += sum(round(1000 * rows["down" if b else "up"].latency_ms) for _, b in changes)
    shared = [rows[name] for name in ("stem", "head", "down", "up")]
    held = sum(row.weight_bytes + row.state_bytes for row in (*blocks, *shared))
    peak = max(row.peak_bytes for row in (*blocks, *shared))
    application = table.card.application
    decoder = next(one for one in application.decoders if one.name == settings["decoder"])
    text = next(one for one in application.text_encoders if one.name == settings.get("text_encoder", "words"))
    height, width = token_grid(str(settings["video"]))
    growth = height * width / (18 * 32)
    turns = settings["residency"] == "in_turn"
    state = round(decoder.state_bytes * growth)
    forwards = int(str(settings["steps"])) + (settings["commit"] == "clean_pass")
    loads = (application.load_ms + decoder.load_ms) if turns else 0
    beside_us = round(1000 * (text.ms + round(decoder.ms * growth + loads, 6)))
    chunk_us = beside_us + forwards * us
    text_held = text.weight_bytes + text.state_bytes
    decoder_peak = round(decoder.peak_bytes * growth)
    if turns:
        blocks_state = max(_state_bytes(table, settings))
        waiting = decoder.weight_bytes + round((decoder.state_bytes + decoder.peak_bytes) * growth)
        memory = max(held + peak + state, waiting + blocks_state, text_held + text.peak_bytes)
    else:
        memory = held + max(peak, decoder_peak, text.peak_bytes) + decoder.weight_bytes + state + text_held
    return Naive(
        settings=tuple(settings.items()),
        layout=tuple(("lcha", "ssa")[c] for c in choice_L),
        rate_fps=1e6 * 12 / chunk_us,
        pass_us=us,
        first_us=chunk_us + (round(1000 * text.load_ms) if turns else 0),
        memory_bytes=memory,
        score=sum(int(np.rint(score_LC[layer, c] * 1e9)) for layer, c in enumerate(choice_L)) / 1e9,
    )


def _state_bytes(table: LatencyTable, settings: dict[str, object]) -> list[int]:
    """Return the streaming state of `depth` layers of each block, from its own formula."""
    from s2search import registry
    from s2search.block import Precision

    shape = Preset.named("s2dit-tiny").shape(str(settings["video"]), STREAM)
    stored = Precision.named(str(settings["precision"]))
    return [
        int(str(settings["depth"])) * registry.create("blocks", name).state_bytes(shape, stored) for name in STREAMS
    ]


def rate_of(text: str) -> Fraction:
    return Fraction(text.removesuffix("fps"))

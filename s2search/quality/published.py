"""published: what papers printed of designs that a table may ask for; of other models' figures, evidence only."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

import msgspec
from typing_extensions import override

from s2search.preset import PRESETS
from s2search.quality.base import Judgement, PublishedPair, Quality, Setting
from s2search.quality.evidence import EVIDENCE, S2DIT
from s2search.quality.figure import Figure
from s2search.space import Space

Metric = Literal["vbench", "eval_loss", "clip", "fid", "fvd"]

#: What each metric is in its source's words, and whether more of it is better.
METRICS: dict[Metric, tuple[str, bool]] = {
    "vbench": ("VBench total", True),
    "eval_loss": ("minus the eval loss before distillation", False),
    "clip": ("CLIP score before distillation", True),
    "fid": ("minus the FID before distillation", False),
    "fvd": ("minus the FVD before distillation", False),
}

#: S2DiT, table 4: models of 512x288, full-step and bidirectional: eval loss, CLIP score, FID, FVD.
TABLE_4 = {
    "full": (0.180, 0.294, 26.495, 130.825),
    "ssa": (0.283, 0.286, 36.788, 221.390),
    "sandwich": (0.209, 0.291, 29.565, 145.297),
}
#: S2DiT's VBench total of the streaming model of 4 steps, 512x288, chunks of 3 latent frames, a window of 2 chunks.
STREAMED_VBENCH = 83.26
_OF_TABLE_4: tuple[Metric, ...] = ("eval_loss", "clip", "fid", "fvd")
_PRESET = "s2dit-1.8b"


@dataclass(frozen=True, kw_only=True)
class PublishedQuality(Quality):
    """S2DiT's figures, of the designs that it printed them for and no other.

    The sandwich that was published is taken to be the preset's own layout, 12 LCHA and 16 SSA: the counts follow from
    the latencies of tables 3 and A3, the order is not printed. Table 3's losses are of no stated video size, and no
    figure is taken from there; table 4's hourglass is of no stated layout.

    Attributes:
        metric: `vbench`, of the streaming model; or of models before distillation, which says nothing of steps, chunks
            and windows: `eval_loss`, `clip`, `fid` or `fvd`.
    """

    metric: Metric = "vbench"

    statement = (
        "what S2DiT published of its own designs; of fewer steps, shorter chunks or smaller videos it published "
        "nothing, and other models' figures are evidence beside an answer, no number in it"
    )

    @property
    @override
    def digest(self) -> str:
        figures = [dataclasses.asdict(figure) for figure in _figures(self.metric)]
        content = msgspec.json.encode([figures, [dataclasses.asdict(one) for one in EVIDENCE]], order="sorted")
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    @override
    def judge(self, setting: Setting) -> Judgement | None:
        found = next((figure for figure in _figures(self.metric) if figure.fits(setting)), None)
        return None if found is None else found.judgement(setting, "published")

    @property
    @override
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        return tuple(figure.when["layout"] for figure in _figures(self.metric))

    @override
    def evidence(self, one: Setting, other: Setting) -> tuple[PublishedPair, ...]:
        return tuple(found for found in EVIDENCE if getattr(one, found.axis) != getattr(other, found.axis))


@cache
def _figures(metric: Metric) -> tuple[Figure, ...]:
    """Return what was published by a metric, larger being better."""
    preset = PRESETS[_PRESET]
    sizes = {"preset": _PRESET, "depth": preset.depth, "channels": preset.channels, "video": "512x288"}
    words, larger = METRICS[metric]
    if metric == "vbench":
        stream = {"steps": 4, "chunk_frames": 3, "window_chunks": 2, "layout": _layout("sandwich", preset.depth)}
        source = f"{S2DIT}, VBench of the streaming model"
        return (Figure(when=sizes | stream, value=STREAMED_VBENCH, metric=f"{words}, S2DiT", source=source),)
    place = _OF_TABLE_4.index(metric)
    return tuple(
        Figure(
            when=sizes | {"layout": _layout(name, preset.depth)},
            value=values[place] if larger else -values[place],
            metric=f"{words}, S2DiT table 4",
            source=f"{S2DIT}, table 4",
        )
        for name, values in TABLE_4.items()
    )


def _layout(name: str, depth: int) -> tuple[str, ...]:
    """Return the labels of a model of one block type, or of the preset's own sandwich."""
    if name != "sandwich":
        return (name,) * depth
    space = Space.parse("lcha,ssa", depth=depth)
    high = round(depth * 3 / 7)
    return tuple(space.candidates[c].label for c in space.interleave([high, depth - high]))

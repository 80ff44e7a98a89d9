"""What was published of other models, and of S2DiT before it streamed, when one thing changed: evidence, no numbers.

Each pair stands where its source says. No errors were published with any of them.
"""

from __future__ import annotations

from s2search.quality.base import PublishedPair

S2DIT = "Zhao et al., S2DiT, arXiv 2601.12719v1 (2026)"
SELF_FORCING = "Huang et al., Self Forcing, arXiv 2506.08009 (2025), the ablation in chunk-wise and frame-wise halves"
LONGLIVE = "LongLive 2.0 (github.com/NVlabs/LongLive, README, Models, 2026)"
DMD2 = "Yin et al., DMD2 (github.com/tianweiy/DMD2, experiments/sdxl/README.md, Model Zoo, 2024)"

_VBENCH = "VBench total, more is better"
_LOSS = "eval loss, less is better"


def _steps(
    before: str, after: str, model: str, values: tuple[float, float], source: str, metric: str = _VBENCH
) -> PublishedPair:
    return _pair("steps", before, after, model, values, source, metric)


def _chunks(model: str, values: tuple[float, float]) -> PublishedPair:
    return _pair("chunk_frames", "chunk by chunk", "frame by frame", model, values, SELF_FORCING, _VBENCH)


def _layouts(before: str, after: str, values: tuple[float, float]) -> PublishedPair:
    model, source = "S2DiT at 512x288, before distillation", f"{S2DIT}, table 4"
    return _pair("layout", before, after, model, values, source, _LOSS)


def _pair(
    axis: str, before: str, after: str, model: str, values: tuple[float, float], source: str, metric: str
) -> PublishedPair:
    return PublishedPair(
        axis=axis,
        before=before,
        after=after,
        model=model,
        metric=metric,
        value_before=values[0],
        value_after=values[1],
        source=source,
    )


EVIDENCE: tuple[PublishedPair, ...] = (
    _steps("full, bidirectional", "4, streaming", "S2DiT distilled, 512x288", (83.62, 83.26), f"{S2DIT}, VBench"),
    _steps("4", "2", "LongLive-2.0-5B-NVFP4, streaming", (84.51, 83.14), LONGLIVE),
    _steps("50 x 2", "4", "Wan2.1-T2V-1.3B, teacher forcing, then DMD, chunk by chunk", (83.58, 82.32), SELF_FORCING),
    _steps("50 x 2", "4", "Wan2.1-T2V-1.3B, diffusion forcing, then DMD, chunk by chunk", (82.95, 82.76), SELF_FORCING),
    _steps("50 x 2", "4", "Wan2.1-T2V-1.3B, teacher forcing, then DMD, frame by frame", (80.34, 78.12), SELF_FORCING),
    _steps(
        "4",
        "1",
        "SDXL images by DMD2 (the one-step model begins by regression)",
        (19.32, 19.01),
        DMD2,
        "FID, less is better",
    ),
    _chunks("Self Forcing (DMD), Wan2.1-T2V-1.3B, 4 steps", (84.31, 84.26)),
    _chunks("Self Forcing (SiD), Wan2.1-T2V-1.3B, 4 steps", (84.07, 83.54)),
    _chunks("teacher forcing and DMD, Wan2.1-T2V-1.3B, 4 steps", (82.32, 78.12)),
    _chunks("diffusion forcing and DMD, Wan2.1-T2V-1.3B, 4 steps", (82.76, 80.56)),
    _layouts("full attention", "sandwich", (0.180, 0.209)),
    _layouts("hourglass (KV-compressed and SSA)", "sandwich", (0.220, 0.209)),
    _layouts("SSA only", "sandwich", (0.283, 0.209)),
)

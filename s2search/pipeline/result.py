"""What came of the whole way, in figures: the content of report/figures.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from s2search.document import Document
from s2search.pipeline.more_time import OneHourMore
from s2search.pipeline.rival import RivalResult
from s2search.training.distance.documents import Distances


class StageTime(msgspec.Struct, frozen=True, kw_only=True):
    """A stage, the digest of its files, and the seconds that the process took that finished it."""

    stage: str
    digest: str
    seconds: float


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A trained stage's loss on held-out clips, as a multiple of the blind baseline's, with its standard error."""

    stage: str
    steps: int
    samples: int
    loss: float
    ratio: float
    ratio_error: float


class PlanFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The plan: its layout in short, its table and budget, and what it promises.

    `latency_ms` is of one forward pass by the table, `memory_bytes` of all of it; `score_error` is null where the score
    states none.
    """

    layout: str
    table: str
    budget: tuple[str, ...]
    latency_ms: float
    memory_bytes: int
    score: float
    score_error: float | None


class PackageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The package: what wrote it, the bytes of its files, whether it keeps its promise, and the checks that failed."""

    exporter: str
    file_bytes: int
    verified: bool
    failed: tuple[str, ...]


class StreamedClip(msgspec.Struct, frozen=True, kw_only=True):
    """A clip that was made: its name, frames, and pixel frames per second of this machine, decoding included."""

    name: str
    frames: int
    frames_per_second: float


@dataclass(frozen=True, kw_only=True)
class PackageCheck(Document):
    """Whether what was built is what was planned: the content of check/check.json.

    Attributes:
        layout: Of the package, in short.
        planned: Of the plan.
        same_plan: Whether the package names the plan by its digest.
        latency_ms: Of the package's layout by the table as it is now; one forward pass.
        planned_ms: As the plan promised.
        fits: Whether it is within the budgets.
    """

    schema: Literal["s2search.package_check/1"] = "s2search.package_check/1"
    layout: str
    planned: str
    same_plan: bool
    latency_ms: float
    planned_ms: float
    fits: bool

    @property
    def holds(self) -> bool:
        """Whether all of it is as planned."""
        return self.same_plan and self.layout == self.planned and self.fits and self.latency_ms == self.planned_ms


@dataclass(frozen=True, kw_only=True)
class PipelineResult(Document):
    """All figures of a run from a budget to a video.

    Attributes:
        settings: All that was asked.
        stages: In their order.
        clips: Training clips and held-out ones.
        plan: The layout.
        rival: What the plan's lead over another layout was to be, and was; null where none was trained.
        judged: Trained stages that are judged on held-out clips.
        distances: How far what the models of each stage make is from real clips; null where that was not measured.
        no_distances: Why not; empty where it was.
        streamed: The clips of the end.
        prompt: Of these.
        package: For the phone.
        check: Of the package against the plan.
        more: What an hour more would buy each stage that trains.
        s2search: The version that wrote this.
    """

    schema: Literal["s2search.pipeline_result/1"] = "s2search.pipeline_result/1"
    settings: dict[str, Any]
    stages: tuple[StageTime, ...]
    clips: tuple[int, int]
    plan: PlanFigures
    rival: RivalResult | None
    judged: tuple[Judged, ...]
    distances: Distances | None
    no_distances: str
    streamed: tuple[StreamedClip, ...]
    prompt: str
    package: PackageFigures
    check: PackageCheck
    more: tuple[OneHourMore, ...]
    s2search: str

    @property
    def holds(self) -> bool:
        """Whether the package is verified, and is what was planned."""
        return self.package.verified and self.check.holds

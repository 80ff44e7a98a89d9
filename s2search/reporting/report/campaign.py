"""What a campaign's page is made of: the parts that were given, each with the file that it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from s2search.designer.document import Design
    from s2search.lint.base import Finding
    from s2search.pipeline.result import PipelineResult
    from s2search.planner.frontier import Frontier
    from s2search.planner.plan import Plan
    from s2search.planner.promise import PlanCheck
    from s2search.recalibration.result import Recalibration
    from s2search.tables.table import LatencyTable
    from s2search.training.judgement import ModelJudgement
    from s2search.training.run_folder import Row
    from s2search.training.watch import Watched
    from s2search.verification.result import Verification

_Part = TypeVar("_Part")


@dataclass(frozen=True, kw_only=True)
class GivenPart(Generic[_Part]):
    """A part.

    Attributes:
        part: The value.
        name: Of the file or folder, as it was named; what it is, for a value.
        digest: Of the file's bytes; empty for a value.
        schema: Of the file; empty where it has none.
    """

    part: _Part
    name: str
    digest: str = ""
    schema: str = ""

    @property
    def told(self) -> str:
        """The file, with the beginning of its digest."""
        return f"{self.name} ({self.digest[7:19]})" if self.digest else self.name


@dataclass(frozen=True, kw_only=True)
class JudgedTable:
    """A latency table, and what the linter says of it.

    Attributes:
        table: The table.
        findings: All of them.
        samples: Whether raw samples lie beside it: their files.
    """

    table: LatencyTable
    findings: tuple[Finding, ...]
    samples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A training run.

    Attributes:
        trainer: Its name.
        steps: That it was asked for.
        data: What it was trained on.
        metrics: What it reported.
        judgement: How good its model is; null where it was not judged.
        watched: What was seen of its model meanwhile.
        strip: A PNG picture of what its model draws; empty where there is none.
    """

    trainer: str
    steps: int
    data: str
    metrics: Sequence[Row]
    judgement: ModelJudgement | None
    watched: Watched
    strip: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Recalibrated:
    """What a recalibration found, with its corrections in words; that of memory is empty where there is none."""

    found: Recalibration
    correction: str
    memory: str = ""


@dataclass(frozen=True, kw_only=True)
class CampaignParts:
    """All parts, by kind; the page has a section for each kind, and says of those that are empty that they are.

    Attributes:
        tables: Latency tables.
        fronts: Fronts of plans.
        designs: What a device can do.
        plans: Plans.
        promises: Plans held against other tables.
        runs: Training runs.
        whole: Runs from a budget to a video.
        clips: Pictures of clips' frames by the run's name, PNG.
        verifications: Of packages.
        recalibrations: Of tables.
    """

    tables: tuple[GivenPart[JudgedTable], ...] = ()
    fronts: tuple[GivenPart[Frontier], ...] = ()
    designs: tuple[GivenPart[Design], ...] = ()
    plans: tuple[GivenPart[Plan], ...] = ()
    promises: tuple[GivenPart[PlanCheck], ...] = ()
    runs: tuple[GivenPart[Learnt], ...] = ()
    whole: tuple[GivenPart[PipelineResult], ...] = ()
    clips: dict[str, bytes] = field(default_factory=dict)
    verifications: tuple[GivenPart[Verification], ...] = ()
    recalibrations: tuple[GivenPart[Recalibrated], ...] = ()

    @property
    def every(self) -> tuple[GivenPart[Any], ...]:
        """All parts, in the order of the page."""
        kinds: tuple[tuple[GivenPart[Any], ...], ...] = (
            *(self.tables, self.fronts, self.designs, self.plans, self.promises),
            *(self.runs, self.whole, self.verifications, self.recalibrations),
        )
        return tuple(given for kind in kinds for given in kind)

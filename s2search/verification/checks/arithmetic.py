"""What a stream of the plan costs on its target: both commit policies and the codec, every number with its origin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from s2search.cost import COMMIT_POLICIES, NOTHING_TOLD, CommitPolicy, Pipeline
from s2search.errors import S2SearchError
from s2search.network.config import ModelConfig
from s2search.planner.plan import Plan
from s2search.preset import PIXEL_FRAMES
from s2search.streaming.sampler_of import sampler_of
from s2search.streaming.sampler_of import told as trained
from s2search.tables.card import ProvenanceKind
from s2search.tables.table import LatencyTable, open_table
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import Bound, CannotRunError, CheckResult

_WEAKER: tuple[ProvenanceKind, ...] = ("measured", "published", "derived", "estimated")


@dataclass(frozen=True, kw_only=True)
class ArithmeticCheck(Check):
    """Pixel frames per second of the plan's own numbers, held against the rate that it was asked for.

    Where the weights were trained to stream, their steps and policy count, whatever the plan says. Nothing is timed
    here. A sum of numbers is as weak as its weakest.
    """

    name: ClassVar[str] = "arithmetic"
    unit: ClassVar[str] = "FPS"
    bound: ClassVar[Bound] = "at least"
    required: ClassVar[bool] = False

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        plan = plan_of(opened)
        table = table_of(plan, opened.options.table)
        if _pipeline(plan, table) is None:
            raise CannotRunError(f"the table {plan.provenance.table} does not say what text and codec take")
        form = opened.source.config.causal
        for policy in COMMIT_POLICIES if form is None else (form.commit,):
            yield self._of(opened, plan, table, policy)

    def _of(self, opened: Opened, plan: Plan, table: LatencyTable, policy: CommitPolicy) -> CheckResult:
        planned, config = _pipeline(plan, table), opened.source.config
        assert planned is not None
        pipeline = _as_trained(planned, config)
        forward_ms, commit_ms = plan.latency_ms.predicted, plan.latency_ms.commit
        passes, kind = pipeline.forwards(policy), weakest(list(plan.every_device[0].latency_kinds(plan.counts)))
        codec, rest = _kind_of_codec(table), table.card.provenance.kind
        told = plan.rate.told if plan.rate else None
        said = f"; told with the plan: {told.statement}" if told else ""
        chunk_us = pipeline.chunk_us(round(1000 * forward_ms), policy) + round(1000 * (commit_ms or 0))
        committing = "" if commit_ms is None else f" + committing {commit_ms:.1f} ms ({rest})"
        why = (
            f"{passes} passes of {forward_ms:.1f} ms ({kind}){committing} + text {pipeline.text_ms:g} ms ({rest}) + "
            f"decoder {pipeline.decoder_ms:g} ms ({codec}) = {chunk_us / 1000:.1f} ms for {pipeline.chunk_frames} "
            f"frames ({weakest([kind, codec, rest])})"
        )
        why += said
        if config.causal is not None:
            why += f"; {trained(config.causal)}"
            if (plan.commit, planned.steps) != (policy, pipeline.steps):
                why += f", and the plan counts {planned.steps} steps, {plan.commit}"
        if commit_ms is None:
            why += "; what committing takes is not in the table"
        if policy == "clean_pass":
            why += "; the clean pass is counted as a whole one, which is an upper limit"
        if (written := opened.package.manifest.precision) != plan.precision:
            why += f"; the plan's numbers are of {plan.precision}, and the package is {written}"
        if plan.provenance.table_marks:
            why += "; the table's run was marked"
        fps = 1e6 * pipeline.chunk_frames / chunk_us
        held = config.causal is not None or policy == plan.commit
        asked = plan.rate.budget if plan.rate and held else None
        if asked is None:
            return CheckResult(
                name=f"{self.name}.{policy}", status="passed", required=False, value=fps, unit=self.unit, why=why
            )
        return self.judge(opened, fps, asked, of=policy, why=why)


def _as_trained(pipeline: Pipeline, config: ModelConfig) -> Pipeline:
    """Return the pipeline with as many passes as the weights were trained for."""
    if config.causal is None:
        return pipeline
    sampler = sampler_of(config)
    return replace(pipeline, steps=sampler.passes - (sampler.commit == "clean_pass"))


def _pipeline(plan: Plan, table: LatencyTable) -> Pipeline | None:
    """Return the table's pipeline, with what the plan was told in its place."""
    told = plan.rate.told if plan.rate else None
    frames = PIXEL_FRAMES * plan.frames
    return (told or NOTHING_TOLD).over(table.card.pipeline, chunk_frames=frames, table=table.name)


def plan_of(opened: Opened) -> Plan:
    """Return the plan that the package's model was realized from.

    Raises:
        CannotRunError: There is none.
    """
    if opened.source.plan is None:
        raise CannotRunError("the model has a preset's own layout and no plan; export what a plan was realized to")
    return opened.source.plan


def table_of(plan: Plan, named: str | None = None) -> LatencyTable:
    """Return the table that a plan was made on.

    Args:
        plan: It has the table's name and digest.
        named: Where the table is, if it is not installed.

    Raises:
        CannotRunError: It cannot be opened, or is no longer what it was.
    """
    try:
        table = open_table(named or plan.provenance.table)
    except S2SearchError as error:
        raise CannotRunError(f"the plan's table cannot be opened: {error}; name it with --table") from error
    if table.digest != plan.provenance.table_digest:
        raise CannotRunError(
            f"the table {table.name} is {table.digest[:19]}, and the plan was made on "
            f"{plan.provenance.table_digest[:19]}; plan again"
        )
    return table


def weakest(kinds: list[ProvenanceKind]) -> ProvenanceKind:
    """Return the kind of a number that was made of numbers of these kinds.

    >>> weakest(["measured", "derived", "published"])
    'derived'
    """
    return max(kinds, key=_WEAKER.index, default="estimated")


def _kind_of_codec(table: LatencyTable) -> ProvenanceKind:
    rows = [row.latency_provenance for row in table.rows if row.part == "codec"]
    return weakest(rows) if rows else table.card.provenance.kind

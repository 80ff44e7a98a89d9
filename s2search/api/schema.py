"""The command `schema`: what stands in the files and in every `--json`, as JSON schemas."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

import msgspec

from s2search.errors import UnknownNameError, extras_named

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Every document by the name of its schema: where its class is, and what it is.
DOCUMENTS = {
    "table": ("tables.card:Card", "a latency table's card, and its rows"),
    "imported_table": ("tables.foreign:ImportedCard", "measurements of other projects: their card"),
    "table_list": ("tables.listing:TableList", "the installed tables"),
    "table_findings": ("lint.base:Findings", "what is wrong with a table"),
    "table_comparison": ("tables.compare:Comparison", "two tables, row by row"),
    "table_evaluation": ("transfer.evaluate:Evaluation", "how well layouts predict layouts"),
    "transfer_evaluation": ("transfer.evaluate_transfer:TransferEvaluation", "how well a few timings predict a device"),
    "samples": ("measurement.samples:Campaign|Ready|Sample", "raw samples of a campaign, one a line"),
    "score": ("score.file:ScoreFile|MeasuredScore", "scores per block and layer: your own, or measured (score/2)"),
    "score_check": ("score.check:ScoreCheck", "how a measured score orders trained layouts"),
    "quality": ("quality.file:QualityFile", "qualities of whole designs: your own"),
    "plan": ("planner.plan:Plan", "a plan"),
    "infeasible": ("planner.infeasible:Infeasible", "what would fit where nothing does"),
    "family_plan": ("family.plan:FamilyPlan", "the plan of a family of one's own"),
    "family_infeasible": ("family.plan:FamilyInfeasible", "what would fit where no model of a family does"),
    "plan_check": ("planner.promise:PlanCheck", "whether what a plan promised holds"),
    "plan_difference": ("planner.diff:Difference", "what changed from one plan to another"),
    "design": ("designer.document:Design", "what is possible on a device, rate by steps"),
    "frontier": ("planner.frontier:Frontier", "the plans of a front"),
    "front": ("solver.frontier:Front", "latency x memory x score"),
    "sensitivity": ("precision.documents:Sensitivity", "noise of every part in every precision"),
    "precision": ("precision.documents:PrecisionPlan", "the precision of every part"),
    "model": ("network.config:ModelConfig", "sizes of a model, beside its weights"),
    "stream_state": ("streaming.header:Header", "where a stream stopped"),
    "stream_report": ("reporting.stream:StreamFigures", "the times of a stream"),
    "stream_clips": ("streaming.clips:StreamClips|StreamClip", "clips of many prompts, one a line"),
    "stream_clips_report": ("reporting.clips:ClipsFigures", "how many clips of prompts there are"),
    "kit": ("kit.manifest:KitManifest", "a kit's manifest"),
    "kit_results": ("kit.results:AnyLine", "what a phone measured, one line each"),
    "kit_programs": ("kit.programs:WholePrograms", "what whole programs took on a phone"),
    "package": ("exporters.package:Manifest", "a package of a streaming step"),
    "package_findings": ("verification.any_package:PackageFindings", "what keeps packages from the Neural Engine"),
    "part": ("exporters.component.package:ComponentManifest", "a package of a text encoder or a decoder"),
    "clips": ("training.data.clips:Heading|Shard|Whole", "clips to train on, a shard a line"),
    "data_inspection": ("training.data.inspect:Inspection", "what a data set holds"),
    "cache": ("training.cache.documents:CacheHeading|CacheShard", "a teacher's answers, a shard a line"),
    "cache_inspection": ("training.cache.inspect:CacheInspection", "what a cache holds"),
    "cache_estimate": ("training.cache.make:CacheEstimate", "what a cache would cost"),
    "distance": ("training.distance.documents:Distances", "how far models' clips are from real ones"),
    "distance_networks": (
        "training.distance.networks:NetworksHeading",
        "networks that look at clips, before their tensors",
    ),
    "generated": (
        "training.distance.documents:GeneratedHeading|GeneratedShard",
        "what a model made of captions, a file a line",
    ),
    "run": ("training.run_folder:Record", "a training run: what it was asked"),
    "checkpoint": ("training.checkpoint:State", "a checkpoint of a training run, beside its tensors"),
    "judgement": ("training.judgement:ModelJudgement", "how good a trained model is"),
    "run_comparison": ("training.compare.result:RunComparison", "models that were trained alike, by loss"),
    "run_losses": (
        "training.compare.result:ComparisonQuestion|RunLosses",
        "what compared models lose at each sample, a model a line",
    ),
    "training_estimate": ("training.estimate:RunEstimate", "what a training run would cost"),
    "pipeline": ("pipeline.record:PipelineRecord", "the stages of a run, with hashes of their files"),
    "pipeline_result": ("pipeline.result:PipelineResult", "what a run from a budget to a video came to"),
    "package_check": ("pipeline.result:PackageCheck", "a package held against its plan"),
    "rival": ("pipeline.rival:RivalResult", "what a score promised of a plan, and what training measured"),
    "score_recalibration": ("pipeline.rival:ScoreRecalibration", "a score that was corrected by what was trained"),
    "verification": ("verification.result:Verification", "what was checked"),
    "recalibration": ("recalibration.result:Recalibration", "a table held against whole models"),
}


def schema(name: str | None = None) -> dict[str, Any]:
    """Return the JSON schema of a document; without a name, what documents there are.

    Args:
        name: `plan`, or in full `s2search.plan/1`.

    Raises:
        UnknownNameError: There is no such document.

    >>> import s2search
    >>> s2search.schema()["plan"]
    'a plan'
    >>> s2search.schema("plan")["title"]
    's2search.plan/1'
    """
    if name is None:
        return {known: told for known, (_, told) in DOCUMENTS.items()}
    short = name.removeprefix("s2search.").removesuffix("/1")
    if short not in DOCUMENTS:
        raise UnknownNameError("schema", name, DOCUMENTS, listed_as="schemas")
    with extras_named():
        found = _schema(*DOCUMENTS[short][0].split(":"))
    title = f"s2search.{short}/1"
    return {"$schema": _DIALECT, "title": title, "description": DOCUMENTS[short][1], **found}


def _schema(module: str, classes: str) -> dict[str, Any]:
    home = import_module(f"s2search.{module}")
    types = [getattr(home, name) for name in classes.split("|")]
    union: Any = types[0]
    for further in types[1:]:
        union = union | further
    if len(types) > 1 and dataclasses.is_dataclass(types[0]):  # versions of one document, which msgspec reads apart
        several, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
        return {"anyOf": list(several), "$defs": definitions}
    found = msgspec.json.schema(union)
    if module == "tables.card":
        from s2search.tables.row import Row

        rows = msgspec.json.schema(Row)
        found["$defs"] |= rows["$defs"]  # a row of table.csv; the reference above it is the card
    if module == "recalibration.result":
        # Its file says two things that follow from the others.
        found["$defs"]["Recalibration"]["properties"] |= {
            "schema": {"const": "s2search.recalibration/1"},
            "goal_met": {"type": "boolean"},
            "miss_shares": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
        }
    return found

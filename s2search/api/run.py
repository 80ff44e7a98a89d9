"""The command `run`: from a budget to a video, all stages in their order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2search import registry
from s2search.api.values import PathText, table_of
from s2search.document import as_json, read_json, read_object, write_text
from s2search.errors import InputError, require

if TYPE_CHECKING:
    from s2search.api.stages import Stages
    from s2search.pipeline.execute import StageFate
    from s2search.pipeline.record import PipelineRecord
    from s2search.pipeline.result import Judged, PipelineResult
    from s2search.pipeline.settings import PipelineSettings
    from s2search.pipeline.stages import Stage
    from s2search.reporting.run import Learning

SETTINGS, REPORT = "settings.json", "report.html"
FIGURES, PAGE = "report/figures.json", "report/page.html"
#: The figure of a trainer that is a distance to the true velocity, which a longer run brings down.
_LOSSES = {"teacher": "loss", "flow": "loss", "distill": "flow", "causal": "loss"}
#: The clip of the end, and the page, where people look for them.
_SHOWN = {"stream/clip.mp4": "clip.mp4", PAGE: REPORT}


@dataclass(frozen=True, kw_only=True)
class PipelineOutcome:
    """What a run left.

    Attributes:
        folder: Of the run.
        stages: What became of each, in their order.
        result: All figures; None where it was asked to stop before the report.
    """

    folder: Path
    stages: tuple[StageFate, ...]
    result: PipelineResult | None


#: A shipped preset's name, a TOML file, or what it would say.
Asked = PathText | Mapping[str, Any]


def run(
    preset: Asked = "nano",
    out: PathText = "pipeline",
    *,
    settings: Sequence[str] | Mapping[str, Any] = (),
    until: str | None = None,
) -> PipelineOutcome:
    """Go the whole way from a budget to a video, or on from where it was stopped.

    Stages that are as asked are kept; one whose settings changed, or whose parents left other files, is made anew. The
    working folder is `out` meanwhile.

    Args:
        preset: `nano`, `tiny`, `small`, a TOML file, or what it would say as a dictionary.
        out: The folder, with one for each stage.
        settings: Changes of the preset's: `flow.optimizer.steps=500`, or `{"flow.optimizer.steps": 500}`.
        until: The last stage; the report by default.

    Raises:
        InputError: A setting is wrong, something does not go together, or the folder holds something else.
        InfeasibleError: No layout is within the budgets.
        CheckError: A loss or a gradient is not finite.
    """
    require("torch", "safetensors", "av")
    from s2search.pipeline.execute import execute, opened
    from s2search.pipeline.result import PipelineResult
    from s2search.reporting.run import Teller

    whole, stages = _asked(preset, settings, until)
    folder, teller = Path(out).resolve(), Teller(total=len(stages))
    with opened(folder), contextlib.chdir(folder):
        _written(whole.settings)
        bodies = {**whole.bodies, "report": _reports(whole.settings)}
        here = Path()
        execute(here, stages, bodies, teller.tell)
        _show(here)
        found = read_json(FIGURES, PipelineResult, what="result") if stages[-1].name == "report" else None
    return PipelineOutcome(folder=Path(out), stages=tuple(teller.found), result=found)


def run_dry(
    preset: Asked = "nano",
    out: PathText = "pipeline",
    *,
    settings: Sequence[str] | Mapping[str, Any] = (),
    until: str | None = None,
) -> tuple[StageFate, ...]:
    """Return what `run` would do with each stage, and why; nothing is changed.

    See `run` for the arguments.

    Raises:
        InputError: A setting is wrong, or the folder holds something else.
        InfeasibleError: No layout is within the budgets.
    """
    require("torch", "safetensors", "av")
    from s2search.pipeline.execute import foreseen

    _, stages = _asked(preset, settings, until)
    return tuple(foreseen(Path(out), stages))


def _asked(
    preset: Asked, changes: Sequence[str] | Mapping[str, Any], until: str | None
) -> tuple[Stages, tuple[Stage, ...]]:
    """Return what makes stages, and those that are asked for; what can be known before the first one is checked."""
    from s2search.api.stages import Stages
    from s2search.pipeline.settings import RIVALS, PipelineSettings, stated_by
    from s2search.pipeline.stages import check_stage, stages_of

    stated = preset if isinstance(preset, Mapping) else stated_by(str(preset))
    listed = (
        [f"{key}={as_json(value, indent=-1).strip()}" for key, value in changes.items()]
        if isinstance(changes, Mapping)
        else changes
    )
    found = PipelineSettings.of(stated, listed)
    if until is not None:
        check_stage(until)
    whole = Stages(settings=found)
    _check_plugins(whole)
    whole.plan("published")  # whether a layout fits is known before a model is trained
    if found.plan.rival not in RIVALS and found.rival.seeds:
        whole.plan("published", found.plan.rival)
    stages = stages_of(found, table_of(found.plan.table).digest)
    names = [stage.name for stage in stages]
    return whole, stages[: len(stages) if until is None else names.index(until) + 1]


def _check_plugins(whole: Stages) -> None:
    """Raise if a plugin of a later stage is not there, or takes no such option."""
    from s2search.api.stages import TRAINED
    from s2search.training.captions import text_encoder
    from s2search.training.data.base import Geometry
    from s2search.training.parallel import device_of

    asked = whole.settings
    device_of(asked.device)
    text_encoder(asked.text, asked.model.preset)
    for name in TRAINED:
        registry.create("trainers", whole.trainer(name))
    if not asked.export.exporter:
        raise InputError(
            "no exporter is named",
            allowed=", ".join(sorted(registry.installed("exporters"))),
            remedy="add export.exporter to the preset",
        )
    registry.create("exporters", asked.export.exporter)
    registry.create("codecs", asked.data.codec)
    latent_frames, _, _ = Geometry(video=asked.data.video, frames=asked.data.frames).latent_size
    if latent_frames % (chunk := asked.model.chunk_frames):
        raise InputError(
            f"clips of {asked.data.frames} frames have {latent_frames} latent frames, and chunks {chunk}",
            allowed="a whole number of chunks",
            remedy="change data.frames or model.chunk_frames",
        )


def _written(settings: PipelineSettings) -> None:
    """Write what was asked beside the stages, where it is not there already."""
    from s2search.api.stages import SIZES

    for name, text in {SETTINGS: as_json(settings), SIZES: settings.sizes_toml()}.items():
        if not Path(name).exists() or Path(name).read_text(encoding="utf-8") != text:
            write_text(Path(name), text)


def _show(folder: Path) -> None:
    """Put what people look for where they look for it."""
    for made, shown in _SHOWN.items():
        source, target = folder / made, folder / shown
        if source.exists() and (not target.exists() or target.read_bytes() != source.read_bytes()):
            partial = target.with_name(f".{shown}.partial")
            partial.write_bytes(source.read_bytes())
            partial.replace(target)


def _reports(settings: PipelineSettings) -> Callable[[Path], None]:
    def report(folder: Path) -> None:
        from s2search.api.stages import TRAINED
        from s2search.pipeline.record import PipelineRecord
        from s2search.reporting.run import run_html

        found = _result(settings, PipelineRecord.load(Path()))
        found.save(FIGURES)
        strip = Path("stream/strip.png").read_bytes()
        write_text(Path(PAGE), run_html(found, strip, [*map(_learning, TRAINED)]))

    return report


def _learning(name: str) -> Learning:
    from s2search.reporting.run import Learning
    from s2search.training.judgement import ModelJudgement
    from s2search.training.run_folder import JUDGEMENT, STRIP, read_metrics
    from s2search.training.watch import Watched

    judged, strip, metrics = Path(name, JUDGEMENT), Path(name, STRIP), read_metrics(Path(name))
    blind = read_json(judged, ModelJudgement, what="judgement").parts[0].blind if judged.exists() else None
    return Learning(
        stage=name,
        metrics=metrics,
        blind=blind,
        watched=Watched.of(metrics),
        strip=strip.read_bytes() if strip.exists() else b"",
    )


def _result(settings: PipelineSettings, record: PipelineRecord) -> PipelineResult:
    """Return all figures, from what the stages left."""
    import msgspec

    from s2search.api.stages import CHECK, DISTANCES, PLAN, REFUSED, RIVAL, STREAMED, TIMES, TRAINED
    from s2search.pipeline.more_time import one_hour_more
    from s2search.pipeline.result import PackageCheck, PipelineResult, StageTime, StreamedClip
    from s2search.pipeline.rival import RivalResult
    from s2search.planner.plan import Plan
    from s2search.training.data.clips import Clips
    from s2search.training.distance.documents import Distances
    from s2search.training.run_folder import read_metrics

    clips, streamed, rates = Clips.load(Path("data")), read_object(STREAMED), read_object(TIMES)
    more = (one_hour_more(name, read_metrics(Path(name)), _LOSSES.get(name)) for name in TRAINED)
    return PipelineResult(
        settings=msgspec.to_builtins(settings),
        stages=tuple(
            StageTime(stage=name, digest=one.digest, seconds=one.seconds)
            for name, one in record.stages.items()
            if one.state == "done" and name != "report"
        ),
        clips=(len(clips.of("train")), len(clips.of("held-out"))),
        plan=_plan_figures(Plan.load(PLAN), settings),
        rival=read_json(RIVAL, RivalResult, what="rival's result") if RIVAL.exists() else None,
        judged=tuple(filter(None, map(_judged, TRAINED))),
        distances=read_json(DISTANCES, Distances, what="measurement of distances") if DISTANCES.exists() else None,
        no_distances=REFUSED.read_text(encoding="utf-8").strip() if REFUSED.exists() else "",
        streamed=tuple(
            StreamedClip(name=name, frames=count, frames_per_second=rates[name])
            for name, count in streamed["frames"].items()
        ),
        prompt=streamed["prompt"],
        package=_package_figures(),
        check=read_json(CHECK, PackageCheck, what="check of the plan"),
        more=tuple(filter(None, more)),
        s2search=registry.own_version(),
    )


def _judged(name: str) -> Judged | None:
    from s2search.pipeline.result import Judged
    from s2search.training.judgement import ModelJudgement
    from s2search.training.run_folder import JUDGEMENT

    if not (place := Path(name, JUDGEMENT)).exists():
        return None
    found = read_json(place, ModelJudgement, what="judgement")
    part = next(one for one in found.parts if one.name == "held-out")
    return Judged(
        stage=name,
        steps=found.steps,
        samples=part.samples,
        loss=part.loss,
        ratio=part.ratio,
        ratio_error=part.ratio_error,
    )


def _plan_figures(plan: Any, settings: PipelineSettings) -> Any:
    from s2search.api.values import texts_of
    from s2search.pipeline.result import PlanFigures

    return PlanFigures(
        layout=plan.written,
        table=plan.provenance.table,
        budget=texts_of(settings.plan.budget),
        latency_ms=plan.latency_ms.predicted,
        memory_bytes=plan.memory_bytes.predicted,
        score=plan.score,
        score_error=plan.score_error,
    )


def _package_figures() -> Any:
    from s2search.api.stages import PACKAGE, VERIFIED
    from s2search.exporters.package import Package
    from s2search.pipeline.result import PackageFigures
    from s2search.verification.result import Verification

    package = Package.load(PACKAGE)
    verified = read_json(VERIFIED, Verification, what="verification")
    return PackageFigures(
        exporter=verified.exporter,
        file_bytes=sum(one.bytes for one in package.manifest.files),
        verified=verified.passed,
        failed=tuple(check.name for check in verified.checks if check.required and check.status != "passed"),
    )

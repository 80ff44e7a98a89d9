"""What the whole way is asked: the content of a preset such as nano.toml, with defaults for what it does not say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from s2search.codec.video import MOST_FPS
from s2search.cost import CommitPolicy
from s2search.document import as_json
from s2search.errors import InputError, UnknownNameError
from s2search.preset import Preset
from s2search.training.settings import (
    EngineSettings,
    JudgeSettings,
    OptimizerSettings,
    RunSettings,
    overridden,
    settings_of,
    stated_in,
)

#: Rivals that are found; any other word is a layout.
RIVALS = ("published", "most_different")
_OF = "a pipeline"
_PATH = re.compile(r"(?<==)[^=,\[\]]+")  # the value of a plugin's option


def _check_least(table: str, values: Mapping[str, int], least: int) -> None:
    for name, value in values.items():
        if value < least:
            raise InputError(f"{table}.{name} is {value}", allowed=f"{least} or more", remedy="correct it")


def _check_positive(table: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise InputError(f"{table}.{name} is {value}", allowed="above 0", remedy="correct it")


class DataStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Clips, as `s2search data make` is asked for them.

    Attributes:
        source: Sources of recordings: `shapes[count=200]`, `files[path=videos]`, or videos by their paths.
        video: Their size.
        frames: Pixel frames of a clip.
        codec: What encodes them.
        clips: Of a recording, at most.
        stride: Frames of a recording from one frame of a clip to the next.
        held_out: Part of the recordings that is kept from training.
    """

    source: str | tuple[str, ...] = "shapes"
    video: str = "64x32"
    frames: int = 33
    codec: str = "dct[channels=4]"
    clips: int = 8
    stride: tuple[int, ...] = (1,)
    held_out: float = 0.2

    def __post_init__(self) -> None:
        _check_least("data", {"clips": self.clips}, 1)
        if not 0 < self.held_out < 1:
            raise InputError(
                f"data.held_out is {self.held_out}",
                allowed="above 0 and below 1: models are judged",
                remedy="correct it",
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """One source, or several, as a tuple."""
        return (self.source,) if isinstance(self.source, str) else self.source


class ModelSizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sizes of teacher and student; see `Preset`."""

    depth: int = 4
    channels: int = 32
    heads: int = 2
    feed_forward: int = 128
    text_channels: int = 32
    text_tokens: int = 16
    chunk_frames: int = 3
    window_chunks: int = 2
    sink_chunks: int = 0

    def __post_init__(self) -> None:
        _ = self.preset

    @property
    def preset(self) -> Preset:
        """The same as a preset of a model."""
        return Preset(name="sizes", **msgspec.structs.asdict(self))


class TrainedStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stage that trains, as `s2search train` is asked.

    Attributes:
        options: Of its trainer, as they stand in its brackets: `shift=5,caption_drop=0.1`.
        optimizer: How weights move.
        engine: How steps are computed and kept; the device is that of the whole way.
        judge: How the model is judged.
    """

    options: str = ""
    optimizer: OptimizerSettings = OptimizerSettings()
    engine: EngineSettings = EngineSettings()
    judge: JudgeSettings = JudgeSettings()


class ScoreStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What candidates are worth in the teacher, as `s2search score measure` is asked.

    Attributes:
        candidates: Blocks to choose from; the plan chooses from the same.
        steps: Of training a candidate, a shorter time and the whole.
        batch: Clips of a step.
        samples: Held out, to compare on.
        lr: Learning rate at its highest.
        shift: How far noise levels are pushed towards 1.
    """

    candidates: str = "lcha,ssa"
    steps: tuple[int, int] = (90, 180)
    batch: int = 8
    samples: int = 512
    lr: float = 2e-3
    shift: float = 3.0

    def __post_init__(self) -> None:
        _check_least("score", {"samples": self.samples}, 2)
        _check_least("score", {"batch": self.batch}, 1)
        _check_positive("score", {"lr": self.lr, "shift": self.shift})
        if not 0 < self.steps[0] <= self.steps[1]:
            raise InputError(
                f"score.steps are {[*self.steps]}",
                allowed="two numbers from 1, the shorter time first",
                remedy="correct them",
            )


class PlanStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plan, as `s2search plan` is asked.

    Attributes:
        table: A latency table.
        budget: Limits: `260ms`, `1.1GB`, `10fps`.
        commit: As the model is to commit chunks.
        latency_model: How the table is read.
        solver: How it is searched.
        video: Video size, where the table holds several.
        rival: Another layout that is trained too: the plan by the score `published`, `most_different` of the same
            counts, or a layout such as `S2L2`. Where `published` has the plan's own, the most different one is taken.
    """

    table: str = "iphone-16-pro-max"
    budget: str | tuple[str, ...] = ()
    commit: CommitPolicy = "reuse_last"
    latency_model: str = "lookup"
    solver: str = "dynamic"
    video: str | None = None
    rival: str = "published"


class RivalStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plan and rival, trained as [flow] is, as `s2search train compare` is asked.

    Attributes:
        seeds: A run for each and either layout; without one nothing is compared.
        samples: Held out, to judge by.
    """

    seeds: tuple[int, ...] = (0, 1)
    samples: int = 512

    def __post_init__(self) -> None:
        _check_least("rival", {"seeds": min(self.seeds, default=0)}, 0)
        _check_least("rival", {"samples": self.samples}, 2)
        if len({*self.seeds}) < len(self.seeds):
            raise InputError(f"rival.seeds are {[*self.seeds]}", allowed="each once", remedy="correct them")


class CacheStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The teacher's answers, as `s2search cache make` is asked.

    Attributes:
        levels: Noise levels of each clip.
        store: In which numbers answers are kept.
        batch: Records that are asked about at once.
    """

    levels: int = 4
    store: Literal["float32", "bfloat16", "float8"] = "bfloat16"
    batch: int = 8

    def __post_init__(self) -> None:
        _check_least("cache", {"levels": self.levels, "batch": self.batch}, 1)


class DistanceStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far what the models of each stage make is from real clips, as `s2search distance` is asked.

    Attributes:
        samples: Of each; twice as many clips are held out. 0: nothing is measured.
        features: Of each of the two networks; 4 samples or more for one of them.
        learning: Steps of the network that is trained.
        batch: Samples that are made side by side.
    """

    samples: int = 0
    features: int = 64
    learning: int = 2500
    batch: int = 16

    def __post_init__(self) -> None:
        _check_least("distance", {"samples": self.samples}, 0)
        _check_least("distance", {"learning": self.learning, "batch": self.batch}, 1)
        if self.samples and self.samples < 4 * self.features:
            raise InputError(
                f"distance.samples is {self.samples} for {self.features} features",
                allowed=f"{4 * self.features} or more, or 0",
                remedy="correct it, or distance.features",
            )


class StreamStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The clip at the end: the teacher, the causal model and the few-step model, side by side.

    Attributes:
        prompt: What to show; by default the caption that most held-out clips have.
        steps: Of the two that follow the flow.
        fps: Frames per second of the file.
        scale: How many times larger than the video it is shown.
    """

    prompt: str = ""
    steps: int = 50
    fps: float = 16.0
    scale: int = 4

    def __post_init__(self) -> None:
        _check_least("stream", {"steps": self.steps, "scale": self.scale}, 1)
        if not 0 < self.fps <= MOST_FPS:
            raise InputError(f"stream.fps is {self.fps}", allowed=f"above 0, at most {MOST_FPS}", remedy="correct it")


class ExportStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The package, as `s2search export` is asked; the exporter has to be named."""

    exporter: str = ""


class VerifyStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The check of the package, as `s2search verify` is asked: the chunks of the stream that is compared."""

    chunks: int = 16

    def __post_init__(self) -> None:
        _check_least("verify", {"chunks": self.chunks}, 1)


class PipelineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the whole way is asked: a table per stage.

    Attributes:
        seed: Of everything that is drawn.
        device: Where it is computed: cpu or cuda.
        text: Text encoder; `hashing`, as wide as the model, by default.
        data: Clips.
        model: Sizes of teacher and student.
        teacher: A model of full attention, trained on the flow of clips.
        score: What blocks are worth in its place.
        plan: The layout within the budget.
        flow: That layout, pretrained.
        rival: It and another one, compared.
        cache: The teacher's answers.
        distill: The student learns from them.
        causal: It learns to stream.
        consistency: In few steps.
        self_forcing: On its own rollouts.
        distance: How far what is made is from real clips.
        stream: The clip at the end.
        export: The package.
        verify: Its check.
    """

    seed: int = 0
    device: str = "cpu"
    text: str = ""
    data: DataStage = DataStage()
    model: ModelSizes = ModelSizes()
    teacher: TrainedStage = TrainedStage()
    score: ScoreStage = ScoreStage()
    plan: PlanStage = PlanStage()
    flow: TrainedStage = TrainedStage()
    rival: RivalStage = RivalStage()
    cache: CacheStage = CacheStage()
    distill: TrainedStage = TrainedStage()
    causal: TrainedStage = TrainedStage()
    consistency: TrainedStage = TrainedStage()
    self_forcing: TrainedStage = TrainedStage()
    distance: DistanceStage = DistanceStage()
    stream: StreamStage = StreamStage()
    export: ExportStage = ExportStage()
    verify: VerifyStage = VerifyStage()

    def __post_init__(self) -> None:
        RunSettings(seed=self.seed)

    @classmethod
    def of(cls, stated: Mapping[str, Any], changes: Iterable[str] = ()) -> Self:
        """Return settings from what is stated, with `flow.optimizer.steps=500` changes; the rest is as by default.

        Raises:
            InputError: A key is unknown, or a value of the wrong type or out of range.
        """
        asked = overridden(stated, changes)
        try:
            found = settings_of(asked, cls, of=_OF)
        except InputError as error:
            raise _named(error, asked) from error
        data = msgspec.structs.replace(found.data, source=tuple(map(_placed, found.data.sources)))
        plan = msgspec.structs.replace(found.plan, table=_placed(found.plan.table))
        return msgspec.structs.replace(found, data=data, plan=plan, text=_placed(found.text))

    @property
    def trained(self) -> dict[str, TrainedStage]:
        """The stages that train, by name, in their order."""
        return {
            "teacher": self.teacher,
            "flow": self.flow,
            "distill": self.distill,
            "causal": self.causal,
            "consistency": self.consistency,
            "self_forcing": self.self_forcing,
        }

    def sizes_toml(self) -> str:
        """Return the model's sizes as the file that `train` reads as a preset."""
        sizes = msgspec.structs.asdict(self.model).items()
        return "".join(f"{key} = {as_json(value).strip()}\n" for key, value in sizes)


def _named(error: InputError, stated: Mapping[str, Any]) -> InputError:
    """Return an error with the table that it is of, where several have what it names."""
    if not error.problem.startswith(("optimizer.", "engine.", "judge.")):
        return error
    for name, table in stated.items():
        try:
            settings_of({name: table}, PipelineSettings, of=_OF)
        except InputError:
            return InputError(f"{name}.{error.problem}", allowed=error.allowed, remedy=error.remedy)
    return error


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets that are shipped."""
    folder = resources.files("s2search.pipeline") / "presets"
    return tuple(sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml")))


def stated_by(preset: str) -> dict[str, Any]:
    """Return what a preset states: a shipped one by its name, or a TOML file.

    Raises:
        UnknownNameError: There is no such preset.
        InputError: The file cannot be read, or is no TOML.
    """
    if preset.endswith(".toml"):
        return stated_in(Path(preset), of="pipeline")
    if preset not in preset_names():
        raise UnknownNameError("preset of a pipeline", preset, preset_names(), listed_as="shipped, or a .toml file")
    with resources.as_file(resources.files("s2search.pipeline") / "presets" / f"{preset}.toml") as file:
        return stated_in(file, of="pipeline")


def _placed(text: str) -> str:
    """Return a path, or a plugin with paths among its options, that means the same from every folder.

    >>> _placed("shapes[count=3]"), _placed("no-such-folder")
    ('shapes[count=3]', 'no-such-folder')
    """
    if text and Path(text).exists():
        return str(Path(text).resolve())
    return _PATH.sub(_resolved, text)


def _resolved(found: re.Match[str]) -> str:
    path = found[0]
    return str(Path(path).resolve()) if "/" in path or Path(path).exists() else path

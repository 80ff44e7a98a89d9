"""From settings to a run: the data, the model's config, the captions' tokens, and the first weights."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from s2search import registry
from s2search.border.regular_file import read_regular
from s2search.document import read_json
from s2search.errors import InputError
from s2search.network.config import CONFIG, WEIGHTS, ModelConfig
from s2search.network.network import S2DiT
from s2search.network.random_weights import RandomS2DiT
from s2search.planner.plan import Plan
from s2search.preset import Preset
from s2search.training.base import Trainer, TrainingRun
from s2search.training.captions import Captions, text_encoder
from s2search.training.data.base import digest_of
from s2search.training.data.clips import Clips
from s2search.training.parallel import DTYPES, Processes
from s2search.training.run_folder import START, Record
from s2search.training.settings import ModelSettings, RunSettings

if TYPE_CHECKING:
    from s2search.codec.base import Codec
    from s2search.text.base import TextEncoder


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """All of a run that is known before a weight is read.

    Attributes:
        trainer: As it was named.
        settings: As they were asked.
        begun: Config of the weights that it begins with.
        config: Of the model that it leaves.
        plan: Behind it.
        clips: The data.
        beside: Further data sets.
        encoder: Of captions.
        codec: Decodes what the model draws; None where nothing is drawn.
        inputs: Hashes of what the trainer reads beside it.
    """

    trainer: Trainer
    settings: RunSettings
    begun: ModelConfig
    config: ModelConfig
    plan: Plan | None
    clips: Clips
    beside: tuple[Clips, ...]
    encoder: TextEncoder
    codec: Codec | None
    inputs: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: RunSettings, trainer: Trainer | None = None) -> PreparedRun:
        """Read what settings name.

        Args:
            settings: As they were asked.
            trainer: Instead of the one that they name.

        Raises:
            InputError: It cannot be read, or does not go together.
        """
        trainer = trainer or registry.create("trainers", settings.trainer)
        if not settings.data:
            raise InputError("there is no data to train on", remedy="name a folder that `s2search data make` wrote")
        decoder: Codec | None = registry.create("codecs", settings.judge.codec) if settings.judge.codec else None
        clips = Clips.load(Path(settings.data), decoder)
        if not clips.of("held-out"):
            raise InputError(
                f"the data set {settings.data!r} holds no recording out, and nothing would say how good the model is",
                remedy="make it with --held-out above 0",
            )
        beside = tuple(_beside(Path(folder), clips, decoder) for folder in settings.judge.beside)
        begun, plan = _config(settings.model, clips.heading.latent_channels)
        clips.check_channels(begun.latent_channels)
        config = trainer.leaves(begun, clips)
        return cls(
            trainer=trainer,
            settings=settings,
            begun=begun,
            config=config,
            plan=plan,
            clips=clips,
            beside=beside,
            encoder=text_encoder(settings.text, config.preset),
            codec=_codec(settings, clips) if settings.judge.strips else None,
            inputs=trainer.inputs(clips, config, plan),
        )

    def record(self) -> Record:
        """Return what run.json says."""
        digests = {"model": self.config.digest, "data": self.clips.digest, "text": digest_of(self.encoder.label)}
        if self.plan is not None:
            digests["plan"] = self.plan.digest
        if weights := self.settings.model.weights:
            digests["weights"] = digest_of(read_regular(Path(weights) / WEIGHTS).hex())
        digests |= {f"beside.{number}": clips.digest for number, clips in enumerate(self.beside)}
        digests |= self.inputs
        versions = {
            "s2search": registry.own_version(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        }
        return Record(settings=self.settings, digests=digests, versions=versions)

    def run(self, folder: Path, where: Processes) -> TrainingRun:
        """Return the run in its folder, with its first weights drawn where there are none."""
        weights = self.settings.model.weights
        start = Path(weights) if weights else folder / START
        if where.first and not (start / CONFIG).exists():
            silent = self.begun.velocity == "residual"
            RandomS2DiT(self.begun, plan=self.plan, seed=self.settings.seed, silent=silent).save_pretrained(start)
        where.wait()
        there = S2DiT.from_pretrained(start, mapped=True)  # every weight is there, and of its shape
        if there.config.digest != self.begun.digest:
            raise InputError(
                f"the weights in {str(start)!r} are of another model: {there.config.digest[:19]}, not "
                f"{self.begun.digest[:19]}",
                remedy="restore them, or choose another folder",
            )
        dtype = DTYPES[self.settings.engine.dtype]
        run = TrainingRun(
            settings=self.settings,
            config=self.config,
            plan=self.plan,
            folder=folder,
            start=start,
            clips=self.clips,
            beside=self.beside,
            captions=Captions(self.encoder, where.device, dtype),
            device=where.device,
            dtype=dtype,
        )
        if where.first:
            self.trainer.start(run)
        where.wait()
        return run


def _config(model: ModelSettings, channels: int) -> tuple[ModelConfig, Plan | None]:
    if model.weights:
        config = read_json(Path(model.weights) / CONFIG, ModelConfig, what="model config")
        plan = None if config.plan_digest is None else S2DiT.from_pretrained(model.weights, mapped=True).plan
        return config, plan
    preset, of_run = Preset.named(model.preset), {"velocity": model.velocity, "latent_channels": channels}
    if model.plan:
        plan = Plan.load(Path(model.plan))
        if plan.depth != preset.depth:
            raise InputError(
                f"the plan has {plan.depth} layers and the preset {preset.name!r} {preset.depth}",
                remedy=f"plan with --depth {preset.depth}, or set model.preset",
            )
        return ModelConfig.new(preset, plan.layout, plan_digest=plan.digest, **of_run), plan
    with torch.device("meta"):
        return S2DiT.from_preset(preset, model.layout, **of_run).config, None


def _codec(settings: RunSettings, clips: Clips) -> Codec:
    label = settings.judge.codec or clips.heading.codec
    try:
        codec: Codec = registry.create("codecs", label)
        digest = codec.digest
    except InputError as error:
        raise InputError(
            f"what the model draws cannot be decoded by {label}: {error.problem}",
            remedy="set judge.codec to that of the data with its folder, or judge.strips to 0",
        ) from error
    if digest != clips.heading.codec_digest:
        raise InputError(
            f"the codec {label} is {digest[:19]}, and the data was encoded by {clips.heading.codec_digest[:19]}",
            remedy="set judge.codec to that of the data with its folder, or judge.strips to 0",
        )
    return codec


def _beside(folder: Path, clips: Clips, codec: Codec | None) -> Clips:
    found = Clips.load(folder, codec)
    for name in ("codec", "codec_digest", "geometry"):
        mine, other = getattr(clips.heading, name), getattr(found.heading, name)
        if mine != other:
            raise InputError(
                f"the {name.replace('_', ' ')} of {str(folder)!r} is {other}, and that of the data to train on {mine}",
                remedy="make both alike",
            )
    return found

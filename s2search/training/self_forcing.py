"""self_forcing: a causal model learns, on its own rollouts, to stream what a bidirectional teacher finds likely.

Three networks: the model generates, the critic follows what it generates, and the teacher, which never moves, knows
what videos are like. Which step of a rollout is learned from is a function of seed and step: all processes agree.

Source: Huang et al., "Self-Forcing" (2025); Yin et al., "From Slow Bidirectional to Fast Autoregressive Video Diffusion
Models" (2025); S2DiT, section 4.3.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E token channels
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search import registry
from s2search.document import read_json
from s2search.errors import InputError
from s2search.preset import PATCH
from s2search.training.base import Network, Trainer, TrainingRun
from s2search.training.causal_consistency import few_step

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s2search.network.config import ModelConfig
    from s2search.planner.plan import Plan
    from s2search.training.data.clips import Clips
    from s2search.training.distance.networks import FeatureNetwork
    from s2search.training.rollout import RolledChunk
    from s2search.training.share import Share
    from s2search.training.teachers.base import Teacher
    from s2search.training.teachers.held import HeldTeacher
    from s2search.training.watch import SampleWatch

_LEAST = {"steps": 0, "rollout": 0, "window": 0, "ratio": 1, "watch_every": 0, "watched": 8, "patience": 0}
_STEPS, _SHIFT = 4, 5.0  # of a schedule, where neither weights nor options say
_LOWEST, _HIGHEST = 0.02, 0.98  # noise levels at which critic and teacher are compared


@dataclass(frozen=True, kw_only=True)
class SelfForcing(Trainer):
    """DMD on rollouts: the model moves against (z_F - z_R) / mean |z - z_R|, the critic follows what the model makes.

    Attributes:
        critic: A folder of bidirectional weights that the critic begins with, such as the distilled student's.
        teacher: A teacher plugin: `local[folder=DIR]`.
        steps: Of the schedule; 0: those that the weights were trained for, 4 where they follow the flow.
        schedule_shift: How far the schedule is pushed towards 1; 0: as that of the weights, 5 for one of another
            number of steps than they were trained for.
        rollout: Chunks of a rollout; 0: as many as a clip has.
        window: Chunks of it, side by side, that a step learns from; 0: as many as a clip has.
        ratio: Steps of the critic for one of the model.
        critic_rate: The critic's learning rate, as a multiple of the model's. 4e-7 to 2e-6 in S2DiT.
        shift: How far the noise levels of critic and teacher are pushed towards 1.
        watch_every: Steps between looks at what the averaged weights stream, held against held-out clips; 0: none.
        watched: Samples of a look.
        patience: Looks in a row that see streams saturate or freeze before the run is ended; 0: it never is.
        distance: A file of `distance train` whose networks look; one of random weights does without it.
    """

    critic: str
    teacher: str
    steps: int = 0
    schedule_shift: float = 0.0
    rollout: int = 0
    window: int = 0
    ratio: int = 5
    critic_rate: float = 0.2
    shift: float = 5.0
    watch_every: int = 100
    watched: int = 64
    patience: int = 2
    distance: str = ""

    statement: ClassVar[str] = "what it streams by itself, moved to where the teacher finds it more likely"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}", allowed=f"{least} or more", remedy="correct it")
        for name in ("critic_rate", "shift"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name}={getattr(self, name):g}", allowed="above 0", remedy="correct it")
        if not 0 <= self.schedule_shift < float("inf"):
            raise InputError(f"schedule_shift={self.schedule_shift:g}", allowed="0 or more", remedy="correct it")
        if self.rollout and self.window > self.rollout:
            raise InputError(f"a window of {self.window} of {self.rollout} chunks", remedy="roll out as many at least")

    @override
    def leaves(self, config: ModelConfig, clips: Clips) -> ModelConfig:
        from s2search.network.flow import few_step_schedule

        trained = None if config.causal is None else config.causal.schedule
        steps = self.steps or len(trained or ()) or _STEPS
        if trained is not None and len(trained) == steps and not self.schedule_shift:
            return few_step(config, clips, trained)
        return few_step(config, clips, few_step_schedule(steps, self.schedule_shift or _SHIFT))

    @override
    def inputs(self, clips: Clips, config: ModelConfig, plan: Plan | None) -> Mapping[str, str]:
        from s2search.network.config import CONFIG, WEIGHTS
        from s2search.training.data.base import digest_of
        from s2search.training.teachers.base import hashed_files

        teacher, critic = self._teacher(), self._critic()
        for name, channels in (("teacher", teacher.latent_channels), ("critic", critic.latent_channels)):
            if channels != config.latent_channels:
                raise InputError(
                    f"the {name} denoises latents of {channels} channels, and the model of {config.latent_channels}",
                    remedy=f"name another {name}",
                )
        if teacher.codec_digest and teacher.codec_digest != clips.heading.codec_digest:
            raise InputError(
                f"the teacher {teacher.name} denoises latents of {teacher.codec_digest[:19]}, and the data set has "
                f"those of {clips.heading.codec}",
                remedy="make the data with the autoencoder of the teacher's own folder",
            )
        own, other = config.preset.text_channels, critic.preset.text_channels
        if own != other or critic.causal is not None:
            why = "was trained to stream" if own == other else f"reads text of {other} channels, and the model of {own}"
            raise InputError(f"the critic {self.critic!r} {why}", remedy="name bidirectional weights of its student")
        files = hashed_files(Path(self.critic), (CONFIG, WEIGHTS))
        read = {"critic": digest_of(*sorted(files.items())), "teacher": digest_of(*sorted(teacher.files.items()))}
        self.check_held_out(clips)
        if self.watch_every and self.distance:
            read["distance"] = digest_of(*(network.digest for network in self._networks(clips)))
        return read

    def check_held_out(self, clips: Clips) -> None:
        """Raise where the run is to watch, and a data set holds out too little to watch by.

        Raises:
            InputError: It says what is asked for.
        """
        if not self.watch_every:
            return
        from s2search.training.distance.held_out import check_held_out

        try:
            check_held_out(clips)
        except InputError as error:
            remedy = f"{error.remedy}, or watch_every=0"
            raise InputError(error.problem, allowed=error.allowed, remedy=remedy) from error

    @override
    def networks(self, run: TrainingRun) -> Mapping[str, Network]:
        import torch

        from s2search.network.network import S2DiT

        with torch.device("meta"):
            model, critic = S2DiT(run.config, plan=run.plan), S2DiT(self._critic())
        return {
            "model": Network(module=model, weights=run.start),
            "critic": Network(module=critic, weights=Path(self.critic), rate=self.critic_rate),
        }

    @override
    def step(
        self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share
    ) -> Mapping[str, Tensor | Iterator[Tensor]]:
        losses: dict[str, Tensor | Iterator[Tensor]] = {}
        if share.step % self.ratio == self.ratio - 1:
            losses |= self._matched(run, networks, share)
        losses["critic"] = self._followed(run, networks, share)
        return losses

    @override
    def watch(self, run: TrainingRun) -> SampleWatch | None:
        if not self.watch_every:
            return None
        from s2search.training.distance.held_out import HeldOutDistance
        from s2search.training.draw import streams
        from s2search.training.watch import SampleWatch

        held_out = HeldOutDistance.of(run.clips, self._networks(run.clips), self.watched)
        captions = held_out.captions(self.watched)

        def made(network: nn.Module, numbers: range) -> Tensor:
            asked = [captions[number % len(captions)] for number in numbers]
            return streams(run, network, asked, seed=run.settings.seed, first=numbers.start)

        return SampleWatch(
            every=self.watch_every, samples=self.watched, patience=self.patience, made=made, distance=held_out
        )

    @override
    def draw(self, run: TrainingRun, network: nn.Module) -> Mapping[str, Tensor]:
        from s2search.training.draw import streamed

        return streamed(run, network)

    def _matched(
        self, run: TrainingRun, networks: Mapping[str, Any], share: Share
    ) -> Mapping[str, Tensor | Iterator[Tensor]]:
        """Return the model's loss, chunk after chunk of the window, and the mean of |g|."""
        import torch

        from s2search.network.flow import clean, renoise
        from s2search.training.dmd import matching_gradient, matching_loss

        captions, text_BSE = self._captions(run, share)
        rolled = self._rolled(run, networks["model"], share, text_BSE, "generator")
        z = torch.cat([chunk.z_BCTYX for chunk in rolled], dim=2)
        s_B = self._levels(share, "matched").clamp(_LOWEST, _HIGHEST).to(run.device)
        s = s_B[:, None, None, None, None]
        x = renoise(z, s, share.normal("matched noise", z.shape[1:]).to(run.device))
        with torch.no_grad():
            fake = clean(x, s, networks["critic"](x.to(run.dtype), s_B[:, None], text_BSE).float())
            real = clean(x, s, self._held(run).velocity(x, s_B, captions).to(run.device))
        gradient = matching_gradient(z, fake, real)
        parts = torch.split(gradient, run.config.preset.chunk_frames, dim=2)
        replayed = (
            matching_loss(chunk.replayed(networks["model"], text_BSE, run.dtype), part, z.numel())
            for chunk, part in zip(rolled, parts, strict=True)
        )
        return {"model": replayed, "direction": gradient.abs().mean()}

    def _followed(self, run: TrainingRun, networks: Mapping[str, Any], share: Share) -> Iterator[Tensor]:
        """Yield the critic's loss on a rollout of its own."""
        import torch

        from s2search.network.flow import renoise, velocity

        _, text_BSE = self._captions(run, share)
        rolled = self._rolled(run, networks["model"], share, text_BSE, "critic")
        z = torch.cat([chunk.z_BCTYX for chunk in rolled], dim=2)
        s_B = self._levels(share, "followed").to(run.device)
        eps = share.normal("followed noise", z.shape[1:]).to(run.device)
        x = renoise(z, s_B[:, None, None, None, None], eps)
        answer = networks["critic"](x.to(run.dtype), s_B[:, None], text_BSE).float()
        yield (answer - velocity(z, eps)).square().mean()

    def _rolled(self, run: TrainingRun, model: Any, share: Share, text_BSE: Tensor, purpose: str) -> list[RolledChunk]:
        """Return the window's chunks of a rollout; exit step, window and seed are the same in all processes."""
        import torch

        from s2search.streaming.sampler import FewStepSampler
        from s2search.streaming.state import StreamState
        from s2search.training.rollout import InFormat, rolled_out
        from s2search.training.scan import chunk_count

        form, of_clip = run.config.causal, chunk_count(run.config, run.clips)
        assert form is not None
        assert form.schedule is not None
        window = self.window or of_clip
        count = max(self.rollout or of_clip, window)
        drawn = share.common(f"{purpose} exit")
        exit_step = int(torch.randint(len(form.schedule), (), generator=drawn))
        first = int(torch.randint(count - window + 1, (), generator=drawn))
        streamed = InFormat(model, run.dtype)
        rows, columns = run.clips.heading.latent_size[2:]
        state = StreamState.start(
            streamed,
            (rows // PATCH[1], columns // PATCH[2]),
            seed=share.common(f"{purpose} rollout").initial_seed(),
            batch=len(share.numbers),
            first=share.numbers.start,
            dtype=run.dtype,
        )
        sampler = FewStepSampler(schedule=form.schedule, commit=form.commit)
        chunks = rolled_out(streamed, sampler, text_BSE, first + window, exit_step, state)
        return [chunk for number, chunk in enumerate(chunks) if number >= first]

    def _levels(self, share: Share, purpose: str) -> Tensor:
        from s2search.network.flow import shift

        return shift(share.uniform(purpose), self.shift).float()

    def _captions(self, run: TrainingRun, share: Share) -> tuple[Sequence[str], Tensor]:
        part = run.clips.of("train")
        captions = [part[place].caption for place in share.clips(len(part))]
        return captions, run.captions.tokens(captions)

    def _networks(self, clips: Clips) -> tuple[FeatureNetwork, ...]:
        """Return what looks at samples.

        Raises:
            InputError: The file cannot be read, or is of other data.
        """
        from s2search.training.distance.networks import FeatureNetworks, random_network

        if not self.distance:
            return (random_network(clips),)
        found = FeatureNetworks.load(Path(self.distance))
        found.check_data(clips)
        return found.both

    @override
    def answering_bytes(self, run: TrainingRun) -> int:
        return run.dtype.itemsize * sum(self._teacher().sizes().values())

    def _teacher(self) -> Teacher:
        teacher: Teacher = registry.create("teachers", self.teacher)
        return teacher

    def _critic(self) -> ModelConfig:
        from s2search.network.config import CONFIG, ModelConfig

        return read_json(Path(self.critic) / CONFIG, ModelConfig, what="model config")

    def _held(self, run: TrainingRun) -> HeldTeacher:
        found: HeldTeacher | None = vars(self).get("held")
        if found is None or found.device != run.device:
            from s2search.training.teachers.held import HeldTeacher

            found = vars(self)["held"] = HeldTeacher(self._teacher(), run.device, run.dtype)
        return found

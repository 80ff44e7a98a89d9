"""causal_consistency: a causal model learns to answer from any noise level what its own flow leads to.

Discrete consistency distillation under teacher forcing: the frozen causal model takes one step of its solver towards
less noise, and the answer there, by averaged weights, is what the answer here should be. It needs no stored
trajectories, which pairs of noise and latents from an ODE solver would: those have to come from a causal teacher, cost
a whole sampling per pair, and began worse few-step models in Causal Forcing++ and Causal-rCM.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  N chunks

Source: Song et al., "Consistency Models" (2023), algorithm 2; "Causal Forcing++" (2026), arXiv 2605.15141, and
"Causal-rCM" (2026), arXiv 2606.25473 (causal consistency as what self-forcing begins with).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from s2search.errors import InputError
from s2search.training.base import Network, Trainer, TrainingRun

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s2search.network.config import ModelConfig
    from s2search.training.data.clips import Clips
    from s2search.training.share import Share


@dataclass(frozen=True, kw_only=True)
class CausalConsistency(Trainer):
    """Mean |z_hat(x_s) - z_avg(x_s')|^2, where the frozen causal model leads from x_s to x_s', s' the next lower level.

    The average of the weights is `optimizer.ema`'s.

    Attributes:
        levels: Noise levels from 1 down, evenly spaced and then shifted; behind the last one comes 0.
        shift: How far they are pushed towards 1.
        steps: That the model is meant for.
        schedule_shift: How far their schedule is pushed towards 1.
    """

    levels: int = 48
    shift: float = 5.0
    steps: int = 4
    schedule_shift: float = 5.0

    statement: ClassVar[str] = "clean latents from any noise level, as the frozen causal model's flow leads there"

    def __post_init__(self) -> None:
        from s2search.network.flow import few_step_schedule

        for count, shift in ((self.levels, self.shift), (self.steps, self.schedule_shift)):
            few_step_schedule(count, shift)

    @override
    def leaves(self, config: ModelConfig, clips: Clips) -> ModelConfig:
        from s2search.network.flow import few_step_schedule

        return few_step(config, clips, few_step_schedule(self.steps, self.schedule_shift))

    @override
    def networks(self, run: TrainingRun) -> Mapping[str, Network]:
        import torch

        from s2search.network.network import S2DiT

        with torch.device("meta"):
            model, average, teacher = (S2DiT(run.config, plan=run.plan) for _ in range(3))
        return {
            "model": Network(module=model, weights=run.start),
            "average": Network(module=average, weights=run.start, trained=False, average_of="model"),
            "teacher": Network(module=teacher, weights=run.start, trained=False),
        }

    @override
    def step(
        self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share
    ) -> Mapping[str, Tensor | Iterator[Tensor]]:
        import torch

        from s2search.network.flow import clean, few_step_schedule, renoise
        from s2search.training.noisy import drawn_clips
        from s2search.training.scan import as_committed, chunks_of, levels_of_chunks, scanned

        z_BCTYX, captions = drawn_clips(run.clips, share)
        frames, form = run.config.preset.chunk_frames, run.config.causal
        assert form is not None
        chunks = z_BCTYX.shape[2] // frames
        ladder = torch.tensor((*few_step_schedule(self.levels, self.shift), 0.0))
        place_BN = (levels_of_chunks(share.generators("s"), chunks) * self.levels).long()
        s_BN, below_BN = ladder[place_BN].to(run.device), ladder[place_BN + 1].to(run.device)
        past = as_committed(form, z_BCTYX, share.normal("commit", z_BCTYX.shape[1:])).to(run.device, run.dtype)
        s, below = (one.repeat_interleave(frames, 1)[:, None, :, None, None] for one in (s_BN, below_BN))
        x = renoise(z_BCTYX.to(run.device), s, share.normal("noise", z_BCTYX.shape[1:]).to(run.device))
        text_BSE = run.captions.tokens(captions)

        def velocity(name: str, x_BCTYX: Tensor, s_BN: Tensor) -> Tensor:
            parts = scanned(networks[name], x_BCTYX.to(run.dtype), s_BN, past, form.level, text_BSE, detach=False)
            return torch.cat([part.float() for part in parts], dim=2)

        with torch.no_grad():
            led = x + (below - s) * velocity("teacher", x, s_BN)
            wanted = clean(led, below, velocity("average", led, below_BN))
        answer = clean(x, s, velocity("model", x, s_BN))
        errors = [(a - b).square().mean() for a, b in chunks_of(run.config, answer, wanted)]
        return {"model": torch.stack(errors).mean()}

    @override
    def draw(self, run: TrainingRun, network: nn.Module) -> Mapping[str, Tensor]:
        from s2search.training.draw import streamed

        return streamed(run, network)


def few_step(config: ModelConfig, clips: Clips, schedule: tuple[float, ...]) -> ModelConfig:
    """Return the config of a causal model that is trained for the few steps of a schedule.

    Raises:
        InputError: The weights were not trained to stream, or commit at another noise level than the last step's.
    """
    from s2search.training.scan import chunk_count

    if config.causal is None:
        raise InputError(
            "the weights were not trained to stream", remedy="train them first: trainer=causal, from a model of flow"
        )
    steps = len(schedule)
    if config.causal.commit == "reuse_last" and abs(config.causal.level - schedule[-1]) > 1e-9:
        raise InputError(
            f"the weights see past chunks at the noise level {config.causal.level:g}, and the last of {steps} steps "
            f"commits them at {schedule[-1]:g}",
            allowed="the same level, or any with clean_pass",
            remedy=f"train causal[steps={steps}] with the same schedule_shift, or causal[commit=clean_pass], first",
        )
    chunk_count(config, clips)
    return dataclasses.replace(config, causal=dataclasses.replace(config.causal, schedule=schedule))

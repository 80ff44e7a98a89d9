"""A trainer in one file: the flow's velocity by Huber's loss, to which a few wild clips matter less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from s2search.training.base import Network, Trainer, TrainingRun
from s2search.training.share import Share

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Robust(Trainer):
    """Trains a model on whole clips; errors above `knee` count by their size instead of their square."""

    knee: float = 1.0
    statement: ClassVar[str] = "velocity of whole clips, by Huber's loss"

    def networks(self, run: TrainingRun) -> Mapping[str, Network]:
        import torch

        from s2search.network.network import S2DiT

        with torch.device("meta"):
            return {"model": Network(module=S2DiT(run.config, plan=run.plan), weights=run.start)}

    def step(self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share) -> Mapping[str, Tensor]:
        from torch.nn import functional

        from s2search.network.flow import renoise, velocity

        clips = run.clips.of("train")
        chosen = [clips[place] for place in share.clips(len(clips))]
        z = run.clips.latents([clip.id for clip in chosen])
        eps, s = share.normal("noise", z.shape[1:]), share.uniform("s").float()
        x = renoise(z, s[:, None, None, None, None], eps).to(run.device, run.dtype)
        text = run.captions.tokens([clip.caption for clip in chosen])
        predicted = networks["model"](x, s[:, None].to(run.device), text).float()
        return {"model": functional.huber_loss(predicted, velocity(z, eps).to(run.device), delta=self.knee)}

"""flow: pretraining, the velocity of whole clips at one noise level each, without a streaming state.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token

Source: S2DiT, section 4.1 (flow matching, noise levels shifted by the resolution); Liu et al., "Flow Straight and Fast"
(2022), equation 1; Ho and Salimans, "Classifier-Free Diffusion Guidance" (2022), section 3.2 (captions left out).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.errors import InputError
from s2search.training.base import Network, Trainer, TrainingRun
from s2search.training.share import Share

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s2search.training.noisy import NoisyBatch


@dataclass(frozen=True, kw_only=True)
class Flow(Trainer):
    """Mean |v_hat - v|^2 over clips, with s = shift(U, `shift`) for each.

    Attributes:
        shift: How far noise levels are pushed towards 1. The paper has 3 at 256x144 and 5 at 512x288.
        caption_drop: Part of the samples that sees the empty caption, so that the model can be guided.
    """

    shift: float = 3.0
    caption_drop: float = 0.1

    statement: ClassVar[str] = "velocity of whole clips: mean |v_hat - v|^2"

    def __post_init__(self) -> None:
        if not 0 < self.shift < float("inf") or not 0 <= self.caption_drop <= 1:
            raise InputError(
                f"shift={self.shift:g}, caption_drop={self.caption_drop:g}",
                allowed="a shift above 0, a part from 0 to 1",
                remedy="correct the trainer's options",
            )

    @override
    def networks(self, run: TrainingRun) -> Mapping[str, Network]:
        import torch

        from s2search.network.network import S2DiT

        with torch.device("meta"):
            return {"model": Network(module=S2DiT(run.config, plan=run.plan), weights=run.start)}

    @override
    def step(
        self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share
    ) -> Mapping[str, Tensor | Iterator[Tensor]]:
        return {"model": self.error_of(run, networks["model"], self.learned(run, share)).mean()}

    def error_of(self, run: TrainingRun, network: Any, batch: NoisyBatch) -> Tensor:
        """Return the mean square error of each sample's velocity, in float32; noise levels stay in float32."""
        x, s = batch.x_BCTYX.to(run.device, run.dtype), batch.s_B[:, None].to(run.device)
        off = network(x, s, run.captions.tokens(batch.captions)).float() - batch.v_BCTYX.to(run.device)
        error_B: Tensor = off.square().flatten(1).mean(1)
        return error_B

    def learned(self, run: TrainingRun, share: Share) -> NoisyBatch:
        """Return the samples of a step, some without their captions."""
        from s2search.training.noisy import learned_from

        batch = learned_from(run.clips, share, self.shift)
        return replace(batch, captions=self.captions(batch.captions, share))

    def captions(self, captions: Sequence[str], share: Share) -> tuple[str, ...]:
        """Return the captions of a step's samples, some left out."""
        dropped = (share.uniform("caption") < self.caption_drop).tolist()
        return tuple("" if drop else caption for drop, caption in zip(dropped, captions, strict=True))

    @override
    def told(self, run: TrainingRun, share: Share) -> str:
        from s2search.training.noisy import levels

        clips = run.clips.of("train")
        ids = ", ".join(str(clips[place].id) for place in share.clips(len(clips)))
        s_B = levels(share, self.shift)
        return f"clips {ids} at noise levels from {float(s_B.min()):.3f} to {float(s_B.max()):.3f}"

    @override
    def judge(
        self, run: TrainingRun, network: nn.Module, share: Sequence[int], of: int
    ) -> Iterator[tuple[str, Tensor]]:
        import torch

        from s2search.training.judge import Blind
        from s2search.training.noisy import judged_by

        blind = Blind.fitted(run.clips)
        places = [("train", run.clips, "train"), ("held-out", run.clips, "held-out")]
        places += [(str(clips.folder), clips, "train") for clips in run.beside]
        size = run.settings.optimizer.batch
        for name, clips, split in places:
            if not clips.of(split):  # type: ignore[arg-type]
                continue
            rows = []
            for start in range(0, len(share), size):
                sample: NoisyBatch = judged_by(clips, split, share[start : start + size], of, self.shift)  # type: ignore[arg-type]
                loss_B = self.error_of(run, network, sample)
                off = blind.velocity(sample.x_BCTYX, sample.s_B) - sample.v_BCTYX
                rows.append(
                    torch.stack((sample.s_B.double(), loss_B.double().cpu(), off.square().flatten(1).mean(1)), 1)
                )
            yield name, torch.cat(rows)

    @override
    def draw(self, run: TrainingRun, network: nn.Module) -> Mapping[str, Tensor]:
        from s2search.training.draw import drawn

        return drawn(run, network, self.shift)

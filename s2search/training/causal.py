"""causal: teacher forcing, which makes a bidirectional model one that streams.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  N chunks  S text tokens  E token channels

Source: S2DiT, section 4.3 (causal adaptation before self-forcing); Huang et al., "Self-Forcing" (2025), section 3.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.network.config import CausalForm
from s2search.training.flow import Flow

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s2search.network.config import ModelConfig
    from s2search.training.base import TrainingRun
    from s2search.training.data.clips import Clips
    from s2search.training.noisy import NoisyBatch
    from s2search.training.share import Share


@dataclass(frozen=True, kw_only=True)
class Causal(Flow):
    """Mean |v_hat - v|^2 over noisy chunks that see clean ones before them, each at a noise level of its own.

    Under `reuse_last` a clean chunk is seen as inference will commit it: with the noise of the last of `steps` steps.

    Attributes:
        shift: How far noise levels are pushed towards 1.
        caption_drop: Part of the samples that sees the empty caption.
        commit: How inference will commit a chunk.
        steps: Of the schedule that the model is meant for; `reuse_last` commits at the level of its last one.
        schedule_shift: How far that schedule is pushed towards 1.
        chunk: Latent frames of a chunk; 0: the preset's.
        window: Chunks before it that softmax attention sees; 0: the preset's.
        sink: First chunks that it always sees; -1: the preset's.
        detach_commits: Take each chunk's gradient by itself, none through what earlier ones committed: the graph of one
            chunk is in memory instead of all.
    """

    shift: float = 5.0
    commit: CommitPolicy = "reuse_last"
    steps: int = 4
    schedule_shift: float = 5.0
    chunk: int = 0
    window: int = 0
    sink: int = -1
    detach_commits: bool = False

    statement: ClassVar[str] = "velocity of chunks that see clean ones before them: mean |v_hat - v|^2"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"chunk": 0, "window": 0, "sink": -1}.items():
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}", allowed=f"{least} or more", remedy="correct it")
        self._form()

    @override
    def leaves(self, config: ModelConfig, clips: Clips) -> ModelConfig:
        from s2search.training.scan import chunk_count

        own = config.preset
        preset = dataclasses.replace(
            own,
            chunk_frames=self.chunk or own.chunk_frames,
            window_chunks=self.window or own.window_chunks,
            sink_chunks=own.sink_chunks if self.sink < 0 else self.sink,
        )
        left = dataclasses.replace(config, preset=preset, causal=self._form())
        chunk_count(left, clips)
        return left

    @override
    def step(
        self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share
    ) -> Mapping[str, Tensor | Iterator[Tensor]]:
        losses = self._losses(run, networks["model"], share)
        return {"model": losses if self.detach_commits else sum(losses)}  # type: ignore[dict-item]

    @override
    def error_of(self, run: TrainingRun, network: Any, batch: NoisyBatch) -> Tensor:
        """Return the mean square error of each sample's velocity: of all its chunks, at one noise level."""
        import torch

        from s2search.network.flow import clean
        from s2search.training.share import generator

        chunks = run.clips.heading.latent_size[1] // run.config.preset.chunk_frames
        s = batch.s_B[:, None, None, None, None]
        z_BCTYX = clean(batch.x_BCTYX, s, batch.v_BCTYX)
        # A judged sample is told from others by its noise level.
        noise = [torch.randn(z_BCTYX.shape[1:], generator=generator("judge commit", s)) for s in batch.s_B.tolist()]
        eps_BCTYX = torch.stack(noise)
        s_BN = batch.s_B[:, None].expand(-1, chunks)
        parts = self._errors(run, network, batch.x_BCTYX, s_BN, z_BCTYX, eps_BCTYX, batch.v_BCTYX, batch.captions)
        return torch.stack(list(parts)).mean(0)

    @override
    def draw(self, run: TrainingRun, network: nn.Module) -> Mapping[str, Tensor]:
        from s2search.training.draw import streamed

        return streamed(run, network)

    def _losses(self, run: TrainingRun, model: Any, share: Share) -> Iterator[Tensor]:
        """Yield the loss of each chunk, all of which add up to that of the step."""
        from s2search.network.flow import renoise, shift, velocity
        from s2search.training.noisy import drawn_clips
        from s2search.training.scan import levels_of_chunks

        z_BCTYX, captions = drawn_clips(run.clips, share)
        captions = self.captions(captions, share)
        chunks, frames = z_BCTYX.shape[2] // run.config.preset.chunk_frames, run.config.preset.chunk_frames
        eps_BCTYX = share.normal("noise", z_BCTYX.shape[1:])
        s_BN = shift(levels_of_chunks(share.generators("s"), chunks), self.shift).float()
        s_B1T11 = s_BN.repeat_interleave(frames, dim=1)[:, None, :, None, None]
        x_BCTYX, v_BCTYX = renoise(z_BCTYX, s_B1T11, eps_BCTYX), velocity(z_BCTYX, eps_BCTYX)
        seen = share.normal("commit", z_BCTYX.shape[1:])
        for error_B in self._errors(run, model, x_BCTYX, s_BN, z_BCTYX, seen, v_BCTYX, captions):
            yield error_B.mean() / chunks

    def _errors(
        self,
        run: TrainingRun,
        model: Any,
        x_BCTYX: Tensor,
        s_BN: Tensor,
        z_BCTYX: Tensor,
        eps_BCTYX: Tensor,
        v_BCTYX: Tensor,
        captions: tuple[str, ...],
    ) -> Iterator[Tensor]:
        """Yield the mean square error of each sample's velocity, chunk after chunk, in float32."""
        from s2search.training.scan import as_committed, chunks_of, scanned

        form, text_BSE = self._form(), run.captions.tokens(captions)
        x, past = (one.to(run.device, run.dtype) for one in (x_BCTYX, as_committed(form, z_BCTYX, eps_BCTYX)))
        answers = scanned(model, x, s_BN.to(run.device), past, form.level, text_BSE, detach=self.detach_commits)
        for answer, (wanted,) in zip(answers, chunks_of(run.config, v_BCTYX.to(run.device)), strict=True):
            yield (answer.float() - wanted).square().flatten(1).mean(1)

    def _form(self) -> CausalForm:
        from s2search.network.flow import few_step_schedule

        level = few_step_schedule(self.steps, self.schedule_shift)[-1]
        return CausalForm(commit=self.commit, level=level if self.commit == "reuse_last" else 0.0)

"""distill: knowledge distillation from a cache of a teacher's velocities; the teacher itself is not needed.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns

Source: S2DiT, section 4.2 (loss of both velocities, answers computed once); Hinton et al., "Distilling the Knowledge in
a Neural Network" (2015), for the mean of two losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from s2search.errors import InputError
from s2search.training.base import Network, Trainer, TrainingRun
from s2search.training.share import Share

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s2search.network.config import ModelConfig
    from s2search.planner.plan import Plan
    from s2search.training.cache.documents import CacheRecord
    from s2search.training.cache.records import Answered, TeacherCache
    from s2search.training.data.clips import Clips

_CLEARLY = 0.05  # by how much a teacher should lose less than its student


@dataclass(frozen=True, kw_only=True)
class Distill(Trainer):
    """Mean (1 - l) |v_hat - v|^2 + l |v_hat - v_T|^2 over the records of a cache, v_T the teacher's velocity.

    Captions are never left out: a teacher's guidance is in what it answered, and the student learns it with that.

    Attributes:
        cache: A folder that `cache make` wrote from the same data.
        weight: l, how much the teacher counts, 0 to 1.
    """

    cache: str
    weight: float = 0.5

    statement: ClassVar[str] = (
        "a teacher's velocity beside the true one: mean (1 - l) |v_hat - v|^2 + l |v_hat - v_T|^2"
    )
    also: ClassVar[tuple[str, ...]] = ("teacher", "1-cos", "blind 1-cos")
    judges_first: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise InputError(f"weight={self.weight:g}", allowed="0 to 1", remedy="correct the trainer's options")

    @override
    def inputs(self, clips: Clips, config: ModelConfig, plan: Plan | None) -> Mapping[str, str]:
        return {"cache": self._records(clips).digest}

    @override
    def networks(self, run: TrainingRun) -> Mapping[str, Network]:
        import torch

        from s2search.network.network import S2DiT

        with torch.device("meta"):
            return {"model": Network(module=S2DiT(run.config, plan=run.plan), weights=run.start)}

    @override
    def step(self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share) -> Mapping[str, Tensor]:
        batch = self.answered(run, share)
        velocity_BCTYX = _velocity(run, networks["model"], batch)
        flow_B, teacher_B = (
            (velocity_BCTYX - wanted.to(run.device)).square().flatten(1).mean(1)
            for wanted in (batch.v_BCTYX, batch.answer_BCTYX)
        )
        weight_B = batch.weight_B.to(run.device)
        loss_B = (1 - self.weight) * flow_B + self.weight * teacher_B
        return {
            "model": (weight_B * loss_B).mean(),
            "flow": (weight_B * flow_B).mean(),
            "teacher": (weight_B * teacher_B).mean(),
        }

    def answered(self, run: TrainingRun, share: Share) -> Answered:
        """Return what a step learns from."""
        cache = self._records(run.clips)
        return cache.batch(self._asked(cache, share))

    @override
    def told(self, run: TrainingRun, share: Share) -> str:
        records = self._asked(self._records(run.clips), share)
        levels = [record.s for record in records]
        ids = ", ".join(str(record.id) for record in records)
        return f"records {ids} at noise levels from {min(levels):.3f} to {max(levels):.3f}"

    @override
    def judge(
        self, run: TrainingRun, network: nn.Module, share: Sequence[int], of: int
    ) -> Iterator[tuple[str, Tensor]]:
        import torch

        from s2search.training.judge import Blind

        blind, cache, size = Blind.fitted(run.clips), self._records(run.clips), run.settings.optimizer.batch
        for split in ("train", "held-out"):
            records = cache.sample(split, of)  # each record once, where there are fewer
            chosen = [records[number] for number in share if number < len(records)]
            table_NK = torch.full((len(share), 3 + len(self.also)), torch.nan, dtype=torch.float64)
            for start in range(0, len(chosen), size):
                batch = cache.batch(chosen[start : start + size])
                rows = _judged(_velocity(run, network, batch).cpu(), batch, blind.velocity(batch.x_BCTYX, batch.s_B))
                table_NK[start : start + len(rows)] = rows
            yield split, table_NK

    @override
    def before(self, judged: Mapping[str, Tensor]) -> Iterator[str]:
        table_NK = judged["held-out"]
        table_NK = table_NK[~table_NK[:, 0].isnan()]
        student, teacher = float(table_NK[:, 1].mean()), float(table_NK[:, 3].mean())
        if teacher > (1 - _CLEARLY) * student:
            yield (
                f"the teacher's held-out loss is {teacher:.4f}, and the student begins with {student:.4f}: "
                f"from a teacher that is not {_CLEARLY:.0%} better there is little to learn"
            )

    @override
    def draw(self, run: TrainingRun, network: nn.Module) -> Mapping[str, Tensor]:
        from s2search.training.draw import drawn

        return drawn(run, network, self._records(run.clips).heading.shift)

    def _records(self, clips: Clips) -> TeacherCache:
        from s2search.training.cache.records import TeacherCache

        found: TeacherCache | None = vars(self).get("records")
        if found is None or found.clips is not clips:
            found = vars(self)["records"] = TeacherCache.load(Path(self.cache), clips)
        return found

    def _asked(self, cache: TeacherCache, share: Share) -> list[CacheRecord]:
        records = cache.of("train")
        return [records[place] for place in share.clips(len(records))]


def _velocity(run: TrainingRun, network: Any, batch: Answered) -> Tensor:
    """Return what a network answers, in float32; noise levels stay in float32."""
    x, s = batch.x_BCTYX.to(run.device, run.dtype), batch.s_B[:, None].to(run.device)
    velocity: Tensor = network(x, s, run.captions.tokens(batch.captions))
    return velocity.float()


def _judged(velocity_BCTYX: Tensor, batch: Answered, blind_BCTYX: Tensor) -> Tensor:
    """Return a row per record: noise level, losses of student, blind baseline and teacher, and how both point off."""
    import torch

    def loss(answer: Tensor) -> Tensor:
        return (answer.double() - batch.v_BCTYX).square().flatten(1).mean(1)

    def off(answer: Tensor) -> Tensor:
        return 1 - torch.cosine_similarity(answer.double().flatten(1), batch.answer_BCTYX.double().flatten(1))

    losses = [loss(one) for one in (velocity_BCTYX, blind_BCTYX, batch.answer_BCTYX)]
    return torch.stack((batch.s_B.double(), *losses, off(velocity_BCTYX), off(blind_BCTYX)), 1)

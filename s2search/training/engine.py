"""The engine: runs a trainer's steps, keeps what they give, and goes on where it was stopped.

What it leaves is the same however often it was stopped, in however many parts a step is computed, and, up to the order
of sums, on however many processes.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from s2search.errors import CheckError, InputError
from s2search.training.checkpoint import recall, resume, save
from s2search.training.judge import parts
from s2search.training.judgement import ModelJudgement
from s2search.training.parallel import Processes, started
from s2search.training.run_folder import JUDGEMENT, Metrics, read_metrics
from s2search.training.share import Share, shares
from s2search.training.trained_network import TrainedNetwork, learning_rate
from s2search.training.watch import Look, SampleWatch, Watched

if TYPE_CHECKING:
    from s2search.training.base import Trainer, TrainingRun

#: Called with (steps done, steps in all, what they gave).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run left.

    Attributes:
        folder: Of the run.
        resumed_at: Steps that were done already.
        steps: Done now.
        interrupted: Whether Ctrl-C or SIGTERM ended it before the last step.
        judgement: How good the model is; None where it was interrupted, or the trainer does not judge.
        drawn: `latents_CTYX` that the model made, by what was asked of it.
        left: What it left, in words, beyond that there is a model; empty where there is nothing to say.
        watched: What was seen of the model while it was trained; nothing, where the trainer does not watch.
    """

    folder: Path
    resumed_at: int
    steps: int
    interrupted: bool
    judgement: ModelJudgement | None
    drawn: Mapping[str, Tensor]
    left: str = ""
    watched: Watched = field(default_factory=Watched)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A trainer at work.

    Attributes:
        trainer: Gives losses.
        run: What its steps share.
        folder: Of the run.
        where: The processes.
    """

    trainer: Trainer
    run: TrainingRun
    folder: Path
    where: Processes

    def __post_init__(self) -> None:
        settings = self.run.settings.optimizer
        parts_of_a_step = self.where.count * settings.accumulate
        if settings.batch % parts_of_a_step:
            raise InputError(
                f"optimizer.batch is {settings.batch}, which does not divide into {settings.accumulate} parts on "
                f"{self.where.count} processes",
                allowed=f"multiples of {parts_of_a_step}",
                remedy="correct it, or optimizer.accumulate",
            )

    def train(
        self, progress: Progress = lambda done, total, label: None, tell: Callable[[str], None] = lambda line: None
    ) -> Outcome:
        """Run all steps that are left, keep checkpoints, and leave the model and how good it is.

        Args:
            progress: Told after every step.
            tell: Told, a line each, what people should know before the first one.

        Raises:
            InputError: A checkpoint cannot be read or written.
            CheckError: A loss or a gradient is not finite; the last checkpoint is kept.
        """
        settings, engine = self.run.settings.optimizer, self.run.settings.engine
        networks, moved = self.started()
        begun = resume(self.folder, moved, self.run.config.digest, self.where)
        watch, watched = self.trainer.watch(self.run), Watched.of(read_metrics(self.folder, begun))
        log = _Log(self.folder, begun) if self.where.first else None
        done = kept = begun
        if not begun and self.trainer.judges_first:
            for line in self.trainer.before(self._judged(next(iter(moved.values())))):
                tell(line)
        with _stop_asked() as asked, ExitStack() as closing:
            if log is not None:
                closing.callback(log.close)
            if watch is not None and not watched.looks:
                watched = self._looked(watch, watched, done, moved, log)
            while done < settings.steps and not _ended(watch, watched) and not self.where.agreed(asked()):
                before_s = time.monotonic()
                values = self.step(networks, moved, done)
                done += 1
                if log is not None and (done % engine.log_every == 0 or done == settings.steps):
                    values |= {"lr": learning_rate(settings, done - 1), "seconds": time.monotonic() - before_s}
                    log.add(done, values)
                where = self.trainer.progress(self.run, networks)
                loss = " ".join(f"{name} {values[name]:.4f}" for name in ("loss", *moved) if name in values)
                progress(done, settings.steps, loss + (f", {where}" if where else ""))
                looks = watch is not None and (done % watch.every == 0 or done == settings.steps)
                if watch is not None and looks:
                    watched = self._looked(watch, watched, done, moved, log)
                if looks or done % engine.save_every == 0 or done == settings.steps:
                    self._save(done, moved, watched)
                    kept = done
            if kept < done:
                self._save(done, moved, watched)
        if done < settings.steps and not _ended(watch, watched):
            return Outcome(folder=self.folder, resumed_at=begun, steps=done, interrupted=True, judgement=None, drawn={})
        return self._finished(begun, done, moved, watch, watched)

    def started(self) -> tuple[dict[str, nn.Module], dict[str, TrainedNetwork]]:
        """Return all networks with their first weights, and those that move."""
        given = self.trainer.networks(self.run)
        networks = {name: started(one, self.where, self.run.settings.engine) for name, one in given.items()}
        moved = {
            name: TrainedNetwork(
                networks[name].train(),
                self.run.settings.optimizer,
                rate=one.rate,
                average=next((networks[key] for key, other in given.items() if other.average_of == name), None),
            )
            for name, one in given.items()
            if one.trained
        }
        for name, one in given.items():
            if not one.trained:
                networks[name].eval()
        return networks, moved

    def step(
        self, networks: Mapping[str, nn.Module], moved: Mapping[str, TrainedNetwork], number: int
    ) -> dict[str, float]:
        """Run one step and return what it gave: losses, and the length of each gradient before it was cut.

        Raises:
            CheckError: One of them is not finite; nothing was moved.
        """
        run, settings = self.run, self.run.settings.optimizer
        size = settings.batch // self.where.count
        mine = range(self.where.rank * size, (self.where.rank + 1) * size)
        share = Share(seed=run.settings.seed, step=number, batch=settings.batch, numbers=mine)
        sums: dict[str, Tensor] = {}
        for part in shares(share, settings.accumulate):
            for name, loss in self.trainer.step(run, networks, part).items():
                for piece in (loss,) if isinstance(loss, Tensor) else loss:
                    if name in moved:
                        torch.autograd.backward(piece / settings.accumulate)
                    sums[name] = sums.get(name, 0.0) + piece.detach() / settings.accumulate
        names = sorted(sums)
        means = self.where.mean(torch.stack([sums[name].float() for name in names])).tolist()
        values = dict(zip(names, means, strict=True))
        lengths = {name: one.clip_gradient() for name, one in moved.items() if name in sums}
        if not all(map(math.isfinite, (*values.values(), *lengths.values()))):
            found = {**values, **{f"gradient of {name}": length for name, length in lengths.items()}}
            name, value = next((name, value) for name, value in found.items() if not math.isfinite(value))
            whole = Share(seed=share.seed, step=number, batch=share.batch, numbers=range(share.batch))
            raise CheckError(
                f"the loss or gradient {name!r} is {value} at step {number + 1}: {self.trainer.told(run, whole)}",
                remedy="lower optimizer.lr, look at those clips, or begin anew; the last checkpoint is kept",
                step=number + 1,
            )
        for name in lengths:
            moved[name].update(number)
        model = next(iter(moved))
        own = {"loss": values.pop(model)} if model in values else {}
        return {**own, **values, **{f"gradient.{key}": v for key, v in lengths.items()}}

    def _looked(
        self, watch: SampleWatch, watched: Watched, done: int, moved: Mapping[str, TrainedNetwork], log: _Log | None
    ) -> Watched:
        """Return what was seen until now, and what the model's average makes now."""
        size = max(1, self.run.settings.optimizer.batch // self.where.count)
        per = -(-watch.samples // self.where.count)
        first, after = self.where.rank * per, (self.where.rank + 1) * per
        with next(iter(moved.values())).averaged() as network:
            parts = [watch.made(network, range(at, min(at + size, after))) for at in range(first, after, size)]
        latents_NCTYX = self.where.joined(torch.cat(parts))[: watch.samples]
        values = Look(step=done, seen=watch.distance(latents_NCTYX)).values
        # The first process's figures decide in all: other processors may round otherwise.
        first_K = self.where.joined(torch.tensor([[*values.values()]], dtype=torch.float64))[0]
        look = Look.of(done, dict(zip(values, first_K.tolist(), strict=True)))
        assert look is not None
        if log is not None:
            log.add(done, look.values)
        return watched.and_then(look)

    def _save(self, done: int, moved: Mapping[str, TrainedNetwork], watched: Watched) -> None:
        keep, best = self.run.settings.engine.keep, watched.best
        step = None if best is None else best.step
        save(self.folder, done, moved, self.run.config.digest, self.where, keep=keep, best=step)

    def _finished(
        self, begun: int, done: int, moved: Mapping[str, TrainedNetwork], watch: SampleWatch | None, watched: Watched
    ) -> Outcome:
        """Let what was trained be written, judge it and let it draw."""
        name, first = next(iter(moved.items()))
        if watched.best is not None and watched.best.step != done:
            recall(self.folder, watched.best.step, first.averages(name), self.where)
        left = self.trainer.artefact(self.run, first.average, self.folder if self.where.first else None)
        found = self._judged(first)
        with first.averaged() as network:
            drawn = self.trainer.draw(self.run, network)
        judgement = ModelJudgement(steps=done, parts=parts(found, self.trainer.also)) if found else None
        if judgement is not None and self.where.first:
            judgement.save(self.folder / JUDGEMENT)
        return Outcome(
            folder=self.folder,
            resumed_at=begun,
            steps=done,
            interrupted=False,
            judgement=judgement,
            drawn=drawn,
            left=" ".join(filter(None, (left, watched.said(watch.patience) if watch else ""))),
            watched=watched,
        )

    def _judged(self, one: TrainedNetwork) -> dict[str, Tensor]:
        """Return what the trainer says of the averaged weights, of the samples of all processes."""
        samples = self.run.settings.judge.samples
        per = -(-samples // self.where.count)
        mine = [min(self.where.rank * per + place, samples - 1) for place in range(per)]
        with one.averaged() as network:
            return {
                name: self.where.joined(rows)[:samples]
                for name, rows in self.trainer.judge(self.run, network, mine, samples)
            }


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Yield whether Ctrl-C or SIGTERM came; a second one ends the process at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: Any) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(watch: SampleWatch | None, watched: Watched) -> bool:
    """Return whether what was seen ends the run."""
    return watch is not None and bool(watched.fault(watch.patience))


class _Log:
    """Reported figures: metrics.csv, and TensorBoard's own file where it is installed.

    Args:
        folder: Of the run.
        steps: Done so far: what a killed process reported of later ones is dropped.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        from importlib.util import find_spec

        self._metrics, self._board = Metrics(folder, steps), None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=steps + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write what a step gave; `step` counts from 1, and 0 is before the first."""
        self._metrics.append(step, values)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Let TensorBoard's file be whole."""
        if self._board is not None:
            self._board.close()

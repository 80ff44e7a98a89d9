"""Trains contenders alike, judges them on the same samples, and says which are worse than the best.

    OUT/losses.jsonl          what is compared, and what each trained model loses at each sample
    OUT/CONTENDER/SEED/       an ordinary training run
    OUT/compare.json          what came out

A run that is done is a line of losses.jsonl and is not repeated; one that was stopped goes on from its checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s2search import registry
from s2search.document import as_json, check_folder
from s2search.errors import CheckError, InputError
from s2search.journal import plain
from s2search.network.network import S2DiT
from s2search.planner.contenders import LayoutCost
from s2search.training.captions import Captions
from s2search.training.compare.contenders import Contender, layout_written, named
from s2search.training.compare.result import ComparisonQuestion, ContenderResult, RunComparison, RunLosses
from s2search.training.compare.settings import ComparisonSettings
from s2search.training.compare.statistics import behind_the_best
from s2search.training.data.clips import Clips
from s2search.training.divided import divided
from s2search.training.engine import Engine, Outcome, Progress
from s2search.training.judge import Blind
from s2search.training.noisy import judged_by, judged_clips
from s2search.training.parallel import Processes
from s2search.training.prepare import PreparedRun
from s2search.training.run_folder import MODEL, opened

LOSSES, RESULT = "losses.jsonl", "compare.json"
OF = "comparison"
_FEW_SEEDS = 3
_MOST_LOSS = 1e100  # of a sample


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who is told how a comparison goes on.

    Attributes:
        progress: Of all runs of this process, after every step.
        tell: What people should know, a line each.
        finished: A run that came to its end, for its page.
    """

    progress: Progress = lambda done, total, label: None
    tell: Callable[[str], None] = lambda line: None
    finished: Callable[[PreparedRun, Outcome], None] = lambda prepared, outcome: None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Everything that a comparison needs.

    Attributes:
        settings: As they were asked.
        contenders: In their order.
        price: Returns what a layout costs; None where it is not known.
        table: The digest of the table that says so.
    """

    settings: ComparisonSettings
    contenders: tuple[Contender, ...]
    price: Callable[[Sequence[str]], LayoutCost | None] = lambda layout: None
    table: str = ""

    @property
    def trained(self) -> list[Contender]:
        """The contenders that share nobody else's runs."""
        return [one for one in self.contenders if not one.shares]

    @property
    def recording_N(self) -> list[str]:
        """What each held-out sample was cut out of."""
        clips, samples = self.contenders[0].prepared.clips, self.settings.samples
        return [clip.digest for clip in judged_clips(clips, "held-out", range(samples), samples)]

    @property
    def question(self) -> ComparisonQuestion:
        """What all processes, and all that go on with them, must have in common."""
        asked = self.settings
        return ComparisonQuestion(
            seeds=asked.seeds,
            samples=asked.samples,
            shift=asked.shift,
            run=asked.run_settings({}),
            layouts=asked.layouts,
            contenders={one.name: dict(one.changes) for one in self.contenders},
            inputs={one.name: one.prepared.record().digests for one in self.contenders},
            table=self.table,
        )


def compare(contest: Contest, folder: Path, where: Processes, watch: Watch) -> RunComparison:
    """Train and judge all contenders, or finish what was begun.

    Args:
        contest: What is compared.
        folder: Of the comparison.
        where: The processes; they divide the runs, each of which is one process's.
        watch: Is told of it.

    Raises:
        InputError: The folder holds another comparison, or something else.
        CheckError: A loss is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM came while a run was trained; its steps are kept.
    """
    _check(contest, folder, where)
    asked = contest.settings
    runs = [(contender, seed) for seed in asked.seeds for contender in contest.trained]
    with divided(folder / LOSSES, contest.question, RunLosses, where, of=OF) as work:
        known = _known(contest, folder, work.lines)
        if where.first and len(asked.seeds) < _FEW_SEEDS:
            beside = ", nothing of what training varies by" if len(asked.seeds) == 1 else ""
            told = "1 seed" if len(asked.seeds) == 1 else f"{len(asked.seeds)} seeds"
            watch.tell(f"{told}: that says little of how sure a difference is{beside}; take {_FEW_SEEDS} or more")
        left = work.mine([run for run in runs if (run[0].name, run[1]) not in known])
        for number, (contender, seed) in enumerate(left):
            with named(f"{contender.name}, seed {seed}"):
                part = _part_of(watch, contender, seed, number, left)
                work.append(_trained(contest, contender, seed, folder, where, part))
        lines = _known(contest, folder, work.whole())
    found = _result(contest, [[lines[one.name, seed] for seed in asked.seeds] for one in contest.trained])
    if where.first:
        found.save(folder / RESULT)
    return found


def _known(contest: Contest, folder: Path, lines: Sequence[RunLosses]) -> dict[tuple[str, int], RunLosses]:
    """Return what is known of each run.

    Raises:
        InputError: A line is of no run of this comparison, or of one twice, or its numbers cannot be.
    """
    found: dict[tuple[str, int], RunLosses] = {}
    depths = {one.name: len(one.prepared.config.layout) for one in contest.trained}
    for one in lines:
        key = one.contender, one.seed
        right = one.seed in contest.settings.seeds and depths.get(one.contender) == len(one.layout)
        numbers = len(one.loss_N) == contest.settings.samples and all(0 <= loss < _MOST_LOSS for loss in one.loss_N)
        if not right or not numbers or found.setdefault(key, one) != one:
            raise InputError(
                f"a line of {LOSSES} in {str(folder)!r}, of {one.contender[:60]!r} under seed {one.seed}, is of "
                "another comparison, or was changed",
                remedy="restore the file, or choose another folder",
            )
    return found


def _check(contest: Contest, folder: Path, where: Processes) -> None:
    check_folder(folder)
    if folder.is_dir() and not any(folder.glob(f"{Path(LOSSES).stem}*")) and any(folder.iterdir()):
        raise InputError(f"{str(folder)!r} is not empty, and no comparison", remedy="choose another folder")
    if len({*contest.recording_N}) < 2:
        raise InputError(
            "all held-out clips are of one recording, and how sure a difference is cannot be told",
            remedy="hold more recordings out when the data is made",
        )
    if where.count > 1 and contest.settings.run_settings({}).engine.dtype != "float32":
        raise InputError(
            f"{where.count} processes divide runs, and in bfloat16 all of them share one",
            remedy="set run.engine.dtype to float32, or start one process",
        )


def _part_of(
    watch: Watch, contender: Contender, seed: int, number: int, left: Sequence[tuple[Contender, int]]
) -> Watch:
    """Return who watches one run of those that are left, and is told of all."""
    steps, name = contender.prepared.settings.optimizer.steps, f"{contender.name}, seed {seed}"

    def progress(done: int, total: int, label: str) -> None:
        watch.progress(number * steps + done, len(left) * steps, f"{name}: {label}")

    return Watch(progress=progress, tell=lambda line: watch.tell(f"{name}: {line}"), finished=watch.finished)


def _trained(
    contest: Contest, contender: Contender, seed: int, folder: Path, where: Processes, watch: Watch
) -> RunLosses:
    """Train one contender under one seed, and return what it loses at each sample."""
    prepared = PreparedRun.of(contender.settings(seed))
    own = folder / contender.folder / str(seed)
    alone = where if where.count == 1 else Processes(rank=0, count=1, device=where.device, sharded=False)
    with opened(own, prepared.record(), _as_toml(contender, seed)):
        engine = Engine(trainer=prepared.trainer, run=prepared.run(own, alone), folder=own, where=alone)
        outcome = engine.train(watch.progress, watch.tell)
        if outcome.interrupted:
            raise KeyboardInterrupt
        watch.finished(prepared, outcome)
    network: S2DiT = S2DiT.from_pretrained(own / MODEL).to(where.device).eval()
    loss_N = _losses(contest, prepared, network, where.device)
    return RunLosses(contender=contender.name, seed=seed, layout=network.config.layout, loss_N=loss_N)


@torch.no_grad()
def _losses(contest: Contest, prepared: PreparedRun, network: S2DiT, device: torch.device) -> tuple[float, ...]:
    """Return a model's loss at each held-out sample, computed in float32."""
    captions = Captions(prepared.encoder, device, torch.float32)
    found: list[float] = []
    for numbers in _batches(contest):
        asked = contest.settings
        sample = judged_by(prepared.clips, "held-out", numbers, asked.samples, asked.shift).to(device)
        off = network(sample.x_BCTYX, sample.s_B[:, None], captions.tokens(sample.captions)) - sample.v_BCTYX
        found += off.double().square().flatten(1).mean(1).tolist()
    if not all(map(math.isfinite, found)):
        raise CheckError("what it loses is not finite", remedy="lower optimizer.lr, and choose another folder")
    return tuple(found)


def _batches(contest: Contest) -> list[range]:
    size, samples = contest.contenders[0].prepared.settings.optimizer.batch, contest.settings.samples
    return [range(start, min(start + size, samples)) for start in range(0, samples, size)]


def _blind_loss(contest: Contest, clips: Clips) -> float:
    blind, asked = Blind.fitted(clips), contest.settings
    off = []
    for numbers in _batches(contest):
        sample = judged_by(clips, "held-out", numbers, asked.samples, asked.shift)
        off.append((blind.velocity(sample.x_BCTYX, sample.s_B) - sample.v_BCTYX).square().flatten(1).mean(1))
    return float(torch.cat(off).mean())


def _as_toml(contender: Contender, seed: int) -> str:
    """Return a run.toml that `s2search train` reads."""

    def lines(stated: Mapping[str, Any], before: str) -> list[str]:
        found = []
        for key, value in stated.items():
            inner = isinstance(value, Mapping)
            found += lines(value, f"{before}{key}.") if inner else [f"{before}{key} = {as_json(value, indent=-1)}"]
        return found

    return f"# the contender {contender.name!r} of a comparison\n" + "".join(lines(plain(contender.settings(seed)), ""))


def _result(contest: Contest, runs_CR: Sequence[Sequence[RunLosses]]) -> RunComparison:
    asked, trained = contest.settings, contest.trained
    loss_CRN = np.array([[run.loss_N for run in runs_R] for runs_R in runs_CR])
    clips, optimizer = trained[0].prepared.clips, trained[0].prepared.settings.optimizer
    recording_N = contest.recording_N
    found, blind = behind_the_best(loss_CRN, recording_N), _blind_loss(contest, clips)
    places = {one.name: place for place, one in enumerate(trained)}

    def compared(one: Contender) -> ContenderResult:
        c = places[one.trained_as]
        layouts = tuple(dict.fromkeys(run.layout for run in runs_CR[c]))
        costs = [cost for cost in map(contest.price, layouts) if cost is not None]
        priced = len(costs) == len(layouts)
        return ContenderResult(
            name=one.name,
            rank=1 + int((found.loss_C < found.loss_C[c]).sum()),
            trained_as=one.trained_as,
            layouts=layouts,
            written=" | ".join(map(layout_written, layouts)),
            loss=float(found.loss_C[c]),
            loss_by_seed=tuple(loss_CRN[c].mean(axis=1).tolist()),
            ratio=float(found.loss_C[c]) / blind,
            behind=float(found.behind_C[c]),
            behind_error=float(found.error_C[c]),
            worse=bool(found.worse_C[c]),
            latency_ms=max(cost.latency_us for cost in costs) / 1000 if priced else None,
            memory_bytes=max(cost.memory_bytes for cost in costs) if priced else None,
            fits=all(cost.fits for cost in costs) if priced else None,
        )

    return RunComparison(
        seeds=asked.seeds,
        steps=optimizer.steps,
        batch=optimizer.batch,
        samples=asked.samples,
        recordings=len({*recording_N}),
        shift=asked.shift,
        data=clips.digest,
        blind=blind,
        errors_to_differ=found.errors,
        contenders=tuple(sorted(map(compared, contest.contenders), key=lambda one: one.rank)),
        s2search=registry.own_version(),
        layouts=asked.layouts,
        table=contest.table,
    )

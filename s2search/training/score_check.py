"""Does a measured score order layouts as training does? Layouts are drawn, assembled, tuned equally, and compared.

A layout is assembled from the model's ends and from the blocks that were trained when the score was measured; its
switch down, and its switch up, is the mean of those that its low blocks had of their own. Then all of it learns the
model's velocity for the same number of steps, under several seeds, and its held-out loss is compared with the model's
on the same samples.

Axes: L layers  N layouts
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from s2search.errors import CheckError
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT
from s2search.score.check import CheckQuestion, Compared, ScoreCheck
from s2search.score.judge import additive, predictors, with_pairs
from s2search.score.measured import MeasuredScore
from s2search.space import Space
from s2search.training.divided import divided
from s2search.training.noisy import judged_by, learned_from
from s2search.training.parallel import ALONE, Processes
from s2search.training.scored_blocks import ends, mean_switches, trained_block
from s2search.training.scores import FrozenModel, Progress
from s2search.training.settings import OptimizerSettings
from s2search.training.share import Share
from s2search.training.trained_network import TrainedNetwork

JOURNAL, RESULT = "check.jsonl", "check.json"
OF = "check of a score"
_LISTED = 100_000  # layouts that are listed, and drawn from the list; of more, each is drawn by itself


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """A layout that was assembled and tuned: how much more it loses than the model, before and after; a line each."""

    layout: tuple[str, ...]
    seed: int
    assembled: float
    tuned: float
    error: float


def check(
    teacher: FrozenModel,
    score: MeasuredScore,
    question: CheckQuestion,
    folder: Path,
    *,
    where: Processes = ALONE,
    progress: Progress = lambda done, total, label: None,
) -> ScoreCheck:
    """Assemble and tune layouts, or finish what was begun, and compare their order with the score's.

    Args:
        teacher: The model that the score was measured on.
        score: Measured in the folder.
        question: What is asked.
        folder: Of the score, with its blocks.
        where: The processes that divide layouts and seeds.
        progress: Told before every layout and seed of this process.

    Raises:
        InputError: The question cannot be asked, or the blocks are not there.
    """
    depth = len(teacher.model.layers)
    question.check(depth)
    drawn = drawn_layouts(question, depth)
    asked = [(layout, seed) for layout in drawn for seed in range(question.seeds)]
    with divided(folder / JOURNAL, question, Tuned, where, of=OF) as work:
        known = {(one.layout, one.seed): one for one in work.lines}
        for number, (layout, seed) in enumerate(work.mine([one for one in asked if one not in known])):
            progress(len(known) + number * where.count, len(asked), f"{written(layout)}, seed {seed}")
            work.append(_tuned(teacher, question, folder, layout, seed))
        known = {(one.layout, one.seed): one for one in work.whole()}
        progress(len(asked), len(asked), "")
    layouts = tuple(
        _compared(score, layout, [known[layout, seed] for seed in range(question.seeds)]) for layout in drawn
    )
    found = ScoreCheck(question=question, layouts=layouts, predictors=tuple(predictors(layouts, question)))
    if where.first:
        found.save(folder / RESULT)
    return found


def drawn_layouts(question: CheckQuestion, depth: int) -> list[tuple[str, ...]]:
    """Return different layouts with so many low layers, the same for the same seed; all of them where there are fewer.

    >>> question = CheckQuestion(score="", model="", data="", high="lcha", low="ssa", low_layers=1, layouts=8)
    >>> sorted(layout.index("ssa") for layout in drawn_layouts(question, 3))
    [0, 1, 2]
    """
    rng, places = random.Random(question.seed), range(question.begins_high, depth)
    if math.comb(len(places), question.low_layers) <= _LISTED:
        every = list(itertools.combinations(places, question.low_layers))
        chosen = rng.sample(every, min(question.layouts, len(every)))
    else:
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < question.layouts:
            drawn[tuple(sorted(rng.sample(places, question.low_layers)))] = None
        chosen = list(drawn)
    return [tuple(question.low if layer in low else question.high for layer in range(depth)) for low in chosen]


def written(layout: Sequence[str]) -> str:
    """Return a layout as people write it.

    >>> written(["lcha", "ssa", "ssa"])
    'LS2'
    """
    labels = list(dict.fromkeys(layout))
    space = Space.parse(",".join(labels), depth=len(layout))
    return space.write_layout([labels.index(label) for label in layout])


def assembled(teacher: FrozenModel, folder: Path, layout: Sequence[str]) -> S2DiT:
    """Return a model of the teacher's ends and of the blocks that were trained for the layers where it has them.

    Raises:
        InputError: A block's file is not there.
    """
    own = teacher.model
    network = S2DiT(
        ModelConfig.new(
            own.config.preset,
            tuple(layout),
            velocity=own.config.velocity,
            latent_channels=own.config.latent_channels,
        )
    )
    weights, switches = ends(own), []
    for layer, label in enumerate(layout):
        block, its_switches = trained_block(own, folder, layer, label)
        weights |= {f"layers.{layer}.{name}": tensor for name, tensor in block.items()}
        switches.append(its_switches)
    network.load_state_dict(weights | mean_switches(switches))  # which copies
    return network.to(teacher.device)


def _tuned(teacher: FrozenModel, question: CheckQuestion, folder: Path, layout: tuple[str, ...], seed: int) -> Tuned:
    network = assembled(teacher, folder, layout)
    before, _ = _rise(teacher, question, network)
    moved = TrainedNetwork(
        network,
        OptimizerSettings(
            steps=max(1, question.steps), lr=question.lr, warmup=min(5, question.steps), weight_decay=0.0
        ),
    )
    for step in range(question.steps):
        share = Share(seed=seed, step=step, batch=question.batch, numbers=range(question.batch))
        batch = learned_from(teacher.clips, share, question.shift).to(teacher.device)
        given = batch.x_BCTYX, batch.s_B[:, None], teacher.captions.tokens(batch.captions)
        with torch.no_grad():
            wanted = teacher.model(*given)
        loss = (network(*given) - wanted).square().mean()
        if not loss.isfinite():
            raise CheckError(f"{written(layout)} is not finite at step {step + 1}", remedy="lower --lr")
        torch.autograd.backward(loss)
        moved.clip_gradient()
        moved.update(step)
    after, error = _rise(teacher, question, network)
    return Tuned(layout=layout, seed=seed, assembled=before, tuned=after, error=error)


@torch.no_grad()
def _rise(teacher: FrozenModel, question: CheckQuestion, network: S2DiT) -> tuple[float, float]:
    """Return how much more a network loses than the model, on the same held-out samples, and the standard error."""
    rises = []
    for start in range(0, question.samples, question.batch):
        numbers = range(start, min(start + question.batch, question.samples))
        of, shift = question.samples, question.shift
        sample = judged_by(teacher.clips, "held-out", numbers, of, shift).to(teacher.device)
        given = sample.x_BCTYX, sample.s_B[:, None], teacher.captions.tokens(sample.captions)
        one, other = (
            (answer - sample.v_BCTYX).square().flatten(1).mean(1).double()
            for answer in (network(*given), teacher.model(*given))
        )
        rises.append(one - other)
    rise_N = torch.cat(rises)
    return float(rise_N.mean()), float(rise_N.std()) / len(rise_N) ** 0.5


def _compared(score: MeasuredScore, layout: tuple[str, ...], tuned: Sequence[Tuned]) -> Compared:
    after = [one.tuned for one in tuned]
    return Compared(
        layout=layout,
        written=written(layout),
        additive=additive(score, layout),
        with_pairs=with_pairs(score, layout),
        assembled=tuned[0].assembled,
        tuned=float(np.mean(after)),
        seeds_std=float(np.std(after, ddof=1)) if len(after) > 1 else 0.0,
    )

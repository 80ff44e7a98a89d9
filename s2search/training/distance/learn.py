"""How the trained network learns: to tell real clips of the training split from spoilt ones.

Axes: B clips  C channels  T latent frames  Y X latent rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from s2search.errors import CheckError, InputError
from s2search.training.distance.corruptions import LEARNED, spliced
from s2search.training.distance.networks import (
    MOST_FEATURES,
    TRAINED,
    Differences,
    FeatureNetworks,
    draw,
    fitted,
    heading_of,
    moments,
    normalised,
    random_network,
)
from s2search.training.share import Share, generator

if TYPE_CHECKING:
    from s2search.training.data.clips import Clip, Clips

BATCH = 32
_RATE = 2e-3
_JUDGED = 256
_LEAST_CLIPS = 16
_NAMES = ("real", *LEARNED, "spliced")

#: Called with (steps done, steps in all, what is done).
Progress = Callable[[int, int, str], None]


def learned(
    clips: Clips,
    *,
    features: int = MOST_FEATURES,
    steps: int = 2500,
    seed: int = 0,
    progress: Progress = lambda done, total, label: None,
) -> FeatureNetworks:
    """Return both networks of a data set: one random, one trained on its training split.

    The same data, options and seed give the same weights on one machine. It takes two
    minutes or less and is not resumed.

    Args:
        clips: The data set.
        features: Of each network.
        steps: Of 32 clips each.
        seed: Of weights, order and noise.
        progress: Told before every step.

    Raises:
        InputError: There are too few clips.
        CheckError: The loss is not finite.
    """
    if len(clips.of("train")) < _LEAST_CLIPS or len(clips.of("held-out")) < 2:
        raise InputError(
            f"the data set {str(clips.folder)!r} has {len(clips.of('train'))} clips to train on, "
            f"{len(clips.of('held-out'))} held out",
            allowed=f"{_LEAST_CLIPS} or more to train on, 2 or more held out",
            remedy="make it of more recordings",
        )
    mean_C, std_C = moments(clips)
    module = Differences(clips.heading.latent_channels, features)
    namer = nn.Sequential(module, nn.SiLU(), nn.Linear(features, len(_NAMES)))
    draw(namer, generator("distance", TRAINED, seed))
    optimizer = torch.optim.AdamW(namer.parameters(), lr=_RATE, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps + 1)
    for step in range(steps):
        progress(step, steps, "learning")
        share = Share(seed=seed, step=step, batch=BATCH, numbers=range(BATCH))
        part = clips.of("train")
        chosen = [part[place] for place in share.clips(len(part))]
        x_BCTYX, kind_B = _examples(clips, chosen, share, mean_C, std_C)
        loss = functional.cross_entropy(namer(x_BCTYX), kind_B, label_smoothing=0.05)
        if not loss.isfinite():
            raise CheckError(f"the loss of step {step} is not finite", remedy="look at the data: data verify")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
    progress(steps, steps, "done")
    accuracy = _accuracy(namer, clips, mean_C, std_C)
    trained = fitted(TRAINED, module, clips, mean_C, std_C)
    networks = (random_network(clips, features=features, seed=seed), trained)
    heading = heading_of(clips, networks, steps=steps, seed=seed, accuracy=accuracy)
    return FeatureNetworks(heading=heading, random=networks[0], trained=networks[1])


def _examples(
    clips: Clips, chosen: Sequence[Clip], share: Share, mean_C: Tensor, std_C: Tensor
) -> tuple[Tensor, Tensor]:
    """Return clips, each real or spoilt in one of the ways, and in which."""
    real_BCTYX = normalised(clips.latents([clip.id for clip in chosen]), mean_C, std_C)
    kind_B, strength_B = torch.arange(len(chosen)) % len(_NAMES), share.uniform("strength").tolist()
    found = []
    for place, source in enumerate(share.generators("spoilt")):
        name, clip_CTYX = _NAMES[int(kind_B[place])], real_BCTYX[place]
        if name in LEARNED:
            # Half of them at full strength: that is what a measure must see.
            clip_CTYX = LEARNED[name](clip_CTYX, min(1.0, 2 * strength_B[place]), source)
        elif name == "spliced":
            clip_CTYX = spliced(clip_CTYX, real_BCTYX[place - 1], source)
        found.append(clip_CTYX)
    return torch.stack(found), kind_B


@torch.no_grad()
def _accuracy(namer: nn.Module, clips: Clips, mean_C: Tensor, std_C: Tensor) -> float:
    """Return which part of held-out clips, real and spoilt, it names rightly."""
    part, right = clips.of("held-out"), 0
    for step in range(_JUDGED // BATCH):
        share = Share(seed=-1, step=step, batch=BATCH, numbers=range(BATCH))
        chosen = [part[(step * BATCH + number) % len(part)] for number in range(BATCH)]
        x_BCTYX, kind_B = _examples(clips, chosen, share, mean_C, std_C)
        right += int((namer(x_BCTYX).argmax(1) == kind_B).sum())
    return right / _JUDGED

"""What is sampled in which order: a function of the configuration and of what is on disk, so that it can go on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol as Interface

from s2search.measurement.base import Item
from s2search.measurement.samples import Protocol, Sample, Samples

_BREAK_S = 30.0  # a pause from which a device comes back cooler
_STEADY = 2 / 3  # of a sustained run are left out
_LEAST_ROUNDS = 3  # in what is left


class Timed(Interface):
    """A sample, as far as time goes; see `Sample` for its fields."""

    @property
    def at(self) -> str:
        """The time at its end."""

    @property
    def ms(self) -> float:
        """Milliseconds of one call."""

    @property
    def round(self) -> int:
        """The pass over all items."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One place in the schedule; see `Sample` for its fields."""

    round: int
    item: Item
    sentinel: bool = False
    double: bool = False
    then: Item | None = None

    def holds(self, sample: Sample) -> bool:
        """Whether a sample was taken in this place."""
        then = self.then.key if self.then else ""
        mine = (self.round, self.item.key, self.sentinel, self.double, then)
        return mine == (sample.round, sample.item, sample.sentinel, sample.double, sample.then)


def schedule(items: Sequence[Item], journal: Samples, protocol: Protocol) -> Iterator[Slot]:
    """Yield all places, round by round. Once started, all items must be ready in the journal."""
    rng = random.Random(protocol.seed)
    doubled = {key for key, ready in journal.ready.items() if ready.repetitions > 1}
    for number in itertools.count():
        if _over(number, [sample for sample in journal.samples if sample.round < number], protocol):
            return
        yield from round_slots(items, number, protocol, rng, doubled)


def round_slots(
    items: Sequence[Item], number: int, protocol: Protocol, rng: random.Random, doubled: Collection[str] = ()
) -> list[Slot]:
    """Return one round: every item once in a fresh order, and the sentinel before every few of them.

    Items of short calls, `doubled`, are sampled again at once with twice as many repetitions. Of the two orders of a
    pair of blocks one is timed in even rounds and the other in odd ones.

    >>> from s2search.measurement.items import campaign_items
    >>> from s2search.preset import Preset
    >>> items = campaign_items(Preset.named("s2dit-tiny"), "256x144", scenarios=["clip"])
    >>> len(round_slots(items, 0, Protocol(sentinel_every=4), random.Random(0)))
    10
    """
    sentinel, slots = sentinel_of(items), []
    rows = [Slot(round=number, item=item) for item in items]
    if protocol.pairs:
        rows += [Slot(round=number, item=first, then=then) for first, then in _pairs(items, number)]
    for position, row in enumerate(rng.sample(rows, len(rows))):
        if position % protocol.sentinel_every == 0:
            slots.append(Slot(round=number, item=sentinel, sentinel=True))
        slots.append(row)
        if row.then is None and row.item.key in doubled:
            slots.append(Slot(round=number, item=row.item, double=True))
    return slots


def sentinel_of(items: Sequence[Item]) -> Item:
    """Return the item whose samples show the drift of the machine: the first block, or of commits alone the first."""
    return next(item for role in ("block", "commit") for item in items if item.role == role)


def expected_samples(items: Sequence[Item], journal: Samples, protocol: Protocol) -> int:
    """Return how many samples the campaign will take; of a sustained one a guess from its pace so far."""
    doubled = {key for key, ready in journal.ready.items() if ready.repetitions > 1}
    each = len(round_slots(items, 0, protocol, random.Random(protocol.seed), doubled))
    if protocol.sustained_s is None:
        return protocol.rounds * each
    samples = journal.samples
    past_s = _seconds(samples[-1]) - _seconds(samples[0]) if samples else 0.0
    pace = len(samples) / past_s if past_s else 0.0
    left_s = max(0.0, protocol.sustained_s - past_s)
    return max(len(samples) + int(pace * left_s), _LEAST_ROUNDS * each)


def steady_round(samples: Sequence[Timed]) -> int:
    """Return the first round that lies wholly in the last third of a sustained run, counted from its last break."""
    begun = _unbroken(samples)
    start, end = _seconds(begun[0]), _seconds(begun[-1])
    early = [sample.round for sample in begun if _seconds(sample) < start + _STEADY * (end - start)]
    return max(early, default=begun[0].round - 1) + 1


def _pairs(items: Sequence[Item], number: int) -> list[tuple[Item, Item]]:
    """Return every two blocks of one scenario and shape, in the order of this round."""
    blocks = [item for item in items if item.role == "block"]
    pairs = [
        (one, other)
        for one, other in itertools.combinations(blocks, 2)
        if (one.scenario, one.shape) == (other.scenario, other.shape)
    ]
    return [(one, other) if number % 2 == 0 else (other, one) for one, other in pairs]


def _over(rounds: int, samples: Sequence[Sample], protocol: Protocol) -> bool:
    """Whether so many finished rounds are enough."""
    if protocol.sustained_s is None or not samples:
        return rounds >= protocol.rounds and protocol.sustained_s is None
    begun = _unbroken(samples)
    long_enough = _seconds(begun[-1]) - _seconds(begun[0]) >= protocol.sustained_s
    return long_enough and rounds - steady_round(samples) >= _LEAST_ROUNDS


def _unbroken(samples: Sequence[Timed]) -> Sequence[Timed]:
    """Return the samples since the last pause."""
    starts = (
        n
        for n in range(len(samples) - 1, 0, -1)
        if _seconds(samples[n]) - _seconds(samples[n - 1]) > _pause(samples[n])
    )
    return samples[next(starts, 0) :]


def _pause(sample: Timed) -> float:
    return _BREAK_S + sample.ms / 1000


def _seconds(sample: Timed) -> float:
    return datetime.fromisoformat(sample.at).timestamp()

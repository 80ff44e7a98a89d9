"""What is sampled in which order: a function of the configuration and of what is on disk, so that it can go on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from s2search.measurement.base import Item
from s2search.measurement.elapsed import Timed, elapsed_s, passed_s, pause_s
from s2search.measurement.samples import Protocol, Sample, Samples

_STEADY = 2 / 3  # of a sustained run are left out
_LEAST_ROUNDS = 3  # in what is left


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One place in the schedule; see `Sample` for its fields. Things are named by their keys."""

    round: int
    item: str
    sentinel: bool = False
    double: bool = False
    then: str = ""

    def holds(self, sample: Sample) -> bool:
        """Whether a sample was taken in this place."""
        mine = (self.round, self.item, self.sentinel, self.double, self.then)
        return mine == (sample.round, sample.item, sample.sentinel, sample.double, sample.then)


def schedule(items: Sequence[Item], journal: Samples, protocol: Protocol) -> Iterator[Slot]:
    """Yield all places of a campaign, round by round. Once started, all items must be ready in the journal."""
    rng = random.Random(protocol.seed)
    for number in itertools.count():
        if _over(number, [sample for sample in journal.samples if sample.round < number], protocol):
            return
        yield from _campaign_round(items, number, journal, protocol, rng)


def _campaign_round(
    items: Sequence[Item], number: int, journal: Samples, protocol: Protocol, rng: random.Random
) -> list[Slot]:
    return round_slots(
        [item.key for item in items],
        number,
        protocol,
        rng,
        sentinel=sentinel_of(items).key,
        pairs=_pairs(items, number) if protocol.pairs else (),
        doubled={key for key, ready in journal.ready.items() if ready.repetitions > 1},
    )


def round_slots(
    keys: Sequence[str],
    number: int,
    protocol: Protocol,
    rng: random.Random,
    *,
    sentinel: str,
    pairs: Sequence[tuple[str, str]] = (),
    doubled: Collection[str] = (),
) -> list[Slot]:
    """Return one round: everything once in a fresh order, and the sentinel before every few of them.

    What takes short calls, `doubled`, is sampled again at once with twice as many repetitions.

    >>> slots = round_slots(["a", "b", "c"], 0, Protocol(sentinel_every=2), random.Random(0), sentinel="a")
    >>> [slot.sentinel for slot in slots]
    [True, False, False, True, False]
    """
    slots = []
    rows = [Slot(round=number, item=key) for key in keys]
    rows += [Slot(round=number, item=first, then=then) for first, then in pairs]
    for position, row in enumerate(rng.sample(rows, len(rows))):
        if position % protocol.sentinel_every == 0:
            slots.append(Slot(round=number, item=sentinel, sentinel=True))
        slots.append(row)
        if not row.then and row.item in doubled:
            slots.append(Slot(round=number, item=row.item, double=True))
    return slots


def sentinel_of(items: Sequence[Item]) -> Item:
    """Return the item whose samples show the drift of the machine: the first block, or of commits alone the first."""
    return next(item for role in ("block", "commit") for item in items if item.role == role)


def expected_samples(items: Sequence[Item], journal: Samples, protocol: Protocol) -> int:
    """Return how many samples the campaign will take; of a sustained one a guess from its pace so far."""
    each = len(_campaign_round(items, 0, journal, protocol, random.Random(protocol.seed)))
    if protocol.sustained_s is None:
        return protocol.rounds * each
    samples = journal.samples
    past_s = passed_s(samples)
    pace = len(samples) / past_s if past_s else 0.0
    left_s = max(0.0, protocol.sustained_s - past_s)
    return max(len(samples) + int(pace * left_s), _LEAST_ROUNDS * each)


def steady_round(samples: Sequence[Timed]) -> int:
    """Return the first round that lies wholly in the last third of a sustained run, counted from its last break."""
    first, since_s = _unbroken(samples)
    begun = samples[first:]
    early = [one.round for one, at_s in zip(begun, since_s, strict=True) if at_s < _STEADY * since_s[-1]]
    return max(early, default=begun[0].round - 1) + 1


def _pairs(items: Sequence[Item], number: int) -> list[tuple[str, str]]:
    """Return every two blocks of one scenario and shape: in one order in even rounds, in the other in odd ones."""
    blocks = [item for item in items if item.role == "block"]
    pairs = [
        (one.key, other.key)
        for one, other in itertools.combinations(blocks, 2)
        if (one.scenario, one.shape) == (other.scenario, other.shape)
    ]
    return [(one, other) if number % 2 == 0 else (other, one) for one, other in pairs]


def _over(rounds: int, samples: Sequence[Sample], protocol: Protocol) -> bool:
    """Whether so many finished rounds are enough."""
    if protocol.sustained_s is None or not samples:
        return rounds >= protocol.rounds and protocol.sustained_s is None
    long_enough = _unbroken(samples)[1][-1] >= protocol.sustained_s
    return long_enough and rounds - steady_round(samples) >= _LEAST_ROUNDS


def _unbroken(samples: Sequence[Timed]) -> tuple[int, list[float]]:
    """Return the first sample since the last pause, and for it and all later ones the seconds since then."""
    at_s = elapsed_s(samples)
    starts = (n for n in range(len(samples) - 1, 0, -1) if at_s[n] - at_s[n - 1] > pause_s(samples[n]))
    first = next(starts, 0)
    return first, [one - at_s[first] for one in at_s[first:]]

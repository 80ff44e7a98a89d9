"""How long programs take on an imagined phone that misbehaves as real ones were seen to: all of it drawn from a seed.

One pass of a program takes

    call + stem + head + switches + blocks + hand-over

`call` is a fixed cost of every program, alone or whole, so that the time of a small one says little of what it adds to
a large one. `hand-over` is paid for the bytes of state that go in and out, and saturates: the second megabyte costs
less than the first, and nothing adds up. A sample of it is slower by heat that rises for as long as the campaign lasts,
by noise of 3 % (lognormal, and now and then a sample that is much slower), and is read off a clock of 0.1 ms. Some
blocks are too small for the Neural Engine and run on the processor when they are alone.

It needs nothing but Python: the fake phone runs it in a process of its own, and tests of recalibration without one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_ENDS = ("stem", "head")
_SWITCHES = ("down", "up")
_COMMIT = 0.4  # of a block's pass
_HEATS_IN_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """One phone.

    Attributes:
        seed: Of everything.
        noise: Standard deviation of a sample's logarithm.
        drift: By how much it is slower in the end.
        tick_ms: Of its clock.
        jump: How often a sample is much slower, a fraction.
        misplaced: Blocks that run on the processor when they are alone, and layouts that do, as rows name them.
        throttled: Begin and end of a stretch in which it is too hot, as fractions of the order.
        throttle: How much slower it is there, and under load that lasts.
        handed_over: A factor on the cost of handing state over; 0 makes programs additive but for the call.
        parts_ms: Parts whose time is given, by label; the others are drawn.
    """

    seed: int
    noise: float = 0.03
    drift: float = 0.10
    tick_ms: float = 0.1
    jump: float = 0.01
    misplaced: Sequence[str] = ()
    throttled: Sequence[float] = (0.0, 0.0)
    throttle: float = 0.35
    handed_over: float = 1.0
    parts_ms: Mapping[str, float] = field(default_factory=dict)

    # The truth, in milliseconds, on a phone that is as cool as it gets.

    def part_ms(self, label: str) -> float:
        """What a part adds to a pass: a block, a switch or an end."""
        if label in self.parts_ms:
            return self.parts_ms[label]
        middle_ms = 0.8 if label in _SWITCHES else 1.5 if label in _ENDS else 5.0
        return middle_ms * self._drawn(f"part {label}").lognormvariate(0.0, 0.3)

    @property
    def call_ms(self) -> float:
        """What any call costs, however small its program."""
        return self._drawn("call").uniform(0.2, 0.5)

    def state_megabytes(self, label: str) -> float:
        """What a layer of a block hands over."""
        return 0.0 if label in (*_ENDS, *_SWITCHES) else self._drawn(f"state {label}").uniform(0.5, 3.0)

    def hand_over_ms(self, megabytes: float) -> float:
        """What handing over costs; it saturates."""
        draw = self._drawn("hand-over")
        most_ms, enough = draw.uniform(2.0, 5.0), draw.uniform(8.0, 20.0)
        return self.handed_over * most_ms * (1 - math.exp(-megabytes / enough))

    def truth_ms(self, counts: Mapping[str, int], function: str = "denoise") -> float:
        """What one call of a whole program takes.

        Args:
            counts: How often it pays every part, the ends included.
            function: `first` is given no state, `commit` calls a part of every block and no head.
        """
        megabytes = sum(count * self.state_megabytes(label) for label, count in counts.items())
        parts_ms = sum(
            count * self.part_ms(label) * self._share(label, function)
            for label, count in counts.items()
            if (function, label) != ("commit", "head")
        )
        return self.call_ms + parts_ms + (0.0 if function == "first" else self.hand_over_ms(megabytes))

    def row_ms(self, row: Mapping[str, Any]) -> float:
        """What one call of a row of a kit takes, a part alone or a whole program, where it runs."""
        slower = self._drawn("processor").uniform(2.0, 3.5) if self.is_misplaced(row) else 1.0
        program = row.get("program")
        if program:
            return slower * self.truth_ms(program["counts"], program["function"])
        label = part_of(row)
        own_ms = self.part_ms(label) * (_COMMIT if row["role"] == "commit" else 1.0)
        return slower * (self.call_ms + own_ms + self.hand_over_ms(self.state_megabytes(label)))

    # What a sample of it says.

    def is_misplaced(self, row: Mapping[str, Any]) -> bool:
        """Whether a row runs on the processor although the Neural Engine was asked for."""
        program = row.get("program")
        return (program["layout"] if program else part_of(row)) in self.misplaced and row["role"] != "commit"

    def cost(self, row: Mapping[str, Any]) -> dict[str, float]:
        """The share of its work that each unit does."""
        return {"cpu": 0.9, "neural_engine": 0.1} if self.is_misplaced(row) else {"neural_engine": 0.97, "cpu": 0.03}

    def repetitions(self, row: Mapping[str, Any], least_sample_ms: float) -> int:
        """How many calls make a sample."""
        return 1 if row.get("single_calls") else max(1, math.ceil(least_sample_ms / self.row_ms(row)))

    def heat(self, slot: int, slots: int) -> float:
        """How much slower everything is at a slot: it rises slowly, and wavers."""
        passed = slot / max(1, slots)
        risen = (1 - math.exp(-3 * passed)) / (1 - math.exp(-3))
        wave = 0.1 * math.sin(2 * math.pi * (2 * passed + self._drawn("wave").random()))
        return 1 + self.drift * (risen + wave)

    def is_too_hot(self, slot: int, slots: int) -> bool:
        """Whether it throttles at a slot."""
        first, last = self.throttled
        return first * slots <= slot < last * slots

    def sample_ms(self, row: Mapping[str, Any], slot: int, slots: int, least_sample_ms: float) -> float:
        """What a sample says, the mean of its calls."""
        draw = self._drawn(f"slot {slot}")
        factor = self.heat(slot, slots) * draw.lognormvariate(0.0, self.noise)
        factor *= 1 + self.throttle if self.is_too_hot(slot, slots) else 1.0
        factor *= draw.uniform(1.2, 2.0) if draw.random() < self.jump else 1.0
        calls = self.repetitions(row, least_sample_ms)
        ticks = max(1, round(calls * self.row_ms(row) * factor / self.tick_ms))
        return ticks * self.tick_ms / calls

    def hot_ms(self, row: Mapping[str, Any], second: float, least_sample_ms: float) -> float:
        """What a sample says after so many seconds of load without a pause."""
        draw = self._drawn(f"second {second} {row['id']}")
        factor = (1 + self.throttle * (1 - math.exp(-second / _HEATS_IN_S))) * draw.lognormvariate(0.0, self.noise)
        calls = self.repetitions(row, least_sample_ms)
        return max(1, round(calls * self.row_ms(row) * factor / self.tick_ms)) * self.tick_ms / calls

    def level(self, order: Sequence[Mapping[str, Any]]) -> float:
        """The typical state of a campaign, to which corrected times refer: the median of its sentinel's."""
        slots = [one["slot"] for one in order if one["sentinel"] and not self.is_too_hot(one["slot"], len(order))]
        heats = sorted(self.heat(slot, len(order)) for slot in slots)
        middle = len(heats) // 2
        return heats[middle] if len(heats) % 2 else (heats[middle - 1] + heats[middle]) / 2

    def _share(self, label: str, function: str) -> float:
        return _COMMIT if function == "commit" and label not in (*_ENDS, *_SWITCHES) else 1.0

    def _drawn(self, what: str) -> random.Random:
        return random.Random(f"{self.seed} {what}")


def part_of(row: Mapping[str, Any]) -> str:
    """Return the label of a row's part."""
    return f"{row['part']}[{row['options']}]" if row["options"] else str(row["part"])

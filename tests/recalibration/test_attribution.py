from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.recalibration.attribution import CHANGE, Drift, Now, Parts, attribute
from s2search.recalibration.in_context import Measured, in_context
from s2search.space import Space

ROLE = {"lcha": "block", "ssa": "block", "down": "switch", "up": "switch", "stem": "fixed", "head": "fixed"}
SPACE = Space.parse("lcha,ssa", depth=4)
TIMES = st.floats(min_value=0.01, max_value=100)
PARTS = st.fixed_dictionaries(dict.fromkeys(ROLE, TIMES)).map(lambda ms: Parts(role=ROLE, latency_ms=ms))
LAYOUTS = st.lists(st.sampled_from((0, 1)), min_size=1, max_size=8)


def counted(choice_L, parts):
    return parts.counts([SPACE.candidates[c] for c in choice_L])


@given(LAYOUTS, PARTS, PARTS, TIMES)
def test_what_a_miss_is_made_of_adds_up_to_it(choice_L, before, now, measured_ms):
    counts = counted(choice_L, before)
    miss = attribute(counts, before, Now.alone(before, now), measured_ms)
    assert miss.miss_ms == pytest.approx(measured_ms - before.sum_ms(counts), abs=1e-6)


@given(LAYOUTS, PARTS, st.floats(min_value=0.5, max_value=2))
def test_a_machine_that_became_slower_as_a_whole_is_nothing_but_drift(choice_L, before, factor):
    now = Parts(role=ROLE, latency_ms={label: factor * ms for label, ms in before.latency_ms.items()})
    counts = counted(choice_L, before)
    miss = attribute(counts, before, Now.alone(before, now), now.sum_ms(counts))
    assert miss.drift_ms == pytest.approx(miss.miss_ms, rel=1e-6, abs=1e-6)


@given(LAYOUTS, PARTS, st.floats(min_value=0.5, max_value=2), st.floats(min_value=0.1, max_value=5))
def test_a_block_that_alone_became_slower_is_named(choice_L, before, factor, slower_ms):
    latency_ms = {label: factor * ms for label, ms in before.latency_ms.items()}
    latency_ms["ssa"] += slower_ms
    counts, now = counted(choice_L, before), Parts(role=ROLE, latency_ms=latency_ms)
    miss = attribute(counts, before, Now.alone(before, now), now.sum_ms(counts))
    assert miss.of_block_ms.get("ssa", 0) == pytest.approx(slower_ms * counts["ssa"], rel=1e-6, abs=1e-6)
    assert miss.blocks_ms == pytest.approx(sum(miss.of_block_ms.values()))
    assert miss.drift_ms == pytest.approx((factor - 1) * before.sum_ms(counts), rel=1e-6, abs=1e-6)
    assert miss.hand_over_ms == pytest.approx(0, abs=1e-6)


TABLE = Parts(
    role=ROLE,
    latency_ms={"lcha": 8.0, "ssa": 5.0, "down": 2.0, "up": 1.5, "stem": 3.0, "head": 2.5},
    error_ms=dict.fromkeys(ROLE, 0.02),
)
PAIRS = ([0, 0], [0, 0, 0], [1, 1], [1, 1, 1], [0, 1], [1, 0], [0, 1, 0], [1, 0, 1])
WHOLE = [0] * 9 + [1] * 12 + [0, 0, 1, 1, 1, 0, 0]


class Device:
    """What programs and parts take; noise of a twentieth, thirty samples of each."""

    def __init__(self, seed, *, drift=1.0, beyond=None, change_ms=0.0, noise=0.05):
        self.rng, self.drift, self.noise = np.random.default_rng(seed), drift, noise
        self.beyond, self.change_ms = beyond or {}, change_ms

    def part_ms(self, label, drift=None):
        return (drift or self.drift) * TABLE.latency_ms[label]

    def program_ms(self, counts):
        ms = sum(
            n * (self.part_ms(label) + self.beyond.get(label, 0.0)) for label, n in counts.items() if label in ROLE
        )
        return ms + counts.get(CHANGE, 0) * self.change_ms

    def timed(self, ms):
        samples = ms * np.exp(self.noise * self.rng.standard_normal(30))
        return float(np.median(samples)), 1.2533 * float(samples.std(ddof=1)) / 30**0.5

    def parts(self, drift):
        found = {label: self.timed(self.part_ms(label, drift)) for label in ROLE}
        return Parts(
            role=ROLE,
            latency_ms={label: ms for label, (ms, _) in found.items()},
            error_ms={label: error for label, (_, error) in found.items()},
        )


def missed(seed, *, changes=0, **truth):
    """Measure a table, then its device again in context; return a whole program's miss, and what it is made of."""
    device = Device(seed, **truth)
    table, again = device.parts(1.0), device.parts(device.drift)
    rng = np.random.default_rng(seed + 1000)
    drawn = [list(rng.integers(0, 2, 6)) for _ in range(15)]
    programs = []
    for number, choice_L in enumerate([*PAIRS, *drawn]):
        counts = counted(choice_L, table)
        if changes and number % 3 == 0:
            counts[CHANGE] = 1 + number % 2
        ms, error_ms = device.timed(device.program_ms(counts))
        programs.append(Measured(counts=counts, ms=ms, error_ms=error_ms))
    now = in_context(programs, table, Drift.between(table, again)).now
    counts = {**counted(WHOLE, table), CHANGE: changes}
    ms, error_ms = device.timed(device.program_ms(counts) + 9.0)  # what a chain hands over
    beyond = {
        label: device.part_ms(label) + device.beyond.get(label, 0.0) - device.drift * table.latency_ms[label]
        for label in ROLE
    }
    true_ms = {
        kind: sum(n * beyond[label] for label, n in counts.items() if ROLE.get(label) == role)
        for kind, role in (("blocks", "block"), ("switches", "switch"), ("fixed", "fixed"))
    }
    true_ms |= {"drift": (device.drift - 1) * table.sum_ms(counts), "changes": changes * device.change_ms}
    return attribute(counts, table, now, ms, error_ms), true_ms | {"hand_over": 9.0}, ms


TRUTHS = [
    {},
    {"drift": 1.1},
    {"beyond": dict.fromkeys(ROLE, -0.8)},
    {"drift": 0.93, "beyond": {"ssa": 2.5, "down": 1.0, "up": 1.0}},
    {"beyond": {"lcha": -1.0, "stem": 2.0}, "changes": 4, "change_ms": 1.2},
]


@pytest.mark.parametrize("truth", TRUTHS, ids=str)
def test_what_a_device_changed_is_attributed_within_its_error_in_twenty_campaigns(truth):
    inside, of = 0, 0
    for seed in range(20):
        miss, true_ms, whole_ms = missed(seed, **truth)
        for name, ms in true_ms.items():
            error_ms, found_ms = miss.errors_ms[name], getattr(miss, f"{name}_ms")
            assert abs(found_ms - ms) <= max(0.01 * whole_ms, 3 * error_ms), (seed, name)
            if error_ms:
                inside, of = inside + (abs(found_ms - ms) <= 1.96 * error_ms), of + 1
        assert miss.errors_ms["blocks"] < 0.03 * whole_ms  # an error that excuses everything says nothing
    assert inside >= 0.9 * of


def test_programs_that_do_not_tell_blocks_apart_say_so_by_their_errors():
    counts = counted([0, 1], TABLE)
    alike = [Measured(counts=counts, ms=1.1 * TABLE.sum_ms(counts), error_ms=0.05) for _ in range(9)]
    miss = attribute(counts, TABLE, in_context(alike, TABLE, Drift()).now, alike[0].ms)
    assert miss.errors_ms["blocks"] > 1.0 > abs(miss.hand_over_ms)


def test_programs_that_are_no_sum_have_larger_errors():
    rng = np.random.default_rng(0)
    counts = [counted(choice_L, TABLE) for choice_L in [*PAIRS, *(list(rng.integers(0, 2, 6)) for _ in range(20))]]

    def error(scatter_ms):
        programs = [
            Measured(counts=one, ms=TABLE.sum_ms(one) + scatter_ms * rng.standard_normal(), error_ms=0.1)
            for one in counts
        ]
        return in_context(programs, TABLE, Drift()).now.covariance_KK[0, 0] ** 0.5

    assert error(3.0) == pytest.approx(30 * error(0.1), rel=0.5)


def test_a_layout_pays_a_switch_wherever_its_stream_changes_and_at_its_end():
    parts = Parts(role=ROLE, latency_ms=dict.fromkeys(ROLE, 1.0))
    assert counted([0, 1, 1, 0], parts) == {"lcha": 2, "ssa": 2, "down": 1, "up": 1, "stem": 1, "head": 1}
    assert counted([1, 0, 1], parts) == {"lcha": 1, "ssa": 2, "down": 2, "up": 2, "stem": 1, "head": 1}
    assert counted([0, 0], parts) == {"lcha": 2, "stem": 1, "head": 1}

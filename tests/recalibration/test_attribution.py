from __future__ import annotations

import math

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
    assert error(0.001) == error(0.0)  # those that agree by chance have no smaller ones


@given(LAYOUTS, PARTS, PARTS, PARTS, st.floats(min_value=0.01, max_value=1))
def test_errors_of_parts_alone_follow_from_their_own_and_from_the_drift(choice_L, before, later, errors, whole_ms):
    now = Parts(role=ROLE, latency_ms=later.latency_ms, error_ms=errors.latency_ms)
    counts, found = counted(choice_L, before), Now.alone(before, now)
    miss = attribute(counts, before, found, 1.0, whole_ms)

    def own(labels):
        return math.hypot(*(counts[label] * errors.latency_ms[label] for label in labels))

    # hand-over is measured less what parts take now: what the drift is does not matter
    assert miss.errors_ms["hand_over"] == pytest.approx(math.hypot(own(counts), whole_ms))
    blocks = [label for label in counts if ROLE[label] == "block"]
    drifting_ms = {label: found.drift.error * counts[label] * before.latency_ms[label] for label in blocks}
    assert miss.errors_ms["blocks"] == pytest.approx(math.hypot(own(blocks), sum(drifting_ms.values())))
    assert miss.of_block_errors_ms == {
        label: pytest.approx(math.hypot(own([label]), drifting_ms[label])) for label in blocks
    }


def test_an_error_of_the_drift_moves_every_share_as_far_as_another_drift_does():
    rng, step, error = np.random.default_rng(1), 1e-4, 0.05
    drawn = [list(rng.integers(0, 2, 6)) for _ in range(15)]
    counts = [counted(choice_L, TABLE) for choice_L in [*PAIRS, *drawn]]
    programs = [Measured(counts=one, ms=1.1 * TABLE.sum_ms(one), error_ms=1.0) for one in counts]
    whole = counted(WHOLE, TABLE)

    def miss(factor, error=0.0):
        now = in_context(programs, TABLE, Drift(factor=factor, error=error)).now
        return attribute(whole, TABLE, now, 1.1 * TABLE.sum_ms(whole))

    low, high, exact, told = miss(1.05 - step), miss(1.05 + step), miss(1.05), miss(1.05, error)
    for name in ("drift", "blocks", "switches", "fixed", "hand_over"):
        slope = (getattr(high, f"{name}_ms") - getattr(low, f"{name}_ms")) / (2 * step)
        assert told.errors_ms[name] == pytest.approx(math.hypot(exact.errors_ms[name], slope * error), rel=1e-3), name


def test_a_drift_is_as_uncertain_as_its_parts_are_and_as_they_differ():
    rng = np.random.default_rng(2)
    for scatter, error in ((0.05, 0.0), (0.0, 0.05)):
        inside, errors = 0, []
        for _ in range(200):
            noise = np.exp((scatter + error) * rng.standard_normal(len(ROLE)))
            latency_ms = {label: 1.1 * ms * x for (label, ms), x in zip(TABLE.latency_ms.items(), noise, strict=True)}
            error_ms = {label: error * ms for label, ms in latency_ms.items()}
            exact = Parts(role=ROLE, latency_ms=TABLE.latency_ms)
            drift = Drift.between(exact, Parts(role=ROLE, latency_ms=latency_ms, error_ms=error_ms))
            inside += abs(drift.factor - 1.1) <= 1.96 * drift.error
            errors.append(drift.error)
        assert inside >= 0.85 * 200
        assert np.median(errors) < 0.04  # of 0.05 / sqrt(6), for a median


def test_reaches_are_believed_as_often_as_they_are_true():
    """Truths are drawn as the priors say: then weights are probabilities, and errors are what they are said to be."""
    rng = np.random.default_rng(3)
    choices = [*PAIRS, *(list(rng.integers(0, 2, 6)) for _ in range(12)), [0] * 20, [1] * 20, WHOLE]
    counts = [counted(choice_L, TABLE) for choice_L in choices]
    bytes_N = np.array([sum((3, 1)[c] for c in choice_L) for choice_L in choices])
    prior_ms = {"lcha": 8.0, "ssa": 5.0, "down": 1.75, "up": 1.75, "stem": 2.75, "head": 2.75}

    def fitted(beyond_ms, handed_N):
        ms_N = [sum(n * (TABLE.latency_ms[label] + beyond_ms[label]) for label, n in one.items()) for one in counts]
        ms_N = np.array(ms_N) + handed_N + 0.05 * rng.standard_normal(len(counts))
        programs = [
            Measured(counts=one, ms=ms, error_ms=0.05, state_bytes=size)
            for one, ms, size in zip(counts, ms_N.tolist(), bytes_N.tolist(), strict=True)
        ]
        return in_context(programs, TABLE, Drift())

    reach_M = fitted(dict.fromkeys(ROLE, 0.0), 0.0).reach_bytes_M
    told, expected, away = [], [], []
    for _ in range(200):
        of_kind = {role: rng.standard_normal() for role in ("switch", "fixed")}
        beyond_ms = {label: ms * of_kind.get(ROLE[label], rng.standard_normal()) for label, ms in prior_ms.items()}
        truth = rng.integers(len(reach_M))
        fit = fitted(beyond_ms, 6.5 * rng.standard_normal() * bytes_N / (bytes_N + reach_M[truth]))
        told.append(fit.weight_M[truth])
        expected.append(fit.weight_M @ fit.weight_M)
        true_K = [beyond_ms[term[0]] for term in fit.now.terms]
        away.append((fit.now.beyond_ms_K - true_K) / np.sqrt(np.diag(fit.now.covariance_KK)))
    assert np.mean(told) == pytest.approx(np.mean(expected), abs=0.05)
    assert np.mean(told) > 0.2  # of 13 reaches
    assert np.mean(np.square(away), axis=0).max() < 1.4
    assert np.mean(np.abs(away) < 1) < 0.85


def exactly(parts, drift, beyond_ms, changes=0):
    """Return what programs without noise tell of parts that take so much beyond the drift."""
    counts = [counted(choice_L, parts) for choice_L in [*PAIRS, [0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0]]]
    programs = [
        Measured(
            counts={**one, **({CHANGE: changes} if changes else {})},
            ms=sum(n * (drift * parts.latency_ms[label] + beyond_ms.get(label, 0.0)) for label, n in one.items()),
            error_ms=0.001,
        )
        for one in counts
    ]
    return in_context(programs, parts, Drift(factor=drift)), programs


@pytest.mark.parametrize("drift", [0.8, 1.0, 1.3])
def test_a_correction_foretells_the_programs_that_it_comes_from_and_what_they_hand_over(drift):
    fit, programs = exactly(TABLE, drift, {"ssa": 2.5, "lcha": -1.0, "down": 0.5, "up": 0.5, "stem": 1.0})
    for handed_ms in (0.0, 7.0):
        correction = fit.correction(TABLE, handed_ms)
        for one in programs:
            assert correction.predict_ms(one.counts, TABLE) == pytest.approx(one.ms + handed_ms, rel=1e-3)


@pytest.mark.parametrize("drift", [0.8, 1.0, 1.3])
def test_a_tenth_of_a_row_is_left_though_programs_do_not_seem_to_pay_it(drift):
    fit, _ = exactly(TABLE, drift, {"ssa": -1.2 * drift * 5.0})
    row_ms = fit.correction(TABLE, 0.0).row_ms
    assert row_ms("ssa", 5.0) == pytest.approx(0.1 * drift * 5.0)
    assert row_ms("lcha", 8.0) == pytest.approx(drift * 8.0, rel=1e-2)


def test_what_takes_no_time_goes_on_taking_none_and_a_change_that_all_programs_have_is_no_term():
    parts = Parts(role={**ROLE, "long_skip": "fixed"}, latency_ms={**TABLE.latency_ms, "long_skip": 0.0})
    fit, _ = exactly(parts, 1.1, {"stem": 1.0}, changes=2)
    assert fit.correction(parts, 3.0).row_ms("long_skip", 0.0) == 0.0
    assert (CHANGE,) not in fit.now.terms


def test_a_layout_pays_a_switch_wherever_its_stream_changes_and_at_its_end():
    parts = Parts(role=ROLE, latency_ms=dict.fromkeys(ROLE, 1.0))
    assert counted([0, 1, 1, 0], parts) == {"lcha": 2, "ssa": 2, "down": 1, "up": 1, "stem": 1, "head": 1}
    assert counted([1, 0, 1], parts) == {"lcha": 1, "ssa": 2, "down": 2, "up": 2, "stem": 1, "head": 1}
    assert counted([0, 0], parts) == {"lcha": 2, "stem": 1, "head": 1}

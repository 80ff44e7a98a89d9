import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.errors import InputError
from s2search.measurement.bootstrap import median_error
from s2search.measurement.correction import Bounds, Statistics, Timing, correct

ITEMS = 12
TRUTH = np.exp(np.random.default_rng(7).normal(1, 1, ITEMS))  # ms; item 0 is the sentinel


def places(*, interleaved, rounds=20, every=5, rng):
    """Item, round and whether it is a sentinel's, sample by sample."""
    rows = [(item, number) for number in range(rounds) for item in rng.permutation(ITEMS)]
    if not interleaved:
        rows.sort()
    found = []
    for place, (item, number) in enumerate(rows):
        if place % every == 0:
            found.append((0, number, True))
        found.append((int(item), number, False))
    return found


def slowdown(kind, count, rng):
    t = np.linspace(0, 1, count)
    return {
        "none": np.ones(count),
        "creep": 1 + 0.2 * t,
        "throttle": 1 + 0.2 * (1 - np.exp(-6 * t)),
        "waves": np.exp(0.08 * np.sin(2 * np.pi * 3 * t)),
        "jumps": np.where(np.cumsum(rng.random(count) < 1 / 50) % 2, 1.2, 1.0),
    }[kind]


def run(kind, *, interleaved, seed, noise=0.01):
    rng = np.random.default_rng(seed)
    rows = places(interleaved=interleaved, rng=rng)
    factor = slowdown(kind, len(rows), rng)
    scatter = np.exp(rng.normal(0, noise, len(rows)) + (rng.random(len(rows)) < 0.03) * rng.uniform(0, 0.5, len(rows)))
    return [
        Timing(
            item=str(item), ms=float(ms), at_s=float(place), sentinel=sentinel, round=number if interleaved else None
        )
        for place, ((item, number, sentinel), ms) in enumerate(
            zip(rows, TRUTH[[row[0] for row in rows]] * factor * scatter, strict=True)
        )
    ]


def errors(found, which):
    """How far the medians of the items are off the truth, after the factor that all share."""
    log = [np.log(getattr(found.items[str(item)], which).median_ms / TRUTH[item]) for item in range(ITEMS)]
    return np.abs(np.expm1(np.array(log) - np.median(log)))


@pytest.mark.parametrize("kind", ["creep", "throttle", "waves", "jumps"])
@pytest.mark.parametrize("seed", range(3))
def test_items_timed_one_after_the_other_come_within_1_percent_of_the_truth_where_raw_ones_do_not(kind, seed):
    found = correct(run(kind, interleaved=False, seed=seed))
    assert found.corrected
    assert errors(found, "corrected").mean() < 0.01
    assert errors(found, "raw").mean() > 2 * errors(found, "corrected").mean()
    assert errors(found, "raw").max() > 0.04


@pytest.mark.parametrize("kind", ["creep", "waves", "jumps"])
def test_in_shuffled_rounds_too_the_correction_brings_the_medians_nearer_to_the_truth(kind):
    runs = [correct(run(kind, interleaved=True, seed=seed)) for seed in range(4)]
    assert all(found.corrected for found in runs)
    corrected, raw = (np.mean([errors(found, which).mean() for found in runs]) for which in ("corrected", "raw"))
    assert corrected < 0.005
    assert corrected < 0.75 * raw


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_without_drift_nothing_changes_beyond_noise(interleaved, seed):
    found = correct(run("none", interleaved=interleaved, seed=seed))
    for item in found.items.values():
        assert item.corrected.median_ms == pytest.approx(item.raw.median_ms, rel=0.006)
    assert not found.marks


def test_a_sentinel_that_never_changes_leaves_every_sample_as_it_is():
    timings = [
        Timing(item="s" if n % 3 == 0 else "x", ms=1.0 + (n % 3) * n, at_s=n, sentinel=n % 3 == 0) for n in range(60)
    ]
    found = correct(timings)
    assert not found.corrected
    assert found.corrected_ms_N.tolist() == [timing.ms for timing in timings]


@settings(max_examples=3, deadline=None)
@given(factor=st.sampled_from([0.001, 0.5, 1000.0]), origin=st.floats(0, 1e9))
def test_units_and_the_origin_of_time_do_not_matter(factor, origin):
    timings = run("creep", interleaved=True, seed=1)
    scaled = [
        Timing(item=t.item, ms=factor * t.ms, at_s=origin + t.at_s, sentinel=t.sentinel, round=t.round) for t in timings
    ]
    ours, theirs = correct(timings), correct(scaled)
    assert theirs.corrected_ms_N == pytest.approx(factor * ours.corrected_ms_N, rel=1e-3)
    assert theirs.marks == ours.marks


def test_the_reference_is_the_typical_state_of_the_run():
    found = correct(run("creep", interleaved=True, seed=0))
    level = [found.items[str(item)].corrected.median_ms / TRUTH[item] for item in range(ITEMS)]
    assert np.median(level) == pytest.approx(1.1, rel=0.02)


def test_an_interruption_is_not_bridged():
    """After an hour the device is 30 % slower; the samples just before and after belong to the nearer state."""
    timings = []
    for place, half in itertools.product(range(2), range(120)):
        sentinel, slow = half % 6 == 0, 1.3 if place else 1.0
        noise = 1 + 0.002 * ((half * 7) % 11 - 5)
        timings.append(
            Timing(item="s" if sentinel else "x", ms=slow * noise, at_s=3600 * place + half, sentinel=sentinel)
        )
    found = correct(timings)
    assert found.corrected_ms_N == pytest.approx(np.full(240, np.median(found.corrected_ms_N)), rel=0.03)


def test_a_clock_of_whole_seconds_does_as_well_as_a_fine_one():
    fine = run("throttle", interleaved=False, seed=2)
    coarse = [
        Timing(item=t.item, ms=t.ms, at_s=float(int(t.at_s / 10)), sentinel=t.sentinel, round=t.round) for t in fine
    ]
    ours, theirs = correct(fine), correct(coarse)
    for item, times in ours.items.items():
        assert theirs.items[item].corrected.median_ms == pytest.approx(times.corrected.median_ms, rel=0.005)


def test_two_sentinels_of_different_size_tell_one_drift():
    rng = np.random.default_rng(3)
    names, base = ["small", "large", "x", "x", "x"], {"small": 1.0, "large": 50.0, "x": 5.0}
    timings = [
        Timing(
            item=names[n % 5],
            ms=base[names[n % 5]] * (1 + 0.3 * n / 400) * float(np.exp(rng.normal(0, 0.01))),
            at_s=n,
            sentinel=n % 5 < 2,
        )
        for n in range(400)
    ]
    found = correct(timings)
    assert found.items["x"].corrected.std_ms < 0.02 * 5.75
    assert found.items["x"].raw.std_ms > 0.05 * 5.75
    assert abs(found.residual_percent) < 1 < 15 < found.raw_drift_percent
    assert found.items["large"].samples == 80  # it has no samples of its own, so the sentinel's count


def test_raw_statistics_are_those_of_the_samples():
    timings = run("creep", interleaved=True, seed=0)
    own = [t.ms for t in timings if t.item == "3" and not t.sentinel]
    assert correct(timings).items["3"].raw == Statistics.of(own)
    assert correct(timings).items["3"].samples == len(own) == 20


def test_the_error_of_a_row_is_the_scatter_of_its_median_from_run_to_run():
    runs = [correct(run("none", interleaved=True, seed=seed)) for seed in range(24)]
    for item in ("1", "5"):
        scatter = np.std([found.items[item].corrected.median_ms for found in runs], ddof=1)
        stated = np.median([found.items[item].error_ms for found in runs])
        assert 0.5 < stated / scatter < 2


def test_the_error_pairs_within_a_round():
    """Rounds differ by up to 30 %, samples within a round by nothing: ratios are exact, and their error is none."""
    timings = []
    for number in range(30):
        pace = 1 + 0.3 * ((number * 7) % 11) / 10
        timings.append(Timing(item="s", ms=pace, at_s=2 * number, sentinel=True, round=number))
        timings.append(Timing(item="x", ms=3 * pace, at_s=2 * number, round=number))
    assert (
        correct(timings).items["x"].error_ms
        < 0.01
        < correct([Timing(item=t.item, ms=t.ms, at_s=t.at_s, sentinel=t.sentinel) for t in timings]).items["x"].error_ms
    )


def test_the_bootstrap_error_of_a_median_is_that_of_theory():
    """Asymptotically sqrt(pi / 2) sigma / sqrt(n) for normal samples."""
    sample = np.random.default_rng(0).normal(0, 1, 4000)
    assert median_error(sample) == pytest.approx(1.2533 / np.sqrt(4000), rel=0.2)


@pytest.mark.parametrize(
    ("kind", "noise", "bounds", "said"),
    [
        ("creep", 0.01, Bounds(drift_percent=10), "slowest state takes"),
        ("none", 0.2, Bounds(residual_percent=100), "samples spread by"),
        ("none", 0.03, Bounds(residual_percent=0.0001), "still drifts"),
    ],
)
def test_a_run_beyond_a_bound_is_marked_and_a_run_within_is_not(kind, noise, bounds, said):
    timings = run(kind, interleaved=True, seed=0, noise=noise)
    (mark,) = correct(timings, bounds).marks
    assert said in mark
    assert correct(timings, Bounds(drift_percent=1e9, residual_percent=1e9, spread_percent=1e9)).marks == ()


def test_what_is_no_run_is_refused_in_one_line():
    good = [Timing(item="s", ms=1.0, at_s=n, sentinel=True) for n in range(3)]
    with pytest.raises(InputError, match=r"a sample of x took 0\.0 ms; milliseconds above 0"):
        correct([*good, Timing(item="x", ms=0.0, at_s=9)])
    with pytest.raises(InputError, match="took nan ms"):
        correct([*good, Timing(item="x", ms=float("nan"), at_s=9)])
    with pytest.raises(InputError, match="not in the order of their times"):
        correct([*good, Timing(item="x", ms=1.0, at_s=0)])
    with pytest.raises(InputError, match="no sample is a sentinel's"):
        correct([Timing(item="x", ms=1.0, at_s=0)])


def test_few_sentinels_correct_nothing():
    timings = [Timing(item="s", ms=1.0 + n, at_s=n, sentinel=True) for n in range(7)]
    assert not correct(timings).corrected

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.errors import InfeasibleError, InputError
from s2search.precision.choose import Wish, choose, latency_from, shares, steps_down
from s2search.precision.documents import Mixture, PartChoices, PrecisionChoice, PrecisionPlan, Sensitivity, noise_db
from s2search.solver.dynamic import Dynamic
from s2search.solver.milp import Milp

LABELS = ("float16", "w8a16", "w4a16")


def sensitivity(figures, *, rest_bytes=100, blocks=()):
    """Return a sensitivity of parts that offer (bytes, noise) per precision."""
    offers = tuple(
        PartChoices(
            part=f"layers.{i}" if i < len(blocks) else f"part{i}",
            block=blocks[i] if i < len(blocks) else "",
            choices=tuple(
                PrecisionChoice(precision=label, bytes=size, noise=noise)
                for label, (size, noise) in zip(LABELS, row, strict=False)
            ),
        )
        for i, row in enumerate(figures)
    )
    return Sensitivity(
        model_digest="sha256:m",
        plan_digest=None,
        weights_digest="sha256:w",
        grid=(9, 16),
        chunks=1,
        seed=0,
        palette="kmeans",
        rest_bytes=rest_bytes,
        parts=offers,
    )


choices = st.tuples(st.integers(1, 1000), st.integers(1, 10**6).map(lambda n: n * 1e-9))
problems = st.lists(st.lists(choices, min_size=1, max_size=3), min_size=1, max_size=5).map(sensitivity)
limits = st.tuples(st.none() | st.floats(20, 100), st.none() | st.integers(100, 5000)).filter(any)


@settings(deadline=None)
@given(problems, limits)
def test_the_choice_is_the_best_of_all_assignments(found, asked):
    least_db, memory_bytes = asked
    kept = []
    for combination in itertools.product(*(offer.choices for offer in found.parts)):
        size = found.rest_bytes + sum(choice.bytes for choice in combination)
        noise = math.fsum(choice.noise for choice in combination)
        if (memory_bytes is None or size <= memory_bytes) and (least_db is None or noise_db(noise) >= least_db + 1e-9):
            kept.append((size, noise) if memory_bytes is None else (noise, size))
    wish = Wish(least_db=least_db, memory_bytes=memory_bytes)
    try:
        plan = choose(found, wish, Dynamic())
    except InfeasibleError:
        assert not kept
        return
    size, noise = plan.weight_bytes, sum(choice.noise for choice in plan.parts.values())
    assert plan.optimal
    assert memory_bytes is None or size <= memory_bytes
    assert least_db is None or plan.predicted_db >= least_db - 1e-9
    if kept:
        found_pair, best = ((size, noise) if memory_bytes is None else (noise, size)), min(kept)
        assert found_pair[0] <= best[0] * (1 + 1e-9)
        if memory_bytes is None and found_pair[0] == best[0]:
            assert found_pair[1] <= best[1] * (1 + 1e-9)


def test_another_solver_finds_the_same():
    found = sensitivity([[(900, 1e-9), (500, 1e-5), (260, 3e-3)]] * 3 + [[(90, 1e-9), (50, 1e-5), (26, 5e-2)]])
    plans = [choose(found, Wish(memory_bytes=1500), solver) for solver in (Dynamic(), Milp())]
    assert plans[0].predicted_db == plans[1].predicted_db


def test_the_sensitive_part_keeps_more_bits_than_the_others():
    found = sensitivity([[(90, 1e-9), (50, 1e-6), (26, 1e-4)], [(90, 1e-9), (50, 1e-4), (26, 1e-2)]])
    plan = choose(found, Wish(memory_bytes=100 + 26 + 50), Dynamic())
    assert [choice.precision for choice in plan.parts.values()] == ["w4a16", "w8a16"]
    assert plan.predicted_db == pytest.approx(noise_db(2e-4))
    assert shares(plan) == {"part0": pytest.approx(0.5), "part1": pytest.approx(0.5)}
    assert steps_down(found, plan)["part0"] is None
    smaller, whole_db = steps_down(found, plan)["part1"]
    assert (smaller.precision, whole_db) == ("w4a16", pytest.approx(noise_db(1e-2 + 1e-4)))


def test_of_the_smallest_choices_the_quietest_is_taken_and_no_larger_one():
    found = sensitivity([[(90, 1e-6), (80, 1e-4), (80, 1e-5)]])
    plan = choose(found, Wish(least_db=30), Dynamic())
    assert (plan.parts["part0"].precision, plan.weight_bytes, plan.asked) == ("w4a16", 180, "at least 30 dB")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(memory_bytes=125), "the smallest takes 0.2 kB"),
        (Wish(least_db=95), "the most exact comes to 87.0 dB"),
        (Wish(least_db=60, memory_bytes=151), "the smallest of 60 dB takes 0.3 kB"),
    ],
)
def test_what_cannot_be_kept_is_said_with_the_nearest(wish, message):
    found = sensitivity([[(90, 1e-9), (50, 1e-6), (26, 1e-4)], [(90, 1e-9), (50, 1e-4), (26, 1e-2)]])
    with pytest.raises(InfeasibleError) as error:
        choose(found, wish, Dynamic())
    assert message in str(error.value)
    assert str(error.value).startswith(f"no precisions keep {wish}: ")


def test_a_wish_for_nothing_or_for_no_number_is_refused():
    with pytest.raises(InputError, match="no limit is given"):
        Wish()
    with pytest.raises(InputError, match="nan"):
        Wish(least_db=math.nan)


def test_latency_counts_each_switch_as_often_as_it_is_passed():
    found = sensitivity([[(9, 0.0), (5, 1e-6)]] * 4, blocks=("ssa", "lcha", "ssa"))
    offers = (*found.parts[:3], PartChoices(part="down", choices=found.parts[3].choices))
    found = Sensitivity(**{**vars(found), "parts": offers})
    rows = {("ssa", "float16"): 7, ("ssa", "w8a16"): 5, ("lcha", "float16"): 3, ("down", "float16"): 2}
    latency = latency_from(rows, found)
    assert latency[("down", "float16")] == 4  # into the low stream before either ssa
    assert ("lcha", "w8a16") not in latency
    plan = choose(found, Wish(latency_us=19), Dynamic(), latency)
    assert sorted(choice.precision for choice in plan.parts.values()) == ["float16", "float16", "float16", "w8a16"]
    with pytest.raises(InfeasibleError, match=r"the fastest takes 0.017 ms"):
        choose(found, Wish(latency_us=16), Dynamic(), latency)


def test_a_part_without_any_row_is_named():
    found = sensitivity([[(9, 0.0), (5, 1e-6)]], blocks=("ssa",))
    with pytest.raises(InputError, match=r"no row of 'layers.0' \(ssa\)"):
        choose(found, Wish(latency_us=19), Dynamic(), {})


def test_documents_come_back_as_they_were_written(tmp_path):
    found = sensitivity([[(90, 1e-9), (50, 1e-6), (26, 1e-4)]])
    mixture = Mixture(parts={"part0": "w4a16"}, predicted_db=40.0, measured_db=39.5)
    found = Sensitivity(**{**vars(found), "mixtures": (mixture,)})
    found.save(tmp_path / "s.json")
    assert Sensitivity.load(tmp_path / "s.json") == found
    assert found.law_error_db == 0.5
    plan = choose(found, Wish(least_db=50), Dynamic())
    plan.save(tmp_path / "p.json")
    assert PrecisionPlan.load(tmp_path / "p.json") == plan
    assert plan.sensitivity_digest == Sensitivity.load(tmp_path / "s.json").digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document["parts"][0]["choices"][0].update(noise=-1.0), "noise -1.0"),
        (lambda document: document["parts"][0]["choices"][0].update(precision="w3a16"), "w3a16"),
        (lambda document: document["parts"][0].update(choices=[]), "no precision"),
        (lambda document: document.update(schema="s2search.plan/1"), "s2search.plan/1"),
    ],
)
def test_a_damaged_sensitivity_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "s.json"
    sensitivity([[(90, 1e-9), (50, 1e-6)]]).save(path)
    document = msgspec.json.decode(path.read_bytes())
    change(document)
    path.write_bytes(msgspec.json.encode(document))
    with pytest.raises(InputError) as error:
        Sensitivity.load(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)

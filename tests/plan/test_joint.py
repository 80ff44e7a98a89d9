"""Layout and precisions in one search: as good as trying everything, as HiGHS, never worse than one after another."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2search.errors import ProblemError
from s2search.planner.constraints import Constraints
from s2search.planner.joint import pose_joint
from s2search.planner.joint_plan import sooner
from s2search.precision.documents import noise_db
from s2search.solver.base import Solver
from s2search.solver.dynamic import Dynamic
from s2search.solver.milp import Milp
from s2search.solver.problem import FurtherDevice
from s2search.testing.problems import random_pairs
from tests.benchmarks.plain_highs import PlainHighs
from tests.plan.joint_cases import PRECISIONS, best_of_all, db_of, drawn, fits

SOLVERS = (sooner(Dynamic()), Milp())


def small(seed, **asked):
    """Return a small question: 2 to 5 layers, 2 or 3 precisions, budgets from too tight to loose."""
    rng = np.random.default_rng(seed)
    precisions = asked.pop("precisions", PRECISIONS if rng.random() < 0.5 else PRECISIONS[::2])
    given_db = float(rng.uniform(18, 40)) if rng.random() < 0.8 else None
    depth = int(rng.integers(2, 4 if len(precisions) == 3 else 6))
    asked = {"depth": depth, "least_db": given_db, "tightness": float(rng.uniform(-0.25, 0.5)), **asked}
    return drawn(rng, precisions=precisions, **asked)


def solved(case):
    return solved_in(case.joint)


def solved_in(joint):
    """Return the answer, None of none: to say why takes searches of its own."""
    return joint.best(SOLVERS[0])


def agrees(case, found):
    """Tell whether an answer is the best of all, found by trying; noise may be off by a rounding."""
    least, most = best_of_all(case, slack_db=1e-9), best_of_all(case, slack_db=-1e-9)
    if found is None:
        return least is None
    return most is not None and found.score <= most + 1e-6 and (least is None or found.score >= least - 1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_the_joint_search_is_the_best_of_all_layouts_with_all_precisions(seed):
    case = small(seed)
    found = solved(case)
    assert agrees(case, found)
    if found is None:
        return
    joint = case.joint
    layout, precisions = joint.layout(found.choice_L), joint.precisions(found.choice_L)
    assert found.optimal
    assert fits(case, layout, slack_db=-1e-9).any()
    assert precisions.keys() == {part for part, _ in case.of_layout(layout)}
    if case.least_db is not None:
        assert db_of(case, layout, precisions) >= case.least_db - 1e-9
        assert noise_db(joint.noise(found.choice_L)) == pytest.approx(db_of(case, layout, precisions))


def test_switches_are_priced_in_their_own_precision_as_often_as_they_are_passed():
    """Where they take as long as blocks and are as loud: without them, with slow ones, with quick and loud ones."""
    high, divided = 0, 0
    for seed in range(160):
        given_db = float(np.random.default_rng(seed).uniform(15, 30))
        case = small(seed, depth=3, precisions=PRECISIONS, least_db=given_db, tightness=0.1, decisive_switches=True)
        found, joint = solved(case), case.joint
        assert agrees(case, found)
        if found is None:
            continue
        assert joint.exact(found.choice_L).admits(found.choice_L)
        high += "ssa" not in joint.layout(found.choice_L)
        first = SOLVERS[0].best(joint._offering(joint._all_offered, low=True))
        divided += first is not None and not joint.exact(first.choice_L).admits(first.choice_L)
    assert high >= 20
    assert divided >= 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlowSwitches(Solver):
    """Exact, and of answers that score the same gives one with the most exact switches, whatever they take."""

    def _choose(self, problem):
        found = Dynamic()._choose(problem)
        for part in ("down", "up"):
            slot = next(n for n, allowed_J in enumerate(problem.allowed_LC) if self._offers(problem, allowed_J, part))
            for j in np.flatnonzero(problem.allowed_LC[slot]):
                allowed_NJ = problem.allowed_LC.copy()
                allowed_NJ[slot] = np.arange(allowed_NJ.shape[1]) == j
                other = Dynamic()._choose(dataclasses.replace(problem, allowed_LC=allowed_NJ))
                if found is not None and other is not None and other.upper_bound == found.upper_bound:
                    found, problem = other, dataclasses.replace(problem, allowed_LC=allowed_NJ)
                    break
        return found

    def _offers(self, problem, allowed_J, part):
        return all(problem.label(int(j)).startswith(f"{part} ") for j in np.flatnonzero(allowed_J))


def test_the_answer_is_the_best_whichever_of_equal_answers_a_solver_gives():
    divided = 0
    for seed in range(60):
        case = small(seed, depth=3, precisions=PRECISIONS[::2], least_db=15.0, tightness=0.1, decisive_switches=True)
        joint = case.joint
        found, slow = joint.best(SOLVERS[0]), joint.best(SlowSwitches())
        assert (found is None) == (slow is None)
        if found is None or slow is None:
            continue
        assert slow.score == found.score
        assert slow.optimal
        first = SlowSwitches().best(joint._offering(joint._all_offered, low=True))
        divided += first is not None and not joint.exact(first.choice_L).admits(first.choice_L)
    assert divided >= 3


def constraints_of(rng, depth, *, grouped):
    """Return constraints on blocks, each as likely as not, that some layout keeps."""
    step = 2 if grouped else 1
    counts = {"ssa": (step, depth)} if rng.random() < 0.5 else {"lcha": (0, depth - step)}
    near = rng.random() < 0.4
    return Constraints(
        counts=counts if rng.random() < 0.6 else {},
        first=("lcha",) * step if rng.random() < 0.3 else (),
        max_switches=2 if rng.random() < 0.4 else None,
        like=("lcha",) * depth if near else None,
        max_changes=depth - step if near else None,
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_constraints_on_blocks_hold_whatever_their_precisions(seed, grouped):
    rng = np.random.default_rng(seed)
    constraints = constraints_of(rng, 4, grouped=grouped)
    case = small(seed, depth=4, precisions=PRECISIONS[::2], constraints=constraints, group_size=2 if grouped else 1)
    assert agrees(case, solved(case))


def test_layers_of_a_group_share_the_block_and_not_the_precision():
    shared, apart = 0, 0
    for seed in range(40):
        case = small(seed, depth=4, precisions=PRECISIONS[::2], group_size=2, tightness=0.5)
        found = solved(case)
        if found is None:
            continue
        options = [case.joint.options[j] for j in found.choice_L[case.joint.layers]]
        assert all(options[i].name == options[i + 1].name for i in (0, 2))
        apart += any(options[i].precision != options[i + 1].precision for i in (0, 2))
        shared += 1
    assert shared > 10
    assert apart > 0


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_scores_of_pairs_are_of_blocks_whatever_their_precisions(seed):
    case = small(seed, depth=3, precisions=PRECISIONS[::2])
    pairs = np.round(random_pairs(np.random.default_rng(seed), 3, 2), 6)
    case = dataclasses.replace(case, base=dataclasses.replace(case.base, pair_score_LCC=pairs))
    assert agrees(case, solved(case))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_one_precision_without_a_limit_on_noise_is_the_plain_search(seed):
    case = small(seed, precisions=("w8a16",), least_db=None, tightness=0.3)
    found, plain = solved(case), Dynamic().best(case.base)
    assert found is not None or plain is None
    if found is None or plain is None:
        return
    assert found.score >= plain.score
    labels = [block.label for block in case.space.candidates]
    layout = case.joint.layout(found.choice_L)
    price = case.base.price([labels.index(label) for label in layout])
    if "ssa" in layout:
        assert found.score == plain.score
        assert (found.latency_us, found.memory_bytes) == (price.latency_us, price.memory_bytes)
        assert found.peak_bytes == price.peak_bytes
    else:  # a model without low layers has no switches, and the plain search counts their weights in any case
        switches = [case.evidence_of["w8a16"].down, case.evidence_of["w8a16"].up]
        assert found.latency_us == price.latency_us
        assert found.memory_bytes == price.memory_bytes - sum(one.cost.memory_bytes for one in switches)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_the_quietest_precisions_of_a_layout_are_the_quietest_that_keep_all_limits(seed):
    case = small(seed, tightness=0.4)
    found = solved(case)
    if found is None:
        return
    joint = case.joint
    layout = joint.layout(found.choice_L)
    quiet = joint.quietest(SOLVERS[0], layout)
    assert joint.layout(quiet.choice_L) == layout
    assert joint.exact(quiet.choice_L).admits(quiet.choice_L)
    loosest = dataclasses.replace(case, least_db=None)
    noises = noises_of(case, layout)[fits(loosest, layout)]
    assert joint.noise(quiet.choice_L) == pytest.approx(noises.min(), rel=1e-9)


def noises_of(case, layout):
    """Return the noise of all assignments of precisions to a layout, in the order of `fits`."""
    labels, parts = list(case.evidence_of), case.of_layout(layout)
    noise = np.array(0.0)
    for part, block in parts:
        noise = np.add.outer(noise, [case.noise.choice(part, block, label).noise for label in labels])
    return noise


def one_after_the_other(case, label):
    """Return the score of the best layout in one precision, whose precisions are then chosen; None where none will do.

    What comes after is as generous as it can be: any precisions that keep all budgets do.
    """
    alone = pose_joint(case.base, case.space, {label: case.evidence_of[label]}, noise=case.noise)
    found = solved_in(alone)
    if found is None:
        return None
    labels = np.array([block.label for block in case.space.candidates])
    only_LC = case.base.allowed_LC & (labels == np.array(alone.layout(found.choice_L))[:, None])
    after = dataclasses.replace(case, base=dataclasses.replace(case.base, allowed_LC=only_LC))
    return None if solved(after) is None else found.score


def compared(depth, seeds):
    """Return how many questions have an answer, and by the first step's precision on how many the joint one is better.

    Of these, the second number counts those to which the other way found no answer at all.
    """
    better, none, asked = dict.fromkeys(PRECISIONS, 0), dict.fromkeys(PRECISIONS, 0), 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        case = drawn(rng, depth=depth, least_db=float(rng.uniform(18, 34)), tightness=float(rng.uniform(0.1, 0.5)))
        if (found := solved(case)) is None:
            continue
        asked += 1
        for label in PRECISIONS:
            before = one_after_the_other(case, label)
            assert before is None or found.score >= before - 1e-9
            none[label] += before is None
            better[label] += before is None or found.score > before + 1e-9
    return asked, better, none


def test_it_is_never_worse_than_the_layout_first_and_the_precisions_after():
    asked, better, none = compared(5, range(40))
    assert asked >= 30
    assert better["float16"] > asked // 2
    assert better["w8a16"] > asked // 4
    assert better["w4a16"] > 0
    assert sum(better.values()) > sum(none.values())


def test_a_limit_on_noise_that_nobody_knows_and_several_devices_are_refused():
    case = small(0, depth=2)
    with pytest.raises(ProblemError, match="30 dB are asked for, and no sweep says what is noisy"):
        pose_joint(case.base, case.space, case.evidence_of, least_db=30.0)
    device = FurtherDevice(
        name="another",
        latency_us_LC=case.base.latency_us_LC,
        memory_bytes_LC=case.base.memory_bytes_LC,
        peak_bytes_LC=case.base.peak_bytes_LC,
        switch_us_SS=case.base.switch_us_SS,
    )
    several = dataclasses.replace(case.base, devices=(device,))
    with pytest.raises(ProblemError, match="precisions are chosen for one device"):
        pose_joint(several, case.space, case.evidence_of)
    without = pose_joint(case.base, case.space, case.evidence_of)
    assert "text" not in without.parts


@pytest.mark.parametrize("seed", [0, 3, 5, 9])
def test_it_finds_what_highs_finds_at_full_size(seed):
    rng = np.random.default_rng(seed)
    case = drawn(rng, depth=28, least_db=float(rng.uniform(16, 30)), tightness=float(rng.uniform(0.1, 0.5)))
    dynamic, milp = (case.joint.solve(solver) for solver in SOLVERS)
    plain = case.joint.solve(PlainHighs())
    assert dynamic.optimal
    assert milp.optimal
    assert dynamic.score == milp.score
    assert dynamic.score == pytest.approx(plain.score, abs=1e-6)

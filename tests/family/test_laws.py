"""Laws of planning a family: the answer is that of trying everything, and of a program written for itself."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import s2search
from s2search.errors import InfeasibleError, InputError
from s2search.family import find
from s2search.family.dominated import without_dominated
from s2search.family.family import Family
from s2search.family.plan import FamilyPlan
from s2search.family.rows import FamilyRows
from tests.family.random_families import random_family
from tests.family.reference import Reference


def planned(folder: Path, toml: str, table: str, **asked: object) -> FamilyPlan | None:
    (folder / "family.toml").write_text(toml)
    (folder / "table.csv").write_text(table)
    try:
        return s2search.plan_family(folder / "family.toml", folder / "table.csv", **asked)  # type: ignore[arg-type]
    except InfeasibleError:
        return None
    except InputError as error:
        if "and it may stand in" not in str(error):  # a count that the slots alone rule out
            raise
        return None


def budgets_for(rng: np.random.Generator, reference: Reference) -> dict[str, Fraction]:
    """Return budgets that some choices keep and others do not, most of the time."""
    choices = list(reference.choices())[:200]
    found = {}
    for name in reference.family["resources"]:
        if choices and rng.random() < 0.7:
            uses = sorted(reference.used(name, choice_L) for choice_L in choices)
            found[name] = uses[int(rng.integers(0, len(uses)))]
    return found


def texts(reference: Reference, budgets: dict[str, Fraction]) -> list[str]:
    units = {name: asked["unit"] for name, asked in reference.family["resources"].items()}
    return [f"{name}:{float(budget)}{units[name]}" for name, budget in budgets.items()]


@given(seed=st.integers(0, 2**32))
def test_the_answer_is_that_of_trying_everything(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    toml, table = random_family(rng)
    reference = Reference(toml, table)
    budgets = budgets_for(rng, reference)
    folder = tmp_path_factory.mktemp("family")
    found, best = planned(folder, toml, table, budget=texts(reference, budgets)), reference.best(budgets)
    assert (found is None) == (best is None)
    if found is not None and best is not None:
        assert found.optimal
        assert found.score.value == pytest.approx(float(best[0]), abs=1e-12)
        assert found.ties is not None
        assert found.ties.count == best[1] or not found.ties.exact
        labels = [(one.alternative, one.stream) for one in found.slots]
        candidates = [(one.label, reference.streams[one.stream]) for one in reference.candidates]
        choice_L = tuple(candidates.index(label) for label in labels)
        assert choice_L in set(reference.choices())
        assert reference.score(choice_L) == best[0]
        for use in found.uses:
            assert use.exact
            assert use.total == pytest.approx(float(reference.used(use.name, choice_L)), abs=1e-12)
            if use.budget is not None:
                without = reference.best({name: kept for name, kept in budgets.items() if name != use.name})
                assert without is not None
                assert use.binds == (without[0] != best[0])


@given(seed=st.integers(0, 2**32))
def test_both_exact_solvers_and_a_program_of_its_own_agree(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    toml, table = random_family(rng)
    reference = Reference(toml, table)
    budgets = budgets_for(rng, reference)
    folder, asked = tmp_path_factory.mktemp("family"), texts(reference, budgets)
    scores = [planned(folder, toml, table, budget=asked, solver=solver) for solver in ("dynamic", "milp", "exhaustive")]
    loose = {name: budget + Fraction(1, 10**5) for name, budget in budgets.items()}  # HiGHS counts in floats
    program = reference.best_by_program(loose)
    values = [None if one is None else one.score.value for one in scores]
    assert values[0] == values[1] == values[2]
    assert values[0] == (None if program is None else pytest.approx(program, abs=1e-6))


@given(seed=st.integers(0, 2**32))
def test_what_is_beaten_in_everything_is_not_missed(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    toml, table = random_family(rng)
    reference = Reference(toml, table)
    budgets = budgets_for(rng, reference)
    folder, asked = tmp_path_factory.mktemp("family"), texts(reference, budgets)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(find, "without_dominated", lambda posed: without_dominated(posed, few_cells=0))
        found = planned(folder, toml, table, budget=asked, explain=True)
    best = reference.best(budgets)
    assert (found is None) == (best is None)
    if found is not None and best is not None:
        assert found.score.value == pytest.approx(float(best[0]), abs=1e-12)
        as_it_is = planned(folder, toml, table, budget=asked, explain=True)
        assert as_it_is is not None
        assert as_it_is.uses[0].total == found.uses[0].total
        assert [use.binds for use in as_it_is.uses] == [use.binds for use in found.uses]
        assert as_it_is.layouts_log10 == found.layouts_log10
        assert as_it_is.explanation is not None
        assert found.explanation is not None
        assert as_it_is.explanation.prices == found.explanation.prices


@given(seed=st.integers(0, 2**32))
def test_what_would_do_does_and_a_step_less_does_not(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    toml, table = random_family(rng)
    reference = Reference(toml, table)
    choices = list(reference.choices())
    if not choices:
        return
    least = min(reference.used("one", choice_L) for choice_L in choices)
    if least <= Fraction(1, 100):
        return
    folder = tmp_path_factory.mktemp("family")
    below = f"one:{float(least - Fraction(1, 100))}ms"
    assert planned(folder, toml, table, budget=below) is None
    with pytest.raises(InfeasibleError) as refused:
        s2search.plan_family(folder / "family.toml", folder / "table.csv", budget=below)
    (limit,) = [limit for limit in refused.value.fields["answer"].limits if limit.name == "one"]
    assert limit.would_do == float(least)
    assert planned(folder, toml, table, budget=f"one:{limit.would_do}ms") is not None


@given(seed=st.integers(0, 2**32))
def test_the_next_step_of_a_budget_buys_what_it_says(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    toml, table = random_family(rng)
    reference = Reference(toml, table)
    budgets = budgets_for(rng, reference)
    folder = tmp_path_factory.mktemp("family")
    found = planned(folder, toml, table, budget=texts(reference, budgets), explain=True)
    if found is None:
        return
    assert found.explanation is not None
    sign = 1 if found.score.goal == "maximize" else -1
    assert [price.budget for price in found.explanation.prices] == [
        name for name in reference.family["resources"] if name in budgets
    ]
    for price in found.explanation.prices:
        if price.extra is None or price.gain is None:
            without = reference.best({name: kept for name, kept in budgets.items() if name != price.budget})
            assert without is not None
            assert float(without[0]) == found.score.value
            continue
        more = budgets | {price.budget: budgets[price.budget] + Fraction(str(round(price.extra, 9)))}
        less = more | {price.budget: more[price.budget] - Fraction(1, 10**6)}
        then, before = reference.best(more), reference.best(less)
        assert then is not None
        assert before is not None
        assert sign * (float(then[0]) - found.score.value) == pytest.approx(price.gain, abs=1e-9)
        assert float(before[0]) == found.score.value


@given(seed=st.integers(0, 2**32))
def test_uses_are_rounded_up_so_a_budget_is_kept_exactly(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    toml, table = random_family(rng)
    toml = toml.replace('"column" = "one", "unit" = "ms"', '"column" = "one", "unit" = "ms", "resolution" = 0.3')
    reference, folder = Reference(toml, table), tmp_path_factory.mktemp("family")
    uses = sorted({reference.used("one", choice_L) for choice_L in reference.choices()})
    for use in uses[:: max(1, len(uses) // 5)]:
        budget = use - Fraction(1, 100)  # just too little for this choice
        found = planned(folder, toml, table, budget=f"one:{float(budget)}ms") if budget > 0 else None
        if found is not None:
            assert found.uses[0].resolution == 0.3
            assert found.uses[0].total <= float(budget)


def test_a_plan_is_saved_and_loaded_as_it_was(tmp_path: Path) -> None:
    toml, table = random_family(np.random.default_rng(3))
    found = planned(tmp_path, toml, table, explain=True)
    assert found is not None
    found.save(tmp_path / "plan.json")
    assert FamilyPlan.load(tmp_path / "plan.json") == found


def test_families_and_rows_are_given_as_files_or_as_values(tmp_path: Path) -> None:
    toml, table = random_family(np.random.default_rng(3))
    found = planned(tmp_path, toml, table)
    family, rows = Family.load(tmp_path / "family.toml"), FamilyRows.read(tmp_path / "table.csv")
    assert found == s2search.plan_family(family, rows)

"""The function behind `plan --space`: any model that is a chain of slots with alternatives."""

from __future__ import annotations

from s2search.api.values import PathText, Texts, solver_of, texts_of, within_time
from s2search.family.family import Family
from s2search.family.find import asking
from s2search.family.find import plan as find
from s2search.family.plan import FamilyPlan
from s2search.family.rows import FamilyRows
from s2search.solver.base import Solver


def plan_family(
    space: PathText | Family,
    table: PathText | FamilyRows,
    *,
    budget: Texts = (),
    count: Texts = (),
    depth: int | None = None,
    max_switches: int | None = None,
    explain: bool = False,
    solver: str | Solver = "dynamic",
    time_limit: str | None = None,
) -> FamilyPlan:
    """Choose an alternative for every slot of a family of models, exactly, within budgets on what the table holds.

    Args:
        space: The family: a TOML file, or what was read from one. See the page "Plan your own architecture".
        table: What its alternatives use and score: a CSV file of any columns, or what was read from one.
        budget: Limits: `energy:3.2mJ`, or `12ms` where only one resource is in such a unit.
        count: Slots of an alternative: `full=4` or `full=2..4`; goes before the family's own.
        depth: How often the family's slots come, one after another; goes before the family's own.
        max_switches: The most changes of stream; goes before the family's own.
        explain: Also say why: swaps, and what more of each budget buys.
        solver: How to search: a name, or the solver itself.
        time_limit: Stop the search after so long, `10s`, with the best model found and a proven bound on all others.

    Raises:
        InfeasibleError: No model fits. Its `answer` says which limit would do, and which model comes nearest.
        InputError: The files or what is asked cannot be read, or contradict themselves or each other.
    """
    family = space if isinstance(space, Family) else Family.load(space)
    rows = table if isinstance(table, FamilyRows) else FamilyRows.read(table)
    family = asking(family, counts=texts_of(count), depth=depth, max_switches=max_switches)
    with solver_of(solver) as whole:
        return find(family, rows, within_time(whole, time_limit), budgets=texts_of(budget), explained=explain)

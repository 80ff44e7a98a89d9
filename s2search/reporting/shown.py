"""The door by which values show themselves: plans, fronts and tables import this module when they are looked at.

The import contracts let the rooms below reach up to this module alone, and only from inside the methods that show.
"""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from s2search.errors import extras_named
from s2search.reporting import notebook, terminal
from s2search.reporting.console import PrintableConsole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from s2search.designer.document import Design
    from s2search.family.plan import FamilyPlan
    from s2search.planner.diff import Difference
    from s2search.planner.frontier import Frontier
    from s2search.planner.plan import Plan
    from s2search.planner.promise import PlanCheck
    from s2search.tables.listing import TableList
    from s2search.tables.table import LatencyTable
    from s2search.verification.any_package import PackageFindings
    from s2search.verification.result import Verification

_PLAIN_COLUMNS = 80


def plain(value: Any) -> str:
    """Return what a value shows in a terminal, as text without colours."""
    console = PrintableConsole(
        file=io.StringIO(),
        width=_PLAIN_COLUMNS,
        color_system=None,
        highlight=False,
        markup=False,
        force_jupyter=False,  # in a notebook this text is a string too, and no output of its own
    )
    with console.capture() as shown:
        console.print(value)
    return "\n".join(line.rstrip() for line in shown.get().splitlines()).rstrip("\n")


def text_html(value: Any) -> str:
    """Return for a notebook what a value shows in a terminal."""
    return f'<pre style="overflow:auto;background:none;color:inherit">{escape(plain(value))}</pre>'


def design_text(design: Design) -> RenderableType:
    """Return a design for the terminal."""
    from s2search.reporting.design import design_text

    return design_text(design)


def plan_text(plan: Plan) -> RenderableType:
    """Return a plan for the terminal, with its explanation where it has one."""
    if plan.explanation is None:
        return terminal.plan_text(plan)
    from s2search.reporting.explanation import explanation_text

    return Group(terminal.plan_text(plan), explanation_text(plan.explanation, plan))


def plan_html(plan: Plan) -> str:
    """Return a plan for a notebook."""
    return notebook.plan_html(plan)


@extras_named()
def plot_plan(plan: Plan, ax: Axes | None) -> Axes:
    """Draw a plan."""
    from s2search.reporting import figures

    return figures.plot_plan(plan, ax)


def front_text(front: Frontier) -> RenderableType:
    """Return a front for the terminal."""
    fronts = [front.plans, *(one.plans for one in front.beside.values())]
    return Group(*map(terminal.front_text, fronts))


def front_html(front: Frontier) -> str:
    """Return a front for a notebook."""
    return "".join(map(notebook.front_html, [front, *front.beside.values()]))


@extras_named()
def plot_front(front: Frontier, ax: Axes | None, *, label: str) -> Axes:
    """Draw a front."""
    from s2search.reporting import figures

    return figures.plot_front(front, ax, label=label)


def table_text(table: LatencyTable) -> RenderableType:
    """Return a table for the terminal."""
    from s2search.reporting.tables import show_text

    return show_text(table)


def table_list_text(found: TableList) -> RenderableType:
    """Return the installed tables for the terminal."""
    from s2search.reporting.tables import list_text

    return list_text(found)


def table_html(table: LatencyTable) -> str:
    """Return a table for a notebook."""
    return notebook.table_html(table)


@extras_named()
def plot_table(table: LatencyTable, ax: Axes | None) -> Axes:
    """Draw a table."""
    from s2search.reporting import table_figure

    return table_figure.plot_table(table, ax)


def family_text(plan: FamilyPlan) -> RenderableType:
    """Return the plan of a family for the terminal."""
    from s2search.reporting.family import family_text as text

    return text(plan)


def difference_text(found: Difference) -> RenderableType:
    """Return a difference for the terminal, without the two plans' strips."""
    from s2search.reporting.difference import facts_text

    return facts_text(found)


def plan_check_text(found: PlanCheck) -> RenderableType:
    """Return whether a plan's promise holds for the terminal."""
    from s2search.reporting import plan_check

    return plan_check.plan_check_text(found)


def package_findings_text(found: PackageFindings) -> RenderableType:
    """Return what packages break for the terminal."""
    from s2search.reporting.package import package_findings_text as text

    return text(found)


def verification_text(found: Verification) -> RenderableType:
    """Return a verification for the terminal."""
    from s2search.reporting import verification

    return verification.verification_text(found)

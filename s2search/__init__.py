"""s2search plans, builds and verifies streaming video diffusion transformers for one device.

    import s2search

    plan = s2search.plan("iphone-16-pro-max", budget=["10fps", "1.5GB"])
    front = s2search.frontier("iphone-16-pro-max", budget="1.5GB")

Every command is a function of the same name, and its options are keywords. Names are imported when they are first used:
`import s2search` alone loads neither torch nor numpy.

Source: Zhao et al., "S2DiT: Sandwich Diffusion Transformer for Mobile Streaming Video Generation",
arXiv 2601.12719 (2026).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2search.api.cache import cache_dry, cache_inspect, cache_make, cache_verify
    from s2search.api.compare import train_compare
    from s2search.api.data import data_inspect, data_make, data_verify
    from s2search.api.design import design
    from s2search.api.distance import distance_measure, distance_train
    from s2search.api.export import export
    from s2search.api.family import plan_family
    from s2search.api.frontier import frontier
    from s2search.api.kit import kit_build, kit_ingest
    from s2search.api.measure import measure
    from s2search.api.package import package_evaluate, package_lint
    from s2search.api.plan import plan, plan_check, plan_diff, price
    from s2search.api.precision import plan_precision, sensitivity
    from s2search.api.project import project
    from s2search.api.recalibrate import recalibrate
    from s2search.api.report import report
    from s2search.api.run import run, run_dry
    from s2search.api.schema import schema
    from s2search.api.score import score_check, score_judge, score_measure
    from s2search.api.stream import stream
    from s2search.api.table import (
        table,
        table_compare,
        table_evaluate,
        table_import,
        table_lint,
        table_list,
        table_merge,
        table_retabulate,
        table_show,
        table_transfer,
    )
    from s2search.api.train import train, train_dry
    from s2search.api.verify import verify
    from s2search.cost import Budget
    from s2search.designer.document import Design
    from s2search.errors import InfeasibleError, S2SearchError
    from s2search.family.plan import FamilyPlan
    from s2search.planner.frontier import Frontier
    from s2search.planner.plan import Plan
    from s2search.planner.request import Request
    from s2search.preset import Preset
    from s2search.solver.problem import Problem
    from s2search.space import Space
    from s2search.tables.table import LatencyTable

    __version__: str

#: Where a name of the face lives.
_HOMES = {
    "api.cache": ("cache_dry", "cache_inspect", "cache_make", "cache_verify"),
    "api.compare": ("train_compare",),
    "api.data": ("data_inspect", "data_make", "data_verify"),
    "api.design": ("design",),
    "api.distance": ("distance_measure", "distance_train"),
    "api.export": ("export",),
    "api.family": ("plan_family",),
    "api.frontier": ("frontier",),
    "api.kit": ("kit_build", "kit_ingest"),
    "api.measure": ("measure",),
    "api.package": ("package_evaluate", "package_lint"),
    "api.plan": ("plan", "plan_check", "plan_diff", "price"),
    "api.precision": ("plan_precision", "sensitivity"),
    "api.project": ("project",),
    "api.recalibrate": ("recalibrate",),
    "api.report": ("report",),
    "api.run": ("run", "run_dry"),
    "api.schema": ("schema",),
    "api.score": ("score_check", "score_judge", "score_measure"),
    "api.stream": ("stream",),
    "api.table": (
        *("table", "table_compare", "table_evaluate", "table_import", "table_lint", "table_list"),
        *("table_merge", "table_retabulate", "table_show", "table_transfer"),
    ),
    "api.train": ("train", "train_dry"),
    "api.verify": ("verify",),
    "cost": ("Budget",),
    "designer.document": ("Design",),
    "errors": ("InfeasibleError", "S2SearchError"),
    "family.plan": ("FamilyPlan",),
    "planner.frontier": ("Frontier",),
    "planner.plan": ("Plan",),
    "planner.request": ("Request",),
    "preset": ("Preset",),
    "solver.problem": ("Problem",),
    "space": ("Space",),
    "tables.table": ("LatencyTable",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Budget",
    "Design",
    "FamilyPlan",
    "Frontier",
    "InfeasibleError",
    "LatencyTable",
    "Plan",
    "Preset",
    "Problem",
    "Request",
    "S2SearchError",
    "Space",
    "__version__",
    "cache_dry",
    "cache_inspect",
    "cache_make",
    "cache_verify",
    "data_inspect",
    "data_make",
    "data_verify",
    "design",
    "distance_measure",
    "distance_train",
    "export",
    "frontier",
    "kit_build",
    "kit_ingest",
    "measure",
    "package_evaluate",
    "package_lint",
    "plan",
    "plan_check",
    "plan_diff",
    "plan_family",
    "plan_precision",
    "price",
    "project",
    "recalibrate",
    "report",
    "run",
    "run_dry",
    "schema",
    "score_check",
    "score_judge",
    "score_measure",
    "sensitivity",
    "stream",
    "table",
    "table_compare",
    "table_evaluate",
    "table_import",
    "table_lint",
    "table_list",
    "table_merge",
    "table_retabulate",
    "table_show",
    "table_transfer",
    "train",
    "train_compare",
    "train_dry",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name == "__version__":
        from s2search.registry import own_version

        found: Any = own_version()
    elif name in _HOME_OF:
        from importlib import import_module

        from s2search.errors import extras_named

        found = getattr(import_module(f"s2search.{_HOME_OF[name]}"), name)
        if _HOME_OF[name].startswith("api."):
            found = extras_named()(found)  # what an extra brings and is missing is one line that names the extra
    else:
        raise AttributeError(f"module 's2search' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The layouts that the paper reports, priced on whatever table is asked about, to compare a front with.

Source: S2DiT, table 3: models of one block type, the hourglass (KV-compressed attention around SSA) and the sandwich,
all of 28 layers. How the paper's sandwich interleaves its 12 LCHA and 16 SSA is not printed; four runs stand for it.
"""

from __future__ import annotations

from s2search.planner.find import price
from s2search.planner.plan import Plan
from s2search.planner.request import Request
from s2search.solver.base import Solver


def reference_plans(request: Request, solver: Solver) -> dict[str, Plan]:
    """Return the paper's layouts by name: those that the request's candidates, depth and groups can form."""
    space = request.space
    labels = [block.label for block in space.candidates]
    found = {}
    for name, runs in _layouts(space.depth).items():
        fits_groups = all(count % space.group_size == 0 for _, count in runs)
        if fits_groups and sum(count for _, count in runs) == space.depth and {label for label, _ in runs} <= {*labels}:
            choice_L = [labels.index(label) for label, count in runs for _ in range(count)]
            found[name] = price(request, choice_L, solver)
    return found


def _layouts(depth: int) -> dict[str, list[tuple[str, int]]]:
    return {
        "SSA only": [("ssa", depth)],
        "LCHA only": [("lcha", depth)],
        "sandwich": [("lcha", 4), ("ssa", 8), ("lcha", 4), ("ssa", 8), ("lcha", 4)],
        "hourglass": [("kv_compressed", 6), ("ssa", 16), ("kv_compressed", 6)],
    }

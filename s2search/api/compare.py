"""The command `train compare`: several models trained alike, and which of them are better."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2search.api.question import Where, request_of
from s2search.api.values import PathText, plugin_of, scores_of
from s2search.errors import InputError, require
from s2search.preset import Preset, video_size

if TYPE_CHECKING:
    from s2search.planner.contenders import LayoutCost
    from s2search.planner.plan import Plan
    from s2search.planner.request import Request
    from s2search.score.base import Score
    from s2search.training.compare.contenders import Contender
    from s2search.training.compare.result import RunComparison
    from s2search.training.compare.settings import ComparisonSettings, LayoutSettings

MEASURED, WITH_PAIRS = "measured", "measured, pairs"


def train_compare(comparison: PathText | Mapping[str, Any], out: PathText = "comparison") -> RunComparison:
    """Train several models alike, judge them on the same samples, and say which are worse than the best.

    Every contender is trained under every seed, in a run's folder of its own, `OUT/CONTENDER/SEED`; those with equal
    layouts and settings are trained once. Under torchrun every process calls it; they divide the runs, each on a device
    of its own.

    Args:
        comparison: A compare.toml, or what it would say as a dictionary.
        out: The folder. An unfinished comparison is finished.

    Returns:
        Contenders by what they lose, with paired errors.

    Raises:
        InputError: Something does not go together, or the folder holds another comparison.
        InfeasibleError: No layout is within the budgets.
        CheckError: A loss or a gradient is not finite.
    """
    require("torch", "safetensors")
    from s2search.api.train import draw_page
    from s2search.reporting.progress import notice, progress_bar
    from s2search.training.compare.compare import Contest, Watch, compare
    from s2search.training.compare.contenders import contenders_of
    from s2search.training.compare.settings import ComparisonSettings
    from s2search.training.parallel import processes

    stated = comparison if isinstance(comparison, Mapping) else ComparisonSettings.read(Path(comparison))
    settings = ComparisonSettings.of(stated)
    request, layouts = _made(settings)
    contenders = contenders_of(settings, layouts)
    contest = Contest(
        settings=settings,
        contenders=contenders,
        price=_price(request, contenders),
        table="" if request is None else request.table.digest,
    )
    with processes(settings.run_settings({}).engine) as where:
        if not where.first:
            return compare(contest, Path(out), where, Watch(finished=draw_page))
        with progress_bar("comparing") as progress:
            watch = Watch(progress=progress, tell=notice, finished=draw_page)
            return compare(contest, Path(out), where, watch)


def _made(settings: ComparisonSettings) -> tuple[Request | None, dict[str, tuple[str, ...]]]:
    """Return what was asked of the table, and the layouts that it makes; nothing where there is no table."""
    from s2search.planner.contenders import contending_layouts
    from s2search.score.checked import CheckedScore
    from s2search.score.published import Published

    asked = settings.layouts
    if not asked.table:
        return None, {}
    run = settings.run_settings({})
    if run.model.weights:
        raise InputError("run.model.weights is given beside [layouts]", remedy="begin with random weights")
    request = _request(asked, Preset.named(run.model.preset).depth)
    measured: dict[str, Score] = {}
    if asked.score:
        plain, _ = scores_of(asked.score)
        measured[MEASURED] = plain
        checked = scores_of(asked.score, None, asked.score_check)[0] if asked.score_check else plain
        if isinstance(checked, CheckedScore) and checked.check.pairs_predict_better:
            measured[WITH_PAIRS] = checked
    by_published = dataclasses.replace(request, score=Published())
    solver = plugin_of("solvers", asked.solver)
    layouts = contending_layouts(by_published, solver, measured=measured, randoms=asked.random, seed=asked.seed)
    return request, layouts


def _request(asked: LayoutSettings, depth: int) -> Request:
    where = Where(
        scenario=asked.scenario,
        video=asked.video,
        precision=asked.precision,
        compute_unit=asked.compute_unit,
        commit=asked.commit,
    )
    return request_of(
        asked.table,
        where,
        depth=depth,
        group_size=1,
        candidates=asked.candidates,
        score="published",
        latency_model=asked.latency_model,
        budget=asked.budget,
        count=(),
        first=None,
        last=None,
        max_switches=None,
    )


def _price(request: Request | None, contenders: tuple[Contender, ...]) -> Callable[[Sequence[str]], LayoutCost | None]:
    """Return what prices layouts by the table; nothing has a price without one.

    Raises:
        InputError: The plan of a contender was made from other rows.
    """
    from s2search.planner.contenders import layout_cost

    if request is None:
        return lambda layout: None
    for one in contenders:
        if one.prepared.plan is not None:
            _check_made_alike(one.name, one.prepared.plan, request)
    return partial(layout_cost, request)


def _check_made_alike(name: str, plan: Plan, request: Request) -> None:
    scope = request.scope
    asked = {
        "table": (plan.provenance.table, request.table.name),
        "table digest": (plan.provenance.table_digest[:19], request.table.digest[:19]),
        "scenario": (plan.scenario, scope.scenario),
        "video": (plan.video, video_size(scope.shape.height, scope.shape.width)),
        "precision": (plan.precision, scope.precision),
        "compute unit": (plan.compute_unit, scope.compute_unit),
    }
    for what, (there, here) in asked.items():
        if there != here:
            raise InputError(
                f"the plan of the contender {name!r} has the {what} {there}, and [layouts] has {here}",
                remedy="plan again, or set [layouts] as it was planned",
            )

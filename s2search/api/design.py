"""The command `design`: which video a device can have, when everything beside the layout is a choice as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s2search.api.question import depth_of
from s2search.api.values import (
    Blocks,
    Budgets,
    PathText,
    Texts,
    blocks_of,
    budgets_of,
    plugin_of,
    scores_of,
    solver_of,
    table_of,
    texts_of,
)
from s2search.cost import ToldPipeline
from s2search.designer.axes import Value, parse_choices
from s2search.designer.design import design as design_of
from s2search.designer.document import Design
from s2search.designer.preference import parse_preference
from s2search.designer.program import LayoutWish
from s2search.designer.request import RATES_FPS, DesignRequest
from s2search.latency.base import LatencyModel
from s2search.quality.base import Quality
from s2search.quality.file import open_quality
from s2search.score.base import Score
from s2search.score.check import ScoreCheck
from s2search.solver.base import Solver
from s2search.space import DEFAULT_CANDIDATES
from s2search.tables.table import DEFAULT_TABLE, LatencyTable

#: Values of axes: `steps=1|2|4,chunk=1|3`, or the same as a mapping.
Choices = Texts | Mapping[str, Sequence[Value]]


def design(
    table: PathText | LatencyTable = DEFAULT_TABLE,
    *,
    budget: Budgets = (),
    choose: Choices = (),
    fix: Choices = (),
    prefer: Texts | None = None,
    rate: Sequence[float] = (),
    quality: PathText | Quality = "published",
    score: PathText | Score = "published",
    score_check: PathText | ScoreCheck | None = None,
    candidates: Blocks = DEFAULT_CANDIDATES,
    group_size: int = 1,
    count: Texts = (),
    first: str | None = None,
    last: str | None = None,
    max_switches: int | None = None,
    text_ms: float | None = None,
    decode_ms: float | None = None,
    solver: str | Solver = "dynamic",
    latency_model: str | LatencyModel = "linear",
    compute_unit: str | None = None,
    solve_all: bool = False,
) -> Design:
    """Say what is possible on a device: for every rate and number of steps the best design, exactly.

    Args:
        table: An installed latency table, by the first words of its name, a table's folder, or the table itself.
        budget: Limits on the whole application: `10fps`, `1.2GB`, `first:800ms` to the first frames; `260ms` for one
            forward pass.
        choose: Axes with the values to choose among: `steps=1|2|4,video=512x288|768x432`. Axes: video, steps, width,
            depth, window and chunk (in chunks and latent frames), precision, decoder, text_encoder, commit, residency
            (`together|in_turn`). What is not named has the values that the table offers.
        fix: Axes at one value: `video=512x288`.
        prefer: Which of several designs is the best, the most important first; by default video, quality, steps, width,
            depth, window, precision, score.
        rate: Rows of the matrix, frames per second.
        quality: What is known of quality across axes: an installed one, a JSON file, or itself.
        score: What layouts are chosen by: an installed score, a JSON file of scores, or itself.
        score_check: What `score check` wrote of a measured score.
        candidates: Blocks to choose from.
        group_size: Neighbouring layers that take the same block.
        count: Layers of a block: `ssa=16` or `ssa=10..14`.
        first: Blocks of the first layers: `lcha*2`.
        last: Blocks of the last layers.
        max_switches: The most changes between the two resolutions.
        text_ms: Milliseconds of the text encoder per chunk, where the table's card does not say, or says otherwise.
        decode_ms: Milliseconds of the decoder per chunk, likewise, at the table's first video size.
        solver: How the answer is planned.
        latency_model: How rows that nobody measured are foretold.
        compute_unit: Where the table holds several.
        solve_all: Search every combination, also those that bounds rule out.

    Raises:
        InputError: Something asked for cannot be read, or contradicts itself.
        MissingRowError: Nothing that may be chosen has a price.

    >>> import s2search
    >>> design = s2search.design("iphone-16-pro-max", budget=["10fps", "1.2GB"])
    >>> design.best.settings["steps"], design.best.frames_per_second > 10
    (4, True)
    """
    found, blocks = table_of(table), blocks_of(candidates)
    request = DesignRequest(
        table=found,
        depth=depth_of(found),
        compute_unit=compute_unit,
        told=ToldPipeline(text_ms=text_ms, decode_ms=decode_ms),
        budgets=budgets_of(budget),
        choose=parse_choices(_choices(choose)),
        fix=parse_choices(_choices(fix)),
        prefer=parse_preference(prefer),
        rates_fps=tuple(map(float, rate)) or RATES_FPS,
        wish=LayoutWish(
            candidates=blocks,
            group_size=group_size,
            score=scores_of(score, check=score_check)[0],
            latency_model=plugin_of("latency_models", latency_model),
            counts=texts_of(count),
            first=first,
            last=last,
            max_switches=max_switches,
        ),
        quality=open_quality(quality) if not isinstance(quality, Quality) else quality,
        solve_all=solve_all,
    )
    from s2search.reporting.progress import progress_bar

    with solver_of(solver) as chosen, progress_bar("searching") as progress:
        return design_of(request, chosen, progress)


def _choices(given: Choices) -> Sequence[str] | Mapping[str, Sequence[Value]]:
    return given if isinstance(given, Mapping) else texts_of(given)

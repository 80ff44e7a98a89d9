"""Plans, fronts and plugins in the terminal, made for 80 columns."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from s2search import registry
from s2search.cost import CommitPolicy, format_bytes, format_us
from s2search.errors import MissingExtraError, S2SearchError
from s2search.planner.constraints import write_runs
from s2search.planner.plan import (
    DeviceAnswer,
    FirstAnswer,
    LatencyAnswer,
    MemoryAnswer,
    PercentileAnswer,
    Plan,
    PrecisionAnswer,
    RateAnswer,
)
from s2search.reporting.colours import block_colours
from s2search.reporting.origin import evidence_text, mark_lines, origin_text, score_with_error
from s2search.tables.row import Row
from s2search.tables.table import LatencyTable, installed_tables

_CELLS_PER_LINE = 28
_LINE = 68
MOST_ROWS = 200  # of a table; nobody reads more of them in a terminal


def plan_text(plan: Plan) -> RenderableType:
    """Return a plan as coloured text: the layout as a strip, costs against budgets, and the origin of every input."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, line in facts(plan):
        grid.add_row(name, line)
    return Group(Text(), strip(plan), Text(), grid, Text())


def front_text(plans: Sequence[Plan]) -> RenderableType:
    """Return a front as a table, one line per plan."""
    first = plans[0]
    table = Table(box=None, pad_edge=False, header_style="bold")
    sure = [f"{100 * first.confidence.asked:g} % sure"] if first.confidence else []
    further = [f"on {device.table.partition('.')[0]}" for device in first.devices[1:]]
    for heading in ("latency", *sure, *further, "memory", "score", *first.counts):
        table.add_column(heading, justify="right")
    for plan in plans:
        kept_ms = [plan.kept_ms] if plan.confidence else []
        there_ms = [device.latency_ms.predicted for device in plan.devices[1:]]
        latencies = [format_us(1000 * ms) for ms in (plan.latency_ms.predicted, *kept_ms, *there_ms)]
        memory, counts = format_bytes(plan.memory_bytes.predicted), map(str, plan.counts.values())
        table.add_row(*latencies, memory, score_with_error(plan.score, plan.score_error), *counts)
    said = [origin_text(plans), *_measured_score(first), *_also_on(plans), *_most_free_switches(plans)]
    return Group(Text(), table, Text(), *said, Text())


def _measured_score(plan: Plan) -> list[str]:
    origin = plan.provenance
    return [] if plan.score_error is None else [f"score {origin.score_label}: {origin.score_statement}"]


def _most_free_switches(plans: Sequence[Plan]) -> list[str]:
    """Return a line where the table prices switches at 0, and some layout has some."""
    most = max((plan.switches for plan in plans if plan.latency_ms.free_switches), default=0)
    return [f"up to {most} switches in a layout, which this table prices at 0"] if most else []


def _also_on(plans: Sequence[Plan]) -> list[str]:
    """Return what further devices there are, with their evidence."""
    lines = []
    for n, device in enumerate(plans[0].devices[1:], start=1):
        evidence = evidence_text([plan.devices[n] for plan in plans], plans)
        lines += [f"also on {device.table} ({device.table_digest[7:19]}), {evidence}", *mark_lines(device.table_marks)]
    return lines


def plugins_text() -> RenderableType:
    """Return every installed plugin, by family, with the distribution that offers it, and every installed table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("family", "name", "distribution", "state"):
        table.add_column(heading)
    problems = list[str]()
    for family in registry.FAMILIES:
        for i, (name, entry) in enumerate(sorted(registry.installed(family).items())):
            state = "loads"
            try:
                registry.load(family, name)
            except MissingExtraError:
                state = "needs an extra"
            except S2SearchError as error:
                state = "BROKEN"
                problems.append(str(error))
            table.add_row("" if i else family, name, registry.distribution_of(entry), state)
    tables = Table.grid(padding=(0, 2))  # of its own: their names are longer than those of plugins
    for i, name in enumerate(sorted(installed_tables())):
        tables.add_row("" if i else "latency tables", name)
    return Group(Text(), table, tables, Text(), *(Text(problem) for problem in problems))


def pairs_text(told: Mapping[str, str]) -> RenderableType:
    """Return what names mean, a line each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in told.items():
        grid.add_row(name, text)
    return Group(Text(), grid, Text())


def table_text(table: LatencyTable) -> RenderableType:
    """Return a table's rows, or the first of very many, one line each: latency with its spread, and memory."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("part", "scenario", "tokens"):
        grid.add_column(heading, overflow="fold")
    for heading in ("latency", "p10-p90", "weights", "state", "peak"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in table.rows[:MOST_ROWS]:
        bytes_ = (format_bytes(count) for count in (row.weight_bytes, row.state_bytes, row.peak_bytes))
        latency = format_us(1000 * row.latency_ms)
        grid.add_row(row.label, row.scenario, row.shape.grid, latency, spread_text(row), *bytes_)
    more = [f"{len(table.rows) - MOST_ROWS:,} more in table.csv"] if len(table.rows) > MOST_ROWS else []
    card = table.card
    origin = f"{table.name} ({table.digest[7:19]}): {card.provenance.statement}"
    return Group(Text(), grid, *more, Text(), origin, *mark_lines(card.marks), Text())


def spread_text(row: Row) -> str:
    """Return how far apart the 10th and the 90th percentile are, relative to the median."""
    if row.latency_p10_ms is None or row.latency_p90_ms is None or not row.latency_ms:
        return ""
    return f"{(row.latency_p90_ms - row.latency_p10_ms) / row.latency_ms:.1%}"


def strip(plan: Plan) -> Text:
    """Return the layers as coloured cells, first to last, high and low stream on a line each."""
    colours = block_colours(plan.counts)
    text = Text()
    cells = max(4, min(_CELLS_PER_LINE, (shutil.get_terminal_size().columns - 10) // 2))
    for start in range(0, plan.depth, cells):
        layers = plan.layout[start : start + cells]
        for stream in ("high", "low"):
            text.append(f"{stream + ' res':10}")
            for label in layers:
                here = plan.blocks[label].stream == stream
                style = Style(bgcolor=colours[label], color="white", bold=True)
                text.append(f"{label[0].upper()} " if here else "· ", style if here else Style(dim=True))
            text.append("\n")
    text.rstrip()
    return text


def facts(plan: Plan) -> list[tuple[str, str]]:
    """Return what there is to say of a plan, as (name, text), the first line of each being the main one."""
    counts = " + ".join(f"{count} {label}" for label, count in plan.counts.items())
    groups = f", in groups of {plan.group_size}" if plan.group_size > 1 else ""
    return [
        ("layout", f"{counts} = {plan.depth} layers{groups}\n{plan.written}"),
        *[("on", f"{device.table} ({device.table_digest[7:19]})") for device in plan.devices[:1]],
        *([("load", _picked(plan))] if plan.provenance.table_picked else []),
        ("latency", _latency(plan.latency_ms, told=plan.confidence is None)),
        *([("confidence", _confidence(plan))] if plan.confidence else []),
        *([("p95", _percentile(plan.p95))] if plan.p95 else []),
        ("memory", _memory(plan.memory_bytes)),
        *([("precision", _precisions(plan.precisions))] if plan.precisions else []),
        *([("rate", _rate(plan.rate, plan.commit))] if plan.rate else []),
        *([("first", _first(plan.first))] if plan.first else []),
        *[("also on", _device(device, plan)) for device in plan.devices[1:]],
        *([("binds", _binding(plan))] if plan.devices and plan.devices[0].binds is not None else []),
        *([("asked", _asked(plan))] if plan.constraints.statements else []),
        ("score", _score(plan)),
        ("from", origin_text([plan])),
    ]


def _latency(latency: LatencyAnswer, *, told: bool = True) -> str:
    """Say what a layout takes; `told` whether its interval is, which another line may say by another model."""
    interval = ""
    if told and latency.low is not None:
        range_ms = f"{latency.low:.1f} to {latency.high:.1f} ms"
        interval = f"; 95 %: {range_ms}" if latency.timed else f"\n{range_ms} by the derivation's own error; no timings"
    commit = f"\ncommitting a chunk takes {format_us(1000 * latency.commit)} more" if latency.commit is not None else ""
    free = f"\n{latency.free_switches}" if latency.free_switches else ""
    return (
        f"{format_us(1000 * latency.predicted)} {_against(latency.budget, latency.slack, _milliseconds)}\n"
        f"switches {latency.switches:.3f} ms, stem and head {latency.fixed:.3f} ms{interval}{free}{commit}"
    )


def _confidence(plan: Plan) -> str:
    assert plan.confidence is not None
    asked = plan.confidence
    common = "no common factor in the table"
    if asked.common_std_ms is not None:
        common = f"common factor {asked.common_std_ms:.3f} ms"
    line = (
        f"at most {format_us(1000 * asked.latency_ms)} with a probability of {100 * asked.asked:g} %\n"
        f"deviations: independent parts {asked.independent_std_ms:.3f} ms, {common}"
    )
    if asked.price is not None and asked.score_without is not None:
        line += f"\nprice in score {asked.price:.6f}: without confidence {asked.score_without:.6f}"
    return line


def _picked(plan: Plan) -> str:
    return f"sustained: {plan.provenance.table}, picked by {plan.provenance.table_picked}"


def _percentile(p95: PercentileAnswer) -> str:
    own, common = f"{p95.own_std:.3f} ms", f"{p95.common_std:.3f} ms"
    lines = [
        f"{_milliseconds(p95.predicted)}, at most {_milliseconds(p95.bound)} "
        f"{_against(p95.budget, p95.slack, _milliseconds)}",
        f"passes of {_milliseconds(p95.mean)} on average; deviations: of calls {own}, shared in a pass {common}",
    ]
    if p95.price is not None and p95.score_without is not None:
        lines.append(f"price in score {p95.price:.6f}: without it {p95.score_without:.6f}")
    return "\n".join(lines)


def _first(first: FirstAnswer) -> str:
    left = "leaves nothing" if first.arithmetic is None else f"is {first.arithmetic}"
    return (
        f"frames after {_milliseconds(first.predicted)} {_against(first.budget, first.slack, _milliseconds)}\n"
        f"first:{first.budget:g}ms {left} per forward pass"
    )


def _memory(memory: MemoryAnswer) -> str:
    return (
        f"{format_bytes(memory.predicted)} {_against(memory.budget, memory.slack, format_bytes)}\n"
        f"blocks {format_bytes(memory.blocks)}, fixed {format_bytes(memory.fixed)}, peak {format_bytes(memory.peak)}"
        f"{'' if memory.decoder_counted else '; decoder not counted'}"
    )


def _precisions(chosen: PrecisionAnswer) -> str:
    """Say every part's precision, layers in runs, and what their noise comes to."""
    lines = [
        f"{chosen.predicted_db:.1f} dB of at least {chosen.least_db:g} dB predicted; noise powers of parts add up",
        f"layers {write_runs(chosen.layers)}",
        ", ".join(f"{part} {label}" for part, label in chosen.others.items()),
    ]
    if chosen.assumed:
        lines.append(
            f"noise of {chosen.assumed} layers is the mean of their block at other layers, where it spans "
            f"{chosen.spread_db:.1f} dB"
        )
    return "\n".join(lines)


def _against(budget: float | None, slack: float | None, write: Callable[[float], str]) -> str:
    if budget is None or slack is None:
        return "(no budget)"
    return f"of {write(budget)}, " + (f"slack {write(slack)}" if slack >= 0 else f"OVER by {write(-slack)}")


def _milliseconds(value: float) -> str:
    return format_us(1000 * value)


def _rate(rate: RateAnswer, commit: CommitPolicy) -> str:
    rates = rate.frames_per_second
    line = f"{rates[commit]:.1f} fps with {commit}, a chunk in {rate.chunk_ms[commit]:.0f} ms"
    others = "; ".join(f"{fps:.1f} fps with {other}" for other, fps in rates.items() if other != commit)
    budget = f"\n{rate.budget:g}fps is {rate.arithmetic} per forward pass" if rate.budget else ""
    told = f"\ntold, not in the table: {rate.told.statement}" if rate.told else ""
    return f"{line}; {others}{budget}{told}"


def _device(device: DeviceAnswer, plan: Plan) -> str:
    """Return what the layout costs on a further device."""
    latency, memory = device.latency_ms, device.memory_bytes
    lines = [
        f"{device.table} ({device.table_digest[7:19]}), {evidence_text([device], [plan])}",
        f"latency {_milliseconds(latency.predicted)} {_against(latency.budget, latency.slack, _milliseconds)}",
        f"memory {format_bytes(memory.predicted)} {_against(memory.budget, memory.slack, format_bytes)}",
    ]
    if latency.free_switches:
        lines.insert(2, latency.free_switches)
    if device.rate is not None and device.rate.budget is not None:
        lines.append(_rate(device.rate, plan.commit))
    if device.first is not None:
        lines.append(f"first {_first(device.first)}")
    if device.table_picked:
        lines.append(f"sustained load, picked by {device.table_picked}")
    lines += mark_lines(device.table_marks)
    return "\n".join(lines)


def _binding(plan: Plan) -> str:
    lines = [f"{device.table} (score {device.score_without:.6f} without it)" for device in plan.devices if device.binds]
    return "\n".join(lines) or "no device alone: lifting the budgets of any single one gains nothing"


def _asked(plan: Plan) -> str:
    """Return the constraints, which of them a hand-written layout breaks, and what was changed to keep near another."""
    asked = plan.constraints
    line = ", ".join(asked.statements)
    if asked.like is not None:
        changed = ", ".join(map(str, asked.changes(plan.layout))) or "none"
        line += f"\nlayers changed from the given plan, counted from 0: {changed}"
    broken = "; ".join(asked.broken(plan.layout, switches=plan.switches))
    return line + (f"\nNOT KEPT: {broken}" if broken else "")


def _score(plan: Plan) -> str:
    line = score_with_error(plan.score, plan.score_error) + (" (proven optimal)" if plan.optimal else "")
    if not plan.optimal and plan.upper_bound is not None:
        within = "all that is asked" if plan.constraints.statements else "the budgets"
        line += f" (no layout within {within} scores above {plan.upper_bound:.6f})"
    lines = [
        line,
        *_ties(plan),
        *_near_ties(plan),
        *_stability(plan),
        f"{plan.provenance.score}: {plan.provenance.score_statement}",
    ]
    return "\n".join(lines)


def _stability(plan: Plan) -> list[str]:
    stable = plan.score_stability
    if stable is None:
        return []
    line = f"with the score's errors drawn anew the layout stays in {stable.layout} of {stable.draws}"
    unsure = sorted((count, layer) for layer, count in enumerate(stable.layers) if count < stable.draws)
    if not unsure:
        return [line]
    told = ", ".join(f"{layer} ({plan.layout[layer]} in {count})" for count, layer in unsure[:4])
    return [line, f"least sure, counted from 0: {told}"]


_SHOWN = {
    "fastest": "the fastest, with high ends, most even",
    "fewest switches": "the fastest of those with the fewest switches",
    "most even": "the most evenly interleaved that fits",
    "scored": "the best of them by another score",
    "fewest changes": "one that changes the fewest layers",
    "first by name": "the first by name of the fastest",
    None: "the one that was found",
}


def _ties(plan: Plan) -> list[str]:
    if plan.precisions is not None:
        return ["layouts that tie are not counted where precisions are chosen as well"]
    if plan.ties is None:
        return _calm(plan)
    if plan.ties == 1 and plan.ties_exact:
        return []
    if plan.ties == 1:
        return ["other layouts may tie: too many different partial layouts to count them", *_calm(plan)]
    count = f"{'' if plan.ties_exact else 'at least '}{plan.ties:,}"
    others = _that_fit("others: ", plan.tied_layouts)
    lines = [f"{count} layouts tie; shown is {_SHOWN[plan.tie_break]}"]
    if (chosen := plan.tie_score) is not None:
        lines.append(f"{chosen.name} {score_with_error(chosen.score, chosen.error)}: {chosen.statement}")
    return [*lines, *_calm(plan), *others]


def _calm(plan: Plan) -> list[str]:
    calm = plan.fewest_switches
    if calm is None:
        return []
    return [f"fewest switches: {calm.switches} in {calm.written}, {format_us(1000 * calm.latency_ms)}"]


def _near_ties(plan: Plan) -> list[str]:
    near = plan.near_ties
    if near is None:
        return []
    if near.count == 0 and not near.exact:
        return [f"too many different partial layouts to count those that score at most {near.gap:g} less"]
    count = f"{'' if near.exact else 'at least '}{near.count:,}"
    layouts = "layout scores" if near.count == 1 else "layouts score"
    examples = [f"{layout.written} {layout.score:.6f}" for layout in near.layouts]
    return [f"{count} {layouts} less, by at most {near.gap:g}", *_that_fit("such as ", examples)]


def _that_fit(start: str, words: Sequence[str]) -> list[str]:
    """Return one line with as many of the words as fit beside the names of the facts; none if not one does."""
    while words and len(start + ", ".join(words)) > _LINE:
        words = words[:-1]
    return [start + ", ".join(words)] if words else []

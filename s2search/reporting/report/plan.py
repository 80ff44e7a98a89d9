"""The plan, what it spends of every budget, and why it is as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from s2search.cost import format_bytes, format_us
from s2search.planner.explain import KERNEL_SPEEDUP, Explanation, RowAnswer
from s2search.planner.plan import DeviceAnswer, Plan
from s2search.planner.promise import PlanCheck
from s2search.reporting.command import plan_command
from s2search.reporting.explanation import price_text, swap_rows
from s2search.reporting.notebook import bars_svg, strip_svg
from s2search.reporting.plan_check import verdict as promise_verdict
from s2search.reporting.report.campaign import GivenPart
from s2search.reporting.report.markup import Html, borrowed, element, facts, joined, paragraph, table, verdict
from s2search.reporting.report.origins import Origins
from s2search.reporting.terminal import facts as plan_facts

_MOST_ROWS = 40
#: Where each line of facts comes from, by its name.
_WHENCE = {
    "layout": "layout and counts, found by {solver}",
    "latency": "latency_ms: the sum of the rows that the layout uses, by {model}; {latency}",
    "confidence": "confidence: the deviations of the rows, by {model}",
    "p95": "p95: priced from the raw timings beside the table",
    "memory": "memory_bytes: weights, streaming state, and the largest peak of activations; {bytes}",
    "rate": "rate: passes, text encoder and decoder of the table's card, a chunk at a time",
    "first": "first: from the prompt to the first frames, by the table's card",
    "score": "score: {score}",
}


def plans_html(plans: Sequence[GivenPart[Plan]], promises: Sequence[GivenPart[PlanCheck]], origins: Origins) -> Html:
    """Return every plan with its explanation, then what checks of plans found."""
    parts = [_plan(given, origins) for given in plans]
    if promises:
        parts.append(element("h3", "Does the promise hold on another table?"))
        parts += [_promise(given, origins) for given in promises]
    return joined(parts)


def plan_origin(given: GivenPart[Plan], field: str, device: DeviceAnswer | None = None) -> str:
    """Return where a figure of a plan comes from: its file, the field, the table's rows and their kind of evidence."""
    plan = given.part
    asked, origin = device or plan.every_device[0], plan.provenance
    told = _WHENCE.get(field, field).format(
        solver=origin.solver_label,
        model=origin.latency_model_label,
        latency=f"latency {' and '.join(asked.latency_kinds(plan.counts))}",
        bytes=f"bytes {' and '.join(asked.bytes_kinds(plan.counts))}",
        score=f"{origin.score_label} ({origin.score_digest[7:19]}), {origin.score_statement}",
    )
    marked = ", in a marked run" if asked.table_marks else ""
    return f"{given.told}, {told}; table {asked.table} ({asked.table_digest[7:19]}){marked}"


def _plan(given: GivenPart[Plan], origins: Origins) -> Html:
    plan = given.part
    counts = " + ".join(f"{count} {label}" for label, count in plan.counts.items() if count)
    fits = ("good", "it is within all that was asked") if plan.fits else ("bad", "it does NOT fit what was asked")
    parts = [
        element("h3", f"{given.name}: {counts} on {' and '.join(device.table for device in plan.every_device)}"),
        verdict(*fits),
        element("div", borrowed(strip_svg(plan)), class_="drawing"),
        facts(
            (_named(name), origins.lines(said, plan_origin(given, name)))
            for name, said in plan_facts(plan)
            if name != "from"
        ),
        *(_spent(given, device, origins) for device in plan.every_device),
        paragraph("Made again by ", element("code", plan_command(plan))),
    ]
    if plan.explanation is None:
        parts.append(paragraph("Why it is as it is was not asked: plan with --explain.", class_="none"))
    else:
        parts += _explanation(plan.explanation, given, origins)
    return joined(parts)


def _named(name: str) -> str:
    return {"binds": "What binds", "asked": "Asked", "p95": "95th percentile", "first": "First frames"}.get(
        name, name.capitalize()
    )


def _spent(given: GivenPart[Plan], device: DeviceAnswer, origins: Origins) -> Html:
    """Return where milliseconds and bytes go, as bars and as a table."""
    plan, latency, memory = given.part, device.latency_ms, device.memory_bytes
    ms, held = plan_origin(given, "latency", device), plan_origin(given, "memory", device)
    counted = plan_origin(given, "layout", device)
    rows: list[tuple[str, ...]] = [
        (
            label,
            origins.number(str(count), counted),
            origins.number(format_us(1000 * device.blocks[label].latency_ms), ms),
            origins.number(format_us(1000 * count * device.blocks[label].latency_ms), ms),
            origins.number(format_bytes(count * device.blocks[label].memory_bytes), held),
            device.blocks[label].provenance,
        )
        for label, count in plan.counts.items()
        if count
    ]
    for name, took in (("switches", latency.switches), ("stem and head", latency.fixed)):
        rows.append((name, Html(), Html(), origins.number(format_us(1000 * took), ms), Html(), ""))
    for name, amount in (("fixed memory", memory.fixed), ("largest peak", memory.peak)):
        rows.append((name, Html(), Html(), Html(), origins.number(format_bytes(amount), held), ""))
    total = origins.number(format_us(1000 * latency.predicted), ms)
    rows.append(("all", Html(), Html(), total, origins.number(format_bytes(memory.predicted), held), ""))
    heads = ("part", "layers", "latency of one", "latency", "memory", "evidence")
    bars = element("div", borrowed(bars_svg(plan, device)), class_="drawing")
    return joined([bars, table(f"What it spends on {device.table}", heads, rows, last_words=1)])


def _explanation(why: Explanation, given: GivenPart[Plan], origins: Origins) -> Iterable[Html]:
    plan = given.part
    origin = f"{given.told}, explanation: the same search solved again with one number changed, exactly"
    yield element("h3", "Why it is as it is")
    if why.best is None:
        yield paragraph("No layout fits, so there are no prices and no decisive rows.")
    elif why.best != plan.written:
        yield paragraph("Prices and rows are those of the best layout, ", element("code", why.best), ".")
    if why.prices:
        pairs = [(f"Budget of {price.budget}", origins.lines(price_text(price), origin)) for price in why.prices]
        yield facts(pairs)
    if why.swaps:
        heads = ("layers", "here", "instead", "score", "latency", "memory", "limits")
        swaps = [
            [origins.number(layers, origin), here, instead, *(origins.lines(cell, origin) for cell in rest)]
            for layers, here, instead, *rest in swap_rows(why.swaps)[:_MOST_ROWS]
        ]
        yield table("The best other block of each layer", heads, swaps, words=3, last_words=1)
    if why.kernels:
        kernels = [
            (
                f"{one.block} on {one.table}",
                origins.number(f"{one.score_gain:+.6f}" if one.score_gain else "nothing", origin),
                element("code", one.written) if one.score_gain else Html(),
            )
            for one in why.kernels
        ]
        yield table(
            f"What a block that is {100 * KERNEL_SPEEDUP:g} % faster would buy",
            ("block", "score", "layout"),
            kernels,
            last_words=1,
        )
    if why.rows:
        yield _rows(why.rows, given, origins)


def _rows(rows: Sequence[RowAnswer], given: GivenPart[Plan], origins: Origins) -> Html:
    origin = f"{given.told}, explanation.rows: by how much a row may be wrong before another layout is the best"
    deciding = [row for row in rows if row.nearest_percent is not None][:_MOST_ROWS]
    cells = [
        (
            f"{row.part} on {row.table}",
            origins.number(format_us(1000 * row.latency_ms), f"table {row.table}: latency_ms of the row"),
            _percent(row.std_percent, origins, f"table {row.table}: the row's own deviation") or "not stated",
            _percent(row.faster_percent, origins, origin, " faster") or "never",
            _percent(row.slower_percent, origins, origin, " slower") or "never",
            origins.number("" if row.deviations is None else f"{row.deviations:.2g} deviations", origin) or "not known",
        )
        for row in deciding
    ]
    others = [row.part for row in rows if row.nearest_percent is None]
    note = paragraph(
        f"No other plan, were they half as slow or half as fast again: {', '.join(others)}.", class_="small"
    )
    heads = ("row", "latency", "stated error", "better plan if", "over budget if", "away")
    found = [table("Latencies that decide the plan", heads, cells)] if cells else []
    return joined([*found, *([note] if others else [])])


def _percent(value: float | None, origins: Origins, origin: str, after: str = "") -> Html:
    if value is None:
        return Html()
    return origins.number(f"{value:.0f} %{after}" if value >= 10 else f"{value:.2g} %{after}", origin)


def _promise(given: GivenPart[PlanCheck], origins: Origins) -> Html:
    found = given.part
    tables = " and ".join(f"{one.table} ({one.table_digest[7:19]})" for one in found.devices)
    origin = f"{given.told}: the plan {found.written} priced again by {tables}"
    return verdict("good" if found.holds else "bad", origins.number(promise_verdict(found), origin))

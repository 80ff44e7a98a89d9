"""Whether a plan's promise holds: in the terminal, made for 80 columns; in Markdown; and as JUnit's XML, for CI."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.border.printable import printable
from s2search.cost import format_bytes, format_us
from s2search.planner.promise import CheckedBudget, CheckedDevice, CheckedPromise, CheckedRow, PlanCheck, Replan
from s2search.reporting.origin import mark_lines

_BUDGETS = ("budget", "asked", "planned", "now", "")
_ROWS = ("row", "planned", "now", "moved", "")


def plan_check_text(found: PlanCheck) -> RenderableType:
    """Return the verdict, the budgets, the rows that moved and the re-plan."""
    parts: list[RenderableType] = []
    for device in found.devices:
        parts += [Text(line) for line in _tables(device)]
        parts += [Text(), _grid(_BUDGETS, [*map(_budget, device.budgets), *map(_promise, device.promises)])]
        if moved := _moved(device):
            parts += [Text(), _grid(_ROWS, [_row(row) for row in moved])]
        parts += [Text(line) for line in _notes(device)] + [Text()]
    said = Table.grid(padding=(0, 2))
    said.add_column(style="bold", no_wrap=True)
    said.add_column(overflow="fold")
    for name, line in _facts(found):
        said.add_row(name, line)
    style = "bold green" if found.holds else "bold red"
    return Group(Text(), *parts, said, Text(), Text(verdict(found), style=style), Text())


def verdict(found: PlanCheck) -> str:
    """Return in one line whether the promise holds, and what breaks it."""
    broken = [
        *(line for device in found.devices for one in device.budgets if (line := _failure(device, one, found))),
        *_missed(found),
    ]
    return "the promise does NOT hold: " + "; ".join(broken) if broken else "the promise holds"


def plan_check_markdown(found: PlanCheck) -> str:
    """Return a summary for the page of a CI job."""
    lines = [f"### {found.written}: {_escaped(verdict(found))}"]
    for device in found.devices:
        lines += ["", *(f"{_escaped(line)}  " for line in _tables(device))]
        lines += ["", *_pipes(_BUDGETS, [*map(_budget, device.budgets), *map(_promise, device.promises)])]
        if moved := _moved(device):
            lines += ["", *_pipes(_ROWS, [_row(row) for row in moved])]
        lines += ["", *(f"{_escaped(line)}  " for line in _notes(device))] if _notes(device) else []
    for name, line in _facts(found):
        lines += ["", f"**{name}**: " + "<br>".join(map(_escaped, line.split("\n")))]
    return printable("\n".join(lines)) + "\n"


def plan_check_junit(found: PlanCheck) -> str:
    """Return a test case per budget and one for the promise, as JUnit writes them."""
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", name="s2search plan check")
    details = "\n".join(_details(found))
    for device in found.devices:
        for budget in device.budgets:
            case = ET.SubElement(suite, "testcase", classname=_class(device), name=f"{budget.kind} {_limit(budget)}")
            if line := _failure(device, budget, found):
                ET.SubElement(case, "failure", message=printable(line), type="budget").text = details
    case = ET.SubElement(suite, "testcase", classname=_class(found.devices[0]), name="promise")
    if found.tolerance is None:
        ET.SubElement(case, "skipped", message="no tolerance was asked for")
    elif missed := _missed(found):
        ET.SubElement(case, "failure", message=printable("; ".join(missed)), type="promise").text = details
    for element in (suites, suite):
        for name, tag in {"tests": "testcase", "failures": "failure", "skipped": "skipped"}.items():
            element.set(name, str(len(list(suite.iter(tag)))))
        element.set("errors", "0")
        element.set("time", "0")
    for case in suite.iter("testcase"):
        case.set("time", "0")
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _class(device: CheckedDevice) -> str:
    return printable(f"plan check.{device.table}")


def _details(found: PlanCheck) -> list[str]:
    """Return tables, rows and re-plan as lines of plain text."""
    lines = []
    for device in found.devices:
        lines += _tables(device) + [" ".join(cell for cell in _row(row) if cell) for row in _moved(device)]
    return [printable(line) for line in lines + [f"{name}: {line}" for name, line in _facts(found)]]


def _tables(device: CheckedDevice) -> list[str]:
    now, then = f"{device.table} ({device.table_digest[7:19]})", device.table_digest_then[7:19]
    if device.same_table:
        return [f"on {now}, which the plan was made from"]
    before = then if device.table == device.table_then else f"{device.table_then} ({then})"
    return [f"on {now}", f"planned on {before}" + (", as it was then" if device.table == device.table_then else "")]


_NAMES = {"first": "first frames"}


def _notes(device: CheckedDevice) -> list[str]:
    """Return what else there is to say: of a table that moved nothing, of a rate, of the run that was measured."""
    lines = []
    if not _moved(device):
        lines.append("no row that the layout uses moved")
    for budget in device.budgets:
        if budget.kind in ("rate", "first") and budget.arithmetic != budget.arithmetic_then:
            left = budget.arithmetic or "no time at all for it"
            lines.append(f"a forward pass was left {budget.arithmetic_then}, and is now left {left}")
    return lines + mark_lines(device.table_marks)


def _facts(found: PlanCheck) -> list[tuple[str, str]]:
    facts = []
    if found.replan is not None:
        facts.append(("re-plan", _replan(found.replan, found)))
    elif found.no_replan:
        facts.append(("re-plan", f"none: {found.no_replan}"))
    if found.not_offered:
        facts.append(("lacking", f"no row for {', '.join(found.not_offered)}, which the layout does not use"))
    if found.planned_with != found.s2search:
        facts.append(("s2search", f"{found.s2search}; planned with {found.planned_with}"))
    return facts


def _replan(replan: Replan, found: PlanCheck) -> str:
    some = f"{replan.changes} of {found.depth} layers"
    few = f"; no layout that changes at most {found.changes} is within the budgets"
    lines = [f"{replan.written} changes {some}{few if replan.changes > found.changes else ''}"]
    runs = [(f"{r.first}" if r.first == r.last else f"{r.first}-{r.last}", r) for r in replan.layers]
    changed: dict[str, list[str]] = {}
    for where, run in runs:
        changed.setdefault(f"{run.before} -> {run.after}", []).append(where)
    lines += [f"{what} at {', '.join(where)}, counted from 0" for what, where in changed.items()]
    for cost in replan.devices:
        on = f" on {cost.table}" if len(replan.devices) > 1 else ""
        fps = "" if cost.frames_per_second is None else f", {cost.frames_per_second:.1f} fps"
        lines.append(f"{format_us(1000 * cost.latency_ms)}, {format_bytes(cost.memory_bytes)}{fps}{on}")
    was = "which forbids the plan's own" if replan.score_now is None else f"the plan's own {replan.score_now:.6f}"
    proven = "" if replan.optimal else "; not proven to be the best"
    return "\n".join([*lines, f"score {replan.score:.6f} by {found.score}, {was}{proven}"])


def _moved(device: CheckedDevice) -> list[CheckedRow]:
    return [row for row in device.rows if row.moved]


def _budget(budget: CheckedBudget) -> tuple[str, ...]:
    then = "" if budget.then is None else _write(budget.kind, budget.then)
    side = "UNDER" if budget.kind == "rate" else "OVER"
    kept = "kept" if budget.kept else f"{side} by {_gap(budget.kind, -budget.slack)}"
    return (_NAMES.get(budget.kind, budget.kind), _limit(budget), then, _write(budget.kind, budget.now), kept)


def _promise(promise: CheckedPromise) -> tuple[str, ...]:
    kept = {None: "", True: "  kept", False: "  MISSED"}[promise.kept]
    then, now = _write(promise.kind, promise.then), _write(promise.kind, promise.now)
    return (f"promised {promise.kind}", "", then, now, _difference(promise) + kept)


def _row(row: CheckedRow) -> tuple[str, ...]:
    name = row.name if row.count == 1 else f"{row.count} {row.name}"
    then, now = _write(row.kind, row.then), _write(row.kind, row.now)
    share = f"{row.moved / row.then:+.1%}" if row.then else "new"
    return (name, then, now, _signed(row), share)


def _difference(promise: CheckedPromise) -> str:
    share = "" if promise.moved_relative is None else f" ({promise.moved_relative:+.1%})"
    return f"{_signed(promise)}{share}" if promise.moved else "unmoved"


def _signed(moved: CheckedPromise | CheckedRow) -> str:
    return f"{'-' if moved.moved < 0 else '+'}{_gap(moved.kind, abs(moved.moved))}"


def _missed(found: PlanCheck) -> list[str]:
    return [line for device in found.devices for one in device.promises if (line := _failure(device, one, found))]


def _failure(device: CheckedDevice, one: CheckedBudget | CheckedPromise, found: PlanCheck) -> str:
    """Return in a few words what of a budget or a promise is not kept; empty where it is."""
    on = f" on {device.table}" if len(found.devices) > 1 else ""
    if one.kept is not False:
        return ""
    if isinstance(one, CheckedPromise):
        now, then = _write(one.kind, one.now), _write(one.kind, one.then)
        return f"{one.kind}{on} {now} is {_difference(one)} from the promised {then}, more than {_share(found)} %"
    side = "under" if one.kind == "rate" else "over"
    name = _NAMES.get(one.kind, one.kind)
    return f"{name}{on} {_write(one.kind, one.now)} is {_gap(one.kind, -one.slack)} {side} {_limit(one)}"


def _share(found: PlanCheck) -> str:
    return f"{100 * (found.tolerance or 0):g}"


def _limit(budget: CheckedBudget) -> str:
    return f"{budget.limit:g} fps" if budget.kind == "rate" else _write(budget.kind, budget.limit)


def _write(kind: str, value: float) -> str:
    if kind in ("latency", "first", "p95"):
        return format_us(1000 * value)
    return format_bytes(value) if kind == "memory" else f"{value:.3f} fps"


def _gap(kind: str, value: float) -> str:
    """Write a difference, which may be much smaller than what differs."""
    if kind == "rate":
        return f"{value:.3g} fps"
    return f"{value:.0f} B" if kind == "memory" and value < 1000 else _write(kind, value)


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, heading in enumerate(headings):
        grid.add_column(heading, justify="left" if column in (0, len(headings) - 1) else "right", no_wrap=column > 0)
    for row in rows:
        grid.add_row(*row)
    return grid


def _pipes(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = [":--", *["--:"] * (len(headings) - 2), ":--"]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *(map(_escaped, row) for row in rows))]


def _escaped(text: str) -> str:
    r"""Return a text that Markdown shows as it is.

    >>> print(_escaped("lcha[gate=false] *2 | <b>"))
    lcha\[gate=false\] \*2 \| &lt;b&gt;
    """
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", text.strip()).replace("<", "&lt;").replace(">", "&gt;")

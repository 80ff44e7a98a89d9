"""What verification found, in the terminal, made for 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from s2search.verification.result import CheckResult, Verification

_STYLES = {"passed": "green", "failed": "bold red", "not_run": "yellow"}
_WORDS = {"passed": "passed", "failed": "FAILED", "not_run": "not run"}
_MISSED = Text("missed", style="yellow")  # failed, and not required
#: How a figure is held against its threshold.
SIGNS = {"at least": ">=", "at most": "<=", None: ""}


def verification_text(found: Verification) -> RenderableType:
    """Return one line per check with its figure and threshold, what is to be said of it, and the verdict."""
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    grid.add_column("check", no_wrap=True)
    grid.add_column("", no_wrap=True)
    grid.add_column("value", justify="right", no_wrap=True)
    grid.add_column("asked", no_wrap=True)
    grid.add_column("unit", no_wrap=True)
    grid.add_column("mode" if any(check.mode for check in found.checks) else "", no_wrap=True)
    notes: list[tuple[str, str]] = []
    for check in found.checks:
        asked = "" if check.threshold is None else f"{SIGNS[check.bound]} {number_text(check.threshold)}"
        name = check.name if check.required else f"({check.name})"
        value = "" if check.value is None else number_text(check.value)
        word = Text(_WORDS[check.status], style=_STYLES[check.status])
        status = _MISSED if check.status == "failed" and not check.required else word
        grid.add_row(name, status, value, asked, check.unit, check.mode)
        if note := note_of(check):
            notes.append((check.name, note))
    said = Table.grid(padding=(0, 2))
    said.add_column(no_wrap=True)
    said.add_column(overflow="fold")
    for name, note in notes:
        said.add_row(name, note)
    return Group(Text(), grid, Text(), said, Text(), Text(verdict(found), style="bold"))


def verdict(found: Verification) -> str:
    """Return in one line what came of it."""
    required = [check for check in found.checks if check.required]
    counts = {status: sum(check.status == status for check in required) for status in _WORDS}
    what = f"{found.package}: {found.exporter}, {found.precision}"
    if found.passed:
        return f"{what}: verified, {counts['passed']} required checks passed (others in brackets)"
    short = [f"{counts[status]} {status.replace('_', ' ')}" for status in ("failed", "not_run") if counts[status]]
    return f"{what}: NOT verified, of {len(required)} required checks {' and '.join(short) or 'none was found'}"


def note_of(check: CheckResult) -> str:
    """Return what there is to say of a check beside its figure."""
    where = f"{check.where}: " if check.where and check.where not in check.why else ""
    return f"{where}{check.why}" if check.why else check.where


def number_text(value: float) -> str:
    """Return a figure in as many digits as one reads."""
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.1f}" if 0.1 <= abs(value) < 1e6 else f"{value:.3g}"

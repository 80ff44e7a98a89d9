"""A recalibration in the terminal, made for 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes

if TYPE_CHECKING:
    from s2search.pipeline.rival import ScoreRecalibration
    from s2search.recalibration.memory import MemoryFound
    from s2search.recalibration.result import LayoutTime, Recalibration

_MOST_WIDE = 34


def recalibration_text(found: Recalibration, correction: str, memory: str = "") -> RenderableType:
    """Return every layout, the errors before and after, where the miss comes from, and what became of the table.

    Args:
        found: What to show.
        correction: The correction in words.
        memory: That of memory, where there is one.
    """
    layouts = Table(box=None, pad_edge=False, header_style="bold")
    layouts.add_column("layout", no_wrap=True, overflow="ellipsis", max_width=_MOST_WIDE)
    for header in ("measured", "before", "after"):
        layouts.add_column(header, justify="right", no_wrap=True)
    layouts.add_column("", no_wrap=True)
    for one in found.layouts:
        layouts.add_row(
            one.layout,
            f"{one.measured_ms:.3f} ms",
            signed_share(one.predicted_ms / one.measured_ms - 1),
            signed_share(one.corrected_ms / one.measured_ms - 1),
            "package" if one.is_package else "held out" if one.held_out else "",
        )
    said = Table.grid(padding=(0, 2))
    said.add_column(style="bold", no_wrap=True)
    said.add_column(overflow="fold")
    held = found.held_out
    said.add_row("before", f"median {held.before_median:.2%}, worst {held.before_worst:.2%}, {_held(held.layouts)}")
    said.add_row("after", f"median {held.after_median:.2%}, worst {held.after_worst:.2%}")
    shares = {name: share for name, share in found.shares().items() if share or name != "changes"}
    said.add_row("miss", ", ".join(f"{name.replace('_', '-')} {signed_share(share)}" for name, share in shares.items()))
    said.add_row("", "of what a layout takes, medians; a part is predicted too low where this is positive")
    for one in found.layouts:
        if one.is_package:
            _say_package(said, one)
    if found.cross_validated:
        tried = ", ".join(f"{kind.replace('_', ' ')} {error:.2%}" for kind, error in found.cross_validated.items())
        said.add_row("tried", f"{tried} (cross-validated)")
    said.add_row("chosen", correction)
    if found.correction.kind != "none":
        judged = found.judgement
        said.add_row(
            "judged",
            f"{judged.better} of {judged.layouts} held-out layouts are foretold better ({judged.needed} needed); "
            f"median gain {judged.gain_median:+.2%}, lower bound {judged.gain_least:+.2%}",
        )
    if found.memory is not None:
        _say_memory(said, found.memory, memory)
    if found.new_table is None:
        said.add_row("table", f"{found.table} is left as it is, and none is written: {found.refusal}")
    else:
        digests = f"{found.new_digest or '':.19}, from {found.table} {found.table_digest:.19}"
        said.add_row("table", f"{found.new_table} ({digests})")
        if found.refusal:
            said.add_row("", f"its latencies are those of {found.table}: {found.refusal}")
    for reason in found.left_out:
        said.add_row(Text("left out", style="bold yellow"), reason)
    for mark in found.marked:
        said.add_row(Text("marked", style="bold yellow"), mark)
    return Group(Text(), layouts, Text(), said)


def _say_package(said: Table, one: LayoutTime) -> None:
    """Say where the miss of what is shipped comes from, each source with its standard error, and of which block."""
    miss = one.miss
    sources = {name: (getattr(miss, f"{name}_ms"), error_ms) for name, error_ms in miss.errors_ms.items()}
    told = [f"{name.replace('_', '-')} {ms:+.2f}±{error:.2f}" for name, (ms, error) in sources.items() if ms or error]
    said.add_row("package", f"{miss.miss_ms:+.2f} ms beyond what was foretold: {', '.join(told)}")
    blocks = [f"{label} {ms:+.2f}±{miss.of_block_errors_ms[label]:.2f}" for label, ms in miss.of_block_ms.items()]
    said.add_row("", f"of its blocks: {', '.join(blocks)}; ms with standard errors")


def _say_memory(said: Table, found: MemoryFound, correction: str) -> None:
    """Say what was promised and taken, where the miss comes from, and what becomes of the promise."""
    most = max(found.layouts, key=lambda one: one.measured_bytes / max(1, one.promised_bytes))
    said.add_row(
        "memory",
        f"{found.exceeded} of {len(found.layouts)} layouts take more than was promised, by {found.counter}; the worst "
        f"{format_bytes(most.measured_bytes)} for {format_bytes(most.promised_bytes)}",
    )
    told = ", ".join(f"{name} {bytes_ / 1e6:+.1f} MB" for name, bytes_ in found.misses().items())
    said.add_row("", f"miss: {told}; medians")
    said.add_row("", f"before: median {found.before_median:.2%}, worst {found.before_worst:.2%}")
    said.add_row("", f"after: median {found.after_median:.2%}, worst {found.after_worst:.2%}, both held out")
    judged = found.judgement
    kept = "supported" if found.supported else "not supported"
    said.add_row(
        "",
        f"{correction}; {kept}: {judged.better} of {judged.layouts} better ({judged.needed} needed)",
    )


def score_recalibration_text(found: ScoreRecalibration) -> RenderableType:
    """Return what was promised and measured, and what became of the score."""
    from s2search.reporting.run import rival_lines

    made = f"{found.score} ({found.digest:.19}, from {found.old_digest:.19}, which is left as it is)"
    return Group(*map(Text, rival_lines(found.rival)), Text(made))


def signed_share(share: float) -> str:
    """Return a share in per cent, of which nothing is +0.0%.

    >>> signed_share(-0.0001), signed_share(-0.01)
    ('+0.0%', '-1.0%')
    """
    return f"{round(share, 3) + 0.0:+.1%}"


def _held(count: int) -> str:
    return f"{count} layouts held out of the fit"

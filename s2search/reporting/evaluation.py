"""An evaluation of measured layouts in the terminal, made for 80 columns."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table

from s2search.transfer.evaluate import Evaluation


def evaluation_text(found: Evaluation) -> RenderableType:
    """Return the errors as percentages, and whether drift was found."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    drift = "estimated from the rows around each one" if found.drift else "none found: the additive model stands"
    shares = ((5, found.within_5), (10, found.within_10), (15, found.within_15))
    for finding in found.findings:
        grid.add_row("lint", finding)
    grid.add_row("layouts", f"{found.rows:,}, of which {found.held_out:,} held out (seed {found.seed})")
    grid.add_row("drift", drift)
    grid.add_row("", f"additive errors of neighbours correlate {found.residual_autocorrelation:+.2f}")
    grid.add_row("error", f"additive {_percent(found.mape_additive)}, drift-aware {_percent(found.mape_drift_aware)}")
    grid.add_row("within", ", ".join(f"{limit} % {_percent(share)}" for limit, share in shares))
    grid.add_row("ranks", f"Spearman {found.spearman:.3f}")
    return grid


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"

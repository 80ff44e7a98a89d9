"""An evaluation of a transfer in the terminal, made for 80 columns."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table

from s2search.transfer.blend import MOST_UNEXPLAINED
from s2search.transfer.evaluate_transfer import TransferEvaluation
from s2search.transfer.trust import MOST_ERROR


def transfer_text(found: TransferEvaluation) -> RenderableType:
    """Return the errors as percentages, beside what the transfer says of itself."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in found.findings:
        grid.add_row("lint", finding)
    grid.add_row("known", ", ".join(found.known))
    grid.add_row("timed", f"{found.shots} of {found.offered:,} candidates, {found.draws} draws (seed {found.seed})")
    grid.add_row("error", f"{_percent(found.mape_mean)} on the other layouts, worst draw {_percent(found.mape_worst)}")
    grid.add_row("", f"{found.shots} random layouts, plain least squares: {_percent(found.mape_random_nnls)}")
    grid.add_row("within", f"10 % {_percent(found.within_10)}")
    grid.add_row("ranks", f"Spearman {found.spearman:.3f}")
    grid.add_row(
        "predicted", f"{_percent(found.predicted_error)}, in nine draws of ten below {_percent(found.error_bound)}"
    )
    grid.add_row("", f"the error stayed below its bound in {100 * found.bound_held:.0f} % of the draws")
    grid.add_row("trust", _trust(found))
    return grid


def _trust(found: TransferEvaluation) -> str:
    reasons = []
    if found.predicted_error > MOST_ERROR:
        reasons.append(f"it predicts an error above {100 * MOST_ERROR:.0f} %")
    if found.unexplained > MOST_UNEXPLAINED:
        reasons.append(f"one constant for all timings would err {1 / found.unexplained:.1f} times as much")
    distrust = f"{100 * found.flagged_draws:.0f} % of the draws are not to be trusted"
    if found.flagged:
        return f"NO: {'; '.join([*reasons, distrust])}; time more of this device"
    return f"yes; {distrust}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"

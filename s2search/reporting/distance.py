"""What `s2search distance` prints and writes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.training.distance.documents import ERRORS_TO_CLAIM, ERRORS_TO_SEE

if TYPE_CHECKING:
    from s2search.training.distance.documents import Claim, DistanceRow, Distances, NetworkDistance
    from s2search.training.distance.networks import FeatureNetworks

_DIGEST = 19


def networks_text(networks: FeatureNetworks, path: Path) -> RenderableType:
    """Return what two networks are, and how well the trained one knows real clips from spoilt ones."""
    heading = networks.heading
    digests = ", ".join(f"{name} {digest[:_DIGEST]}" for name, digest in heading.digests.items())
    return Text(
        f"{path}: {heading.features} features of each network, for latents of {heading.latent_channels} channels\n"
        f"{digests}\n"
        f"after {heading.steps:,} steps {100 * heading.accuracy:.0f} % of held-out clips, real ones and those spoilt "
        "in 7 ways, are taken for what they are (by chance: 12.5 %)"
    )


def distances_text(found: Distances) -> RenderableType:
    """Return two tables, MMD^2 and Fréchet, with real and spoilt clips above the models, and who is nearer."""
    names = ", ".join(f"{name} {one.digest[:_DIGEST]}" for name, one in found.networks.items())
    head = (
        f"{found.samples} clips of each row against {found.samples} real ones of {found.recordings} recordings\n"
        f"networks: {names}\n"
    )
    return Group(
        Text(head), _mmd_table(found), Text(), _frechet_table(found), Text("\n" + "\n".join(distance_lines(found)))
    )


def distances_csv(found: Distances) -> str:
    """Return a line per row, with all figures of both networks."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    figures = ("mmd", "mmd_error", "frechet", "frechet_error", "above_floor")
    own = ("name", "kind", "steps", "sampler", "weights", "std_ratio", "motion_ratio")
    speed = ("chunk_ms", "fps", "clock")
    writer.writerow([*own, *speed, *(f"{name}_{figure}" for name in found.networks for figure in figures)])
    for row in found.rows:
        cells = [getattr(row, name) for name in own] + [getattr(row.speed, name, None) for name in speed]
        cells += [getattr(row.distances[name], figure) for name in found.networks for figure in figures]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def _mmd_table(found: Distances) -> Table:
    table = Table("MMD^2", box=None, pad_edge=False, header_style="")
    table.columns[0].overflow = "fold"
    for name in ("steps", *found.networks, "s.d.", "motion", "fps"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        steps, fps = "" if row.steps is None else f"{row.steps}", "" if row.speed is None else f"{row.speed.fps:.1f}"
        distances = (with_error(row.distances[name].mmd, row.distances[name].mmd_error) for name in found.networks)
        table.add_row(row.name, steps, *distances, f"{row.std_ratio:.2f}", f"{row.motion_ratio:.2f}", fps)
    return table


def _frechet_table(found: Distances) -> Table:
    table = Table("Fréchet", box=None, pad_edge=False, header_style="")
    table.columns[0].overflow = "fold"
    for name in ("steps", *found.networks):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("errors above real", justify="right", no_wrap=True)
    for row in found.rows:
        own = [row.distances[name] for name in found.networks]
        steps = "" if row.steps is None else f"{row.steps}"
        table.add_row(row.name, steps, *(with_error(one.frechet, one.frechet_error) for one in own), _above(row, own))
    return table


def _above(row: DistanceRow, distances: list[NetworkDistance]) -> str:
    return "" if row.kind == "floor" else "  ".join(f"{one.above_floor:.1f}" for one in distances)


def with_error(value: float, error: float) -> str:
    """Return a figure with as many digits as its error has two of, of three at most.

    >>> with_error(10.7483, 0.9076), with_error(0.0016, 0.0112)
    ('10.75 +- 0.91', '0.002 +- 0.011')
    """
    digits = next((digits for digits in range(3) if error >= 10 ** (1 - digits)), 3)
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def distance_lines(found: Distances) -> list[str]:
    """Return what the figures are, and who is nearer, a line each."""
    lines = [
        "s.d., motion: standard deviation and mean difference of frames, to those of real clips",
        f"real: other held-out clips. By one network at least frozen, shuffled and blurred are more than "
        f"{ERRORS_TO_SEE:g} standard errors above it in MMD^2",
    ]
    clocks = {row.speed.clock for row in found.rows if row.speed is not None}
    lines += [f"fps: of one stream, by {clock} time, without the decoder" for clock in sorted(clocks)]
    lines += [
        f"{one.nearer} is nearer than {one.than}: by {_errors(one)} standard errors"
        for one in found.claims
        if one.holds
    ]
    open_ones = [one for one in found.claims if not one.holds]
    if open_ones:
        asked = f"standard errors by the networks; {ERRORS_TO_CLAIM:g} or more by each are asked"
        pairs = "; ".join(f"{one.nearer} or {one.than} ({_errors(one)})" for one in open_ones)
        lines.append(f"which is nearer cannot be told ({asked}): {pairs}")
    return lines


def _errors(one: Claim) -> str:
    return " and ".join(f"{number:.1f}" for number in one.errors.values())

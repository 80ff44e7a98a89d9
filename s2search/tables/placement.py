"""Where a row was asked to run and where it ran: units, and the share of the work that each of them did.

A share is written `neural_engine:0.97,cpu:0.03`: units with their fractions of the work, the largest first, 1 in all.
What work is (a compute plan's estimated cost, or operations), the table's card says.

A row ran where it was asked unless some other unit did more of the work than the one that was asked. So it is never
misplaced for what our own programs do elsewhere (docs/decisions/measurement.md, "A row belongs to the unit that did
most of it"), and the unit that it belongs to instead is always known: the one that did most.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from s2search.errors import TableError

#: What may run anywhere is never in the wrong place.
ANY = "any"
#: Words of runtimes that allow several units: the one that they are said for.
_ASKED = {
    "cpu_and_neural_engine": "neural_engine",
    "cpu_and_gpu": "gpu",
    "cpu_only": "cpu",
    "all": ANY,
}
_DIGITS = 4
_SLACK = 0.01  # of the sum of rounded shares
_SHARE = re.compile(r"([a-z][a-z0-9_]*):(\d*\.?\d+(?:e-?\d+)?)")
_FORM = "units with their shares, 1 in all, such as neural_engine:0.97,cpu:0.03"


def unit_asked_by(compute_unit: str) -> str:
    """Return the unit that a row's `compute_unit` stands for: `any` where the runtime may choose.

    >>> unit_asked_by("cpu_and_neural_engine"), unit_asked_by("gpu"), unit_asked_by("all")
    ('neural_engine', 'gpu', 'any')
    """
    return _ASKED.get(compute_unit, compute_unit)


def shares_text(work: Mapping[str, float]) -> str | None:
    """Return which unit did which share of the work, in whatever it is counted; None where nothing is known.

    >>> shares_text({"cpu": 3, "neural_engine": 97})
    'neural_engine:0.97,cpu:0.03'
    """
    total = math.fsum(work.values())
    if not total > 0:
        return None
    shares = {unit: round(amount / total, _DIGITS) for unit, amount in work.items()}
    ordered = sorted(shares.items(), key=lambda entry: (-entry[1], entry[0]))
    return ",".join(f"{unit}:{share:g}" for unit, share in ordered if share)


def parse_shares(text: str) -> dict[str, float]:
    """Return unit -> share of the work.

    >>> parse_shares("neural_engine:0.97,cpu:0.03")
    {'neural_engine': 0.97, 'cpu': 0.03}

    Raises:
        TableError: It is no such text, names a unit twice, or its shares are not 1 in all.
    """
    found = [_SHARE.fullmatch(piece) for piece in text.split(",")]
    shares = {match[1]: float(match[2]) for match in found if match}
    if len(shares) < len(found) or 0.0 in shares.values() or not abs(math.fsum(shares.values()) - 1) <= _SLACK:
        raise TableError(f"the shares {text[:60]!r} are none", allowed=_FORM, remedy="correct them, or leave it empty")
    return shares


def is_share_text(text: str | None) -> bool:
    """Whether a cell says where a row ran, or nothing."""
    try:
        return text is None or bool(parse_shares(text))
    except TableError:
        return False


def ran_on(unit_ran: str) -> str:
    """Return the unit that did most of the work."""
    shares = parse_shares(unit_ran)
    return max(shares, key=lambda unit: shares[unit])


def is_misplaced(unit_asked: str, unit_ran: str | None) -> bool:
    """Whether a row did not run where it was asked: another unit did more of the work.

    >>> is_misplaced("neural_engine", "neural_engine:0.5,cpu:0.5"), is_misplaced("neural_engine", "cpu:0.6,gpu:0.4")
    (False, True)
    """
    if unit_asked == ANY or unit_ran is None:
        return False
    shares = parse_shares(unit_ran)
    return max(shares.values()) > shares.get(unit_asked, 0.0)

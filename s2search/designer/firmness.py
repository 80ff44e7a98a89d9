"""Firmness: whether rows that nobody measured could change an answer, and which of them to measure first.

An answer decides several times: that it keeps its own budgets, and of everything better that it does not. Each decision
is a margin in time, which errs with the rows behind it: a row alike in all layers, rows by themselves, all of them as a
normal law. Measuring rows takes their part of the variance away, and moves the margin by as much; so the probability
that a decision is settled afterwards is known before anything is measured. Rows are taken one by one, each that which
helps the least settled decision most, until every decision is expected to be settled.

Source: the expected value of sample information; Raiffa and Schlaifer (1961), "Applied Statistical Decision Theory",
chapter 4, for a normal law with known variance.

Axes: R rows  D decisions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from s2search.designer.document import Firmness, RowToMeasure
from s2search.designer.found import Found

#: A decision is settled where it goes one way with so much probability; rows suffice where they settle it so likely.
SETTLED, EXPECTED = 0.95, 0.9
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(SETTLED)
_MOST_ROWS = 12


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A layout is, or is not, within the time that is left for it.

    Attributes:
        says: What would be otherwise if it went the other way.
        margin_us: What is left of the time; negative where it is not within.
        deviation_us: Of the margin, by the key of each row that is foretold.
        other_us: Of the margin, by all that measuring rows leaves as it is.
    """

    says: str
    margin_us: float
    deviation_us: Mapping[str, float]
    other_us: float = 0.0

    @property
    def std_us(self) -> float:
        """How far the margin may be off."""
        return math.hypot(self.other_us, *self.deviation_us.values())

    @property
    def probability(self) -> float:
        """That the layout is within its time."""
        return _within(self.margin_us, self.std_us)

    @property
    def settled(self) -> bool:
        """Whether it is as good as sure which way it goes."""
        return max(self.probability, 1 - self.probability) >= SETTLED

    def settled_by(self, rows: Sequence[str]) -> float:
        """Return the probability that it is settled once some rows are measured.

        >>> decision = Decision(says="", margin_us=5.0, deviation_us={"a": 10.0, "b": 0.1})
        >>> decision.settled, decision.settled_by(["a"]) > 0.95 > decision.settled_by(["b"])
        (False, True)
        """
        known = math.hypot(*(self.deviation_us.get(row, 0.0) for row in rows))
        left = math.hypot(self.other_us, *(std for row, std in self.deviation_us.items() if row not in rows))
        needed = _Z * left
        return _within(self.margin_us - needed, known) + _within(-self.margin_us - needed, known)


def _within(margin: float, std: float) -> float:
    if std == 0:
        return float(margin >= 0)
    return _NORMAL.cdf(margin / std)


def decision_of(found: Found, left_us: float, says: str, key_of: Callable[[str], str]) -> Decision | None:
    """Return whether a design is within the time left for a forward pass; None where a row states no deviation.

    Args:
        found: The design.
        left_us: The time left.
        says: What would be otherwise.
        key_of: Of a part's name, the key of its row.
    """
    if found.std_us is None:
        return None
    foretold: dict[str, float] = {}
    measured = [found.around.decoder_std_us / found.around.pipeline.forwards(found.combination.commit)]
    for name, (count, estimate) in found.parts.items():
        deviation_us = count * (estimate.latency_std_us or 0.0)
        if estimate.provenance == "estimated":
            foretold[key_of(name)] = foretold.get(key_of(name), 0.0) + deviation_us
        else:
            measured.append(deviation_us)
    return Decision(
        says=says,
        margin_us=left_us - found.point.latency_us,
        deviation_us=foretold,
        other_us=math.hypot(*measured),
    )


def firmness(own: Decision | None, better: Sequence[Decision], rows: Mapping[str, tuple[str, str]]) -> Firmness:
    """Return whether an answer is firm, and what would settle it.

    Args:
        own: Whether the answer keeps its budgets; None where its rows state no deviation.
        better: Of everything better that does not fit: whether it would.
        rows: Part and video size of every row that could be measured, by its key.
    """
    if own is None:
        said = "rows behind the answer state no deviation, so nobody can say how firm it is"
        return Firmness(firm=False, probability=None, doubts=(said,))
    open_D = [decision for decision in (own, *better) if not decision.settled]
    holds = own.probability >= SETTLED
    chosen = _chosen(open_D)
    said = [f"{one.says} (with a probability of {_percent(one.probability)})" for one in open_D if one is not own]
    if not holds:
        said.insert(0, f"{own.says} (with a probability of {_percent(1 - own.probability)})")
    variance = sum(one.deviation_us.get(row, 0.0) ** 2 for one in open_D for row in rows) or 1.0
    return Firmness(
        firm=holds and not open_D,
        probability=round(own.probability, 6),
        doubts=tuple(said),
        rows=tuple(
            RowToMeasure(
                key=key,
                part=rows[key][0],
                video=rows[key][1],
                share=round(sum(one.deviation_us.get(key, 0.0) ** 2 for one in open_D) / variance, 6),
            )
            for key in chosen
        ),
        settles=round(min((one.settled_by(chosen) for one in open_D), default=1.0), 6) if open_D else None,
    )


def _chosen(several: Sequence[Decision]) -> list[str]:
    """Return the rows that are expected to settle every decision, the most telling first."""
    left = list(dict.fromkeys(row for one in several for row in one.deviation_us))
    chosen: list[str] = []
    while left and len(chosen) < _MOST_ROWS:
        least = min(several, key=lambda one: one.settled_by(chosen))
        if least.settled_by(chosen) >= EXPECTED:
            break
        row = max(left, key=lambda row: (least.deviation_us.get(row, 0.0), sum(d.deviation_us.get(row, 0.0) for d in several)))
        chosen.append(row)
        left.remove(row)
    return chosen


def _percent(probability: float) -> str:
    """Write a probability that is neither 0 nor 1.

    >>> _percent(0.9999), _percent(0.314)
    ('over 99 %', '31 %')
    """
    if probability > 0.99:  # noqa: PLR2004
        return "over 99 %"
    return f"{100 * probability:.0f} %" if probability >= 0.01 else "under 1 %"  # noqa: PLR2004

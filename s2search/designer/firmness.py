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
from s2search.designer.found import FoundDesign

#: A decision is settled where it goes one way with so much probability; rows suffice where they settle it so likely.
SETTLED, EXPECTED = 0.95, 0.9
_TELLING, _MUCH = 0.005, 0.1  # of the variance of margins
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(SETTLED)


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


def decision_of(found: FoundDesign, left_us: float, says: str, key_of: Callable[[str], str]) -> Decision | None:
    """Return whether a design is within the time left for a forward pass; None where a row states no deviation.

    A measured row is known; what its timings vary by is for `plan --confidence`.

    Args:
        found: The design.
        left_us: The time left.
        says: What would be otherwise.
        key_of: Of a part's name, the key of its row.
    """
    foretold: dict[str, float] = {}
    for name, (count, estimate) in found.parts.items():
        if estimate.provenance == "measured" or not estimate.cost.latency_us:
            continue
        if estimate.latency_std_us is None:
            return None
        foretold[key_of(name)] = foretold.get(key_of(name), 0.0) + count * estimate.latency_std_us
    return Decision(
        says=says,
        margin_us=left_us - found.point.latency_us,
        deviation_us={key: std_us for key, std_us in foretold.items() if std_us > 0},
        other_us=found.around.decoder_std_us / found.around.pipeline.forwards(found.combination.commit),
    )


def firmness(
    settings: Decision | None, layout: Decision | None, better: Sequence[Decision], rows: Mapping[str, tuple[str, str]]
) -> Firmness:
    """Return whether an answer is firm, and what would settle it.

    Args:
        settings: Whether some layout of its settings keeps the budgets: its fastest one.
        layout: Whether its own layout does. Both are None where a row states no deviation.
        better: Of everything better that does not fit: whether it would.
        rows: Part and video size of every row that could be measured, by its key.
    """
    if settings is None or layout is None:
        said = "rows behind the answer state no deviation, so nobody can say how firm it is"
        return Firmness(firm=False, probability=None, doubts=(said,))
    open_settings = [one for one in (settings, *better) if not one.settled]
    firm = not open_settings and settings.probability >= SETTLED
    several = open_settings or ([] if layout.settled else [layout])
    chosen = _chosen(several)
    return Firmness(
        firm=firm,
        probability=round(settings.probability, 6),
        layout_probability=round(layout.probability, 6),
        doubts=(*_doubts(settings, layout, open_settings), *_no_rows(several)),
        rows=tuple(_row(key, rows[key], several) for key in chosen),
        settles=round(min(one.settled_by(chosen) for one in several), 6) if several else None,
    )


def _doubts(settings: Decision, layout: Decision, open_settings: Sequence[Decision]) -> tuple[str, ...]:
    mine = [one for one in (settings, layout) if one.probability < SETTLED]
    likely = sorted((one for one in open_settings if one is not settings), key=lambda one: -one.probability)
    return (
        *(f"{one.says} (with a probability of {_percent(1 - one.probability)})" for one in mine),
        *(f"{one.says} (with a probability of {_percent(one.probability)})" for one in likely),
    )


def _no_rows(several: Sequence[Decision]) -> tuple[str, ...]:
    """Say how much of the doubt measuring rows leaves: what a decoder takes at a size that it was not timed at."""
    variance = sum(one.std_us**2 for one in several)
    share = sum(one.other_us**2 for one in several) / variance if variance else 0.0
    said = f"{_percent(share)} of the doubt is the decoder's time at another size, which no row tells: time it"
    return (said,) if share >= _MUCH else ()


def _row(key: str, names: tuple[str, str], several: Sequence[Decision]) -> RowToMeasure:
    part, video = names
    variance = sum(one.std_us**2 for one in several)
    mine = sum(one.deviation_us.get(key, 0.0) ** 2 for one in several)
    return RowToMeasure(key=key, part=part, video=video, share=round(mine / variance, 6))


def _chosen(several: Sequence[Decision]) -> list[str]:
    """Return the rows that are expected to settle every decision, the most telling first.

    A row that is next to nothing of the doubt is not named: what is left is then no row's.
    """
    left = list(dict.fromkeys(row for one in several for row in one.deviation_us))
    chosen: list[str] = []
    while left:
        least = min(several, key=lambda one: one.settled_by(chosen))
        if least.settled_by(chosen) >= EXPECTED:
            break
        row = max(left, key=lambda row: least.deviation_us.get(row, 0.0))
        if least.deviation_us.get(row, 0.0) ** 2 < _TELLING * least.std_us**2:
            break
        chosen.append(row)
        left.remove(row)
    return chosen


def _percent(probability: float) -> str:
    """Write a probability that is neither 0 nor 1.

    >>> _percent(0.9999), _percent(0.314)
    ('over 99 %', '31 %')
    """
    if probability > 0.99:
        return "over 99 %"
    return f"{100 * probability:.0f} %" if probability >= 0.01 else "under 1 %"

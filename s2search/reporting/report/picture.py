"""Fronts as one picture in SVG: score over latency, on a logarithmic axis where devices are far apart.

Each front has a colour and a form of its points, so that no colour alone tells them apart. Text and lines have classes,
and the page that the picture stands on gives them their colours in light and in dark.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s2search.cost import format_us
from s2search.planner.plan import Plan
from s2search.reporting.report.markup import Html, element, joined

#: From this ratio of the slowest to the fastest on, the axis of latency is logarithmic.
LOG_FROM = 8.0
_WIDTH, _HEIGHT = 900, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 16, 14, 52
_MOST_POINTS = 120
#: Forms by the number of the front: a circle, a square, a triangle, a diamond, one that stands on its point, a cross.
_FORMS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-3.6 -3.6h7.2v7.2h-7.2z",
    "M0 -5l4.8 8.4h-9.6z",
    "M0 -5.4l5 5.4l-5 5.4l-5 -5.4z",
    "M0 5l4.8 -8.4h-9.6z",
    "M-4.6 -1.5h3.1v-3.1h3v3.1h3.1v3h-3.1v3.1h-3v-3.1h-3.1z",
)
SERIES = len(_FORMS)


@dataclass(frozen=True, kw_only=True)
class PictureAxis:
    """Maps values to pixels, evenly or by their logarithms."""

    low: float
    high: float
    start_px: float
    end_px: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], start_px: float, end_px: float, *, log: bool = False) -> PictureAxis:
        """Return an axis with a margin on both sides of all values."""
        low, high = min(values), max(values)
        if log:
            room = (high / low) ** 0.05
            return cls(
                low=low / room, high=min(high * room, sys.float_info.max), start_px=start_px, end_px=end_px, log=True
            )
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low=low - margin, high=high + margin, start_px=start_px, end_px=end_px)

    def __call__(self, value: float) -> float:
        """Return where a value lies, in pixels."""
        low, high, at = (math.log(one) if self.log else one for one in (self.low, self.high, value))
        return self.start_px + (at - low) / (high - low) * (self.end_px - self.start_px)

    def ticks(self, wanted: int) -> list[float]:
        """Return round values inside, about so many: 1, 2 and 5 times powers of ten where it is logarithmic."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            inside = [tick for tick in every if self.low <= tick <= self.high]
            return inside if len(inside) <= 2 * wanted else [t for t in inside if math.log10(t) % 1 < 1e-9]
        if not math.isfinite(self.high - self.low):
            return []  # numbers that no table has, and a file may
        step = _round_step((self.high - self.low) / wanted)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least as large.

    >>> _round_step(0.3), _round_step(61)
    (0.5, 100.0)
    """
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999) * power


def wants_log(latencies_ms: Sequence[float]) -> bool:
    """Return whether latencies lie so far apart that an even axis would show the fast ones as one line.

    >>> wants_log([10.0, 70.0]), wants_log([10.0, 800.0])
    (False, True)
    """
    low = min(latencies_ms)
    return low > 0 and max(latencies_ms) / low >= LOG_FROM


def fronts_svg(
    fronts: Mapping[str, Sequence[Plan]], references: Mapping[str, Plan], rows: Mapping[str, Sequence[str]]
) -> Html:
    """Return fronts by name as one picture, and further plans as open diamonds with their names.

    Args:
        fronts: By rising latency.
        references: Plans to compare with.
        rows: The anchor that each point of a front leads to, by the front's name.
    """
    every = [plan for plans in fronts.values() for plan in plans] + list(references.values())
    latencies = [plan.kept_ms for plan in every]
    x = PictureAxis.around(latencies, _LEFT, _WIDTH - _RIGHT, log=wants_log(latencies))
    y = PictureAxis.around([end for plan in every for end in plan.score_range], _HEIGHT - _BOTTOM, _TOP)
    drawn = [_axes(x, y, every[0].provenance.score)]
    for n, (name, plans) in enumerate(fronts.items()):
        drawn.append(_front(n, name, plans, x, y, rows[name]))
    drawn += _diamonds(references, x, y)
    told = f"Score over the latency of one forward pass: {'; '.join(_said(name, p) for name, p in fronts.items())}"
    return element(
        "svg", *drawn, role="img", aria_label=f"{told}. The table below has every point.",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="chart",
    )  # fmt: skip


def legend_mark(n: int) -> Html:
    """Return the form of a front's points for a legend."""
    shape = element("path", d=_FORMS[n % SERIES], class_=f"s{n % SERIES}", transform="translate(8 8)")
    return element("svg", shape, viewBox="0 0 16 16", class_="mark", aria_hidden="true")


def _said(name: str, plans: Sequence[Plan]) -> str:
    ends = [format_us(1000 * plans[at].kept_ms) for at in (0, -1)]
    return f"{name} has {len(plans)} plans from {ends[0]} to {ends[1]}"


def _axes(x: PictureAxis, y: PictureAxis, score: str) -> Html:
    floor, parts = _HEIGHT - _BOTTOM, []
    for tick in y.ticks(8):
        parts.append(element("path", d=f"M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}", class_="grid"))
        parts.append(label(_LEFT - 8, y(tick) + 4, f"{tick:.4g}", "end"))
    for tick in x.ticks(7):
        parts.append(element("path", d=f"M{x(tick):.1f} {floor}v5", class_="tick"))
        parts.append(label(x(tick), floor + 19, f"{tick:g}", "middle"))
    how = ", logarithmic" if x.log else ""
    parts.append(label((_LEFT + _WIDTH) / 2, _HEIGHT - 8, f"latency of one forward pass (ms{how})", "middle"))
    turned = f"translate(14 {(_TOP + floor) / 2:.0f}) rotate(-90)"
    parts.append(element("text", f"score: {score}"[:60], transform=turned, text_anchor="middle"))
    return joined(parts)


def _front(n: int, name: str, plans: Sequence[Plan], x: PictureAxis, y: PictureAxis, rows: Sequence[str]) -> Html:
    way = f"M{x(plans[0].kept_ms):.1f} {y(plans[0].score):.1f}"
    way += "".join(f"H{x(plan.kept_ms):.1f}V{y(plan.score):.1f}" for plan in plans[1:])
    parts = [element("path", d=way, class_=f"way l{n % SERIES}")]
    for place in spaced(len(plans), _MOST_POINTS):
        plan = plans[place]
        at = f"translate({x(plan.kept_ms):.1f} {y(plan.score):.1f})"
        low, high = plan.score_range
        if high > low:
            ends = f"M{x(plan.kept_ms):.1f} {y(low):.1f}V{y(high):.1f}"
            parts.append(element("path", d=ends, class_=f"whisker l{n % SERIES}"))
        said = element("title", f"{name}: {plan.written}, {format_us(1000 * plan.kept_ms)}, score {plan.score:.6f}")
        mark = element("path", said, d=_FORMS[n % SERIES], class_=f"s{n % SERIES}", transform=at)
        parts.append(element("a", mark, href=f"#{rows[place]}", tabindex=-1))
    return joined(parts)


def _diamonds(references: Mapping[str, Plan], x: PictureAxis, y: PictureAxis) -> list[Html]:
    """Return references with their names, which give way to each other."""
    found, taken = [], list[tuple[float, float]]()
    for name, plan in references.items():
        left, top = x(plan.kept_ms), y(plan.score)
        side, anchor = (left - 12, "end") if left > 0.7 * _WIDTH else (left + 12, "start")
        down = top + 14
        while any(abs(down - other) < 14 and abs(side - beside) < 160 for beside, other in taken):
            down += 14
        taken.append((side, down))
        said = element("title", f"{name}: {plan.written}, {format_us(1000 * plan.kept_ms)}, score {plan.score:.6f}")
        found.append(element("path", said, d=f"M{left:.1f} {top - 7:.1f}l7 7l-7 7l-7 -7z", class_="reference"))
        found.append(label(side, down, name, anchor))
    return found


def label(x: float, y: float, words: str, anchor: str, class_: str | None = None) -> Html:
    """Return a word of a picture."""
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)


def spaced(count: int, most: int) -> list[int]:
    """Return at most so many places of a sequence, its first and its last among them, evenly apart.

    >>> spaced(3, 5), spaced(9, 3)
    ([0, 1, 2], [0, 4, 8])
    """
    if count <= most:
        return list(range(count))
    return [round(n * (count - 1) / (most - 1)) for n in range(most)]

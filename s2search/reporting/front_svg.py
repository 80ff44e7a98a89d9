"""A front as one SVG picture for a notebook: score over latency, with the references as diamonds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from s2search.cost import format_us
from s2search.planner.frontier import Frontier
from s2search.planner.plan import Plan
from s2search.reporting.origin import score_with_error

_POINT, _REFERENCE = "#3B8BC4", "#D55E00"
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 20, 16, 44


@dataclass(frozen=True)
class _Scale:
    """Maps values to pixels; `ticks` are round values inside."""

    low: float
    high: float
    start_px: float
    end_px: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low or 1.0)
        return self.start_px + share * (self.end_px - self.start_px)

    @property
    def ticks(self) -> list[float]:
        step = _round_step((self.high - self.low) / 5 or 1.0)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def front_svg(front: Frontier) -> str:
    """Return the picture; text and lines have the colour of the page that it stands on."""
    every = [*front.plans, *front.references.values()]
    x = _scale([plan.latency_ms.predicted for plan in every], _LEFT, _WIDTH - _RIGHT)
    y = _scale([end for plan in every for end in plan.score_range], _HEIGHT - _BOTTOM, _TOP)
    way = f"M{x(front[0].latency_ms.predicted):.1f} {y(front[0].score):.1f}"
    way += "".join(f"H{x(plan.latency_ms.predicted):.1f}V{y(plan.score):.1f}" for plan in front)
    points = "".join(_point(plan, x, y) for plan in front)
    diamonds = "".join(_diamond(name, plan, x, y) for name, plan in front.references.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="score over latency" width="{_WIDTH}" '
        f'height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" style="display:block;max-width:100%;height:auto" '
        f'font-family="sans-serif" font-size="11">{_axes(front[0], x, y)}'
        f'<path d="{way}" fill="none" stroke="currentColor" stroke-opacity=".4"/>{points}{diamonds}</svg>'
    )


def _axes(plan: Plan, x: _Scale, y: _Scale) -> str:
    floor = _HEIGHT - _BOTTOM
    lines = f"M{_LEFT} {_TOP}V{floor}H{_WIDTH - _RIGHT}"
    drawn = f'<path d="{lines}" fill="none" stroke="currentColor" stroke-opacity=".6"/>'
    drawn += "".join(_text(x(tick), floor + 16, f"{tick:g}", "middle") for tick in x.ticks)
    drawn += "".join(_text(_LEFT - 8, y(tick) + 4, f"{tick:.4g}", "end") for tick in y.ticks)
    drawn += _text((_LEFT + _WIDTH) / 2, _HEIGHT - 8, "latency of one forward pass (ms)", "middle")
    middle = (_TOP + floor) / 2
    score = escape(f"score: {plan.provenance.score}")
    return (
        f'{drawn}<text transform="translate(14 {middle:.0f}) rotate(-90)" fill="currentColor" text-anchor="middle">'
        f"{score}</text>"
    )


def _point(plan: Plan, x: _Scale, y: _Scale) -> str:
    place = f'cx="{x(plan.latency_ms.predicted):.1f}" cy="{y(plan.score):.1f}"'
    low, high = plan.score_range
    ends = f"M{x(plan.latency_ms.predicted):.1f} {y(low):.1f}V{y(high):.1f}"
    whisker = f'<path d="{ends}" stroke="{_POINT}" stroke-opacity=".5"/>' if high > low else ""
    return f'{whisker}<circle {place} r="3.5" fill="{_POINT}"><title>{escape(_told(plan))}</title></circle>'


def _diamond(name: str, plan: Plan, x: _Scale, y: _Scale) -> str:
    left, top = x(plan.latency_ms.predicted), y(plan.score)
    shape = f"M{left:.1f} {top - 7:.1f}l7 7l-7 7l-7-7z"
    side, anchor = (left - 11, "end") if left > _WIDTH * 0.7 else (left + 11, "start")
    return (
        f'<path d="{shape}" fill="none" stroke="{_REFERENCE}" stroke-width="1.5"><title>{escape(_told(plan))}</title>'
        f"</path>{_text(side, top + 13, name, anchor, _REFERENCE)}"
    )


def _told(plan: Plan) -> str:
    counts = " + ".join(f"{count} {label}" for label, count in plan.counts.items() if count)
    score = score_with_error(plan.score, plan.score_error)
    return f"{plan.written}: {counts}, {format_us(1000 * plan.latency_ms.predicted)}, score {score}"


def _text(x: float, y: float, text: str, anchor: str, fill: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _scale(values: Sequence[float], start_px: float, end_px: float) -> _Scale:
    margin = 0.08 * (max(values) - min(values)) or 0.05 * abs(max(values)) or 1.0
    return _Scale(min(values) - margin, max(values) + margin, start_px, end_px)


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least as large.

    >>> _round_step(0.3), _round_step(61)
    (0.5, 100)
    """
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return step * power if step * power < 1 else round(step * power)

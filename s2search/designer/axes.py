"""Axes: what may be chosen beside the layout, which values are on offer, and which of two values is more.

More is a direction, and no number: a larger video, more steps, a longer window, a deeper or wider model and more bits
are each wished for as such. Of the other axes nobody can say which value is better, unless a quality does.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from s2search.block import Precision
from s2search.cost import COMMIT_POLICIES, Pipeline
from s2search.errors import InputError, MissingRowError, UnknownNameError
from s2search.preset import token_grid, video_size
from s2search.tables.application import RESIDENCIES, Application
from s2search.tables.rows import Rows
from s2search.tables.table import LatencyTable, in_precision

AxisName = Literal[
    "video",
    "steps",
    "width",
    "depth",
    "window",
    "precision",
    "chunk",
    "decoder",
    "text_encoder",
    "commit",
    "residency",
]
AXES: tuple[AxisName, ...] = get_args(AxisName)
#: Axes with a direction: more is wished for, and costs.
ORDERED: tuple[AxisName, ...] = ("video", "steps", "width", "depth", "window", "precision")
#: Axes of the network itself: a value of each gives the costs of every block.
OF_NETWORK: tuple[AxisName, ...] = ("video", "width", "depth", "window", "precision", "chunk")
_COUNTS: tuple[AxisName, ...] = ("steps", "width", "depth", "window", "chunk")
#: Steps where the card offers none: what few-step models are made for.
_STEPS = (1, 2, 4)
_MOST_VALUES = 64

Value = str | int


@dataclass(frozen=True, kw_only=True)
class DesignAxis:
    """One thing to choose: its values, the least first where it has a direction."""

    name: AxisName
    values: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """Whether more of it is wished for."""
        return self.name in ORDERED

    @property
    def chosen(self) -> bool:
        """Whether there is a choice."""
        return len(self.values) > 1


def amount(name: AxisName, value: Value) -> int:
    """Return how much a value of an ordered axis is: pixels of a frame, bits of a number, or the number itself.

    >>> amount("video", "512x288") > amount("video", "288x512") - 1 > amount("video", "256x144")
    True
    """
    if name == "video":
        height, width = token_grid(str(value))
        return height * width
    if name == "precision":
        stored = Precision.named(str(value))
        return 100 * stored.matrix_bits + stored.activation_bits
    return int(value)


def parse_choices(texts: Sequence[str] | Mapping[str, Sequence[Value]]) -> dict[AxisName, tuple[Value, ...]]:
    """Read what may be chosen: `steps=1|2|4,video=512x288|640x352`, or the same as a mapping.

    Raises:
        InputError: An unknown axis, one twice, no value, or one that is none.

    >>> parse_choices(["steps=4|1,video=512x288"])
    {'steps': (1, 4), 'video': ('512x288',)}
    """
    if isinstance(texts, Mapping):
        given = [(name, [*values] if not isinstance(values, str | int) else [values]) for name, values in texts.items()]
    else:
        given = [_split(item) for text in texts for item in text.split(",") if item.strip()]
    found: dict[AxisName, tuple[Value, ...]] = {}
    for name, values in given:
        axis = _axis(name)
        if axis in found:
            raise InputError(f"the axis {name!r} is given twice", remedy="give all its values at once: steps=1|2|4")
        found[axis] = in_order(axis, [_value(axis, value) for value in values])
    return found


def _split(item: str) -> tuple[str, list[Value]]:
    name, equals, values = item.partition("=")
    if not equals or not values.strip():
        raise InputError(
            f"the choice {item.strip()!r} cannot be read",
            allowed="AXIS=VALUE|VALUE",
            remedy="write for example steps=1|2|4",
        )
    return name.strip(), [value.strip() for value in values.split("|")]


def _axis(name: str) -> AxisName:
    for axis in AXES:
        if name.replace("-", "_") == axis:
            return axis
    raise UnknownNameError("axis", name, AXES, listed_as="axes")


def _value(axis: AxisName, value: Value) -> Value:
    """Read one value of an axis."""
    text = str(value)
    if axis in _COUNTS:
        if not re.fullmatch(r"[1-9]\d{0,4}", text):
            raise InputError(f"{axis} is {text!r}", allowed="a whole number from 1 to 99,999", remedy="correct it")
        return int(text)
    if axis == "video":
        return video_size(*token_grid(text))
    if axis == "precision":
        return Precision.named(text).name
    allowed = {"commit": COMMIT_POLICIES, "residency": RESIDENCIES}.get(axis)
    if allowed is not None and text not in allowed:
        raise UnknownNameError(axis, text, allowed)
    return text


def check_settings(settings: Mapping[AxisName, Value]) -> None:
    """Raise unless settings are a value of every axis, as they come from a file.

    Raises:
        InputError: One lacks, or is none.
    """
    for axis in AXES:
        if axis not in settings:
            raise InputError(f"settings of a design lack the axis {axis}", remedy="make the file again")
        value = settings[axis]
        if (axis, value) != ("window", 0) and (value != "" or axis in ORDERED):
            read = _value(axis, value)
            if type(read) is not type(value):
                raise InputError(f"{axis} of a design is {value!r}", allowed=f"such as {read!r}", remedy="correct it")


def in_order(axis: AxisName, values: Sequence[Value]) -> tuple[Value, ...]:
    """Return the different values of an axis, the least first where it has a direction.

    Raises:
        InputError: There are too many.
    """
    different = list(dict.fromkeys(values))
    if len(different) > _MOST_VALUES:
        raise InputError(
            f"the axis {axis} has {len(different)} values", allowed=f"at most {_MOST_VALUES}", remedy="choose fewer"
        )
    return tuple(sorted(different, key=lambda value: amount(axis, value)) if axis in ORDERED else different)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a table offers on every axis, before anybody chooses.

    `forms` are the rows of a stream's forward passes, `depth` that of the preset that they were measured for,
    `application` what runs beside the transformer, with what was told in place of the card's.
    """

    table: LatencyTable
    forms: Rows
    depth: int
    pipeline: Pipeline | None
    application: Application

    def in_precision(self, precision: str) -> Offer:
        """Return what the device offers in a precision: this table, or where it has no such rows that beside it.

        Where nobody measured one, the rows of this table are what is foretold from.
        """
        if precision not in self._in_precision:
            self._in_precision[precision] = self._found_in(precision)
        return self._in_precision[precision]

    @cached_property
    def _in_precision(self) -> dict[str, Offer]:
        return dict.fromkeys(self.forms.different("precision"), self)

    def _found_in(self, precision: str) -> Offer:
        try:
            table = in_precision(self.table, "stream", precision)
        except MissingRowError:
            return self
        forms = table.rows.having(scenario="stream", role="block", precision=precision)
        same = forms.having(compute_unit=self.forms[0].compute_unit)
        return dataclasses.replace(self, table=table, forms=same or forms)

    def _windows(self) -> list[int]:
        """Return the past chunks that rows see: whole ones, or where no row does, as many as it takes."""
        seen = self.forms.different("frames", "context_frames")
        return [past // own for own, past in seen if past % own == 0] or [-(-past // own) for own, past in seen]

    def values(self, axis: AxisName) -> tuple[Value, ...]:
        """Return the values that are on offer: what was measured, what the card lists, or the pipeline's own."""
        offered: Mapping[AxisName, Sequence[Value]] = {
            "video": [video_size(*grid) for grid in self.forms.different("height", "width")],
            "steps": self.application.steps or (*_STEPS, *([self.pipeline.steps] if self.pipeline else [])),
            "width": self.forms.different("channels"),
            "depth": [self.depth],
            "window": self._windows(),
            "precision": self.forms.different("precision"),
            "chunk": self.forms.different("frames"),
            "decoder": [one.name for one in self.application.decoders] or [""],
            "text_encoder": [one.name for one in self.application.text_encoders] or [""],
            "commit": self.application.commits or COMMIT_POLICIES[:1],
            "residency": RESIDENCIES[:1],
        }
        return in_order(axis, offered[axis])


def settle(
    offer: Offer,
    choose: Mapping[AxisName, tuple[Value, ...]],
    fix: Mapping[AxisName, tuple[Value, ...]],
) -> tuple[DesignAxis, ...]:
    """Return every axis with its values: those that are chosen from, the one that is fixed, or what is on offer.

    Raises:
        InputError: An axis is chosen from and fixed, is fixed at several values, or names what the card does not have.
    """
    for axis, values in fix.items():
        if axis in choose:
            raise InputError(f"the axis {axis} is chosen from and fixed", remedy="leave out one of them")
        if len(values) > 1:
            raise InputError(f"{axis} is fixed at {len(values)} values", remedy=f"use --choose {axis}=... for several")
    asked = {**choose, **fix}
    for axis in ("decoder", "text_encoder"):
        for value in asked.get(axis, ()):
            if value not in (known := offer.values(axis)):
                raise InputError(
                    f"the table {offer.table.name!r} has no {axis.replace('_', ' ')} {value!r}",
                    allowed=f"its card lists: {', '.join(map(str, filter(None, known))) or 'none'}",
                    remedy="choose one of these, or write it into the application of the card",
                )
    return tuple(DesignAxis(name=axis, values=asked.get(axis) or offer.values(axis)) for axis in AXES)

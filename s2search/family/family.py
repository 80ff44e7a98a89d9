"""Family: what a user says of a kind of models, in TOML. A chain of slots, alternatives for each, and what they use.

Which of a table's rows stands for an alternative in a slot is said by cells: those of the slot and those of the
alternative together. See docs/own_architecture.md for every key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from s2search.border.regular_file import read_regular_text
from s2search.border.toml import parsed_toml
from s2search.errors import InputError, UnknownNameError

#: Cells as a file states them: whole numbers may stand without quotes.
StatedCells = dict[str, str | int]

_MOST_SLOTS = 10_000
_MOST_STREAMS = 100
_ANY = "*"
#: How limits are called that are no budgets; no resource may be.
SWITCHES = "stream changes"
OF, WITHOUT = "slots of ", "slots without "


@dataclass(frozen=True, kw_only=True)
class RowsAsked:
    """Which rows of the table count: those with the cells `where`, with or without those of negative numbers."""

    where: StatedCells = field(default_factory=dict)
    negative: Literal["refuse", "leave out"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class ScoreAsked:
    """What is to be as large, or as small, as can be, and who says so.

    One of: a `column`, `columns` with weights, the `use` of a resource, or none of these where every alternative states
    its own score. `statement` says where the scores come from; `stand_in` that they stand for ones not measured.
    """

    goal: Literal["maximize", "minimize"]
    statement: str
    column: str | None = None
    columns: dict[str, float] = field(default_factory=dict)
    use: str | None = None
    unit: str = ""
    stand_in: bool = False
    rows: StatedCells = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, float]:
        """The columns that are summed, and how much each counts."""
        return self.columns or ({} if self.column is None else {self.column: 1.0})


@dataclass(frozen=True, kw_only=True)
class ResourceAsked:
    """What alternatives use: a `column` is summed over slots, of a `peak` the largest is added.

    `resolution` is what whole numbers of the search stand for, in the unit; uses are rounded up to it.
    """

    unit: str = ""
    column: str | None = None
    peak: str | None = None
    resolution: float | None = None
    rows: StatedCells = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SlotAsked:
    """A slot, or several of one kind after another; in `rows`, {layer} and {n} are numbers, see `Family.slots`."""

    name: str
    rows: StatedCells = field(default_factory=dict)
    repeat: int = 1


@dataclass(frozen=True, kw_only=True)
class AlternativeAsked:
    """What may stand in slots, or, with `each`, one alternative per combination of cells in these columns.

    In a `label` with `each`, the columns' names in braces are the cells. What runs in several streams names them all.
    """

    label: str = ""
    each: list[str] = field(default_factory=list)
    slots: list[str] | None = None
    stream: str | list[str] | None = None
    rows: StatedCells = field(default_factory=dict)
    score: float | None = None

    @property
    def streams(self) -> list[str]:
        """The streams that it can run in; none where the family has none."""
        return [self.stream] if isinstance(self.stream, str) else self.stream or []


@dataclass(frozen=True, kw_only=True)
class FixedAsked:
    """What every model of the family uses: a row, or costs by resource in its unit."""

    name: str = ""
    rows: StatedCells | None = None
    cost: dict[str, float] | None = None
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class StreamsAsked:
    """Ways of holding data between slots, such as resolutions: `first` before the chain and `last` behind it."""

    names: list[str]
    first: str | None = None
    last: str | None = None
    max_switches: int | None = None


@dataclass(frozen=True, kw_only=True)
class SwitchAsked:
    """What going from one stream to another uses; "*" stands for each that no other switch names."""

    before: str
    after: str
    rows: StatedCells | None = None
    cost: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class FamilySlot:
    """One slot of the chain: its name, that of its kind, and the cells that its rows have."""

    name: str
    kind: str
    cells: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of models. `slots_asked` come `depth` times, one after another; `where` its file is, and its digest.

    `first` and `last` are the alternatives of the first and the last slots, by label; `counts` how many slots an
    alternative takes: `4`, or `"2..4"`.
    """

    name: str
    statement: str
    score: ScoreAsked
    resources: dict[str, ResourceAsked]
    slots_asked: list[SlotAsked] = field(default_factory=list)
    alternatives: list[AlternativeAsked] = field(default_factory=list)
    depth: int = 1
    first_layer: int = 0
    group_size: int = 1
    rows: RowsAsked = field(default_factory=RowsAsked)
    fixed: list[FixedAsked] = field(default_factory=list)
    streams: StreamsAsked | None = None
    switches: list[SwitchAsked] = field(default_factory=list)
    counts: dict[str, int | str] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    path: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "statement"):
            _check_text(getattr(self, name), f"{name} of the family")
        _check_text(self.score.statement, "statement of its score")
        self._check_slots()
        self._check_alternatives()
        self._check_resources()
        self._check_score()
        self._check_streams()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Family:
        """Read a family's file.

        Raises:
            InputError: It cannot be read, is no TOML, has a key that means nothing, or contradicts itself.
        """
        try:
            text = read_regular_text(path)
        except UnicodeDecodeError as error:
            raise InputError(f"the family {str(path)!r} is not UTF-8 text", remedy="name a TOML file") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"the family {str(path)!r} cannot be read: {reason}", remedy="name a TOML file") from error
        try:
            found = parsed_toml(text)
        except ValueError as error:
            raise InputError(f"the family {str(path)!r} is not TOML: {error}", remedy="correct the file") from error
        digest = hashlib.sha256(text.encode()).hexdigest()
        try:
            _check_keys(found)
            found = {("slots_asked" if key == "slots" else key): value for key, value in found.items()}
            family = msgspec.convert(found, cls)
            return dataclasses.replace(family, path=str(path), digest=f"sha256:{digest}")
        except msgspec.ValidationError as error:
            said = str(error).replace("`slots_asked`", "`slots`").replace("$.slots_asked", "$.slots")
            raise InputError(f"the family {str(path)!r} cannot be used: {said}", remedy="correct the file") from error
        except UnknownNameError:
            raise
        except InputError as error:
            raise InputError(
                f"the family {str(path)!r} cannot be used: {error.problem}", allowed=error.allowed, remedy=error.remedy
            ) from error

    @property
    def slots(self) -> tuple[FamilySlot, ...]:
        """The chain. {layer} counts how often all slots have come, from `first_layer`, {n} a slot's repeats, from 0."""
        return tuple(
            FamilySlot(
                name=_numbered(asked, layer if self.depth > 1 else None, n if asked.repeat > 1 else None),
                kind=asked.name,
                cells={key: _filled(cell, layer=layer, n=n) for key, cell in asked.rows.items()},
            )
            for layer in range(self.first_layer, self.first_layer + self.depth)
            for asked in self.slots_asked
            for n in range(asked.repeat)
        )

    @property
    def stream_names(self) -> tuple[str, ...]:
        """The streams; one without a name where the family has none."""
        return ("",) if self.streams is None else tuple(self.streams.names)

    def _check_slots(self) -> None:
        _check_some(self.slots_asked, "[[slots]]")
        _check_once([slot.name for slot in self.slots_asked], "slots")
        for name, value in (("depth", self.depth), *((f"repeat of {s.name!r}", s.repeat) for s in self.slots_asked)):
            if not 1 <= value <= _MOST_SLOTS:
                raise InputError(f"{name} is {value}", allowed=f"1 to {_MOST_SLOTS:,}")
        many = self.depth * sum(slot.repeat for slot in self.slots_asked)
        if many > _MOST_SLOTS:
            raise InputError(f"it has {many:,} slots", allowed=f"at most {_MOST_SLOTS:,}")
        if abs(self.first_layer) > _MOST_SLOTS:
            raise InputError(f"first_layer is {self.first_layer}", allowed=f"at most {_MOST_SLOTS:,}")
        if self.group_size < 1 or many % self.group_size:
            raise InputError(
                f"{many} slots do not divide into groups of {self.group_size}", remedy="correct group_size"
            )
        for end in ("first", "last"):
            if len(getattr(self, end)) > many:
                raise InputError(f"{end} names {len(getattr(self, end))} slots, and there are {many}")

    def _check_alternatives(self) -> None:
        _check_some(self.alternatives, "[[alternatives]]")
        kinds = [slot.name for slot in self.slots_asked]
        for one in self.alternatives:
            if not one.each:
                _check_text(one.label, "label of an alternative")
            for name in re.findall(r"\{([^{}]*)\}", one.label) if one.each else ():
                if name not in one.each:
                    raise UnknownNameError(
                        f"column of `each` in the label {one.label!r}", name, one.each, listed_as="each"
                    )
            for kind in one.slots or ():
                if kind not in kinds:
                    raise UnknownNameError("slot", kind, kinds, listed_as="slots")
            self._check_streams_of(one)
        _check_once([one.label for one in self.alternatives if not one.each], "alternatives")

    def _check_streams_of(self, one: AlternativeAsked) -> None:
        label = one.label or ", ".join(one.each)
        what = f"the alternative {label!r}"
        if self.streams is None and one.streams:
            raise InputError(f"{what} has the stream {one.streams[0]!r}, and there are none", remedy="add [streams]")
        if self.streams is not None and not one.streams:
            self._refuse_stream(None, what)
        for stream in one.streams:
            if stream not in self.stream_names:
                self._refuse_stream(stream, what)

    def _check_resources(self) -> None:
        _check_some(self.resources, "[resources.NAME]")
        for name, resource in self.resources.items():
            _check_text(name, "name of a resource")
            if ":" in name or name != name.strip() or name.startswith((SWITCHES, OF, WITHOUT)):
                raise InputError(
                    f"a resource is called {name!r}", allowed="another name, without a colon or spaces around it"
                )
            if resource.column is None and resource.peak is None:
                raise InputError(f"the resource {name!r} has no column", remedy="give it column = ..., or peak = ...")

    def _check_score(self) -> None:
        score = self.score
        given = [score.column is not None, bool(score.columns), score.use is not None]
        if sum(given) > 1:
            raise InputError("the score has several sources", allowed="one of column, columns, use")
        if score.use is not None:
            self._check_used_score(score.use)
        without = [one.label or ", ".join(one.each) for one in self.alternatives if one.score is None]
        if not any(given) and without:
            raise InputError(
                f"the alternative {without[0]!r} has no score",
                remedy="name a column under [score], or give every alternative a score",
            )
        if any(given) and len(without) < len(self.alternatives):
            raise InputError("alternatives state scores, and [score] names another source", remedy="keep one of them")

    def _check_used_score(self, use: str) -> None:
        if use not in self.resources:
            raise UnknownNameError("resource", use, self.resources, listed_as="resources")
        if self.resources[use].peak is not None:
            raise InputError(
                f"the score is the use of {use!r}, which has a peak", allowed="a resource that is summed alone"
            )

    def _check_streams(self) -> None:
        names = self.streams.names if self.streams is not None else []
        if self.streams is not None:
            _check_some(names, "names under [streams]")
            _check_once(names, "streams")
            if len(names) > _MOST_STREAMS:
                raise InputError(f"there are {len(names)} streams", allowed=f"at most {_MOST_STREAMS}")
            for end in (self.streams.first, self.streams.last):
                if end is not None and end not in names:
                    self._refuse_stream(end, "an end of the chain")
            if self.streams.max_switches is not None and self.streams.max_switches < 0:
                raise InputError(f"max_switches is {self.streams.max_switches}", allowed="0 or more")
        for switch in self.switches:
            for end in (switch.before, switch.after):
                if end not in (*names, _ANY):
                    self._refuse_stream(end, "a switch")
            if switch.before == switch.after != _ANY:
                raise InputError(f"a switch goes from {switch.before!r} to itself", remedy="remove it")
        _check_once([f"{switch.before} to {switch.after}" for switch in self.switches], "switches")
        every: list[FixedAsked | SwitchAsked] = [*self.fixed, *self.switches]
        for paid in every:
            self._check_paid(paid)

    def _check_paid(self, paid: FixedAsked | SwitchAsked) -> None:
        what = f"the switch from {paid.before!r} to {paid.after!r}" if isinstance(paid, SwitchAsked) else "a fixed part"
        if (paid.rows is None) == (paid.cost is None):
            raise InputError(f"{what} has {'both' if paid.rows is not None else 'neither'} of rows and cost")
        for name in paid.cost or ():
            if name not in self.resources:
                raise UnknownNameError("resource", name, self.resources, listed_as="resources")
        if isinstance(paid, FixedAsked) and not 1 <= paid.times <= _MOST_SLOTS:
            raise InputError(f"{what} comes {paid.times} times", allowed=f"1 to {_MOST_SLOTS:,}")

    def _refuse_stream(self, name: str | None, where: str) -> None:
        names = self.streams.names if self.streams is not None else []
        raise InputError(
            f"{where} has {'no stream' if name is None else f'the stream {name!r}'}",
            allowed=f"streams: {', '.join(names) or 'none'}",
            remedy="correct it, or add it under [streams]",
        )

    def switch(self, before: str, after: str) -> SwitchAsked | None:
        """Return what is said of going from one stream to another, the most exact that fits; None for nothing."""
        exact = {(switch.before, switch.after): switch for switch in self.switches}
        pairs = ((before, after), (before, _ANY), (_ANY, after), (_ANY, _ANY))
        return next((exact[pair] for pair in pairs if pair in exact), None)


def cells_of(stated: Mapping[str, str | int]) -> dict[str, str]:
    """Return cells as text, as a table has them."""
    return {name: str(cell) for name, cell in stated.items()}


_SECTIONS: dict[str, type] = {
    "rows": RowsAsked,
    "score": ScoreAsked,
    "slots": SlotAsked,
    "alternatives": AlternativeAsked,
    "fixed": FixedAsked,
    "streams": StreamsAsked,
    "switches": SwitchAsked,
}
_NOT_IN_FILE = ("path", "digest", "slots_asked")


def _check_keys(found: Mapping[str, Any]) -> None:
    """Refuse keys that would be lost in silence, and cells that are neither text nor whole numbers."""
    known = [name for name in _fields(Family) if name not in _NOT_IN_FILE] + ["slots"]
    _check_known(found, known, "a family")
    for name, cls in _SECTIONS.items():
        for section in _each(found.get(name)):
            _check_known(section, _fields(cls), f"`{name}`")
    resources = found.get("resources")
    for section in resources.values() if isinstance(resources, dict) else ():
        if isinstance(section, dict):
            _check_known(section, _fields(ResourceAsked), "a resource")


def _each(value: Any) -> Iterator[dict[str, Any]]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            yield one


def _fields(cls: type) -> list[str]:
    return [one.name for one in dataclasses.fields(cls)]


def _check_known(found: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in found:
        if key not in known:
            raise UnknownNameError(f"key of {where}", key, known, listed_as="its keys")


def _check_some(found: Sequence[Any] | Mapping[str, Any], what: str) -> None:
    if not found:
        raise InputError(f"there are no {what}", remedy=f"add {what}")


def _check_once(names: Sequence[str], what: str) -> None:
    for name, many in Counter(names).items():
        _check_text(name, f"name among the {what}")
        if many > 1:
            raise InputError(f"{many} {what} are called {name!r}", remedy="give each a name of its own")


def _check_text(text: str, what: str) -> None:
    if not text.strip() or not text.isprintable():
        raise InputError(f"the {what} is {text[:40]!r}", allowed="printable text on one line")


def _numbered(asked: SlotAsked, layer: int | None, n: int | None) -> str:
    return " ".join(
        [asked.name, *([] if layer is None and n is None else [".".join(f"{i}" for i in (layer, n) if i is not None)])]
    )


def _filled(cell: str | int, *, layer: int, n: int) -> str:
    return str(cell).replace("{layer}", str(layer)).replace("{n}", str(n))

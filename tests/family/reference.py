"""Families by their definition: every choice tried in plain Python, and a linear program of its own for HiGHS.

Nothing here is shared with the package: a family is read again from what its file says.

Axes:  L slots  C candidates (an alternative in a stream)  S streams, and the end that has none
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

NO_STREAM = -1


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An alternative in one stream."""

    label: str
    stream: int
    cells: Mapping[str, str]
    asked: Mapping[str, Any]


class Reference:
    """A family and its rows, read by the definition; small, or with few features, as docs/families are."""

    def __init__(self, toml: str, table: str) -> None:
        self.family = tomllib.loads(toml)
        self.rows = [
            row
            for row in csv.DictReader(io.StringIO(table))
            if all(row[k] == str(v) for k, v in self.family.get("rows", {}).get("where", {}).items())
        ]
        if self.family.get("rows", {}).get("negative") == "leave out":
            used = [r[k] for r in self.family["resources"].values() for k in ("column", "peak") if k in r]
            self.rows = [row for row in self.rows if not any(row[name].startswith("-") for name in used)]
        self.streams = self.family.get("streams", {}).get("names", [""])
        self.slots = list(self._slots())
        self.candidates = list(self._candidates())
        self.offer_L = [
            [c for c, one in enumerate(self.candidates) if self._offered(k, one)] for k in range(len(self.slots))
        ]
        self._end("first", 0)
        self._end("last", len(self.slots) - len(self.family.get("last", [])))

    def _slots(self) -> Iterator[tuple[str, dict[str, str]]]:
        first = self.family.get("first_layer", 0)
        for layer in range(first, first + self.family.get("depth", 1)):
            for slot in self.family["slots"]:
                for n in range(slot.get("repeat", 1)):
                    cells = {k: str(v).format(layer=layer, n=n) for k, v in slot.get("rows", {}).items()}
                    yield slot["name"], cells

    def _candidates(self) -> Iterator[Candidate]:
        for asked in self.family["alternatives"]:
            stated = asked.get("stream", [self.streams[0]])
            for cells, label in self._expanded(asked):
                for stream in [stated] if isinstance(stated, str) else stated:
                    yield Candidate(label=label, stream=self.streams.index(stream), cells=cells, asked=asked)

    def _expanded(self, asked: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], str]]:
        own = {k: str(v) for k, v in asked.get("rows", {}).items()}
        if "each" not in asked:
            yield own, asked["label"]
            return
        seen = set()
        for row in self.rows:
            cells = {k: row[k] for k in asked["each"]}
            if _has(row, own) and all(cells.values()) and tuple(cells.values()) not in seen:
                seen.add(tuple(cells.values()))
                yield own | cells, asked["label"].format(**cells) if "label" in asked else " ".join(cells.values())

    def _offered(self, layer: int, one: Candidate) -> bool:
        kind, cells = self.slots[layer]
        if kind not in one.asked.get("slots", [kind]) or any(cells.get(k, v) != v for k, v in one.cells.items()):
            return False
        source = next(iter(self.family["resources"].values()))
        return "each" not in one.asked or any(_has(row, cells | one.cells | _cells(source)) for row in self.rows)

    def _end(self, end: str, start: int) -> None:
        for layer, label in enumerate(self.family.get(end, []), start=start):
            self.offer_L[layer] = [c for c in self.offer_L[layer] if self.candidates[c].label == label]

    def row(self, cells: Mapping[str, str], source: Mapping[str, Any]) -> dict[str, str]:
        """Return the one row with these cells and a source's own."""
        (row,) = [row for row in self.rows if _has(row, {**cells, **_cells(source)})]
        return row

    def cell(self, name: str, what: str, layer: int, c: int) -> Fraction:
        """Return a resource's `column` or `peak` of a candidate in a slot."""
        asked = self.family["resources"][name]
        if what not in asked:
            return Fraction(0)
        return Fraction(self.row(self.slots[layer][1] | self.candidates[c].cells, asked)[asked[what]])

    def paid(self, paid: Mapping[str, Any], name: str, what: str) -> Fraction:
        """Return what a fixed part or a switch uses of a resource."""
        asked = self.family["resources"][name]
        if "cost" in paid:
            own = "column" if "column" in asked else "peak"
            return Fraction(str(paid["cost"].get(name, 0))) if what == own else Fraction(0)
        return Fraction(self.row(_cells(paid), asked)[asked[what]]) if what in asked else Fraction(0)

    def switch(self, name: str, before: int, after: int) -> Fraction:
        """Return what going from one stream to another uses."""
        if before == after or NO_STREAM in (before, after):
            return Fraction(0)
        names = [self.streams[before], self.streams[after]]
        fitting = [
            switch
            for switch in self.family["switches"]
            if switch["before"] in (names[0], "*") and switch["after"] in (names[1], "*")
        ]
        best = max(fitting, key=lambda switch: (switch["before"] != "*", switch["after"] != "*"))
        return self.paid(best, name, "column")

    @property
    def ends(self) -> tuple[int, int]:
        """The streams before and behind the chain."""
        asked = self.family.get("streams", {})
        first, last = (self.streams.index(asked[end]) if end in asked else NO_STREAM for end in ("first", "last"))
        return first, last

    def steps(self, choice_L: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return the streams that a choice goes between."""
        return list(pairwise([self.ends[0], *(self.candidates[c].stream for c in choice_L), self.ends[1]]))

    def fixed(self, name: str) -> tuple[Fraction, Fraction]:
        """Return what all choices use of a resource, and the least that their peak is."""
        parts = self.family.get("fixed", [])
        sums = sum((part.get("times", 1) * self.paid(part, name, "column") for part in parts), Fraction(0))
        return sums, max((self.paid(part, name, "peak") for part in parts), default=Fraction(0))

    def used(self, name: str, choice_L: tuple[int, ...]) -> Fraction:
        """Return what a choice uses of a resource."""
        fixed, peak = self.fixed(name)
        slots = sum((self.cell(name, "column", layer, c) for layer, c in enumerate(choice_L)), Fraction(0))
        peaks = [self.cell(name, "peak", layer, c) for layer, c in enumerate(choice_L)]
        return (
            fixed
            + slots
            + sum((self.switch(name, *step) for step in self.steps(choice_L)), Fraction(0))
            + max(peak, *peaks)
        )

    def worth(self, layer: int, c: int) -> Fraction:
        """Return what a candidate scores in a slot, unless the score is a resource's use."""
        asked, one = self.family["score"], self.candidates[c]
        if "column" not in asked and "columns" not in asked:
            return Fraction(str(one.asked["score"]))
        row = self.row(self.slots[layer][1] | one.cells, asked)
        weights = asked.get("columns") or {asked["column"]: 1}
        return sum((Fraction(str(weight)) * Fraction(row[name]) for name, weight in weights.items()), Fraction(0))

    def score(self, choice_L: tuple[int, ...]) -> Fraction:
        """Return what a choice scores."""
        if (use := self.family["score"].get("use")) is not None:
            return self.used(use, choice_L)
        return sum((self.worth(layer, c) for layer, c in enumerate(choice_L)), Fraction(0))

    def count(self, label: str, choice_L: tuple[int, ...]) -> int:
        """Return how many slots an alternative takes."""
        return [self.candidates[c].label for c in choice_L].count(label)

    def ranges(self) -> dict[str, tuple[int, int]]:
        """Return the least and the most slots of counted alternatives."""
        texts = {label: str(asked).partition("..") for label, asked in self.family.get("counts", {}).items()}
        return {label: (int(low), int(high or low)) for label, (low, _, high) in texts.items()}

    def changes(self, choice_L: tuple[int, ...]) -> int:
        """Return how often a choice changes the stream."""
        return sum(a != b and NO_STREAM not in (a, b) for a, b in self.steps(choice_L))

    def choices(self) -> Iterator[tuple[int, ...]]:
        """Yield all choices that keep everything but budgets."""
        size, most = self.family.get("group_size", 1), self.family.get("streams", {}).get("max_switches")
        for choice_L in itertools.product(*self.offer_L):
            if any(choice_L[k] != choice_L[k - k % size] for k in range(len(choice_L))):
                continue
            if most is not None and self.changes(choice_L) > most:
                continue
            if all(low <= self.count(label, choice_L) <= high for label, (low, high) in self.ranges().items()):
                yield choice_L

    def best(self, budgets: Mapping[str, Fraction]) -> tuple[Fraction, int] | None:
        """Return the best score within budgets and how many choices have it, or None, by trying all."""
        scores = [
            self.score(choice_L)
            for choice_L in self.choices()
            if all(self.used(name, choice_L) <= budget for name, budget in budgets.items())
        ]
        if not scores:
            return None
        best = max(scores) if self.family["score"]["goal"] == "maximize" else min(scores)
        return best, scores.count(best)

    def best_by_program(self, budgets: Mapping[str, Fraction]) -> float | None:
        """Return the best score within budgets, or None, by a mixed-integer program for HiGHS."""
        return _Program(self).solve(budgets)


class _Program:
    """One binary per candidate in a slot, one flow per pair of streams of neighbours, one peak per resource."""

    def __init__(self, of: Reference) -> None:
        self.of, self.names = of, list(of.family["resources"])
        self.at = {(layer, c): n for n, (layer, c) in enumerate((k, c) for k, cs in enumerate(of.offer_L) for c in cs)}
        streams = [NO_STREAM, *range(len(of.streams))]
        steps = itertools.product(range(len(of.slots) + 1), streams, streams)
        self.flow = {step: len(self.at) + n for n, step in enumerate(steps)}
        self.peak = {name: len(self.at) + len(self.flow) + n for n, name in enumerate(self.names)}
        self.size = len(self.at) + len(self.flow) + len(self.peak)
        self.lines: list[tuple[dict[int, float], float, float]] = []

    def solve(self, budgets: Mapping[str, Fraction]) -> float | None:
        self._choose()
        self._flow()
        self._constrain()
        for name in self.names:
            self._limit(name, budgets.get(name))
        goal, rest = self._score()
        sign = -1 if self.of.family["score"]["goal"] == "maximize" else 1
        matrix = csr_array(self._dense([line for line, _, _ in self.lines]))
        low, high = (np.array([line[k] for line in self.lines]) for k in (1, 2))
        least_N = np.zeros(self.size)
        for name, n in self.peak.items():
            least_N[n] = float(self.of.fixed(name)[1])
        done = milp(
            sign * self._dense([goal])[0],
            constraints=LinearConstraint(matrix, low, high),
            integrality=np.arange(self.size) < len(self.at),
            bounds=Bounds(least_N, np.where(np.arange(self.size) < len(self.at) + len(self.flow), 1.0, np.inf)),
            options={"mip_rel_gap": 0.0},
        )
        assert done.status in (0, 2), done.message
        return None if done.x is None else sign * float(done.fun) + rest

    def _choose(self) -> None:
        for layer, cs in enumerate(self.of.offer_L):
            self.lines.append(({self.at[layer, c]: 1.0 for c in cs}, 1, 1))
        size = self.of.family.get("group_size", 1)
        for layer in range(len(self.of.offer_L)):
            if layer % size:
                for c in {*self.of.offer_L[layer], *self.of.offer_L[layer - 1]}:
                    pair = [(self.at.get((layer, c)), 1.0), (self.at.get((layer - 1, c)), -1.0)]
                    self.lines.append(({n: v for n, v in pair if n is not None}, 0, 0))

    def _flow(self) -> None:
        """Tie every flow to the streams at both of its ends."""
        last = len(self.of.slots)
        for step in range(last + 1):
            for side, layer in ((0, step - 1), (1, step)):
                for stream in (NO_STREAM, *range(len(self.of.streams))):
                    line = {n: 1.0 for (k, *ends), n in self.flow.items() if k == step and ends[side] == stream}
                    there = self.of.ends[side] == stream if layer in (-1, last) else False
                    for c in self.of.offer_L[layer] if 0 <= layer < last else ():
                        if self.of.candidates[c].stream == stream:
                            line[self.at[layer, c]] = -1.0
                    self.lines.append((line, float(there), float(there)))

    def _constrain(self) -> None:
        for label, (low, high) in self.of.ranges().items():
            self.lines.append(
                ({n: 1.0 for (_, c), n in self.at.items() if self.of.candidates[c].label == label}, low, high)
            )
        most = self.of.family.get("streams", {}).get("max_switches")
        if most is not None:
            changes = {n: 1.0 for (_, a, b), n in self.flow.items() if a != b and NO_STREAM not in (a, b)}
            self.lines.append((changes, 0, most))

    def _used(self, name: str) -> dict[int, float]:
        line = {n: float(self.of.cell(name, "column", *place)) for place, n in self.at.items()}
        line |= {n: float(self.of.switch(name, a, b)) for (_, a, b), n in self.flow.items()}
        return line

    def _limit(self, name: str, budget: Fraction | None) -> None:
        fixed = self.of.fixed(name)[0]
        for place, n in self.at.items():
            if peak := self.of.cell(name, "peak", *place):
                self.lines.append(({self.peak[name]: 1.0, n: -float(peak)}, 0, np.inf))
        if budget is not None:
            self.lines.append(({**self._used(name), self.peak[name]: 1.0}, -np.inf, float(budget - fixed)))

    def _score(self) -> tuple[dict[int, float], float]:
        if (use := self.of.family["score"].get("use")) is not None:
            return self._used(use), float(self.of.fixed(use)[0])
        return {n: float(self.of.worth(*place)) for place, n in self.at.items()}, 0.0

    def _dense(self, lines: list[dict[int, float]]) -> np.ndarray:
        found = np.zeros((len(lines), self.size))
        for k, line in enumerate(lines):
            found[k, list(line)] = list(line.values())
        return found


def toml_text(family: Mapping[str, Any]) -> str:
    """Return a family as TOML."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in family.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def _cells(asked: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in asked.get("rows", {}).items()}


def _has(row: Mapping[str, str], cells: Mapping[str, str]) -> bool:
    return all(row[key] == value for key, value in cells.items())

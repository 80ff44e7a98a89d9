"""Random families with their tables: any streams, switches, groups, counts, peaks, fixed parts, goals and scores."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from tests.family.reference import toml_text

Random = np.random.Generator


def random_family(rng: Random) -> tuple[str, str]:
    """Return the text of a family and of its table; choices are few enough to try them all."""
    kinds = ["a", "b"][: rng.integers(1, 3)]
    depth = int(rng.integers(1, 4 if len(kinds) == 1 else 3))
    family: dict[str, Any] = {"name": "random", "statement": "random", "depth": depth}
    labels = ["x", "y", "z"][: rng.integers(2, 4)]
    family["slots"] = [{"name": kind, "rows": {"kind": kind, "layer": "{layer}"}} for kind in kinds]
    if len(kinds) == 1:
        family["slots"][0]["repeat"] = int(rng.integers(1, 3))
    slots = depth * sum(slot.get("repeat", 1) for slot in family["slots"])
    if len(kinds) == 1 and slots % 2 == 0 and rng.random() < 0.4:
        family["group_size"] = 2
    names = ["low", "high", "middle"][: rng.integers(0, 4)]
    _add_streams(rng, family, names)
    resources = _resources(rng)
    family["resources"] = resources
    family["alternatives"] = _alternatives(rng, labels, names)
    family["score"] = _score(rng, family)
    if rng.random() < 0.4:
        family["counts"] = _counts(rng, labels, slots)
    for end in ("first", "last"):
        if rng.random() < 0.15 and slots > 1 and not family.get("group_size"):
            family[end] = [str(rng.choice(labels))]
    family["fixed"] = [{"rows": {"kind": "rest"}, "times": int(rng.integers(1, 3))}] if rng.random() < 0.5 else []
    if rng.random() < 0.3:
        family["fixed"].append({"cost": dict.fromkeys(resources, 0.5)})
    return toml_text(family), _table(rng, family, kinds, labels)


def _add_streams(rng: Random, family: dict[str, Any], names: list[str]) -> None:
    if not names:
        return
    family["streams"] = {"names": names}
    for end in ("first", "last"):
        if rng.random() < 0.5:
            family["streams"][end] = str(rng.choice(names))
    if rng.random() < 0.3:
        family["streams"]["max_switches"] = int(rng.integers(0, 5))
    family["switches"] = [{"before": "*", "after": "*", "cost": {"one": 0.25}}]
    if len(names) > 1:
        family["switches"].append({"before": names[0], "after": names[1], "rows": {"kind": "switch"}})


def _resources(rng: Random) -> dict[str, Any]:
    found: dict[str, Any] = {"one": {"column": "one", "unit": "ms"}}
    if rng.random() < 0.6:
        found["two"] = {"column": "two", "peak": "peak", "unit": "MB"}
    if rng.random() < 0.4:
        found["three"] = {"peak": "three", "unit": "mJ"}
    return found


def _alternatives(rng: Random, labels: list[str], names: list[str]) -> list[dict[str, Any]]:
    def streams() -> dict[str, Any]:
        if not names:
            return {}
        several = [str(name) for name in rng.permutation(names)[: rng.integers(1, 3)]]
        return {"stream": several if rng.random() < 0.4 else several[0]}

    if rng.random() < 0.3:
        return [{"each": ["op"], **streams()}]
    return [{"label": label, "rows": {"op": label}, **streams()} for label in labels]


def _score(rng: Random, family: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"goal": str(rng.choice(["maximize", "minimize"])), "statement": "random"}
    way = rng.integers(0, 4)
    if way == 0:
        return {**found, "use": "one", "goal": "minimize"}
    if way == 1:
        return {**found, "columns": {"score": 1.0, "other": -0.5}}
    if way == 2 and "each" not in family["alternatives"][0]:
        for one in family["alternatives"]:
            one["score"] = round(float(rng.uniform(-1, 2)), 2)
        return found
    return {**found, "column": "score"}


def _counts(rng: Random, labels: list[str], slots: int) -> dict[str, Any]:
    low = int(rng.integers(0, slots + 1))
    return {str(rng.choice(labels)): low if rng.random() < 0.3 else f"{low}..{low + int(rng.integers(0, slots + 1))}"}


def _table(rng: Random, family: dict[str, Any], kinds: list[str], labels: list[str]) -> str:
    def numbers() -> list[str]:
        uses = [f"{rng.integers(0, 400) / 100:g}" for _ in range(4)]
        return [*uses, *(f"{rng.integers(-20, 100) / 10:g}" for _ in range(2))]

    rows = [[kind, layer, label, *numbers()] for kind in kinds for layer in range(family["depth"]) for label in labels]
    rows.append(["rest", "", "", *numbers()])
    rows.append(["switch", "", "", "0.75", "1.5", "0", "0", "0", "0"])
    out = io.StringIO()
    header = ["kind", "layer", "op", "one", "two", "peak", "three", "score", "other"]
    csv.writer(out).writerows([header, *(rows[n] for n in rng.permutation(len(rows)))])
    return out.getvalue()

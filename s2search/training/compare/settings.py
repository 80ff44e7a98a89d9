"""What a comparison is asked: the content of a compare.toml, with defaults for what it does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from s2search.block import Scenario
from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.space import DEFAULT_CANDIDATES
from s2search.training.settings import MOST, RunSettings, settings_of, stated_in

_OF = "a comparison"
_MOST_SAMPLES = 1_000_000
_NAME = re.compile(r"\w[\w .,+-]*")
_MODELS = ("model.layout", "model.plan", "model.weights")  # each says which layer has which block
#: What contenders share, or their losses would be no pairs.
_SHARED = ("data", "optimizer.steps", "optimizer.batch", "engine.device", "engine.dtype")


class LayoutSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contenders that a table and a budget make; most is as `s2search plan` is asked.

    Attributes:
        table: A latency table; without one no contender is made.
        scenario: Which of its rows count.
        video: Where the table holds several sizes.
        precision: Where it holds several.
        compute_unit: Where it holds several.
        commit: Forward passes per chunk, for budgets in frames per second.
        budget: Limits: `260ms`, `1.1GB`, `10fps`.
        candidates: Blocks that searches and random layouts choose from.
        latency_model: How the table is read.
        solver: How it is searched.
        score: A measured score, beside `published`.
        score_check: What `score check` wrote of it; pairs of layers count where they predicted better.
        random: How many random orders of the counts that `published` has.
        seed: Of these.
    """

    table: str = ""
    scenario: Scenario = "stream"
    video: str | None = None
    precision: str | None = None
    compute_unit: str | None = None
    commit: CommitPolicy = "reuse_last"
    budget: str | tuple[str, ...] = ()
    candidates: str = DEFAULT_CANDIDATES
    latency_model: str = "lookup"
    solver: str = "dynamic"
    score: str = ""
    score_check: str = ""
    random: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("random", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"layouts.{name} is {getattr(self, name)}", allowed="0 or more", remedy="correct it")
        if self.score_check and not self.score:
            raise InputError("layouts.score_check is given without layouts.score", remedy="add the score that it is of")


class ComparisonSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a comparison is asked.

    Attributes:
        seeds: Of weights, order and noise: a run for every contender and seed.
        samples: Held out, to judge by: the same clips, noise and noise levels for all.
        shift: How far those noise levels are pushed towards 1.
        run: What all runs have in common, as a run.toml states it.
        layouts: Contenders that a table and a budget make.
        contenders: Further ones by name, each as changes of the run's settings, `{"model.layout": "L2S2"}`.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    samples: int = 512
    shift: float = 3.0
    run: dict[str, Any] = {}
    layouts: LayoutSettings = LayoutSettings()
    contenders: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        if (
            not self.seeds
            or len({*self.seeds}) < len(self.seeds)
            or not 0 <= min(self.seeds) <= max(self.seeds) <= MOST
        ):
            raise InputError(
                f"the seeds are {[*self.seeds]}",
                allowed=f"one or more different ones, 0 to {MOST:,}",
                remedy="correct them",
            )
        if not 2 <= self.samples <= _MOST_SAMPLES:
            raise InputError(f"samples is {self.samples}", allowed=f"2 to {_MOST_SAMPLES:,}", remedy="correct it")
        if not 0 < self.shift < float("inf"):
            raise InputError(f"shift is {self.shift}", allowed="above 0", remedy="correct it")

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """Return what a compare.toml states, unchecked.

        Raises:
            InputError: It cannot be read, or is no TOML.
        """
        return stated_in(path, of="comparison")

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Self:
        """Return settings from what is stated; the rest is as by default.

        Raises:
            InputError: A key is unknown, a value of the wrong type or out of range, or two do not go together.
        """
        found = settings_of(stated, cls, of=_OF)
        if "layouts" in stated and not found.layouts.table:
            raise InputError("[layouts] names no table", remedy="set layouts.table, or leave [layouts] out")
        if "seed" in found.run:
            raise InputError("run.seed is given beside seeds", remedy="leave it out")
        changes = {name: dict(_flat(stated)) for name, stated in found.contenders.items()}
        for name, keys in changes.items():
            _check(name, keys)
        return msgspec.structs.replace(found, contenders=changes)

    def run_settings(self, changes: Mapping[str, Any]) -> RunSettings:
        """Return the settings of a run with changes; one that says which layer has which block replaces what does.

        Raises:
            InputError: A key is unknown, or a value of the wrong type or out of range.
        """
        stated: dict[str, Any] = {}
        for key, value in _flat(self.run):  # written with dots or as tables
            _put(stated, key, value)
        if any(key in changes for key in _MODELS) and isinstance(stated.get("model"), dict):
            stated["model"] = {k: value for k, value in stated["model"].items() if f"model.{k}" not in _MODELS}
        for key, value in changes.items():
            _put(stated, key, value)
        return RunSettings.of(stated)


def _put(stated: dict[str, Any], key: str, value: object) -> None:
    """Set a value by a key such as `model.layout`."""
    *tables, name = key.split(".")
    for table in tables:
        stated = stated.setdefault(table, {})
        if not isinstance(stated, dict):
            raise InputError(f"run.{table} is {stated!r}", allowed="a table", remedy=f"write [run.{table}]")
    stated[name] = value


def _flat(stated: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield values by keys such as `model.layout`, whether they are written so or as tables."""
    for key, value in stated.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _check(name: str, changes: Mapping[str, Any]) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a contender is called {name!r}", allowed="letters, digits, blanks and any of _.,+-", remedy="rename it"
        )
    for key in changes:
        if key in _SHARED:
            raise InputError(
                f"the contender {name!r} changes {key}, which all have in common", remedy="set it in [run]"
            )
        if key == "seed":
            raise InputError(f"the contender {name!r} has a seed of its own", remedy="leave it out: seeds are for all")

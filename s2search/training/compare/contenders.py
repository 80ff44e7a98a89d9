"""Who takes part in a comparison: each with all of its settings read, and whose runs it shares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import msgspec

from s2search.errors import CheckError, InputError, S2SearchError
from s2search.preset import Preset
from s2search.space import Space, parse_blocks
from s2search.training.base import Trainer
from s2search.training.compare.settings import ComparisonSettings
from s2search.training.prepare import PreparedRun
from s2search.training.settings import RunSettings

_LONGEST = 100  # bytes of a contender's name, which names its folder


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model that is trained under every seed.

    Attributes:
        name: As people call it.
        changes: Of the settings that all have in common.
        prepared: Its run under the first seed.
        trained_as: Whose runs are its own: its name, or that of an equal one before it.
    """

    name: str
    changes: Mapping[str, object]
    prepared: PreparedRun
    trained_as: str

    @property
    def folder(self) -> str:
        """The name of the folder with its runs."""
        return folder_name(self.name)

    @property
    def shares(self) -> bool:
        """Whether another one's runs are its own."""
        return self.trained_as != self.name

    def settings(self, seed: int) -> RunSettings:
        """Return those of its run under a seed."""
        return msgspec.structs.replace(self.prepared.settings, seed=seed)


def folder_name(name: str) -> str:
    """Return a contender's name as that of a folder.

    >>> folder_name("measured, pairs")
    'measured-pairs'
    """
    return re.sub(r"[^\w.+-]+", "-", name)


def layout_text(layout: Sequence[str]) -> str:
    """Return a layout that is read back as the same blocks, whatever their symbols.

    >>> layout_text(["lcha[gate=false]", "ssa", "ssa"])
    'lcha[gate=false]*1,ssa*2'
    """
    return ",".join(f"{label}*{len(list(run))}" for label, run in groupby(layout))


def layout_written(layout: Sequence[str]) -> str:
    """Return a layout as people write it; with names where a symbol would mean another block.

    >>> layout_written(["lcha", "ssa", "ssa"]), layout_written(["lcha[gate=false]", "ssa"])
    ('LS2', 'lcha[gate=false]*1,ssa*1')
    """
    if any("[" in label for label in layout):
        return layout_text(layout)
    space = Space(candidates=parse_blocks(",".join(dict.fromkeys(layout))), depth=len(layout))
    labels = [block.label for block in space.candidates]
    return space.write_layout([labels.index(label) for label in layout])


def contenders_of(settings: ComparisonSettings, layouts: Mapping[str, Sequence[str]]) -> tuple[Contender, ...]:
    """Read everything that contenders name, before a weight is drawn.

    Args:
        settings: What is asked.
        layouts: Those that a table and a budget made, by name.

    Raises:
        InputError: Something cannot be read or does not go together, or there are fewer than two different ones.
    """
    made = {name: {"model.layout": layout_text(layout)} for name, layout in layouts.items()}
    if double := sorted(made.keys() & settings.contenders.keys()):
        raise InputError(f"[layouts] makes a contender {double[0]!r} too", remedy="rename yours")
    changes: dict[str, Mapping[str, object]] = {**made, **settings.contenders}
    folders = [folder_name(name).lower() for name in changes]  # some disks know no capitals
    for name, folder in zip(changes, folders, strict=True):
        if folders.count(folder) > 1 or folder in (".", ".."):
            raise InputError(f"two contenders would have the folder {folder!r}, one is {name!r}", remedy="rename it")
        if folder.endswith((".json", ".jsonl")) or len(name.encode()) > _LONGEST:
            raise InputError(
                f"a contender is called {name[:60]!r}",
                allowed=f"{_LONGEST} bytes at most, no ending .json or .jsonl",
                remedy="rename it",
            )
    found: list[Contender] = []
    first_of: dict[bytes, str] = {}
    depth = Preset.named(settings.run_settings({}).model.preset).depth
    for name, changed in changes.items():
        prepared = _prepared(name, settings, changed)
        if len(prepared.config.layout) != depth:
            raise InputError(
                f"the contender {name!r} has {len(prepared.config.layout)} layers, and the others {depth}",
                remedy="make them equal",
            )
        trained_as = first_of.setdefault(_what_is_trained(prepared), name)
        found.append(Contender(name=name, changes=changed, prepared=prepared, trained_as=trained_as))
    if len(first_of) < 2:
        same = " with one layout" if len(found) > 1 else ""
        raise InputError(
            f"there are {len(found)} contenders{same}, and nothing to compare"
            if len(found) != 1
            else f"there is one contender, {found[0].name!r}, and nothing to compare it with",
            remedy="add [contenders.NAME], or [layouts] with a table",
        )
    return tuple(found)


def _prepared(name: str, settings: ComparisonSettings, changes: Mapping[str, object]) -> PreparedRun:
    with named(f"the contender {name!r}"):
        run = msgspec.structs.replace(settings.run_settings(changes), seed=settings.seeds[0])
        return PreparedRun.of(run)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Say in errors whom they are of."""
    try:
        yield
    except S2SearchError as error:
        kind = CheckError if isinstance(error, CheckError) else InputError
        raise kind(f"{what}: {error.problem}", allowed=error.allowed, remedy=error.remedy) from error


def _what_is_trained(prepared: PreparedRun) -> bytes:
    """Return all that decides what is left of a run, but for its seed: two with the same need one.

    A plan is its layout, but for a trainer that leaves more than a model: that may read the rest of it.
    """
    model = msgspec.structs.replace(prepared.settings.model, layout="", plan="")
    same = msgspec.structs.replace(prepared.settings, model=model, seed=0)
    more = type(prepared.trainer).artefact is not Trainer.artefact
    plan = prepared.plan.digest if more and prepared.plan is not None else ""
    return msgspec.json.encode((same, prepared.config.layout, plan))

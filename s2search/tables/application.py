"""What an application is made of beside the transformer: the decoders, text encoders, steps and policies on offer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from s2search.cost import COMMIT_POLICIES, CommitPolicy
from s2search.errors import TableError
from s2search.preset import token_grid

#: Whether the networks of an application are in memory all the time, or each only while it runs.
Residency = Literal["together", "in_turn"]
RESIDENCIES: tuple[Residency, ...] = ("together", "in_turn")

_NAME = re.compile(r"[A-Za-z0-9][\w.\-]{0,63}")
_MOST_MS, _MOST_BYTES = 1e7, 10**15


@dataclass(frozen=True, kw_only=True)
class Component:
    """A network that runs once per chunk beside the transformer: a decoder or a text encoder.

    Attributes:
        name: By which it is chosen.
        ms: Milliseconds per chunk of so many frames as the card's pipeline has, at `video`.
        video: The size that it was timed at; empty for what does not depend on it.
        weight_bytes: What it takes while it is loaded; null where nobody says, which counts as nothing and is told.
        state_bytes: What it keeps from chunk to chunk, likewise.
        peak_bytes: Activations while it runs, likewise.
        load_ms: To load it; null where nobody says: it then stays in memory.
        source: Where the figures come from.
    """

    name: str
    ms: float
    video: str = ""
    weight_bytes: int | None = None
    state_bytes: int | None = None
    peak_bytes: int | None = None
    load_ms: float | None = None
    source: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise TableError(
                f"a component of the card is called {self.name!r}",
                allowed="letters, digits, points, dashes and underscores",
                remedy="rename it",
            )
        for name, most in (("ms", _MOST_MS), ("load_ms", _MOST_MS)):
            self._check(name, most)
        for name in ("weight_bytes", "state_bytes", "peak_bytes"):
            self._check(name, _MOST_BYTES)
        if self.video:
            token_grid(self.video)

    def _check(self, name: str, most: float) -> None:
        value = getattr(self, name)
        if value is not None and not 0 <= value <= most:
            raise TableError(
                f"{name} of the component {self.name!r} is {value}", allowed=f"0 to {most:g}", remedy="correct the card"
            )

    @property
    def unknown(self) -> tuple[str, ...]:
        """What nobody says of its memory."""
        names = {"weight_bytes": "weights", "state_bytes": "state", "peak_bytes": "activations"}
        return tuple(words for name, words in names.items() if getattr(self, name) is None)

    @property
    def held_bytes(self) -> int:
        """Weights and state, as far as they are known."""
        return (self.weight_bytes or 0) + (self.state_bytes or 0)


@dataclass(frozen=True, kw_only=True)
class Application:
    """What a card offers beside one pipeline: several decoders and text encoders, step counts, commit policies.

    `load_ms` is what loading the transformer takes; null where nobody says: it then stays in memory.
    """

    decoders: tuple[Component, ...] = ()
    text_encoders: tuple[Component, ...] = ()
    steps: tuple[int, ...] = ()
    commits: tuple[CommitPolicy, ...] = ()
    load_ms: float | None = None

    def __post_init__(self) -> None:
        for what in (self.decoders, self.text_encoders):
            names = [component.name for component in what]
            for twice in {name for name in names if names.count(name) > 1}:
                raise TableError(f"the card has two components called {twice!r}", remedy="rename one")
        for steps in self.steps:
            if not 1 <= steps <= 10_000:
                raise TableError(f"the card offers {steps} steps", allowed="1 to 10,000", remedy="correct the card")
        for commit in self.commits:
            if commit not in COMMIT_POLICIES:
                raise TableError(f"the card offers the commit {commit!r}", allowed=", ".join(COMMIT_POLICIES))
        if self.load_ms is not None and not 0 <= self.load_ms <= _MOST_MS:
            raise TableError(f"load_ms of the card is {self.load_ms}", allowed=f"0 to {_MOST_MS:g}")

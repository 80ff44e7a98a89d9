"""The stages of the whole way: what each is made from, and which of its settings are its own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from s2search.errors import InputError
from s2search.pipeline.settings import PipelineSettings


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage, with a folder of its name.

    Attributes:
        name: Of the stage.
        parents: Stages whose files it reads.
        settings: Its own, by keys such as `optimizer.steps`.
        resumes: Whether it goes on with what a killed process left in its folder; else it begins anew.
        inputs: Hashes of what it reads from outside, by name.
    """

    name: str
    parents: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    resumes: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)


#: What each stage reads of the others, in the order in which they are made.
PARENTS: dict[str, tuple[str, ...]] = {
    "data": (),
    "networks": ("data",),
    "teacher": ("data",),
    "score": ("data", "teacher"),
    "plan": ("score",),
    "realize": ("data", "plan"),
    "flow": ("data", "realize"),
    "rival": ("data", "score", "plan"),
    "cache": ("data", "teacher"),
    "distill": ("data", "flow", "cache"),
    "causal": ("data", "distill"),
    "consistency": ("data", "causal"),
    "self_forcing": ("data", "networks", "teacher", "distill", "consistency"),
    "distance": ("data", "networks", "teacher", "distill", "causal", "consistency", "self_forcing"),
    "stream": ("data", "teacher", "causal", "self_forcing"),
    "export": ("self_forcing",),
    "verify": ("export",),
    "check": ("plan", "export"),
    "report": (
        *("data", "teacher", "score", "plan", "flow", "rival", "distill", "causal", "consistency", "self_forcing"),
        *("distance", "stream", "export", "verify", "check"),
    ),
}
_RESUMED = (
    *("data", "teacher", "score", "flow", "rival", "cache", "distill", "causal", "consistency", "self_forcing"),
    "distance",
)
_SIZED = ("teacher", "realize", "flow", "rival")  # with the model's sizes; other stages have them from their parents
_DRAWN = (*_RESUMED, "networks", "realize", "stream", "export", "verify")  # with the seed
_COMPUTED = (*_RESUMED, "stream")  # on the device
_READ = (
    "teacher",
    "score",
    "flow",
    "rival",
    "distill",
    "causal",
    "consistency",
    "self_forcing",
    "distance",
    "stream",
)  # captions
_TABLED = ("plan", "check")


def stages_of(settings: PipelineSettings, table_digest: str) -> tuple[Stage, ...]:
    """Return all stages in their order.

    Args:
        settings: Of the whole way.
        table_digest: Of the latency table that the plan reads.
    """
    return tuple(
        Stage(
            name=name,
            parents=parents,
            settings=dict(_flat(_own(settings, name))),
            resumes=name in _RESUMED,
            inputs={"table": table_digest} if name in _TABLED else {},
        )
        for name, parents in PARENTS.items()
    )


def check_stage(name: str) -> None:
    """Raise if there is no such stage.

    Raises:
        InputError: It lists all of them.
    """
    if name not in PARENTS:
        close = difflib.get_close_matches(name, PARENTS, n=1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"no stage is called {name!r}{guess}", allowed=f"stages: {', '.join(PARENTS)}")


def _own(settings: PipelineSettings, name: str) -> dict[str, Any]:
    """Return what a stage is made by, as plain JSON."""
    own: dict[str, Any] = dict(msgspec.to_builtins(getattr(settings, name, {})))
    if name == "realize":
        own = {}
    if name == "networks":
        asked = settings.distance
        own = {
            "distance": {"features": asked.features, "learning": asked.learning},
            "wanted": asked.samples > 0,
        }
    if name == "distance":
        own = {"samples": settings.distance.samples, "batch": settings.distance.batch}
    if name == "rival":
        own["flow"] = msgspec.to_builtins(settings.flow)
    if name == "plan":
        own |= {"candidates": settings.score.candidates, "depth": settings.model.depth}
    if name == "check":
        own = msgspec.to_builtins(settings.plan) | {"candidates": settings.score.candidates}
        own.pop("rival")
    if name in ("stream", "export", "verify"):
        own |= {"video": settings.data.video}
    if name == "stream":
        own |= {"codec": settings.data.codec}
    own |= {"model": msgspec.to_builtins(settings.model)} if name in _SIZED else {}
    for key, value, stages in (
        ("seed", settings.seed, _DRAWN),
        ("device", settings.device, _COMPUTED),
        ("text", settings.text, _READ),
    ):
        own |= {key: value} if name in stages else {}
    return own


def _flat(stated: Mapping[str, Any], before: str = "") -> Any:
    """Yield values by keys such as `optimizer.steps`."""
    for key, value in stated.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value

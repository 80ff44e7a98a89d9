"""Project: what is asked of every plan in one folder, as a file `s2search.toml` beside the work.

    table = "h100"
    video = "512x288"
    budget = ["15ms", "4GB"]

Its keys are options of `plan` and `frontier`, by their names; the command line has the last word.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import msgspec

from s2search.block import Scenario
from s2search.border.regular_file import read_regular_text
from s2search.border.toml import parsed_toml
from s2search.cost import CommitPolicy
from s2search.errors import InputError, UnknownNameError
from s2search.precision.noise import Elsewhere
from s2search.solver.questions.tie_break import TieRule

PROJECT_FILE = "s2search.toml"


@dataclass(frozen=True, kw_only=True)
class Project:
    """The options that a file states; null for those that it leaves out. See `s2search.plan` for what they mean."""

    table: str | list[str] | None = None
    scenario: Scenario | None = None
    depth: int | None = None
    group_size: int | None = None
    candidates: str | list[str] | None = None
    score: str | None = None
    score_check: str | None = None
    budget: str | list[str] | None = None
    commit: CommitPolicy | None = None
    steps: int | None = None
    text_ms: float | None = None
    decode_ms: float | None = None
    count: str | list[str] | None = None
    first: str | None = None
    last: str | None = None
    max_switches: int | None = None
    confidence: float | None = None
    near: float | None = None
    tie: TieRule | None = None
    tie_score: str | None = None
    points: int | None = None
    solver: str | None = None
    time_limit: str | None = None
    latency_model: str | None = None
    video: str | None = None
    precision: str | None = None
    compute_unit: str | None = None
    precisions: str | list[str] | None = None
    sensitivity: str | list[str] | None = None
    least_db: float | None = None
    noise_elsewhere: Elsewhere | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Project:
        """Read a project file; an empty one asks for nothing.

        Raises:
            InputError: It cannot be read, is no TOML, has a key that is no option, or a value of another type.
        """
        try:
            found = parsed_toml(read_regular_text(path))
        except OSError as error:
            raise InputError(
                f"the project file {str(path)!r} cannot be read: {error.strerror}", remedy="check the path"
            ) from error
        except ValueError as error:
            raise InputError(f"{str(path)!r} is not TOML: {error}", remedy="correct the file") from error
        known = [field.name for field in dataclasses.fields(cls)]
        for key, value in found.items():
            if key.replace("-", "_") not in known:
                raise UnknownNameError(f"key of the project file {str(path)!r}", key, known, listed_as="keys")
            _check(key, value, path)
        if len({key.replace("-", "_") for key in found}) < len(found):
            raise InputError(f"{str(path)!r} gives a key twice, with - and with _", remedy="keep one of them")
        return msgspec.convert({key.replace("-", "_"): value for key, value in found.items()}, cls)

    def stated(self) -> dict[str, Any]:
        """Return what the file states, by key."""
        pairs = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in pairs if value is not None}


def _check(key: str, value: Any, path: str | os.PathLike[str]) -> None:
    try:
        msgspec.convert({key.replace("-", "_"): value}, Project)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{key} of the project file {str(path)!r} is {str(value)[:60]!r}: {str(error).split(' - at')[0]}",
            remedy="correct it",
        ) from error

"""What scores in files have in common: they are read from JSON, and known by their numbers wherever they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import msgspec
from typing_extensions import override

from s2search.document import read_json
from s2search.errors import ScoreError
from s2search.score.base import Score


class WrittenScore(Score):
    """A score whose fields are those of a file; `schema` names the file's."""

    file: ClassVar[str] = ""  # of one that was loaded, its path
    document: ClassVar[str]  # the file's schema

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read and check a score file.

        Raises:
            ScoreError: The file is missing, is not JSON of the schema, or holds a value that is not finite.
        """
        found = read_json(path, cls, what=f"score of schema {cls.document}", error=ScoreError)
        object.__setattr__(found, "file", str(path))  # no field: it is not in the file, nor in the digest
        return found

    @property
    @override
    def where(self) -> str:
        return repr(self.file) if self.file else f"the score {self.name!r}"

    @property
    def options(self) -> dict[str, Any]:
        """None: the numbers of a file are known by its name and its digest."""
        return {}

    @property
    @override
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(msgspec.json.encode(self, order='sorted')).hexdigest()}"

    def check_has(self, label: str, labels: Iterable[str]) -> None:
        """Raise unless a candidate is among those that have numbers.

        Raises:
            ScoreError: It is not.
        """
        if label not in (known := list(labels)):
            raise ScoreError(
                f"the score {self.name!r} has no value for {label!r}",
                allowed=f"it has: {', '.join(known)}",
                remedy="choose among these candidates, or measure it",
            )

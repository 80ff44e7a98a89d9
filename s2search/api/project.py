"""The project file `s2search.toml` in Python: what `plan` and `frontier` are asked in one folder."""

from __future__ import annotations

from typing import Any

from s2search.api.values import PathText
from s2search.planner.project import PROJECT_FILE, Project


def project(file: PathText = PROJECT_FILE) -> dict[str, Any]:
    """Return what a project file states, as keywords: `s2search.plan(**s2search.project())`.

    The command line reads the file of the folder where it runs by itself; a function reads nothing that it was not
    given.

    Args:
        file: A TOML file whose keys are options of `plan` and `frontier`. Paths in it count from the current folder.

    Raises:
        InputError: It cannot be read, has a key that is no option, or a value of another type.
    """
    return Project.load(file).stated()

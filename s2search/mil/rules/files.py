"""The rules on the sizes of a package's files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from s2search.mil.rules.rule import RuleFinding

#: What the Neural Engine's compiler takes: "exceeds the maximum (2147483648 bytes)".
MOST_WEIGHT_BYTES = 2**31
#: Of a package that was seen to stay on the Neural Engine.
MOST_PACKAGE_BYTES = 10**9


def file_sizes(package: Path) -> dict[str, int]:
    """Return the bytes of the regular files of a package by their paths in it; links are not followed."""
    found = {}
    for folder, _, names in os.walk(package):
        for name in names:
            path = Path(folder, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found[path.relative_to(package).as_posix()] = status.st_size
    return dict(sorted(found.items()))


def sizes(files: Mapping[str, int]) -> Iterator[RuleFinding]:
    """Yield what is too large: a file of weights, or else the whole package."""
    large = {name: size for name, size in files.items() if size > MOST_WEIGHT_BYTES}
    for name, size in large.items():
        problem = f"{name} has {size:,} bytes"
        yield RuleFinding(rule="weight_file_size", function="", names=(name,), problem=problem)
    total = sum(files.values())
    if total > MOST_PACKAGE_BYTES and not large:
        largest = max(files, key=lambda name: files[name])
        problem = f"{total:,} bytes, of which {files[largest]:,} in {largest}"
        yield RuleFinding(rule="package_size", function="", names=(largest,), problem=problem)

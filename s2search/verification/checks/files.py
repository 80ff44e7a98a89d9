"""Whether all files are there as they were written. That says nothing of what was written: other checks do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import CheckResult


@dataclass(frozen=True, kw_only=True)
class FilesCheck(Check):
    """Every file of the manifest has the digest that the manifest states."""

    name: ClassVar[str] = "files"
    unit: ClassVar[str] = "files changed"
    of_files: ClassVar[bool] = True

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        if opened.fault:
            raise opened.fault
        yield self.judge(opened, 0, 0, why=f"{len(opened.package.manifest.files)} files have their digests")

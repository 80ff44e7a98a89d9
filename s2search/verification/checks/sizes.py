"""Bytes of weights and of streaming state: as the formulas of the blocks foretold, and as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

from typing_extensions import override

from s2search.exporters.package import SOURCE, WEIGHT_FILES, Manifest
from s2search.exporters.step import PAST_BIAS
from s2search.verification.check import Check
from s2search.verification.opened import Opened
from s2search.verification.result import CannotRunError, CheckResult


@dataclass(frozen=True, kw_only=True)
class SizesCheck(Check):
    """The state takes the bytes that the plan counted, and the files of weights about those of its weights.

    Only the state is required: a small model's files are mostly graph, and tables of rotary embeddings.

    Attributes:
        state_percent: The most that the state may miss its prediction by.
        weights_percent: The same for weights.
    """

    name: ClassVar[str] = "sizes"
    unit: ClassVar[str] = "% off"

    state_percent: float = 1.0
    weights_percent: float = 25.0

    @override
    def run(self, opened: Opened) -> Iterator[CheckResult]:
        manifest = opened.package.manifest
        sizes = manifest.sizes
        taken = sum(spec.bytes for spec in manifest.states if spec.name != PAST_BIAS)
        state = taken if manifest.host is None else manifest.host.state_bytes
        kept = self._of(opened, "state", state, sizes.predicted_state_bytes, self.state_percent)
        yield kept if state == taken else replace(kept, why=f"{kept.why}; a call takes {taken:,} of it, padded")
        own = [path for file in manifest.files if (path := PurePosixPath(file.path)).parts[0] != SOURCE]
        apart = [path for path in own if path.name in WEIGHT_FILES]
        try:
            weights = sum((opened.package.folder / path).stat().st_size for path in apart or own)
        except OSError as error:
            raise CannotRunError(f"a file of the package cannot be weighed: {error.strerror}") from error
        files = self._of(opened, "weights", weights, sizes.predicted_weight_bytes, self.weights_percent)
        links = _of_links(manifest, apart or own, opened.package.folder)
        told = f"{files.why}; in {len(links)} packages, {max(links.values()):,} at most" if links else files.why
        told = told if apart else f"{told}; graphs included"
        yield replace(files, required=False, why=told, parts={**files.parts, **links})

    def _of(self, opened: Opened, of: str, actual: int, predicted: int, threshold: float) -> CheckResult:
        off = 100 * abs(actual - predicted) / max(predicted, 1) if actual != predicted else 0.0
        why = f"{actual:,} bytes, {predicted:,} predicted"
        parts = {"actual": float(actual), "predicted": float(predicted)}
        return self.judge(opened, off, threshold, of=of, why=why, parts=parts)


def _of_links(manifest: Manifest, paths: Sequence[PurePosixPath], folder: Path) -> dict[str, float]:
    """Return the bytes of the weights of every package of a chain, by its file."""
    files = [link.functions[0].file for link in manifest.chain]
    return {
        file: float(sum((folder / path).stat().st_size for path in paths if path.is_relative_to(file)))
        for file in files
    }

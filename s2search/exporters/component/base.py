"""How an exporter writes text encoders and decoders: `Exporter.component_writer` returns one of these."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from s2search.exporters.package import FunctionSpec

Say = Callable[[str], None]
Programs = Sequence[tuple["FunctionSpec", "ExportedProgram"]]


@dataclass(frozen=True, kw_only=True)
class ComponentFiles:
    """What was written: the file of each function, and versions."""

    files: Mapping[str, str]
    facts: Mapping[str, str]


class ComponentWriter(abc.ABC):
    """Writes the runtime's own files of one component."""

    @abc.abstractmethod
    def decompositions(self) -> dict[Any, Any]:
        """Return the operators that it wants taken apart."""

    def held(self, programs: Programs) -> tuple[str, ...]:
        """Return the caches that the runtime keeps by itself, in its order."""
        return ()

    @abc.abstractmethod
    def write(
        self, model: nn.Module, programs: Programs, folder: Path, metadata: Mapping[str, str], say: Say
    ) -> ComponentFiles:
        """Write them.

        Args:
            model: The network; its modules have the names of the weights.
            programs: The functions.
            folder: Empty; becomes the package.
            metadata: What the files say of themselves.
            say: Called with every step, before it.
        """

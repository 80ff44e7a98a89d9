"""The card of a table: the device, the runtime, the protocol, and where the numbers come from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from s2search.cost import Pipeline
from s2search.errors import TableError
from s2search.tables.application import Application

SCHEMA: Literal["s2search.table/1"] = "s2search.table/1"
ProvenanceKind = Literal["measured", "published", "derived", "estimated"]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the latencies of blocks come from: the kind, the source, and one sentence for people."""

    kind: ProvenanceKind
    source: str
    statement: str


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of a table's columns: there is no choice, but a file says so."""

    latency: Literal["ms"] = "ms"
    memory: Literal["bytes"] = "bytes"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a table's rows were measured on (or derived from), and how.

    `threads` is null where the runtime decides. `protocol` records the profiler's own configuration and findings.
    `pipeline` is what runs once per chunk beside the transformer; without it a table cannot answer `fps` budgets.
    `application` is what else may run there, for `design` to choose from.
    `common_std_relative` is the standard deviation of the factor that all latencies share, from run to run or from
    device to device, as a fraction of latency; null where it was not measured.
    """

    schema: Literal["s2search.table/1"] = SCHEMA
    device: str
    chip: str
    os: str
    runtime: str
    runtime_version: str
    threads: int | None
    power_mode: str
    date: str
    code_version: str
    preset: str
    provenance: Provenance
    protocol: dict[str, Any]
    units: Units = dataclasses.field(default_factory=lambda: Units())
    pipeline: Pipeline | None = None
    assumptions: list[str] = dataclasses.field(default_factory=list)
    common_std_relative: float | None = None
    application: Application | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """What was wrong with the run that measured the rows, one sentence each; empty for a good one."""
        marked = self.protocol.get("marked")
        return tuple(map(str, marked)) if isinstance(marked, list) else ()

    @property
    def sustained(self) -> bool:
        """Whether the rows were measured under sustained load, when the device is as hot as it gets."""
        return str(self.protocol.get("mode", "")).startswith("sustained")

    def with_pipeline(self, pipeline: Pipeline | None) -> Card:
        """Return the card with a pipeline that was told, and says so; the same card if there is none."""
        if pipeline is None:
            return self
        told = "text encoder, decoder and steps of the pipeline were told, not measured with this table"
        return dataclasses.replace(self, pipeline=pipeline, assumptions=[*self.assumptions, told])

    def __post_init__(self) -> None:
        common = self.common_std_relative
        if common is not None and not 0 <= common <= 1:
            raise TableError(
                f"common_std_relative of the card is {common}",
                allowed="a fraction of latency from 0 to 1",
                remedy="correct the card, or leave it out",
            )

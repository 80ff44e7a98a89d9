"""replay: plays a recorded table with its noise and drift, for demonstrations and tests that need no device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from typing_extensions import override

from s2search.errors import InputError, S2SearchError
from s2search.measurement.base import Device, Item, Measure, Memory, Prepared, Profiler
from s2search.tables.card import ProvenanceKind
from s2search.tables.row import ROLES, Role, Row
from s2search.tables.table import LatencyTable, open_table


@dataclass(frozen=True, kw_only=True)
class Replay(Profiler):
    """Answers with a table's own rows: the median, scattered as the row's samples scattered, times a drift.

    What it measures is no new measurement, and the card says so.

    Attributes:
        table: An installed table, or a table's folder.
        drift: By how much the device slows down over `drift_samples` samples: 0.1 is 10 %.
        drift_samples: Samples until the drift is reached; it stays there.
        noise: Times the recorded spread; 0 plays medians.
        seed: Of the noise.
    """

    method: ClassVar[str] = "no measurement: rows of a recorded table, scattered as they were recorded, times a drift"
    measures: ClassVar[tuple[Measure, ...]] = ("latency", "peak_memory")
    provenance: ClassVar[ProvenanceKind] = "derived"

    table: str = "amd-epyc.torch-cpu.float32"
    drift: float = 0.0
    drift_samples: int = 1000
    noise: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise < 0 or self.drift <= -1 or self.drift_samples < 1:
            raise InputError(
                f"noise={self.noise:g}, drift={self.drift:g}, drift_samples={self.drift_samples}",
                allowed="noise from 0, drift above -1, drift_samples from 1",
                remedy="correct the profiler's options",
            )

    @override
    def why_not(self) -> str | None:
        try:
            self._open()
        except S2SearchError as error:
            return str(error)
        return None

    @override
    def device(self) -> Device:
        table = self._open()
        card, row = table.card, table.rows[0]
        return Device(
            device=f"replay of {card.device}",
            chip=card.chip,
            os=card.os,
            runtime=f"replay of {card.runtime}",
            runtime_version=card.runtime_version,
            threads=card.threads,
            power_mode=card.power_mode,
            precision=row.precision,
            compute_unit=row.compute_unit,
        )

    @override
    def roles(self) -> tuple[Role, ...]:
        if self.why_not() is not None:
            return super().roles()
        there = {row.role for row in self._open().rows}
        return tuple(role for role in ROLES if role in there)

    @contextmanager
    @override
    def session(self) -> Iterator[None]:
        self._played[0] = 0
        yield

    @override
    def prepare(self, item: Item) -> Prepared:
        for row in self._open().rows:
            if (row.label, row.scenario, row.shape) == (item.label, item.scenario, item.shape):
                return _Played(self, row)
        raise InputError(
            f"the table {self.table!r} has no row of {item.key} with {item.shape.channels} channels",
            remedy="measure what the table holds: its preset, video sizes, scenarios and roles",
        )

    @cached_property
    def _played(self) -> list[int]:
        """The samples so far; a list, since the configuration is frozen."""
        return [0]

    def slowdown(self) -> float:
        """Return the factor of the next sample, and count it."""
        played, self._played[0] = self._played[0], self._played[0] + 1
        return 1 + self.drift * min(1.0, played / self.drift_samples)

    def _open(self) -> LatencyTable:
        return open_table(self.table)


class _Played(Prepared):
    def __init__(self, profiler: Replay, row: Row) -> None:
        self._profiler, self._row = profiler, row
        place = (row.key[0], row.options, row.scenario, row.shape, row.precision, row.compute_unit)
        seed = hashlib.sha256(f"{profiler.seed} {place}".encode()).digest()
        self._rng = np.random.default_rng(int.from_bytes(seed[:8], "little"))

    def time_ms(self, repetitions: int) -> float:
        """Return the row's latency with the spread of one sample; repetitions do not average it."""
        spread = (self._row.latency_std_ms or 0.0) / self._row.latency_ms if self._row.latency_ms else 0.0
        factor = float(np.exp(self._rng.normal(0, self._profiler.noise * spread)))
        return max(self._row.latency_ms, _LEAST_MS) * factor * self._profiler.slowdown()

    @override
    def memory(self) -> Memory:
        row = self._row
        return Memory(weight_bytes=row.weight_bytes, state_bytes=row.state_bytes, peak_bytes=row.peak_bytes)


_LEAST_MS = 1e-6  # rows of 0 ms (included elsewhere) still take some time

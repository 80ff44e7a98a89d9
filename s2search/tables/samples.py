"""The samples beside a table: how single calls of its rows vary, each alone and all of one pass together.

A table's folder holds the journal of the campaign that measured it (samples.jsonl; of a merged table one for each
campaign, samples.1.jsonl and so on), and its card says by their digests that they are its own.

The model. A call of part i takes mean_i (1 + common + own_i). `common` is what all calls of one pass share: the state
that the device is in meanwhile. `own_i` is independent from call to call. What is shared is told from what is not by
time: two calls that lie less than a pass apart vary together, as far as they do, by `common`. So the variance of
`common` is the covariance of such samples, each relative to the mean of its item, weighted by how sharply the two items
tell it (the inverse of both variances). A sample that is the mean of R calls has 1/R of the variance of `own`.

All of this is raw: drift stays in, since a pass in that campaign would have had it too.

Samples that are jobs of a device lab do not tell it: each stands for many calls, on a phone that the lab chose.

Axes: N samples in the order of time
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from s2search.border.regular_file import read_regular
from s2search.dates import instant
from s2search.errors import TableError
from s2search.journal import read_journal
from s2search.tables.card import Card
from s2search.tables.table import LatencyTable, Scope

_FEWEST = 10  # samples of a row, from which a deviation is known to about a quarter
_NEIGHBOURS = 64  # samples before and after, of which pairs are made
_Array = NDArray[np.float64]


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    precision: str
    compute_unit: str


class _Campaign(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="campaign"):
    """Of a journal's first line what counts here; see `measurement/samples.py`."""

    schema: Literal["s2search.samples/1"] = "s2search.samples/1"
    device: _Place


class _Ready(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="ready"):
    item: str
    repetitions: int


class _Sample(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="sample"):
    round: int
    item: str
    sentinel: bool
    ms: float
    at: str
    clock_s: float | None = None
    double: bool = False
    then: str = ""


class _Wanted(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="wanted"):
    """A lab was asked for a job: then samples are jobs."""


class _Submitted(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="submitted"):
    """The lab has it."""


class _Dropped(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dropped"):
    """It failed."""


_Line = _Ready | _Sample | _Wanted | _Submitted | _Dropped


@dataclass(frozen=True, kw_only=True)
class CallTimes:
    """How single calls of one part vary, in milliseconds: their mean, and the deviation that is each call's own."""

    mean_ms: float
    own_std_ms: float
    samples: int

    @property
    def mean_us(self) -> int:
        """The mean in whole microseconds, as plans count."""
        return round(1000 * self.mean_ms)

    @property
    def own_std_us(self) -> float:
        """A call's own deviation in microseconds."""
        return 1000 * self.own_std_ms


@dataclass(frozen=True, kw_only=True)
class PassTimes:
    """How the calls of a pass vary.

    Attributes:
        calls: By what the part is called.
        common_relative: The standard deviation of what all calls of a pass share, as a fraction of latency.
        pairs: How many pairs of samples say so.
        digest: A hash of the samples.
    """

    calls: Mapping[str, CallTimes]
    common_relative: float
    pairs: int
    digest: str


def pass_times(table: LatencyTable, scope: Scope, *, within_ms: float) -> PassTimes:
    """Return how calls of one scope of a table vary within passes of about so many milliseconds.

    Raises:
        TableError: There are no samples beside the table, they are not its own or are a lab's jobs, or a row has none
            or too few.
    """
    found, digest = _samples(table, scope)
    rows = {f"{scope.scenario} {row.part_label} {row.grid}": row for row in table.in_scope(scope) if row.latency_ms > 0}
    common_variance, pairs = _common(found, within_ms)
    own: dict[str, list[float]] = {key: [] for key in rows}
    for sample in found.samples:
        if sample.item in own and not sample.sentinel:
            own[sample.item].append(sample.ms)
    for key, ms in own.items():
        if len(ms) < _FEWEST:
            raise TableError(
                f"the samples of the table {table.name!r} hold {len(ms)} of {rows[key].part_label!r} at {scope}",
                allowed=f"at least {_FEWEST}, for a 95th percentile",
                remedy="measure the row again, or give a latency budget such as 300ms",
            )
    return PassTimes(
        calls={
            rows[key].part_label: _calls(ms, found.repetitions.get(key, 1), common_variance) for key, ms in own.items()
        },
        common_relative=math.sqrt(common_variance),
        pairs=pairs,
        digest=digest,
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The samples of single items that count, in the order of time, and how often each item's samples repeat it."""

    samples: Sequence[_Sample]
    repetitions: Mapping[str, int]


def _calls(sample_ms: Sequence[float], repetitions: int, common_variance: float) -> CallTimes:
    mean_ms = float(np.mean(sample_ms))
    own = float(np.var(sample_ms, ddof=1)) - common_variance * mean_ms**2
    return CallTimes(mean_ms=mean_ms, own_std_ms=math.sqrt(max(0.0, own) * repetitions), samples=len(sample_ms))


def _common(found: _Found, within_ms: float) -> tuple[float, int]:
    """Return the variance, relative to latency, of what samples less than a pass apart share, and of how many pairs.

    Neighbours in time always count: no two samples lie nearer.
    """
    ms_N = np.array([sample.ms for sample in found.samples])
    end_N = np.array([_second(sample) for sample in found.samples])
    place = {item: k for k, item in enumerate(dict.fromkeys(sample.item for sample in found.samples))}
    item_N = np.array([place[sample.item] for sample in found.samples])
    mean_N, sharp_N = np.empty(len(ms_N)), np.zeros(len(ms_N))
    for item in place.values():
        own_N = item_N == item
        mean_N[own_N] = ms_N[own_N].mean()
        variance = float(np.var(ms_N[own_N] / mean_N[own_N], ddof=min(1, int(own_N.sum()) - 1)))
        sharp_N[own_N] = 1 / variance if variance > 0 else 0.0
    away_N = ms_N / mean_N - 1
    return _covariance(away_N, sharp_N, item_N, end_N, within_ms)


def _covariance(
    away_N: _Array, sharp_N: _Array, item_N: NDArray[np.int64], end_N: _Array, within_ms: float
) -> tuple[float, int]:
    product, weight, pairs = 0.0, 0.0, 0
    for step in range(1, min(_NEIGHBOURS, len(away_N) - 1) + 1):
        near_N = item_N[step:] != item_N[:-step]
        if step > 1:
            near_N &= 1000 * (end_N[step:] - end_N[:-step]) <= within_ms
        if not near_N.any():
            continue
        sharp = (sharp_N[step:] * sharp_N[:-step])[near_N]
        product += float((sharp * (away_N[step:] * away_N[:-step])[near_N]).sum())
        weight += float(sharp.sum())
        pairs += int(near_N.sum())
    return (max(0.0, product / weight) if weight else 0.0), pairs


def _second(sample: _Sample) -> float:
    return instant(sample.at).timestamp() if sample.clock_s is None else sample.clock_s


def _samples(table: LatencyTable, scope: Scope) -> tuple[_Found, str]:
    """Read the samples of one scope's precision and unit."""
    samples: list[_Sample] = []
    repetitions: dict[str, int] = {}
    digest = hashlib.sha256()
    for path, own, first in _own(table):
        campaign, journal = read_journal(path, _Campaign, _Line, of="campaign")
        if (campaign.device.precision, campaign.device.compute_unit) != (scope.precision, scope.compute_unit):
            continue
        _check_calls(table, journal.lines)
        digest.update(own.encode())
        repetitions |= {line.item: line.repetitions for line in journal.lines if isinstance(line, _Ready)}
        taken = [line for line in journal.lines if isinstance(line, _Sample)]
        samples += [one for one in taken if one.round >= first and not one.double and not one.then]
    return _Found(samples=samples, repetitions=repetitions), f"sha256:{digest.hexdigest()}"


def _check_calls(table: LatencyTable, lines: Sequence[_Line]) -> None:
    if any(isinstance(line, _Wanted | _Submitted | _Dropped) for line in lines):
        raise TableError(
            f"the samples of the table {table.name!r} are jobs of a device lab, each of many calls on a phone that "
            "the lab chose, and a 95th percentile is of single calls",
            remedy="measure with a profiler that times calls, or give a latency budget such as 300ms",
        )


def _own(table: LatencyTable) -> list[tuple[Path, str, int]]:
    """Return the files of samples beside a table that its card names, with their digests and first round that counts.

    Raises:
        TableError: There are none.
    """
    stated = dict(_stated(table.card))
    beside = [] if table.folder is None else sorted(table.folder.glob("samples*.jsonl"))
    digests = [(path, f"sha256:{hashlib.sha256(read_regular(path)).hexdigest()}") for path in beside]
    found = [(path, digest, stated[digest]) for path, digest in digests if digest in stated]
    if not found:
        why = "has no samples beside it" if not beside else "has samples beside it that are not its own"
        raise TableError(
            f"the table {table.name!r} {why}, and a 95th percentile is priced from them",
            remedy="name the folder that s2search measure wrote, or give a latency budget such as 300ms",
        )
    return found


def _stated(card: Card) -> Iterator[tuple[str, int]]:
    """Yield the digests of samples that a card names, each with the first round that counts."""
    merged = card.protocol.get("merged")
    protocols: list[Any] = [one.get("protocol") for one in merged] if isinstance(merged, list) else []
    for protocol in [card.protocol, *protocols]:
        if isinstance(protocol, dict) and isinstance(digest := protocol.get("samples_digest"), str):
            steady = re.search(r"^sustained .*: rounds (\d+) to", str(protocol.get("mode", "")))
            yield digest, int(steady[1]) if steady else 0

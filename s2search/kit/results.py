"""results.jsonl: what comes back from a Mac and a phone, one JSON object per line; schema `s2search.kit_results/1`.

Two programs write it, and both write these lines: the Python runner, which has coremltools measure placement and cold
samples (`campaign`, `attempt`, `cold`, `placement`), and the Swift loop on the phone (`session`, `loading`, `ready`,
`sample`, `pause`, under sustained load `heating`, `hot`, `heated`, and `done`), whose lines are numbered by `n` so that
none is taken twice. Either may report `failed`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from s2search.border.regular_file import read_regular
from s2search.dates import newer_schema
from s2search.document import without_mark
from s2search.errors import InputError
from s2search.kit.manifest import MANIFEST, KitManifest

RESULTS_SCHEMA: Literal["s2search.kit_results/1"] = "s2search.kit_results/1"
RESULTS = "results.jsonl"
Thermal = Literal["nominal", "fair", "serious", "critical"]
Reason = Literal["does_not_compile", "out_of_memory", "timeout", "error"]
Stage = Literal["compile", "load", "predict", "placement"]
Ms = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]


def _kind(name: str) -> str:
    return name.removesuffix("Line").lower()


class ResultLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=_kind, forbid_unknown_fields=True):
    """One line; `at` is the time in UTC, ISO 8601."""

    at: Time


class PhoneLine(ResultLine, frozen=True, kw_only=True):
    """A line of the loop on the phone: the n-th, from 1."""

    n: Annotated[int, msgspec.Meta(ge=1)]


class CampaignLine(ResultLine, frozen=True, kw_only=True):
    """The first line: which kit, on which phone, with which Mac. The phone is known by a hash of its identifier."""

    schema: Literal["s2search.kit_results/1"] = RESULTS_SCHEMA
    kit: str
    device: str
    device_type: str
    device_digest: str
    chip: str
    os: str
    tools: dict[str, str]


class AttemptLine(ResultLine, frozen=True, kw_only=True):
    """coremltools begins with a row; an attempt without a result tells that it died or hung."""

    row: Count


class ColdLine(ResultLine, frozen=True, kw_only=True):
    """Times by coremltools: loads, and predictions that each went through files; the first one is the coldest."""

    row: Count
    load_ms: list[Ms]
    predict_ms: list[Ms]


class PlacementLine(ResultLine, frozen=True, kw_only=True):
    """Where Core ML means to run a row: operations by their preferred compute device.

    `elsewhere` lists types of operations that are not on the device that most prefer, with their number. A time per
    operation is not kept: coremltools does not measure it, but divides a prediction's time by the compute plan. What
    can be taken back out of it is: `cost`, the plan's estimated cost of the operations on every device, 1 in all; empty
    where the plan estimates none, and in results of before; `changes`, how often the device changes from one operation
    to the next.
    """

    row: Count
    operations: dict[str, Count]
    elsewhere: dict[str, Count]
    cost: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1.01)]] = {}
    changes: Count = 0

    @property
    def work(self) -> dict[str, float]:
        """How much of the work each device did: by estimated cost, or else by the count of operations."""
        return self.cost if sum(self.cost.values()) > 0 else {device: float(n) for device, n in self.operations.items()}


class SessionLine(PhoneLine, frozen=True, kw_only=True):
    """The loop was started; `crashed` if the launch before died while the phone was connected."""

    kit: str
    machine: str
    os: str
    thermal: Thermal
    low_power_mode: bool
    battery: float
    charging: bool
    crashed: bool


class LoadingLine(PhoneLine, frozen=True, kw_only=True):
    """The loop begins to load a row; if nothing follows, it died of that."""

    row: Count


class AppMemory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The app's phys_footprint, which iOS ends apps by, at moments of a row's loading, bytes.

    Attributes:
        before_bytes: Before it was loaded; other rows may be there already.
        load_bytes: After it was loaded, with its inputs.
        first_bytes: After its first prediction.
        steady_bytes: When it had settled.
        peak_before_bytes: The largest footprint in the life of the app, before it was loaded.
        peak_bytes: The same when it had settled.
    """

    before_bytes: Count
    load_bytes: Count
    first_bytes: Count
    steady_bytes: Count
    peak_before_bytes: Count
    peak_bytes: Count


class ReadyLine(PhoneLine, frozen=True, kw_only=True):
    """A row is loaded and has settled: after how many predictions, and how many make one sample.

    `first_ms` is the first prediction's time. `memory` is null where the phone did not tell; both are in results of
    before.
    """

    row: Count
    load_ms: Ms
    warm_ups: Count
    settled: bool
    repetitions: Annotated[int, msgspec.Meta(ge=1)]
    first_ms: Ms | None = None
    memory: AppMemory | None = None


class SampleLine(PhoneLine, frozen=True, kw_only=True):
    """The milliseconds of one prediction, the mean of a row's repetitions; thermal state before and after.

    `clock_s` are the seconds since the phone was started: a clock that nobody sets.
    """

    slot: Count
    round: Count
    row: Count
    sentinel: bool
    ms: Ms
    thermal: Thermal
    thermal_after: Thermal
    clock_s: Annotated[float, msgspec.Meta(ge=0)] | None = None


class HeatingLine(PhoneLine, frozen=True, kw_only=True):
    """Sustained load of a group begins, or begins anew: what was taken before a break does not count."""

    group: Count


class HotLine(PhoneLine, frozen=True, kw_only=True):
    """A sample under sustained load: in a slot of its group's order, which is gone through for the `lap`-th time."""

    slot: Count
    lap: Count
    row: Count
    sentinel: bool
    ms: Ms
    thermal: Thermal
    thermal_after: Thermal
    clock_s: Annotated[float, msgspec.Meta(ge=0)] | None = None


class HeatedLine(PhoneLine, frozen=True, kw_only=True):
    """Sustained load of a group has lasted long enough, without a break."""

    group: Count
    seconds: Annotated[float, msgspec.Meta(gt=0)]


class PauseLine(PhoneLine, frozen=True, kw_only=True):
    """The phone was too hot: how long the loop waited, and what it had become by then."""

    thermal: Thermal
    seconds: float
    thermal_after: Thermal


class FailedLine(ResultLine, frozen=True, kw_only=True):
    """A row that cannot be measured, and why; `n` only where the phone says so."""

    row: Count
    stage: Stage
    reason: Reason
    message: str
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None


class DoneLine(PhoneLine, frozen=True, kw_only=True):
    """The loop came to the end of the order."""


AnyLine = (
    CampaignLine
    | AttemptLine
    | ColdLine
    | PlacementLine
    | SessionLine
    | LoadingLine
    | ReadyLine
    | SampleLine
    | HeatingLine
    | HotLine
    | HeatedLine
    | PauseLine
    | FailedLine
    | DoneLine
)


def results_file(path: str | os.PathLike[str]) -> Path:
    """Return a kit's results.jsonl, where it is named itself or by the kit's folder.

    Raises:
        InputError: There is none.
    """
    named = Path(path)
    found = named / RESULTS if named.is_dir() else named
    if found.exists():
        return found
    remedy = "name the kit's folder, or results.jsonl in it, as they came back from the Mac"
    if (found.parent / MANIFEST).exists():
        remedy = "run the kit on the Mac, and bring back the whole folder"
    raise InputError(f"there are no results {str(found)!r}", remedy=remedy)


class Results:
    """All lines of a results.jsonl, checked against the kit that they belong to.

    Rows in `given_up` cannot be timed: the phone says so, or they do not compile; coremltools alone may fail at others.
    Groups in `stretches` were under sustained load long enough.
    """

    def __init__(self, path: Path, manifest: KitManifest, kit_digest: str) -> None:
        self.path = path
        self.lines = _read(path)
        self.campaign = self._campaign(kit_digest)
        self._check(manifest)
        self.failed = dict(self._failures())
        self.given_up = {row: line for row, line in self._failures() if line.n or line.reason == "does_not_compile"}
        self.cold = {line.row: line for line in self.lines if isinstance(line, ColdLine)}
        self.placement = {line.row: line for line in self.lines if isinstance(line, PlacementLine)}
        self.ready = {line.row: line for line in self.lines if isinstance(line, ReadyLine)}
        self.sessions = [line for line in self.lines if isinstance(line, SessionLine)]
        self.samples = [line for line in self.lines if isinstance(line, SampleLine)]
        self.stretches = self._stretches(manifest)

    def _failures(self) -> list[tuple[int, FailedLine]]:
        return [(line.row, line) for line in self.lines if isinstance(line, FailedLine)]

    def _campaign(self, kit_digest: str) -> CampaignLine:
        first = self.lines[0] if self.lines else None
        if not isinstance(first, CampaignLine):
            raise InputError(f"{str(self.path)!r} does not begin with a campaign", remedy="bring back the whole file")
        if first.kit != kit_digest:
            raise InputError(
                f"{str(self.path)!r} was measured with the kit {first.kit[:19]}, and beside it lies {kit_digest[:19]}",
                remedy="put the results into the folder of the kit that made them",
            )
        return first

    def _stretches(self, manifest: KitManifest) -> dict[int, list[HotLine]]:
        """Return the samples of every group whose sustained load lasted long enough, since it last began."""
        finished: dict[int, list[HotLine]] = {}
        begun: dict[int, list[HotLine]] = {}
        for number, line in enumerate(self.lines, start=1):
            if not isinstance(line, HeatingLine | HotLine | HeatedLine):
                continue
            where = f"line {number} of {str(self.path)!r}"
            group = _group(line, manifest)
            if group is None:
                raise InputError(f"{where} names a group or slot that the manifest does not have", remedy=_AGAIN)
            if group in finished or (group not in begun and not isinstance(line, HeatingLine)):
                raise InputError(f"{where} does not belong to a sustained load that was started", remedy=_AGAIN)
            if isinstance(line, HeatingLine):
                begun = {group: []}
            elif isinstance(line, HotLine):
                if begun[group] and (begun[group][-1].lap, begun[group][-1].slot) >= (line.lap, line.slot):
                    raise InputError(f"{where}: slot {line.slot} of lap {line.lap} is out of order", remedy=_AGAIN)
                begun[group].append(line)
            elif begun[group]:
                finished[group] = begun.pop(group)
            else:
                raise InputError(f"{where} ends a sustained load without a sample", remedy=_AGAIN)
        return finished

    def _check(self, manifest: KitManifest) -> None:
        n = 0
        slots: dict[int, int] = {}
        for number, line in enumerate(self.lines, start=1):
            where = f"line {number} of {str(self.path)!r}"
            if number > 1 and isinstance(line, CampaignLine):
                raise InputError(f"{where} begins another campaign", remedy="keep one campaign in one file")
            if (row := getattr(line, "row", 0)) >= len(manifest.rows):
                raise InputError(f"{where} is of row {row}", allowed=f"below {len(manifest.rows)}", remedy=_AGAIN)
            if (own := getattr(line, "n", None)) is not None:
                if own != n + 1:
                    raise InputError(f"{where} is the phone's line {own} and follows its line {n}", remedy=_AGAIN)
                n = own
            if isinstance(line, SampleLine):
                planned = manifest.order[line.slot] if line.slot < len(manifest.order) else None
                found = (line.round, line.row, line.sentinel)
                if planned is None or found != (planned.round, planned.row, planned.sentinel):
                    raise InputError(f"{where}: slot {line.slot} is another one in the manifest", remedy=_AGAIN)
                if line.slot in slots:
                    raise InputError(f"{where} and line {slots[line.slot]} are the same sample", remedy=_AGAIN)
                slots[line.slot] = number


_AGAIN = "restore the file as the runner left it"


def _group(line: HeatingLine | HotLine | HeatedLine, manifest: KitManifest) -> int | None:
    """Return the group that a line belongs to; None where the manifest has no such group or slot."""
    if not isinstance(line, HotLine):
        return line.group if line.group < len(manifest.groups) else None
    planned = manifest.order[line.slot] if line.slot < len(manifest.order) else None
    agrees = planned is not None and (planned.row, planned.sentinel) == (line.row, line.sentinel)
    return planned.group if planned is not None and agrees else None


def _read(path: Path) -> list[AnyLine]:
    """Return the whole lines; a torn last one was being written when the runner died."""
    try:
        content = without_mark(read_regular(path))
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}", remedy="check the path") from error
    lines: list[AnyLine] = []
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            lines.append(msgspec.json.decode(line, type=AnyLine))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if newer := newer_schema(line, RESULTS_SCHEMA):
                raise InputError(
                    f"{str(path)!r} was made by a newer s2search: its schema is {newer[:60]!r}",
                    remedy="install that version",
                ) from error
            raise InputError(f"line {number} of {str(path)!r} is not a result: {error}", remedy=_AGAIN) from error
    return lines

"""manifest.json: what a kit measures, in which order, and how. Both runners on the Mac read it; neither decides.

The order is written out, so that the loop on the phone needs no random numbers and can go on anywhere: every round
times every row of its group once, in a fresh order, and the sentinel before every few rows. A group is what fits the
phone's memory at once; the sentinel belongs to all groups and ties them together. Under sustained load the loop goes
through a group's part of the order again and again.

Most rows become rows of a table. Those of the role `layout` are whole programs, evidence of what parts take where they
stand, and become none.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from s2search import registry
from s2search.block import Scenario, Shape
from s2search.border.regular_file import read_regular
from s2search.dates import newer_schema
from s2search.document import as_json, without_mark
from s2search.errors import InputError
from s2search.exporters.coreml.form import Layout, StateKeeper
from s2search.tables.row import Role

SCHEMA: Literal["s2search.kit/1"] = "s2search.kit/1"
MANIFEST = "manifest.json"

ComputeUnits = Literal["cpu_and_neural_engine", "cpu_and_gpu", "cpu_only", "all"]

#: Roles of rows of a kit: those of a table's, and whole programs.
KitRole = Literal[Role, "layout"]

#: Whole programs: two or three layers, which show what a block takes in context; a random layout; a function of the
#: package that is to be shipped.
ProgramKind = Literal["context", "layout", "package"]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value of a file: nothing may be missing, and nothing unknown."""


class KitProtocol(Strict, frozen=True, kw_only=True):
    """How a kit measures.

    Attributes:
        rounds: Every row is sampled once per round.
        sentinel_every: The sentinel is timed again before every so many rows.
        least_sample_ms: A sample repeats its prediction until it lasts about this long, milliseconds.
        warm_up_calls: The most predictions before the first sample of a row; fewer where they settle sooner.
        settled_spread: Predictions have settled when the last five lie within this fraction of their median.
        cold_loads: Loads of every package by coremltools.
        cold_predictions: Predictions after the last of them.
        resident_bytes: The most bytes of weights and state that are loaded at once.
        cool_down_s: How long the loop waits for a phone that is too hot before every sample, seconds, at most.
        timeout_s: How long one load, compilation or prediction may take, seconds.
        seed: Seed of the orders.
        sustained_s: Once all samples of the order are taken, go on with every group, without a break, for so many
            seconds; None leaves that out.
    """

    rounds: int = 30
    sentinel_every: int = 5
    least_sample_ms: float = 20.0
    warm_up_calls: int = 50
    settled_spread: float = 0.05
    cold_loads: int = 2
    cold_predictions: int = 5
    resident_bytes: int = 1_500_000_000
    cool_down_s: int = 600
    timeout_s: int = 300
    seed: int = 0
    sustained_s: float | None = None

    def __post_init__(self) -> None:
        least = {"rounds": 3, "seed": 0}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None and name == "sustained_s":
                continue
            if not least.get(name, 1) <= value < math.inf and name != "settled_spread":
                raise InputError(f"{name} is {value}", allowed=f"at least {least.get(name, 1)}", remedy="correct it")


class Input(Strict, frozen=True, kw_only=True):
    """An input of a package. Its numbers are drawn evenly between `low` and `high`, the extremes of real ones."""

    name: str
    shape: list[int]
    dtype: Literal["float16", "float32"]
    low: float
    high: float


class KitPackage(Strict, frozen=True, kw_only=True):
    """A Core ML package of the kit.

    Attributes:
        digest: A hash of its program and weights, and of the function; equal packages are stored once.
        path: Where it lies in the kit; the functions of one package lie at one path.
        function: Which of several functions it stands for; left out of packages that have one.
        weight_bytes: Bytes of its weights as stored.
        operations: How many operations it has, by type.
        states: What Core ML keeps from call to call; it makes zeros of it, and nobody gives it.
        parity_db: Of the float32 graph that it was converted from, against the block or part itself in torch (999
            where they are equal). Not of the package.
    """

    digest: str
    path: str
    function: str | msgspec.UnsetType = msgspec.UNSET
    weight_bytes: int
    operations: dict[str, int]
    inputs: list[Input]
    outputs: list[str]
    states: list[str] = []
    parity_db: float | None


class KitProgram(Strict, frozen=True, kw_only=True):
    """What a row of the role `layout` times: stem, layers, switches and head in one program.

    Attributes:
        kind: Why it is timed.
        layout: Its layers, first to last: `lcha*2,ssa*4`.
        function: Which of an exported package's: `first`, `denoise` or `commit`.
        counts: How often one call pays every part of a table, the two ends included.
        exporter: What wrote it.
        link: Which package of a chain it is, from 1; 0 where the model is in one. `layout` is the whole model's.
        links: How many packages the model is in.
    """

    kind: ProgramKind
    layout: str
    function: str
    counts: dict[str, int]
    exporter: str
    link: int = 0
    links: int = 1

    @property
    def label(self) -> str:
        """The program as people write it."""
        what = f"{self.kind} {self.function}" if self.kind == "package" else self.kind
        link = f" link {self.link} of {self.links}" if self.link else ""
        return f"{what} {self.layout}{link}"


class KitRow(Strict, frozen=True, kw_only=True):
    """A row of the table to be measured: a part at a shape, in a precision, on compute units; or a whole program.

    Attributes:
        program: Of the role `layout` alone, which is of no part.
        single_calls: Every sample is one prediction, however short, so that samples say how predictions vary.
    """

    id: int
    role: KitRole
    part: str
    options: str
    scenario: Scenario
    shape: Shape
    precision: str
    compute_unit: ComputeUnits
    package: str
    state_bytes: int
    peak_bytes: int
    program: KitProgram | msgspec.UnsetType = msgspec.UNSET
    single_calls: bool = False

    def __post_init__(self) -> None:
        if (self.role == "layout") != isinstance(self.program, KitProgram):
            raise InputError(
                f"row {self.id} is of the role {self.role} and {'names no' if self.role == 'layout' else 'names a'} "
                "program",
                allowed="a program in rows of the role layout, and in no others",
                remedy="restore the manifest",
            )

    @property
    def part_label(self) -> str:
        """The part as people write it."""
        return registry.label_of(self.part, self.options)

    @property
    def label(self) -> str:
        """The row as people write it."""
        if isinstance(self.program, KitProgram):
            part = self.program.label
        else:
            part = f"{self.part_label} commit" if self.role == "commit" else self.part_label
        return f"{self.scenario} {part} {self.shape.grid} {self.precision} {self.compute_unit}"


class KitSlot(Strict, frozen=True, kw_only=True):
    """One place in the order: which row is sampled, and whether as the sentinel."""

    slot: int
    group: int
    round: int
    row: int
    sentinel: bool


class KnownTable(Strict, frozen=True, kw_only=True):
    """A table that foretells rows, by its name and digest."""

    name: str
    digest: str


class Shots(Strict, frozen=True, kw_only=True):
    """Which blocks are timed and which are not, where not all are.

    Attributes:
        shots: Blocks that are timed at every scenario and shape.
        known: The tables that they were chosen by, and that foretell the others.
        chosen: The rows of those blocks.
        foretold: Blocks that are in no row: scenario, block and grid.
    """

    shots: int
    known: list[KnownTable]
    chosen: list[int]
    foretold: list[str]


class Shipped(Strict, frozen=True, kw_only=True):
    """The exported package that a kit times, and what it was made from.

    Attributes:
        name: Of its folder.
        digest: A hash of its manifest.json, which has the hashes of all its files.
        exporter: What wrote it.
        model_digest: The model's.
        plan_digest: The plan that the model was realized from; null for a preset's own layout.
    """

    name: str
    digest: str
    exporter: str
    model_digest: str
    plan_digest: str | None


class KitManifest(Strict, frozen=True, kw_only=True):
    """The whole campaign of a kit; `shots` is left out where all blocks are timed, `shipped` where no package is.

    Attributes:
        layout: Of all packages: that of the exported package whose parts they are. Kits of before do not say; they had
            the blocks' layout, with a state of another form.
        state: Who keeps rings and tails.
    """

    schema: Literal["s2search.kit/1"] = SCHEMA
    code_version: str
    preset: str
    converter: dict[str, str]
    layout: Layout | msgspec.UnsetType = msgspec.UNSET
    state: StateKeeper | msgspec.UnsetType = msgspec.UNSET
    protocol: KitProtocol
    packages: list[KitPackage]
    rows: list[KitRow]
    sentinel: int
    groups: list[list[int]]
    order: list[KitSlot]
    shots: Shots | msgspec.UnsetType = msgspec.UNSET
    shipped: Shipped | msgspec.UnsetType = msgspec.UNSET

    @property
    def parts(self) -> list[KitRow]:
        """The rows that become rows of a table."""
        return [row for row in self.rows if row.role != "layout"]

    @property
    def programs(self) -> list[KitRow]:
        """The rows of whole programs."""
        return [row for row in self.rows if row.role == "layout"]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights; the functions of one package share theirs."""
        return sum({package.path: package.weight_bytes for package in self.packages}.values())

    def package(self, row: KitRow) -> KitPackage:
        """Return the package of a row."""
        return next(package for package in self.packages if package.digest == row.package)

    def to_json(self) -> bytes:
        """Return manifest.json."""
        return as_json(self, indent=1).encode()


def read_manifest(folder: Path) -> tuple[KitManifest, str]:
    """Return a kit's manifest and its digest, which results refer to.

    Raises:
        InputError: There is none, or it is not one.
    """
    path = folder / MANIFEST
    try:
        stored = read_regular(path)
        content = without_mark(stored)
        manifest = msgspec.json.decode(content, type=KitManifest)
    except OSError as error:
        raise InputError(
            f"there is no kit in {str(folder)!r}: {MANIFEST} cannot be read ({error.strerror})",
            remedy="name the results inside the kit's folder, as they came back",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if newer := newer_schema(content, SCHEMA):
            raise InputError(
                f"{str(path)!r} was made by a newer s2search: its schema is {newer[:60]!r}",
                remedy="install that version, or build the kit with this one",
            ) from error
        raise InputError(f"{str(path)!r} is not a manifest of schema {SCHEMA}: {error}", remedy="restore it") from error
    if said := next(_contradictions(manifest), ""):
        raise InputError(f"{str(path)!r} contradicts itself: {said}", remedy="restore it as `kit build` wrote it")
    return manifest, digest_of(stored)


def _contradictions(manifest: KitManifest) -> Iterator[str]:
    """Yield what `kit build` cannot have written: what refers to nothing, and chains that are not whole."""
    rows, digests = range(len(manifest.rows)), {package.digest for package in manifest.packages}
    yield from (f"row {n} says id {row.id}" for n, row in enumerate(manifest.rows) if row.id != n)
    if manifest.sentinel not in rows:
        yield f"the sentinel is row {manifest.sentinel} of {len(rows)}"
    yield from (f"row {row.id} is of a package that it lacks" for row in manifest.rows if row.package not in digests)
    named = {slot.row for slot in manifest.order}.union(*manifest.groups)
    yield from (f"its order or a group names row {row} of {len(rows)}" for row in sorted(named - {*rows}))
    yield from (f"slot {n} says {slot.slot}" for n, slot in enumerate(manifest.order) if slot.slot != n)
    yield from _broken_programs(
        [(row, row.program) for row in manifest.programs if isinstance(row.program, KitProgram)]
    )


def _broken_programs(programs: Sequence[tuple[KitRow, KitProgram]]) -> Iterator[str]:
    links: dict[str, list[int]] = {}
    most: dict[str, int] = {}
    for row, program in programs:
        yield from (f"a call of {row.label} pays {n} of {part}" for part, n in program.counts.items() if n < 0)
        if program.kind == "package":
            key = f"{program.function} on {row.compute_unit}"
            links.setdefault(key, []).append(program.link)
            most[key] = max(program.links, most.get(key, 0))
    for key, found in links.items():
        if found != (list(range(1, most[key] + 1)) if most[key] > 1 else [0]):
            yield f"the package's {key} has the links {found} of {most[key]}"


def digest_of(*contents: bytes) -> str:
    """Return a hash of bytes."""
    return f"sha256:{hashlib.sha256(b''.join(contents)).hexdigest()}"


def grouped(
    rows: Sequence[KitRow], sentinel: KitRow, resident_bytes: dict[int, int], most_bytes: int
) -> list[list[int]]:
    """Divide rows into groups that fit memory at once beside the sentinel, in their order.

    Args:
        rows: All rows.
        sentinel: Is in memory with every group.
        resident_bytes: Bytes of every row once loaded, by its id.
        most_bytes: What may be in memory at once. A row that exceeds it alone gets a group to itself.
    """
    room = most_bytes - resident_bytes[sentinel.id]
    groups: list[list[int]] = []
    used = room + 1
    for row in rows:
        size = 0 if row.id == sentinel.id else resident_bytes[row.id]
        if used + size > room:
            groups.append([])
            used = 0
        groups[-1].append(row.id)
        used += size
    return groups


def ordered(groups: Sequence[Sequence[int]], sentinel: int, protocol: KitProtocol) -> list[KitSlot]:
    """Return the order of all samples: group after group, and in each round after round.

    >>> [slot.row for slot in ordered([[0, 1], [2]], 0, KitProtocol(rounds=3, sentinel_every=1, seed=1))][:4]
    [0, 0, 0, 1]
    """
    rng, order = random.Random(protocol.seed), list[KitSlot]()

    def add(**fields: Any) -> None:
        order.append(KitSlot(slot=len(order), **fields))

    for group, rows in enumerate(groups):
        for number in range(protocol.rounds):
            for position, row in enumerate(rng.sample(rows, len(rows))):
                if position % protocol.sentinel_every == 0:
                    add(group=group, round=number, row=sentinel, sentinel=True)
                add(group=group, round=number, row=row, sentinel=False)
        add(group=group, round=protocol.rounds - 1, row=sentinel, sentinel=True)
    return order

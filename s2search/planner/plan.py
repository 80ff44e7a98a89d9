"""Plan: the answer. A layout, what it costs against the budgets, and what it was made from.

A plan is a value with a file form (JSON, schema `s2search.plan/1`) and carries the digests of the table and the score
that made it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from s2search.cost import CommitPolicy, ToldPipeline, format_us
from s2search.document import Document, read_json
from s2search.errors import InputError
from s2search.planner.constraints import Constraints
from s2search.planner.diff import Difference, difference
from s2search.planner.explain import Explanation, explain
from s2search.precision.documents import Palette, PrecisionChoice, PrecisionPlan
from s2search.registry import label_of
from s2search.solver.questions.score_errors import Stability
from s2search.tables.card import ProvenanceKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType

    from s2search.planner.request import Request
    from s2search.solver.base import Solver

SCHEMA: Literal["s2search.plan/1"] = "s2search.plan/1"
TWO_SIDED_95 = 1.96
#: By which rule one of the layouts that tie is shown; plans from before 2026-11-29 have "most even", "first by name".
TieBreak = Literal["fastest", "fewest switches", "fewest changes", "scored", "most even", "first by name"]


@dataclass(frozen=True, kw_only=True)
class LatencyAnswer:
    """Milliseconds of one forward pass: predicted, its 95 % interval if all rows err together, and the budget.

    `predicted` is the sum of the blocks' own latencies, `switches` and `fixed`. `commit` is beside it: the sum of what
    the layers take to commit one chunk to their states; null where the table does not say so of each of them. No
    budget and no rate counts it. `free_switches` is null but where the table prices the layout's switches at 0: it says
    so, and which price of one would break the budget. `provenance` are the kinds of evidence behind `predicted`, of all
    that takes time in this layout; empty in plans from before they were recorded. Where one is derived or estimated,
    the interval is no 95 %: it sums what the derivation says of its own error.
    """

    predicted: float
    low: float | None
    high: float | None
    budget: float | None
    slack: float | None
    switches: float
    fixed: float
    commit: float | None = None
    free_switches: str | None = None
    provenance: tuple[ProvenanceKind, ...] = ()

    @property
    def timed(self) -> bool:
        """Whether the interval is one of timings."""
        return not {"derived", "estimated"} & set(self.provenance)


@dataclass(frozen=True, kw_only=True)
class ConfidenceAnswer:
    """The probability asked for, and the milliseconds that the layout keeps with it if rows vary independently.

    The two deviations (ms) are those of the independent parts and of the table's common factor; the latter is null
    where the table states none. `score_without` is the best score without the condition, and `price` how much of it
    the condition costs; both null for a hand-written layout.
    """

    asked: float
    latency_ms: float
    independent_std_ms: float
    common_std_ms: float | None
    score_without: float | None
    price: float | None


@dataclass(frozen=True, kw_only=True)
class PercentileAnswer:
    """The 95th percentile of a forward pass in ms, priced from the samples beside the first device's table.

    `predicted` is mean + 1.645 times the deviation of `own_std` and `common_std` together: what each call has of its
    own, and what all calls of a pass share. `bound` is what was held against the budget, never less. `samples` is the
    hash of the samples, `score_without` the best score without this budget, and `price` how much of it the budget
    costs; both null for a hand-written layout.
    """

    predicted: float
    bound: float
    budget: float
    slack: float
    mean: float
    own_std: float
    common_std: float
    samples: str
    score_without: float | None
    price: float | None


@dataclass(frozen=True, kw_only=True)
class FirstAnswer:
    """Milliseconds from the prompt to the first frames, where a budget asks: predicted, the budget, and its arithmetic.

    `arithmetic` says what the budget leaves for one forward pass; null where it leaves nothing. The clean pass of
    `clean_pass` counts, since a chunk's state is written before it is decoded; loading the model does not.
    """

    predicted: float
    budget: float
    slack: float
    arithmetic: str | None


@dataclass(frozen=True, kw_only=True)
class MemoryAnswer:
    """Bytes: all of it, its three terms (blocks, what every layout has, the activation peak), and the budget.

    `decoder_counted` is false where the table has no bytes for the decoder: it then comes on top.
    """

    predicted: int
    blocks: int
    fixed: int
    peak: int
    decoder_counted: bool
    budget: int | None
    slack: int | None


@dataclass(frozen=True, kw_only=True)
class BlockAnswer:
    """One candidate, per layer: its stream, milliseconds, bytes, and the kinds of evidence behind both."""

    stream: Literal["high", "low"]
    latency_ms: float
    memory_bytes: int
    peak_bytes: int
    provenance: ProvenanceKind
    bytes_provenance: ProvenanceKind


@dataclass(frozen=True, kw_only=True)
class RateAnswer:
    """One chunk through the whole pipeline: its milliseconds and the pixel frames per second, per commit policy.

    A pass that rewrites the state counts as a whole forward pass, and committing to the state as nothing; what the
    latter takes, where that was measured, is `LatencyAnswer.commit`. `told` are the numbers of the pipeline that were
    told with the question, not read from the table's card; null where all are the card's.
    """

    chunk_ms: dict[str, float]
    frames_per_second: dict[str, float]
    budget: float | None
    arithmetic: str | None
    told: ToldPipeline | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceAnswer:
    """One of several devices: what the layout costs there, and whether that device's budgets hold the score down.

    `score_without` is the best score if this device had no budgets and all others kept theirs; the device binds where
    that is higher. Both are null where they were not computed. `table_marks` and `table_picked` are those of `Origin`.
    """

    table: str
    table_digest: str
    table_kind: ProvenanceKind
    precision: str
    compute_unit: str
    blocks: dict[str, BlockAnswer]
    latency_ms: LatencyAnswer
    memory_bytes: MemoryAnswer
    rate: RateAnswer | None
    binds: bool | None
    score_without: float | None
    table_marks: tuple[str, ...] = ()
    table_picked: str = ""
    first: FirstAnswer | None = None

    def latency_kinds(self, counts: Mapping[str, int]) -> tuple[ProvenanceKind, ...]:
        """Return the kinds of evidence behind the latency of so many of each block."""
        used = [block.provenance for label, block in self.blocks.items() if counts[label]]
        return tuple(sorted({*used, *self.latency_ms.provenance}))

    def bytes_kinds(self, counts: Mapping[str, int]) -> tuple[ProvenanceKind, ...]:
        """Return the kinds of evidence behind the bytes of so many of each block."""
        return tuple(sorted({block.bytes_provenance for label, block in self.blocks.items() if counts[label]}))


@dataclass(frozen=True, kw_only=True)
class NearLayout:
    """A layout in its written form, and its score."""

    written: str
    score: float


@dataclass(frozen=True, kw_only=True)
class NearTies:
    """Layouts within the budgets that score less than the best, by at most `gap`, and the first few of them by name.

    `count` is a lower bound where it is not `exact`.
    """

    gap: float
    count: int
    exact: bool
    layouts: tuple[NearLayout, ...]


@dataclass(frozen=True, kw_only=True)
class FewestSwitches:
    """The layout that ties with the plan's and changes the stream least often: in short, its changes, its latency."""

    written: str
    switches: int
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a plan was made from.

    `solver` says how the layout was found, where need be by another one than was asked. `*_options` are those that
    differ from their defaults, as people write them; empty too in plans from before they were recorded. `table_marks`
    say what was wrong with the runs that the latencies were measured in, those of the latency model's known tables
    included; empty for good ones. `table_picked` are the budgets that picked the table as the one under sustained load,
    such as `10fps@sustained`; empty where it was named. `project` is the project file that asked, with the keys that
    were taken from it.
    """

    table: str
    table_digest: str
    table_kind: ProvenanceKind
    table_statement: str
    table_source: str
    table_marks: tuple[str, ...] = ()
    table_picked: str = ""
    latency_model: str
    latency_model_options: str = ""
    score: str
    score_options: str = ""
    score_digest: str
    score_statement: str
    solver: str
    solver_options: str = ""
    project: str = ""
    s2search: str

    @property
    def latency_model_label(self) -> str:
        """The latency model with its options."""
        return label_of(self.latency_model, self.latency_model_options)

    @property
    def score_label(self) -> str:
        """The score with its options."""
        return label_of(self.score, self.score_options)

    @property
    def solver_label(self) -> str:
        """How the layout was found, with the options of the solver that was asked."""
        return label_of(self.solver, self.solver_options)


@dataclass(frozen=True, kw_only=True)
class TieScore:
    """Another score, by which one of the layouts that tie was chosen: what it gives it, and the standard error."""

    name: str
    digest: str
    statement: str
    score: float
    error: float | None = None


@dataclass(frozen=True, kw_only=True)
class PrecisionAnswer:
    """The precision of every part, where it was chosen together with the layout, and its noise.

    Attributes:
        offered: What parts were offered, as people write it.
        least_db: Signal-to-noise ratio of the velocity that was asked for.
        predicted_db: What the parts come to if noise powers add up, as sweeps of other models have them.
        assumed: How many layers' noise is the mean of the same block at other layers.
        spread_db: How far the noise of such blocks goes from layer to layer, at most; 0 where nothing is assumed.
        sensitivity_digest: Of the sweeps that were chosen by.
        palette: How tables of values are found.
        rest_bytes: Bytes of all that stays float16: the most of any sweep.
        tables: Digest of the table that a precision is priced by, by precision.
        parts: Every part with its precision, bytes of its matrices and noise.
    """

    offered: tuple[str, ...]
    least_db: float
    predicted_db: float
    assumed: int
    spread_db: float
    sensitivity_digest: str
    palette: Palette
    rest_bytes: int
    tables: dict[str, str]
    parts: dict[str, PrecisionChoice]

    @property
    def layers(self) -> tuple[str, ...]:
        """The precision of every layer, first to last."""
        return tuple(choice.precision for part, choice in self.parts.items() if part.startswith("layers."))

    @property
    def others(self) -> dict[str, str]:
        """The precisions of all parts that are no layer."""
        return {part: one.precision for part, one in self.parts.items() if not part.startswith("layers.")}

    @property
    def asked(self) -> str:
        """What was asked for, as people write it."""
        return f"at least {self.least_db:g} dB, chosen with the layout"

    def of_model(self, model_digest: str, weights_digest: str, *, optimal: bool) -> PrecisionPlan:
        """Return the choice as that of one model, which was realized from the plan after it was made."""
        return PrecisionPlan(
            model_digest=model_digest,
            weights_digest=weights_digest,
            sensitivity_digest=self.sensitivity_digest,
            asked=self.asked,
            palette=self.palette,
            rest_bytes=self.rest_bytes,
            parts=self.parts,
            weight_bytes=self.rest_bytes + sum(choice.bytes for choice in self.parts.values()),
            predicted_db=self.predicted_db,
            optimal=optimal,
        )


@dataclass(frozen=True, kw_only=True)
class Plan(Document):
    """A layout and its promise. See the fields' own types for units.

    `layout` names the block of every layer, first to last, and `written` the same in short. `ties` counts the layouts
    with the same score within the budgets, that of the plan included; null where they were not counted, and a lower
    bound where not `ties_exact`. `tied_layouts` are the first few others by name; `tie_break` says which is shown,
    null where it is the one that the solver found, and `tie_score` the score that was asked before its rule.
    `fewest_switches` is null where no layout that ties has fewer than it, `near_ties` where none were asked for, and
    `score_stability`, like the standard error of `score`, where the score states no errors.
    `upper_bound` is a proven limit on the score of any layout within the budgets; null where no layout is. `fits` is
    false only for a hand-written layout. `devices` is empty where there is one table; else it lists all of them, and
    the first is the one that `blocks`, `latency_ms`, `memory_bytes`, `rate`, `first` and `p95` speak of. The last two
    are null where no budget asks. `precisions` is null but where they were chosen together with the layout: then
    `precision` is the fewest bits of any part, and `blocks` are in the first precision that was offered.
    """

    schema: Literal["s2search.plan/1"] = SCHEMA
    layout: tuple[str, ...]
    written: str
    counts: dict[str, int]
    blocks: dict[str, BlockAnswer]
    group_size: Annotated[int, msgspec.Meta(ge=1)]
    scenario: str
    video: str
    frames: int
    precision: str
    compute_unit: str
    commit: CommitPolicy
    fits: bool
    latency_ms: LatencyAnswer
    confidence: ConfidenceAnswer | None = None
    memory_bytes: MemoryAnswer
    rate: RateAnswer | None
    first: FirstAnswer | None = None
    p95: PercentileAnswer | None = None
    score: float
    score_error: float | None = None
    upper_bound: float | None
    optimal: bool
    ties: int | None
    ties_exact: bool = True
    tied_layouts: tuple[str, ...] = ()
    tie_break: TieBreak | None = None
    tie_score: TieScore | None = None
    fewest_switches: FewestSwitches | None = None
    near_ties: NearTies | None = None
    score_stability: Stability | None = None
    provenance: Origin
    constraints: Constraints = dataclasses.field(default_factory=Constraints)
    devices: tuple[DeviceAnswer, ...] = ()
    precisions: PrecisionAnswer | None = None
    explanation: Explanation | None = None

    def __post_init__(self) -> None:
        counted = {label: self.layout.count(label) for label in self.blocks}
        if counted != self.counts or sum(counted.values()) != len(self.layout):
            raise InputError(
                f"the plan's counts {self.counts} are not those of its layout {self.written!r}", remedy="plan again"
            )

    @property
    def depth(self) -> int:
        """How many layers."""
        return len(self.layout)

    @property
    def score_range(self) -> tuple[float, float]:
        """Where the score lies with 95 %; the score itself where it states no error."""
        half = TWO_SIDED_95 * (self.score_error or 0.0)
        return self.score - half, self.score + half

    @property
    def switches(self) -> int:
        """How many stream changes, those after the stem and before the head included."""
        streams = ["high", *(self.blocks[label].stream for label in self.layout), "high"]
        return sum(before != after for before, after in pairwise(streams))

    @property
    def every_device(self) -> tuple[DeviceAnswer, ...]:
        """What the plan says of each device, also where there is only one."""
        if self.devices:
            return self.devices
        only = DeviceAnswer(
            table=self.provenance.table,
            table_digest=self.provenance.table_digest,
            table_kind=self.provenance.table_kind,
            precision=self.precision,
            compute_unit=self.compute_unit,
            blocks=self.blocks,
            latency_ms=self.latency_ms,
            memory_bytes=self.memory_bytes,
            rate=self.rate,
            binds=None,
            score_without=None,
            table_marks=self.provenance.table_marks,
            table_picked=self.provenance.table_picked,
            first=self.first,
        )
        return (only,)

    @property
    def kept_ms(self) -> float:
        """The latency to reckon with: what is kept with the confidence asked for, else what is predicted."""
        return self.latency_ms.predicted if self.confidence is None else self.confidence.latency_ms

    @cached_property
    def digest(self) -> str:
        """A hash of everything in the plan."""
        content = msgspec.to_builtins(self)
        # A plan without what was added later keeps the digest from before: models in the field refer to it.
        for answer in (content, *content.get("devices", ())):
            for name in ("commit", "free_switches"):
                if answer["latency_ms"].get(name) is None:
                    answer["latency_ms"].pop(name, None)
            if answer["rate"] and answer["rate"].get("told") is None:
                answer["rate"].pop("told", None)
            # What the tables' digests and the latency model settle.
            answer["latency_ms"].pop("provenance", None)
            answer.pop("table_marks", None)
            for name, nothing in (("first", None), ("table_picked", "")):
                if answer.get(name) == nothing:
                    answer.pop(name, None)
        for name in ("fewest_switches", "score_stability", "score_error", "tie_score", "p95", "precisions"):
            if content.get(name) is None:
                content.pop(name, None)
        for name in ("table_marks", "project"):  # the same, and who asked
            content["provenance"].pop(name, None)
        for name in ("latency_model_options", "score_options", "solver_options", "table_picked"):
            if not content["provenance"].get(name):
                content["provenance"].pop(name, None)
        return f"sha256:{hashlib.sha256(msgspec.json.encode(content, order='sorted')).hexdigest()}"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan.

        Raises:
            InputError: The file is missing, or is not a plan of this schema.
        """
        return read_json(path, cls, what=f"plan of schema {SCHEMA}")

    def answering(self, request: Request, solver: Solver) -> Plan:
        """Return the same plan with the question that it answers at hand, so that it can explain itself.

        The question is no field: no file holds it, and a plan is equal to the same one without.
        """
        plan = dataclasses.replace(self)
        object.__setattr__(plan, "_question", (request, solver))
        return plan

    def explain(self) -> Plan:
        """Return the same plan with its explanation: swaps, what the budgets are worth, and which rows decide.

        Raises:
            InputError: The plan was read from a file, which holds an explanation or none, or its condition is no sum.
            ProblemError: Its solver does not prove its answers.
        """
        if self.explanation is not None:
            return self
        question = self.__dict__.get("_question")
        if question is None:
            raise InputError(
                f"the plan {self.written!r} was read from a file that holds no explanation",
                remedy="plan again with explain=True, or price its layout",
            )
        request, solver = question
        return dataclasses.replace(self, explanation=explain(request, self.layout, solver)).answering(request, solver)

    def diff(self, other: Plan) -> Difference:
        """Return what changes from this plan to another one, layer by layer, and why."""
        return difference(self, other)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the layers in their two streams; without axes to draw on also the budgets, as a picture of its own."""
        from s2search.reporting import shown

        return shown.plot_plan(self, ax)

    def _repr_html_(self) -> str:
        from s2search.reporting import shown

        return shown.plan_html(self)

    def __rich__(self) -> RenderableType:
        from s2search.reporting import shown

        return shown.plan_text(self)

    def __str__(self) -> str:
        from s2search.reporting import shown

        return shown.plain(self)

    def __repr__(self) -> str:
        latency = format_us(1000 * self.latency_ms.predicted)
        return f"<Plan {self.written}: {latency}, score {self.score:.6f}, on {self.provenance.table}>"

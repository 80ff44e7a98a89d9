"""What came of a comparison: contenders by how much they lose, and which of them are worse than the best."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from s2search.document import Document
from s2search.training.compare.settings import LayoutSettings
from s2search.training.settings import RunSettings

ERRORS = (
    "of a difference to the best, seed by seed and sample by sample: the square root of the variance of its means by "
    "seed (the larger of its own and of all contenders'), over the seeds, plus that of its mean over samples, those of "
    "a recording together"
)


class ComparisonQuestion(msgspec.Struct, frozen=True, kw_only=True, tag="comparison"):
    """What is compared; the first line of losses.jsonl.

    Attributes:
        seeds: Of weights, order and noise.
        samples: Held out, to judge by.
        shift: Of their noise levels.
        run: What all runs have in common.
        layouts: What contenders were made from.
        contenders: Each with its changes of the run's settings.
        inputs: Digests of what each contender reads: its model's config, the data, and so on.
        table: The digest of the table of `layouts`, by which contenders are priced; empty without one.
    """

    schema: Literal["s2search.run_losses/1"] = "s2search.run_losses/1"
    seeds: tuple[int, ...]
    samples: int
    shift: float
    run: RunSettings
    layouts: LayoutSettings
    contenders: dict[str, dict[str, Any]]
    inputs: dict[str, dict[str, str]]
    table: str = ""


class RunLosses(msgspec.Struct, frozen=True, kw_only=True, tag="losses"):
    """What a trained model loses at each held-out sample: a line of losses.jsonl.

    Attributes:
        contender: Its name.
        seed: Of its run.
        layout: Of the model; a trainer may have changed it.
        loss_N: At every sample.
    """

    contender: str
    seed: int
    layout: tuple[str, ...]
    loss_N: tuple[float, ...]


class ContenderResult(msgspec.Struct, frozen=True, kw_only=True):
    """A contender and what came out.

    Attributes:
        name: As people call it.
        rank: From 1, by loss; equal layouts have the same.
        trained_as: The contender whose runs these are; its own name where it was trained itself.
        layouts: The block of every layer; several where a trainer finds another one under another seed.
        written: The same in short, with | between several.
        loss: Mean over seeds and samples.
        loss_by_seed: Means over samples.
        ratio: Of the loss to the blind baseline's.
        behind: How much more it loses than the best one.
        behind_error: Standard error of that; 0 for the best one.
        worse: Whether it is called worse; else it may be as good as the best.
        latency_ms: By the table of `[layouts]`, the most of several layouts; null where that does not price them.
        memory_bytes: Likewise.
        fits: Whether all are within the budgets; null where they have no price.
    """

    name: str
    rank: int
    trained_as: str
    layouts: tuple[tuple[str, ...], ...]
    written: str
    loss: float
    loss_by_seed: tuple[float, ...]
    ratio: float
    behind: float
    behind_error: float
    worse: bool
    latency_ms: float | None = None
    memory_bytes: int | None = None
    fits: bool | None = None


@dataclass(frozen=True, kw_only=True)
class RunComparison(Document):
    """Contenders that were trained alike: the content of compare.json.

    Attributes:
        seeds: A run for each and every contender.
        steps: Of a run.
        batch: Samples of a step.
        samples: Held out, the same for all.
        recordings: That these were cut out of.
        shift: Of their noise levels.
        data: The digest of the clips.
        blind: What the blind baseline loses on the same samples.
        errors: What a standard error is.
        errors_to_differ: By how many of them a contender is behind the best that is called worse.
        contenders: By rank.
        s2search: The version that compared them.
        layouts: What contenders were made from, with the table and the budgets.
        table: The digest of that table; empty without one.
    """

    schema: Literal["s2search.run_comparison/1"] = "s2search.run_comparison/1"
    seeds: tuple[int, ...]
    steps: int
    batch: int
    samples: int
    recordings: int
    shift: float
    data: str
    blind: float
    errors: str = ERRORS
    errors_to_differ: float
    contenders: tuple[ContenderResult, ...]
    s2search: str
    layouts: LayoutSettings = field(default_factory=LayoutSettings)
    table: str = ""

    @property
    def best(self) -> ContenderResult:
        """The contender that loses least."""
        return self.contenders[0]

"""layout_search: which layers run in high resolution, learned with the weights of both candidates of every layer.

A plan says how many layers are high. A supernet has both candidates at each; every step draws masks that keep the
plan's counts, and its loss moves weights and the mask's logits. At the end the logits are a score, by which the plan's
own question is asked again: so what is left fits the plan's budgets, switches between the streams included.

Axes: M groups of equal layers

Source: S2DiT, section 3 (stage 2: Gumbel-softmax with a straight-through estimator, counts of stage 1). That the layout
is searched for exactly at the end, that several masks are drawn per step, and the schedule, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from typing_extensions import override

from s2search.document import as_json, write_text
from s2search.errors import InputError
from s2search.journal import first_difference, plain
from s2search.network.config import WEIGHTS, ModelConfig
from s2search.planner.find import find
from s2search.planner.plan import Plan
from s2search.planner.replan import asked_again, tables_behind
from s2search.score.file import ScoreFile
from s2search.score.measured import MeasuredScore
from s2search.solver.dynamic import Dynamic
from s2search.space import Space
from s2search.tables.table import open_table
from s2search.training.base import Average, Network, TrainingRun
from s2search.training.flow import Flow
from s2search.training.share import Share

if TYPE_CHECKING:
    from torch import Tensor, nn

    from s2search.network.network import S2DiT
    from s2search.training.data.clips import Clips
    from s2search.training.supernet import Supernet

#: What it leaves in a run's folder: the plan that was found, and the score by which it was.
PLAN, MASK = "plan.json", "mask.json"
_SUPERNET = "supernet"  # the folder with its first weights
_LOGITS = "leaning_M"  # of the weights
_MOST_DRAWS = 64
_FASTEST = 1e9  # times the learning rate


@dataclass(frozen=True, kw_only=True)
class LayoutSearch(Flow):
    """Mean |v_hat - v|^2 of a supernet over masks with the counts of `model.plan`; leaves a plan and its model.

    Attributes:
        scores: A folder that `s2search score measure` wrote: its blocks are the first weights. Without it, random ones.
        weights: The folder of the model that those scores were measured on: its ends are the first weights too.
        table: Folders of the plan's tables, with + between, where they are not installed.
        draws: Masks of a step.
        temperature: Of their gradient, at the first step; lower is closer to the hard mask.
        coolest: At the last step; it falls by the same factor from step to step.
        reach: How far a logit would come if every step moved it the same way: `AdamW` moves every number by about the
            learning rate, which for logits is as much larger.
    """

    scores: str = ""
    weights: str = ""
    table: str = ""
    draws: int = 4
    temperature: float = 1.0
    coolest: float = 0.1
    reach: float = 20.0

    statement: ClassVar[str] = "velocity of whole clips under drawn layouts: mean |v_hat - v|^2 of a supernet"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.draws <= _MOST_DRAWS:
            raise InputError(f"draws={self.draws}", allowed=f"1 to {_MOST_DRAWS}", remedy="correct the option")
        if not 0 < self.coolest <= self.temperature < math.inf or not 0 < self.reach < math.inf:
            raise InputError(
                f"temperature={self.temperature:g}, coolest={self.coolest:g}, reach={self.reach:g}",
                allowed="numbers above 0, the coolest temperature not above the first",
                remedy="correct the trainer's options",
            )
        if bool(self.scores) != bool(self.weights):
            given, other = ("scores", "weights") if self.scores else ("weights", "scores")
            raise InputError(
                f"the option {given} is given without {other}",
                remedy="name the folder of scores, and that of the model that they were measured on",
            )

    @override
    def inputs(self, clips: Clips, config: ModelConfig, plan: Plan | None) -> Mapping[str, str]:
        pair = TwoCandidates.of(plan)
        tables = self._tables(pair.plan)
        asked_again(pair.plan, tables, pair.score([0.0] * pair.groups, ""))
        found = {f"table.{table.name}": table.digest for table in tables}
        return found | self._scored(config, pair) if self.scores else found

    @override
    def start(self, run: TrainingRun) -> None:
        from s2search.network.weight_file import write_tensors

        path = run.folder / _SUPERNET / WEIGHTS
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        hidden = path.with_name(f".{path.name}.partial")
        write_tensors(hidden, self._module(run).state_dict(), self._first(run), {"format": "pt"})
        hidden.replace(path)

    @override
    def networks(self, run: TrainingRun) -> Mapping[str, Network]:
        return {"model": Network(module=self._module(run), weights=run.folder / _SUPERNET)}

    @override
    def step(self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share) -> Mapping[str, Tensor]:
        import torch

        from s2search.training.supernet import sample_mask, undecided

        pair, batch = TwoCandidates.of(run.plan), self.learned(run, share)
        open_still = undecided(self._logits(run, networks["model"]), pair.high_groups)
        mask = partial(
            sample_mask,
            high=pair.high_groups,
            temperature=self.temperature_at(share.step, run.settings.optimizer.steps),
            generator=share.common("mask"),
        )
        under = partial(networks["model"], mask=mask)
        losses = [self.error_of(run, under, batch).mean() for _ in range(self.draws)]
        return {"model": torch.stack(losses).mean(), "undecided": open_still}

    def temperature_at(self, step: int, steps: int) -> float:
        """Return the temperature of a step, from 0.

        >>> [round(LayoutSearch().temperature_at(step, 3), 3) for step in range(3)]
        [1.0, 0.316, 0.1]
        """
        return float(self.temperature * (self.coolest / self.temperature) ** (step / max(1, steps - 1)))

    @override
    def progress(self, run: TrainingRun, networks: Mapping[str, nn.Module]) -> str:
        pair = TwoCandidates.of(run.plan)
        logits_M = self._logits(run, networks["model"])
        taken = set(logits_M.argsort(descending=True)[: pair.high_groups].tolist())
        return f"mask {pair.written([group in taken for group in range(pair.groups)])}"

    @override
    def artefact(self, run: TrainingRun, average: Average, folder: Path | None) -> str:
        import torch

        from s2search.network.weight_file import weights_digest
        from s2search.training.left_model import write_model

        logits: list[Tensor] = []

        def seen() -> Iterator[tuple[str, Tensor]]:
            for name, tensor in average():
                if name == _LOGITS:
                    logits.append(tensor)
                yield name, tensor

        digest = weights_digest(seen())
        score, plan = self._found(run, logits[0], digest)
        supernet = self._supernet(run)
        model = supernet.extract(torch.tensor(TwoCandidates.of(plan).mask, dtype=torch.float64))
        own = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
        # Which weight of the supernet is which of the model.
        names = {
            f"supernet.{name}": own[id(tensor)]
            for name, tensor in supernet.state_dict(keep_vars=True).items()
            if id(tensor) in own
        }
        taken = ((names[name], tensor) for name, tensor in average() if name in names)
        write_model(replace(model.config, plan_digest=plan.digest), plan, taken, folder)
        if folder is not None:
            write_text(folder / MASK, as_json(score))
            plan.save(folder / PLAN)
        before = TwoCandidates.of(run.plan).plan.written
        return f"the layout {plan.written}, of the plan's counts and within its budgets ({before} before): {PLAN}"

    @override
    def judge(
        self, run: TrainingRun, network: nn.Module, share: Sequence[int], of: int
    ) -> Iterator[tuple[str, Tensor]]:
        yield from super().judge(run, self._settled(run, network), share, of)

    @override
    def draw(self, run: TrainingRun, network: nn.Module) -> Mapping[str, Tensor]:
        return super().draw(run, self._settled(run, network))

    def _settled(self, run: TrainingRun, network: nn.Module) -> Any:
        """Return the supernet under the mask of the layout that is found by its logits."""
        import torch

        from s2search.training.parallel import whole

        leaning_M: Any = network.leaning_M
        _, plan = self._found(run, whole(leaning_M.detach()).cpu(), "")
        mask_M = torch.tensor(TwoCandidates.of(plan).mask, device=run.device)
        return partial(network, mask=lambda logits_M: mask_M.to(logits_M))

    def _logits(self, run: TrainingRun, network: nn.Module) -> Tensor:
        """Return the logits of the mask, whole, without a gradient; all processes must ask."""
        from s2search.training.parallel import whole
        from s2search.training.supernet import mask_logits

        leaning_M: Any = network.leaning_M
        return mask_logits(whole(leaning_M.detach()), self._rate(run)).detach()

    def _found(self, run: TrainingRun, leaning_M: Tensor, digest: str) -> tuple[ScoreFile, Plan]:
        """Return the score that logits are, and the best plan by it."""
        from s2search.training.supernet import mask_logits

        pair = TwoCandidates.of(run.plan)
        first = "random weights"
        if self.scores:
            first = f"the blocks of the score {MeasuredScore.load(self._score_file).digest[:19]}"
        steps = run.settings.optimizer.steps
        statement = f"logits of the mask of the supernet {digest[:19]} after {steps:,} steps, begun with {first}"
        score = pair.score(mask_logits(leaning_M, self._rate(run)).tolist(), statement)
        return score, find(asked_again(pair.plan, self._tables(pair.plan), score), Dynamic())

    def _rate(self, run: TrainingRun) -> float:
        """Return how many times as fast as any weight a logit moves."""
        optimizer = run.settings.optimizer
        mean = 1.0 if optimizer.schedule == "constant" else 0.5  # of the learning rate, over all steps
        rate = self.reach / (mean * optimizer.lr * optimizer.steps)
        if not rate < _FASTEST:
            raise InputError(
                f"logits would move {rate:.3g} times as fast as weights: reach={self.reach:g}, optimizer.lr is "
                f"{optimizer.lr:g}",
                allowed=f"up to {_FASTEST:g} times",
                remedy="lower the trainer's reach",
            )
        return rate

    def _supernet(self, run: TrainingRun) -> Supernet:
        """Return the supernet, on the meta device."""
        import torch

        from s2search.training.supernet import Supernet

        pair, config = TwoCandidates.of(run.plan), run.config
        with torch.device("meta"):
            return Supernet(
                config.preset,
                high=pair.high,
                low=pair.low,
                group_size=pair.plan.group_size,
                velocity=config.velocity,
                latent_channels=config.latent_channels,
            )

    def _module(self, run: TrainingRun) -> nn.Module:
        import torch

        from s2search.training.supernet import MaskedSupernet

        with torch.device("meta"):
            return MaskedSupernet(self._supernet(run), rate=self._rate(run))

    def _first(self, run: TrainingRun) -> Iterator[tuple[str, Tensor]]:
        """Yield the first weights, one part of the network in memory at a time."""
        import torch

        pair = TwoCandidates.of(run.plan)
        yield _LOGITS, torch.zeros(pair.groups)
        weights = self._of_scores(pair) if self.scores else _random(run, pair)
        for name, tensor in weights:
            yield f"{_SUPERNET}.{name}", tensor.float()

    def _of_scores(self, pair: TwoCandidates) -> Iterator[tuple[str, Tensor]]:
        from s2search.training.scored_blocks import ends, mean_switches, trained_block

        model, switches = self._scored_model(), []
        yield from ends(model).items()
        for layer in range(pair.plan.depth):
            for stream, label in (("high", pair.high), ("low", pair.low)):
                block, own = trained_block(model, Path(self.scores), layer, label)
                switches.append(own)
                yield from ((f"{stream}.{layer}.{name}", tensor) for name, tensor in block.items())
        yield from mean_switches(switches).items()

    def _scored(self, config: ModelConfig, pair: TwoCandidates) -> dict[str, str]:
        """Return the digests of the scores and of the model that they were measured on.

        Raises:
            InputError: They do not belong together, or to the model that is trained.
        """
        from s2search.training.scored_blocks import check_block

        model, score = self._scored_model(), MeasuredScore.load(self._score_file)
        digest, measured_on = model.weights_digest(), score.provenance.get("model", "")
        if measured_on != digest:
            raise InputError(
                f"the score in {self.scores!r} was measured on the weights {measured_on[:19]}, and those in "
                f"{self.weights!r} are {digest[:19]}",
                remedy="name the model that it was measured on",
            )
        if difference := first_difference(_sizes(model.config), _sizes(config)):
            raise InputError(
                f"the scored model in {self.weights!r} is not of the sizes that are asked: {difference}",
                remedy="set model.preset and model.velocity to its own, and train on data of its codec",
            )
        for layer in range(pair.plan.depth):
            for label in (pair.high, pair.low):
                check_block(model, Path(self.scores), layer, label)
        return {"scores": score.digest, "scored": digest}

    def _scored_model(self) -> S2DiT:
        from s2search.network.network import S2DiT

        folder = Path(self.weights)
        if not folder.is_dir():
            raise InputError(
                f"there is no folder of weights {self.weights!r}", remedy="name what save_pretrained wrote"
            )
        model: S2DiT = S2DiT.from_pretrained(folder, mapped=True)
        return model

    @property
    def _score_file(self) -> Path:
        return Path(self.scores) / "score.json"

    def _tables(self, plan: Plan) -> Any:
        given = [open_table(Path(folder)) for folder in self.table.split("+")] if self.table else []
        return tables_behind(plan, given)


@dataclass(frozen=True, kw_only=True)
class TwoCandidates:
    """The two candidates of a plan: what a mask can say.

    Attributes:
        plan: Has both of them.
        high: The candidate of the high stream, as people write it.
        low: That of the low stream.
    """

    plan: Plan
    high: str
    low: str

    @classmethod
    def of(cls, plan: Plan | None) -> Self:
        """Return those of a plan.

        Raises:
            InputError: It has others too, or layers of one of them only.
        """
        if plan is None:
            raise InputError(
                "layout_search begins with a plan, which says how many layers are high, and model.plan is not set",
                remedy="set it to a file that `s2search plan --out` wrote",
            )
        streams = [(block.stream, label) for label, block in plan.blocks.items()]
        if sorted(stream for stream, _ in streams) != ["high", "low"]:
            raise InputError(
                f"the plan chooses among {', '.join(label for _, label in streams)}",
                allowed="one candidate of the high stream and one of the low stream",
                remedy="plan with two --candidates, such as lcha,ssa",
            )
        labels = dict(streams)
        if not all(plan.counts.values()):
            raise InputError(
                f"the plan's layers are all alike, {plan.written}, and there is no other layout with its counts",
                remedy="train it with flow, or plan with other budgets",
            )
        return cls(plan=plan, high=labels["high"], low=labels["low"])

    @property
    def groups(self) -> int:
        """How many groups of equal layers, M."""
        return self.plan.depth // self.plan.group_size

    @property
    def high_groups(self) -> int:
        """How many of them are high."""
        return self.plan.counts[self.high] // self.plan.group_size

    @property
    def mask(self) -> list[float]:
        """The plan's layout as a mask: 1 for each high group, 0 for each low one."""
        return [float(label == self.high) for label in self.plan.layout[:: self.plan.group_size]]

    def score(self, logits_M: Sequence[float], statement: str) -> ScoreFile:
        """Return logits as a score: those of a group at each of its layers of the high stream, 0 at the low ones."""
        high_L = [round(logit, 6) for logit in logits_M for _ in range(self.plan.group_size)]
        scores: dict[str, float | list[float | None] | None] = {self.high: [*high_L], self.low: 0.0}
        return ScoreFile(schema="s2search.score/1", name="layout_search", statement=statement, scores=scores)

    def written(self, high_M: Sequence[bool]) -> str:
        """Return a layout as people write it."""
        space = Space.parse(f"{self.high},{self.low}", depth=self.plan.depth, group_size=self.plan.group_size)
        return space.write_layout([1 - int(high) for high in high_M for _ in range(self.plan.group_size)])


def _sizes(config: ModelConfig) -> dict[str, Any]:
    """Return what blocks of one model need to be of another's sizes."""
    preset: dict[str, Any] = plain(config.preset)
    for name in ("name", "layout"):
        preset.pop(name, None)
    return {"velocity": config.velocity, "latent_channels": config.latent_channels, **preset}


def _random(run: TrainingRun, pair: TwoCandidates) -> Iterator[tuple[str, Tensor]]:
    """Yield random weights: those of a model of the high candidate alone, and of one of the low candidate alone."""
    from s2search.network.random_weights import RandomS2DiT

    for stream, label in (("high", pair.high), ("low", pair.low)):
        config = replace(run.config, layout=(label,) * pair.plan.depth, plan_digest=None)
        drawn = RandomS2DiT(config, seed=run.settings.seed, silent=config.velocity == "residual").drawn()
        for name, tensor in drawn:
            part, _, rest = name.partition(".")
            if part == "layers":
                yield f"{stream}.{rest}", tensor
            elif stream == "high" or part in ("down", "up"):
                yield name, tensor

"""Scores by replaced blocks: what a trained model loses where a candidate stands in for one of its layers.

For each layer of a frozen model, every candidate learns to give what the layer gives (`|c(x) - y|^2`, relative to what
the layer changes), all of them on the same inputs, which the model's layers before it make once. Then the candidate
stands in the model, and its loss is compared with the model's own on the same held-out samples.

A candidate takes over the model's weights of equal name and shape: those of attention, the text layers, the
feed-forward and the table. A low candidate is measured with switches of its own and the long skip, as if it were the
only low layer; the last layer too leads to the head that way. Runs of a low candidate over several layers, with one
switch down and one up, learn jointly what those layers give together.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  H W token rows and columns  D channels
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn

from s2search import registry
from s2search.block import Stream
from s2search.errors import CheckError, InputError
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT, part_builders
from s2search.network.walk import predicted
from s2search.network.weight_file import save_tensors
from s2search.score.measured import MeasuredScore, RunValue, Value
from s2search.training.captions import Captions
from s2search.training.divided import divided
from s2search.training.noisy import judged_by, learned_from
from s2search.training.parallel import ALONE, Processes
from s2search.training.settings import OptimizerSettings
from s2search.training.share import Share, generator
from s2search.training.trained_network import TrainedNetwork

if TYPE_CHECKING:
    from s2search.block import Block
    from s2search.training.data.clips import Clips

JOURNAL, SCORE, BLOCKS = "layers.jsonl", "score.json", "blocks"
OF = "measurement of scores"

#: Called with (probes done, probes in all, what comes next).
Progress = Callable[[int, int, str], None]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured; the first line of the journal, that no other measurement may go on with.

    Attributes:
        model: The digest of the model's weights.
        config: Of its config.
        data: Of the clips.
        text: The text encoder of captions, as people write it.
        candidates: As people write them.
        runs: Lengths of runs of low candidates that are measured too.
        steps: Of training, the shorter time and the longer one.
        batch: Clips of a step.
        samples: Held out, to compare on.
        lr: Learning rate at its highest.
        shift: Of noise levels.
        seed: Of weights, order and noise.
    """

    model: str
    config: str
    data: str
    text: str
    candidates: tuple[str, ...]
    runs: tuple[int, ...] = ()
    steps: tuple[int, int] = (90, 180)
    batch: int = 8
    samples: int = 512
    lr: float = 2e-3
    shift: float = 3.0
    seed: int = 0

    @property
    def optimizer(self) -> OptimizerSettings:
        """How candidates move."""
        long = self.steps[1]
        return OptimizerSettings(steps=long, lr=self.lr, warmup=min(10, long - 1), weight_decay=0.0)

    def check(self) -> None:
        """Raise unless it can be asked.

        Raises:
            InputError: A number is out of range.
        """
        if not 0 < self.steps[0] <= self.steps[1]:
            raise InputError(
                f"steps are {self.steps[0]} and {self.steps[1]}", allowed="two numbers from 1, the shorter time first"
            )
        for name, least in {"batch": 1, "samples": 2}.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}", allowed=f"{least} or more", remedy="correct it")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"lr is {self.lr}", allowed="above 0", remedy="correct it")
        if any(length < 2 for length in self.runs):
            raise InputError(f"a run of {min(self.runs)} layers", allowed="2 or more", remedy="correct it")


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What candidates are worth in place of some layers: a line of the journal.

    Attributes:
        first: The first layer that is replaced.
        layers: How many are.
        values: Of each candidate.
        inherited: Which weights it took over, by their names in a layer.
    """

    first: int
    layers: int
    values: dict[str, Value]
    inherited: dict[str, list[str]]


class ReplacedLayers(nn.Module):
    """A run of one candidate in place of layers of the high stream."""

    def __init__(self, layers: Sequence[nn.Module], down: nn.Module | None, up: nn.Module | None) -> None:
        super().__init__()
        self.layers, self.down, self.up = nn.ModuleList(layers), down, up

    def forward(self, x_BTHWD: Tensor, modulation_BT6D: Tensor, text_BSE: Tensor) -> Tensor:
        """Return the high stream behind the run."""
        y = x_BTHWD if self.down is None else self.down(x_BTHWD)
        for layer in self.layers:
            y = layer(y, modulation_BT6D, text_BSE)
        if self.up is None:
            return y
        risen: Tensor = self.up(y, *x_BTHWD.shape[2:4]) + x_BTHWD
        return risen


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What a model's layers before some layer made of samples."""

    latents: Tensor
    s: Tensor
    text: Tensor
    x: Tensor
    modulation: Tensor
    time: Tensor


@dataclass(frozen=True, kw_only=True)
class FrozenModel:
    """A frozen model whose layers are replaced one after another.

    Attributes:
        model: All of its layers run in the high stream.
        clips: To train candidates on, and to compare on.
        captions: Gives captions as tokens.
    """

    model: S2DiT
    clips: Clips
    captions: Captions

    def __post_init__(self) -> None:
        low = [label for label, stream in zip(self.model.config.layout, self.model.streams, strict=True) if stream]
        if low:
            raise InputError(
                f"the model has {low[0]!r}, which runs in the low stream, and such a layer's input is not the others'",
                allowed="models whose layers all run in the high stream: full, lcha",
                remedy="train one with model.layout=full, or of another such block",
            )
        self.clips.check_channels(self.model.config.latent_channels)
        if not self.clips.of("held-out"):
            raise InputError("the data set holds no recording out", remedy="make it with --held-out above 0")

    @property
    def device(self) -> torch.device:
        """Of the model."""
        return next(self.model.parameters()).device

    def before(self, latents: Tensor, s_B: Tensor, captions: Sequence[str], first: int) -> Passed:
        """Return what the layers before one make of noisy latents."""
        text, s = self.captions.tokens(captions), s_B[:, None]
        x, modulation, time = self.model.stem(latents, s)
        for layer in self.model.layers[:first]:
            x = layer(x, modulation, text)
        return Passed(latents=latents, s=s, text=text, x=x, modulation=modulation, time=time)

    def through(self, passed: Passed, x: Tensor, first: int, last: int) -> Tensor:
        """Return what the layers from one to below another make of a stream."""
        for layer in self.model.layers[first:last]:
            x = layer(x, passed.modulation, passed.text)
        return x

    def losses(self, passed: Passed, x: Tensor, first: int, v: Tensor) -> Tensor:
        """Return each sample's mean square error of the velocity, where the stream before a layer is this one."""
        x = self.through(passed, x, first, len(self.model.layers))
        off = predicted(self.model, x, passed.time, passed.latents, passed.s) - v
        return off.square().flatten(1).mean(1).double()


def measure(
    teacher: FrozenModel,
    question: Question,
    folder: Path,
    *,
    where: Processes = ALONE,
    progress: Progress = lambda done, total, label: None,
) -> MeasuredScore:
    """Measure all candidates at all layers, or finish what was begun in a folder, and write its score.

    Args:
        teacher: The model.
        question: What is asked of it.
        folder: For the score, the journal of layers, and the blocks that were trained.
        where: The processes that divide the layers.
        progress: Told before every probe of this process.

    Raises:
        InputError: The question cannot be asked, or the folder holds another one.
        CheckError: A candidate's training is not finite.
    """
    question.check()
    blocks = [registry.create("blocks", label) for label in question.candidates]
    low = [block for block in blocks if block.stream is Stream.LOW]
    if question.runs and not low:
        raise InputError("runs are of low candidates, and there is none", remedy="add ssa, or leave out --runs")
    depth = len(teacher.model.layers)
    asked = [(first, 1, blocks) for first in range(depth)]
    asked += [(first, length, low) for length in question.runs for first in range(depth - length + 1)]
    (folder / BLOCKS).mkdir(parents=True, exist_ok=True)
    with divided(folder / JOURNAL, question, Probe, where, of=OF) as work:
        _check_whole(work.lines, asked)
        known = {(probe.first, probe.layers) for probe in work.lines}
        mine = work.mine([one for one in asked if one[:2] not in known])
        for number, (first, length, candidates) in enumerate(mine):
            named = f"layer {first}" if length == 1 else f"layers {first} to {first + length - 1}"
            progress(len(known) + number * where.count, len(asked), named)
            work.append(_Probing(teacher, question, folder, first, length).run(candidates))
        probes: list[Probe] = work.whole()
        _check_whole(probes, asked)
        progress(len(asked), len(asked), "")
    score = _score(question, teacher.model.config, {(probe.first, probe.layers): probe for probe in probes})
    if where.first:
        score.save(folder / SCORE)
    return score


def _check_whole(probes: Sequence[Probe], asked: Sequence[tuple[int, int, list[Block]]]) -> None:
    wanted = {(first, length): {block.label for block in blocks} for first, length, blocks in asked}
    for probe in probes:
        if probe.values.keys() != wanted.get((probe.first, probe.layers), set()):
            raise InputError(
                f"a journal here has candidates at layer {probe.first} that were not asked for, or lacks some",
                remedy="restore it, or choose another folder",
            )


@dataclass(frozen=True)
class _Probing:
    """Candidates in place of the same layers, trained side by side."""

    teacher: FrozenModel
    question: Question
    folder: Path
    first: int
    layers: int

    def run(self, blocks: Sequence[Block]) -> Probe:
        made = {block.label: self._made(block) for block in blocks}
        modules = {label: module for label, (module, _, same) in made.items() if not same}
        found: dict[str, tuple[float, float]] = {}
        earlier: dict[str, tuple[float, float]] = {}
        short, long = self.question.steps
        moving = {label: TrainedNetwork(module, self.question.optimizer) for label, module in modules.items()}
        for step in range(long if modules else 0):
            self._step(step, modules, moving)
            if step + 1 == short < long:
                earlier = self._compared(modules)
        found = self._compared(modules)
        for label, module in modules.items():
            name = block_file(self.first, self.layers, label)
            tensors = {key: tensor.detach().contiguous() for key, tensor in module.state_dict().items()}
            save_tensors(tensors, self.folder / BLOCKS / name, {"format": "pt", "s2search.candidate": label})
        values = {
            label: Value(value=found[label][0], error=found[label][1], earlier=earlier.get(label, (None,))[0])
            if label in found
            else Value(value=0.0, error=0.0)
            for label in made
        }
        inherited = {label: names for label, (_, names, _) in made.items()}
        return Probe(first=self.first, layers=self.layers, values=values, inherited=inherited)

    def _made(self, block: Block) -> tuple[ReplacedLayers, list[str], bool]:
        """Return a candidate with what it takes over, its names, and whether it is the model's own layer already."""
        model = self.teacher.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(self.question.seed, self.first, self.layers, block.label).initial_seed())
            layout = (block.label,) * len(model.config.layout)
            build = part_builders(ModelConfig.new(model.config.preset, layout))
            layers = [build[f"layers.{layer}"]() for layer in range(self.first, self.first + self.layers)]
            is_low = block.stream is Stream.LOW
            down, up = (build["down"](), build["up"]()) if is_low else (None, None)
        names: list[str] = []
        for layer, own in zip(layers, model.layers[self.first : self.first + self.layers], strict=True):
            names = inherit(layer, own)
        same = self.layers == 1 and not is_low and block.label == model.config.layout[self.first]
        weight = next(model.parameters())
        return ReplacedLayers(layers, down, up).to(weight.device, weight.dtype), names, same

    def _step(self, step: int, modules: dict[str, ReplacedLayers], moving: dict[str, TrainedNetwork]) -> None:
        """Move every candidate by what the model's layers make of the same clips."""
        question = self.question
        share = Share(seed=question.seed, step=step, batch=question.batch, numbers=range(question.batch))
        batch = learned_from(self.teacher.clips, share, question.shift).to(self.teacher.device)
        with torch.no_grad():
            passed = self.teacher.before(batch.x_BCTYX, batch.s_B, batch.captions, self.first)
            wanted = self.teacher.through(passed, passed.x, self.first, self.first + self.layers)
            scale = (wanted - passed.x).square().mean().clamp_min(1e-12)
        for label, module in modules.items():
            loss = (module(passed.x, passed.modulation, passed.text) - wanted).square().mean() / scale
            if not loss.isfinite():
                raise CheckError(
                    f"the candidate {label!r} at layer {self.first} is not finite at step {step + 1}",
                    remedy="measure with a lower --lr",
                )
            torch.autograd.backward(loss)
            moving[label].clip_gradient()
            moving[label].update(step)

    @torch.no_grad()
    def _compared(self, modules: dict[str, ReplacedLayers]) -> dict[str, tuple[float, float]]:
        """Return minus what the loss rises by with each candidate, and its standard error, on paired samples."""
        rises: dict[str, list[Tensor]] = {label: [] for label in modules}
        for batch in _batches(self.question.samples, self.question.batch):
            of, shift = self.question.samples, self.question.shift
            sample = judged_by(self.teacher.clips, "held-out", batch, of, shift).to(self.teacher.device)
            passed = self.teacher.before(sample.x_BCTYX, sample.s_B, sample.captions, self.first)
            own = self.teacher.losses(passed, passed.x, self.first, sample.v_BCTYX)
            for label, module in modules.items():
                y = module(passed.x, passed.modulation, passed.text)
                other = self.teacher.losses(passed, y, self.first + self.layers, sample.v_BCTYX)
                rises[label].append(other - own)
        found = {}
        for label, parts in rises.items():
            rise_N = torch.cat(parts)
            found[label] = -float(rise_N.mean()), float(rise_N.std()) / len(rise_N) ** 0.5
        return found


def inherit(layer: nn.Module, own: nn.Module) -> list[str]:
    """Give a new layer the weights of a model's layer that have the same role and shape; return their names in it.

    The role of `attention.linear.query.weight` is that of `attention.query.weight`: the part of the layer, and what the
    weight is called there.
    """
    roles: dict[tuple[str, ...], Tensor] = {_role(name): tensor for name, tensor in own.state_dict().items()}
    taken = []
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            there = roles.get(_role(name))
            if there is not None and there.shape == tensor.shape:
                tensor.copy_(there)
                taken.append(name)
    return taken


def _role(name: str) -> tuple[str, ...]:
    part, *rest = name.split(".")
    return (part, *rest[-2:])


def _batches(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def block_file(first: int, layers: int, label: str) -> str:
    """Return the name of the file with a candidate's weights.

    >>> block_file(3, 1, "lcha[gate=false]")
    '003-1.lcha-gate=false.safetensors'
    """
    written = label.replace("[", "-").replace("]", "").replace("/", "_")
    return f"{first:03}-{layers}.{written}.safetensors"


def _score(question: Question, config: ModelConfig, known: dict[tuple[int, int], Probe]) -> MeasuredScore:
    depth = len(config.layout)
    values = {label: [known[layer, 1].values[label] for layer in range(depth)] for label in question.candidates}
    runs = [
        RunValue(candidate=label, first=first, layers=length, value=value)
        for (first, length), probe in sorted(known.items(), key=lambda item: (item[0][1], item[0][0]))
        if length > 1
        for label, value in probe.values.items()
    ]
    plain: Any = msgspec.to_builtins(question)
    told = {name: str(plain[name]) for name in ("model", "config", "data", "text", "batch", "lr", "shift", "seed")}
    return MeasuredScore(
        name="measured",
        statement=f"held-out loss of a model of {depth} layers and width {config.preset.channels} with one replaced, "
        f"{question.samples} samples, {question.steps[1]} steps",
        depth=depth,
        channels=config.preset.channels,
        values=values,
        runs=runs,
        samples=question.samples,
        steps=question.steps,
        inherited=known[0, 1].inherited,
        provenance=told | {"switches": "a low candidate has its own", "s2search": registry.own_version()},
    )

"""What a trainer is: networks, a step that gives losses, and how the result is judged and drawn.

A trainer plugin is configuration (`flow[caption_drop=0.1]`). The engine does the rest: it starts the weights, divides
samples over processes, moves weights, averages them, and keeps checkpoints. A checkpoint is weights, moments, averages
and the number of the step, and nothing else: `step` must be a pure function of the weights and of the samples that it
is given, whose random numbers come from `Share`.

Axes: B samples  C channels  T latent frames  Y X latent rows and columns  S text tokens  E channels of a token
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from s2search.registry import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from s2search.network.config import ModelConfig
    from s2search.planner.plan import Plan
    from s2search.training.captions import Captions
    from s2search.training.data.clips import Clips
    from s2search.training.settings import RunSettings
    from s2search.training.share import Share
    from s2search.training.watch import SampleWatch

#: Gives weights with their names, one after another, whole; all processes must read them to their end, as often as any.
Average = Callable[[], Iterator[tuple[str, "Tensor"]]]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What all steps of a run share.

    Attributes:
        settings: As they were asked, with defaults.
        config: Of the model that is trained.
        plan: Behind it.
        folder: Of the run; a trainer may keep files of its own in it.
        start: A folder with its first weights.
        clips: To train on and to judge by.
        beside: Further data sets to judge by.
        captions: Gives captions as tokens.
        device: Where networks are.
        dtype: Of latents and tokens as networks take them.
    """

    settings: RunSettings
    config: ModelConfig
    plan: Plan | None
    folder: Path
    start: Path
    clips: Clips
    beside: tuple[Clips, ...]
    captions: Captions
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network and its first weights.

    Attributes:
        module: On the meta device; `module.layers`, where it has them, are its layers. Its buffers are in its state.
        weights: A folder with safetensors files of all of them.
        trained: Whether it moves, or only answers.
        average_of: The name of a trained network whose averaged weights it has, after every step; empty where it has
            its own.
        rate: Its learning rate, as a multiple of the run's.
    """

    module: nn.Module
    weights: Path
    trained: bool = True
    average_of: str = ""
    rate: float = 1.0


class Trainer(Plugin, abc.ABC):
    """Configuration of a trainer; making one loads nothing."""

    #: What it minimises: one line.
    statement: ClassVar[str]

    #: What `judge` tells of a sample beside noise level, loss and baseline's loss, by name.
    also: ClassVar[tuple[str, ...]] = ()

    #: Whether the first weights are judged too, for `before`.
    judges_first: ClassVar[bool] = False

    def inputs(self, clips: Clips, config: ModelConfig, plan: Plan | None) -> Mapping[str, str]:
        """Return a hash of all that it reads beside data and weights, by name; it is asked before anything is made.

        Args:
            clips: To train on.
            config: Of the model.
            plan: Behind it.

        Raises:
            InputError: Something cannot be read, or does not go with data or plan.
        """
        return {}

    def leaves(self, config: ModelConfig, clips: Clips) -> ModelConfig:
        """Return what the model is when it is trained: the same by default. Its weights keep their names and shapes.

        Args:
            config: Of the weights that the run begins with.
            clips: To train on.

        Raises:
            InputError: From such weights, or with such clips, this is not trained.
        """
        return config

    def start(self, run: TrainingRun) -> None:
        """Write into the run's folder what networks begin with beside `run.start`, unless it is there already.

        One process is asked, and the others wait for it; nothing by default.
        """
        return

    @abc.abstractmethod
    def networks(self, run: TrainingRun) -> Mapping[str, Network]:
        """Return what takes part, by name; the first one that is trained is the model that the run leaves.

        Raises:
            InputError: Settings, data and weights do not go together.
        """

    @abc.abstractmethod
    def step(
        self, run: TrainingRun, networks: Mapping[str, nn.Module], share: Share
    ) -> Mapping[str, Tensor | Iterator[Tensor]]:
        """Return losses, means over the samples; the one that has a trained network's name moves that network.

        A loss may come in parts, whose sum it is: the gradient of each is taken before the next one is asked for, so
        that the graph of one is in memory at a time. A network without a loss stays as it is in this step. All others
        are reported.
        """

    def answering_bytes(self, run: TrainingRun) -> int:
        """Return the bytes of weights that answer beside `networks`, as a teacher's do; 0 by default."""
        return 0

    def progress(self, run: TrainingRun, networks: Mapping[str, nn.Module]) -> str:
        """Return in a few words where the networks are, to stand beside the loss; all processes ask."""
        return ""

    def told(self, run: TrainingRun, share: Share) -> str:
        """Return in words what the samples were, for the line that says why a run stopped."""
        return f"samples {share.numbers.start} to {share.numbers.stop - 1}"

    def artefact(self, run: TrainingRun, average: Average, folder: Path | None) -> str:
        """Write what the next stage reads, and say in words what a stranger would not look for.

        By default that is the model, of which there is nothing to say.

        Args:
            run: What was trained.
            average: Gives the averaged weights of the network that the run leaves.
            folder: To write to; None in all processes but one, which have their part of the weights to give.
        """
        from s2search.training.left_model import write_model

        write_model(run.config, run.plan, average(), folder)
        return ""

    def judge(
        self, run: TrainingRun, network: nn.Module, share: Sequence[int], of: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield parts of the data by name, each with a row per sample: noise level, loss, the blind baseline's, `also`.

        Args:
            run: Has the data.
            network: The model, with averaged weights.
            share: Which samples this process judges; all have the same number of them.
            of: How many there are.
        """
        yield from ()

    def before(self, judged: Mapping[str, Tensor]) -> Iterator[str]:
        """Yield what people should know before the first step, a line each, where it `judges_first`.

        Args:
            judged: What `judge` yields of the first weights, of all processes.
        """
        yield from ()

    def watch(self, run: TrainingRun) -> SampleWatch | None:
        """Return how the run looks at what its model makes while it is trained; it does not, by default."""
        return None

    def draw(self, run: TrainingRun, network: nn.Module) -> Mapping[str, Tensor]:
        """Return `latents_CTYX` that the model makes, by what was asked of it; none by default."""
        return {}

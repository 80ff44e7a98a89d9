"""Where a command's model comes from: saved weights, or a plan, a layout or a preset with random ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.document import read_json
from s2search.errors import InputError
from s2search.network.config import CONFIG, WEIGHTS, ModelConfig
from s2search.planner.plan import Plan
from s2search.preset import Preset

if TYPE_CHECKING:
    from s2search.network.network import S2DiT


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What a command line says of its model; made, and refused, before torch is loaded.

    Attributes:
        weights: A folder that save_pretrained wrote.
        preset: Model size, a TOML file of sizes, or the sizes; instead of weights.
        plan: The plan to realize, or that the weights must belong to: a JSON file, or the plan.
        layout: The layout to realize.
        random_weights: That the weights are random must be said.
        seed: Of random weights.

    Raises:
        InputError: The options contradict each other, or do not name a model.
    """

    weights: Path | None = None
    preset: str | Preset | None = None
    plan: Path | Plan | None = None
    layout: str | None = None
    random_weights: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights is not None:
            beside = {"--preset": self.preset, "--layout": self.layout, "--random-weights": self.random_weights}
            for option, value in beside.items():
                if value:
                    raise InputError(
                        f"{option} cannot be combined with the weights {str(self.weights)!r}", remedy="leave out one"
                    )
            if not self.weights.is_dir():
                raise InputError(
                    f"there is no folder of weights {str(self.weights)!r}", remedy="name what save_pretrained wrote"
                )
            read_json(self.weights / CONFIG, ModelConfig, what="model config")
            if not (self.weights / WEIGHTS).is_file():
                raise InputError(
                    f"there is no {WEIGHTS} in {str(self.weights)!r}", remedy="name what save_pretrained wrote"
                )
        elif self.preset is None or not self.random_weights:
            raise InputError(
                "there are no weights",
                allowed="a folder of weights, or --preset NAME --random-weights",
                remedy="name one of them",
            )
        elif isinstance(self.preset, str):
            Preset.named(self.preset)
        if isinstance(self.plan, Path):
            Plan.load(self.plan)
        if self.plan is not None and self.layout is not None:
            raise InputError("--plan and --layout are both given", remedy="leave out one")

    @property
    def config(self) -> ModelConfig | None:
        """The config of the weights, without reading them; None where they are random."""
        if self.weights is None:
            return None
        return read_json(self.weights / CONFIG, ModelConfig, what="model config")


def load_model(source: ModelSource) -> S2DiT:
    """Load the weights, or realize a plan, a layout or a preset with random ones; in evaluation mode.

    Raises:
        InputError: A file is missing, or does not fit.
        CheckError: The weights belong to another plan.
    """
    import torch

    from s2search.network.network import S2DiT

    plan = _plan(source)
    if source.weights is not None:
        return S2DiT.from_pretrained(source.weights, plan=plan)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        return _realized(source, plan).eval()


def open_model(source: ModelSource) -> S2DiT:
    """Return the same model to be saved or exported: without its weights in memory.

    Those of a folder are mapped, random ones are drawn when they are written.

    Raises:
        InputError: A file is missing, or does not fit.
        CheckError: The weights belong to another plan.
    """
    import torch

    from s2search.network.network import S2DiT
    from s2search.network.random_weights import RandomS2DiT

    plan = _plan(source)
    if source.weights is not None:
        return S2DiT.from_pretrained(source.weights, plan=plan, mapped=True)
    with torch.device("meta"):
        config = _realized(source, plan).config
    return RandomS2DiT(config, plan=plan, seed=source.seed)


def _realized(source: ModelSource, plan: Plan | None) -> S2DiT:
    from s2search.network.network import S2DiT, realize

    sizes = source.preset if isinstance(source.preset, Preset) else Preset.named(source.preset or "")
    return S2DiT.from_preset(sizes, source.layout or "") if plan is None else realize(plan, sizes)


def _plan(source: ModelSource) -> Plan | None:
    return Plan.load(source.plan) if isinstance(source.plan, Path) else source.plan

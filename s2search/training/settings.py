"""What a training run is asked: the content of a run.toml, with defaults for what it does not say."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

import msgspec

from s2search.border.regular_file import read_regular_text
from s2search.border.toml import parsed_toml
from s2search.errors import InputError, UnknownNameError

MOST = 1_000_000_000  # of a whole number

_Settings = TypeVar("_Settings", bound=msgspec.Struct)


def _check_range(name: str, value: int, least: int) -> None:
    if not least <= value <= MOST:
        raise InputError(f"{name} is {value}", allowed=f"{least} to {MOST:,}", remedy="correct it")


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that is trained.

    Attributes:
        weights: A folder that save_pretrained wrote, to begin with; else random ones of the sizes below.
        preset: Model size, or a TOML file of sizes.
        layout: Which block is where, `L4S4`; by default the preset's own.
        plan: A plan to realize, instead of a layout.
        velocity: What it predicts: the velocity, or what is added to that of unit Gaussian latents.
    """

    weights: str = ""
    preset: str = "s2dit-tiny"
    layout: str = ""
    plan: str = ""
    velocity: Literal["plain", "residual"] = "residual"

    def __post_init__(self) -> None:
        beside = [name for name in ("layout", "plan") if getattr(self, name)]
        if len(beside) > 1 or (self.weights and beside):
            raise InputError(
                f"model.{beside[0]} is given beside model.{'weights' if self.weights else beside[1]}",
                remedy="leave out one of them",
            )


class OptimizerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """AdamW and what surrounds it.

    Attributes:
        steps: How many.
        batch: Samples of a step, over all processes.
        accumulate: Parts in which a process computes its samples of a step, one after another.
        lr: The learning rate at its highest. Zhao et al. (2026), section 4.1, train 1.8 B parameters with 1e-4.
        warmup: Steps in which it rises to that.
        schedule: How it goes on: falls to 0 along a cosine, or stays.
        betas: Of the moments.
        weight_decay: Of all weights.
        clip: Longest gradient, of all weights of a network together; longer ones are scaled to it.
        ema: How much of the averaged weights is kept at a step; less in the first steps.
    """

    steps: int = 1000
    batch: int = 8
    accumulate: int = 1
    lr: float = 1e-3
    warmup: int = 50
    schedule: Literal["cosine", "constant"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.99

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "batch": 1, "accumulate": 1, "warmup": 0}.items():
            _check_range(f"optimizer.{name}", getattr(self, name), least)
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"optimizer.{name} is {getattr(self, name)}", allowed="above 0", remedy="correct it")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"optimizer.weight_decay is {self.weight_decay}", allowed="0 or more", remedy="correct it")
        for name, value in {"ema": self.ema, "betas": max(self.betas), "betas ": min(self.betas)}.items():
            if not 0 <= value < 1:
                raise InputError(f"optimizer.{name.strip()} is {value}", allowed="0 to below 1", remedy="correct it")


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How steps are computed and kept.

    Attributes:
        device: `cpu`, `cuda`; under torchrun every process takes its own GPU.
        dtype: Of layers while they compute; weights and moments are float32.
        recompute: Keep each layer's input alone for the backward pass, and compute the layer again there.
        compile: torch.compile the layers.
        save_every: Steps between checkpoints; the last step is always kept.
        keep: Latest checkpoints that stay.
        log_every: Steps between lines of metrics.csv.
    """

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    recompute: bool = False
    compile: bool = False
    save_every: int = 100
    keep: int = 2
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("save_every", "keep", "log_every"):
            _check_range(f"engine.{name}", getattr(self, name), 1)


class JudgeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is judged when it is trained.

    Attributes:
        samples: Of each part of the data, the same for every run with these clips and this seed.
        beside: Further data sets of the same codec and geometry.
        strips: Captions whose clips the model draws.
        codec: What decodes those, where the data's own needs its folder: `wan[folder=DIR]`.
    """

    samples: int = 256
    beside: tuple[str, ...] = ()
    strips: int = 3
    codec: str = ""

    def __post_init__(self) -> None:
        _check_range("judge.samples", self.samples, 2)
        _check_range("judge.strips", self.strips, 0)


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a run is asked.

    Attributes:
        trainer: By name: `flow`, `flow[caption_drop=0]`.
        data: A folder that `s2search data make` wrote.
        text: Text encoder; by default `hashing`, as wide as the model.
        seed: Of random weights, the order of clips, and noise.
        model: Which is trained.
        optimizer: How weights move.
        engine: How steps are computed.
        judge: How the model is judged.
    """

    trainer: str = "flow"
    data: str = ""
    text: str = ""
    seed: int = 0
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    engine: EngineSettings = EngineSettings()
    judge: JudgeSettings = JudgeSettings()

    def __post_init__(self) -> None:
        _check_range("seed", self.seed, 0)

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """Return what a run.toml states, unchecked.

        Raises:
            InputError: It cannot be read, or is no TOML.
        """
        return stated_in(path, of="run")

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Self:
        """Return settings from what is stated; the rest is as by default.

        Raises:
            InputError: A key is unknown, or a value of the wrong type or out of range.
        """
        return settings_of(stated, cls, of="a run")


def stated_in(path: Path, *, of: str) -> dict[str, Any]:
    """Return what a TOML file states, unchecked.

    Raises:
        InputError: It cannot be read, or is no TOML.
    """
    try:
        return parsed_toml(read_regular_text(path))
    except OSError as error:
        raise InputError(f"the {of} {str(path)!r} cannot be read: {error.strerror}", remedy="check the path") from error
    except ValueError as error:
        raise InputError(f"{str(path)!r} is not TOML: {error}", remedy="correct the file") from error


def settings_of(stated: Mapping[str, Any], cls: type[_Settings], *, of: str) -> _Settings:
    """Return settings of a kind from what is stated; the rest is as by default.

    Args:
        stated: By key.
        cls: The kind.
        of: What they are settings of, for the errors.

    Raises:
        InputError: A key is unknown, or a value of the wrong type or out of range.
    """
    _check_keys(stated, cls, "", _Kind(cls, of))
    try:
        return msgspec.convert(stated, cls, strict=False)
    except msgspec.ValidationError as error:
        problem, _, key = str(error).partition(" - at `$.")
        key = key.rstrip("`")
        allowed = ", ".join(map(str, get_args(_type_of(key, cls)))) if "enum" in problem else ""
        raise InputError(f"the setting {key or f'of {of}'}: {problem}", allowed=allowed, remedy="correct it") from error


def overridden(stated: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """Return what is stated with `key=value` changes, where `optimizer.steps=500` reaches into a table.

    A value is TOML, and text where it is none: `text=clip`, `judge.beside=["more"]`.

    >>> overridden({"seed": 1}, ["optimizer.lr=1e-4", "trainer=flow[shift=5]"])
    {'seed': 1, 'optimizer': {'lr': 0.0001}, 'trainer': 'flow[shift=5]'}
    """
    found = {key: dict(value) if isinstance(value, dict) else value for key, value in stated.items()}
    for change in changes:
        key, equals, text = change.partition("=")
        *tables, name = key.strip().split(".")
        if not equals or not name:
            raise InputError(f"{change!r} is no change of a setting", remedy="write key=value, optimizer.steps=500")
        inner = found
        for table in tables:
            inner = inner.setdefault(table, {})
            if not isinstance(inner, dict):
                raise InputError(f"{change!r} reaches into {table!r}, which is no table", remedy="correct the key")
        inner[name] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    try:
        return parsed_toml(f"value = {text}")["value"]
    except ValueError:
        return text


class _Kind(NamedTuple):
    """The settings that there are, and what they are of."""

    cls: Any
    of: str


def _check_keys(stated: Mapping[str, Any], cls: Any, before: str, kind: _Kind) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(cls)}
    for key, value in stated.items():
        if key not in fields:
            raise _unknown(before + key, kind)
        inner = fields[key]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            if not isinstance(value, Mapping):
                raise InputError(f"{before}{key} is {value!r}", allowed="a table", remedy=f"write [{before}{key}]")
            _check_keys(value, inner, f"{before}{key}.", kind)


def _unknown(key: str, kind: _Kind) -> InputError:
    known = sorted(_names(kind.cls))
    # A key without its table is what people write.
    close = [name for name in known if name.rpartition(".")[2] == key] or difflib.get_close_matches(key, known, n=1)
    error = UnknownNameError(f"setting of {kind.of}", key, known, listed_as="settings")
    if close and close[0] not in str(error).partition(";")[0]:
        return InputError(
            f"no setting of {kind.of} is called {key!r} (did you mean {close[0]!r}?)", allowed=error.allowed
        )
    return error


def _type_of(key: str, cls: Any) -> Any:
    """Return the type of a setting by its key."""
    found: Any = cls
    for name in key.split("."):
        found = next((field.type for field in msgspec.structs.fields(found) if field.name == name), None)
    return found


def _names(cls: Any, before: str = "") -> Iterable[str]:
    for field in msgspec.structs.fields(cls):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _names(field.type, f"{before}{field.name}.")
        else:
            yield before + field.name

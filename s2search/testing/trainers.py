"""The conformance suite of trainers: hold a plugin against the contract of `s2search.training.base`.

def test_my_trainer(tmp_path):
check_trainer(MyTrainer(), tmp_path)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2search import registry
from s2search.document import write_text
from s2search.network.network import S2DiT
from s2search.training.base import Trainer
from s2search.training.data.base import Geometry
from s2search.training.data.make import make
from s2search.training.engine import Engine
from s2search.training.parallel import processes
from s2search.training.prepare import PreparedRun
from s2search.training.run_folder import MODEL
from s2search.training.settings import RunSettings
from s2search.training.share import Share, shares

_PRESET = """
name = "nano"
depth = 2
channels = 16
heads = 2
feed_forward = 32
text_channels = 8
text_tokens = 6
"""

#: What files of a run begin with that would run code when they are read: pickles, and archives of them.
_UNSAFE = (b"PK\x03\x04", *(b"\x80" + bytes([version]) for version in range(2, 6)))


class _Killed(BaseException):
    """In place of a kill: nothing catches it."""


def check_trainer(trainer: Trainer, folder: Path, *, settings: Mapping[str, Any] | None = None) -> None:
    """Train a small model on moving shapes, and assert that the trainer keeps its contract.

    Args:
        trainer: The plugin.
        folder: For what is made.
        settings: What such a trainer needs beside the defaults, as in a run.toml.
    """
    engine = _engine(trainer, folder, "whole", settings or {})
    assert trainer.statement.splitlines() == [trainer.statement], "the statement is not one line"
    for name, digest in trainer.inputs(engine.run.clips, engine.run.config, engine.run.plan).items():
        assert digest.startswith("sha256:"), f"what it reads, {name!r}, is told by {digest!r}, which is no digest"
    given = trainer.networks(engine.run)
    trained = [name for name, network in given.items() if network.trained]
    assert trained, "nothing is trained"
    for name, network in given.items():
        devices = {tensor.device.type for tensor in network.module.state_dict().values()}
        assert devices == {"meta"}, f"{name!r} has weights before the engine gives it some"
    _check_step(engine, trained)
    files = _trained(engine)
    stopped = _engine(trainer, folder, "stopped", settings or {})
    for steps in (1, 3):
        try:
            stopped.train(_killed_after(steps))
        except _Killed:
            continue
        raise AssertionError(f"the run was over before step {steps}")
    again = _trained(stopped)
    for name, tensor in files.items():
        assert torch.equal(tensor, again[name]), f"{name} differs after a run that was killed and went on"
    for path in folder.rglob("*"):
        if path.is_file():
            assert not path.read_bytes()[:4].startswith(_UNSAFE), f"{path} would be unpickled"


def _check_step(engine: Engine, trained: list[str]) -> None:
    """Assert that a step is a pure function of weights and samples, and the mean over its samples."""
    networks, _ = engine.started()
    whole = Share(seed=7, step=3, batch=4, numbers=range(4))

    def losses(share: Share, seed: int = 0) -> Mapping[str, Tensor]:
        with torch.random.fork_rng(devices=[]):  # from which nothing may be drawn
            torch.manual_seed(seed)
            given = engine.trainer.step(engine.run, networks, share)
            return {
                name: loss if isinstance(loss, Tensor) else torch.stack(list(loss)).sum()
                for name, loss in given.items()
            }

    first = losses(whole)
    assert not first.keys().isdisjoint(trained), f"the step has no loss of {' or '.join(trained)}"
    for name, loss in first.items():
        assert loss.ndim == 0, f"the loss {name!r} is no single number"
        assert loss.isfinite(), f"the loss {name!r} is not finite"
    again, halves = losses(whole, seed=1), [losses(half) for half in shares(whole, 2)]
    for name, loss in first.items():
        assert torch.equal(loss, again[name]), f"the loss {name!r} is another one the second time"
        mean = sum(half[name] for half in halves) / 2
        assert torch.allclose(loss, torch.as_tensor(mean), rtol=1e-5, atol=1e-6), f"{name!r} is no mean over samples"


def _engine(trainer: Trainer, folder: Path, name: str, given: Mapping[str, Any]) -> Engine:
    if not (folder / "clips").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make(
            [registry.create("sources", "shapes[count=8]")],
            folder / "clips",
            geometry=Geometry(video="32x32", frames=9),
            codec=registry.create("codecs", "dct"),
            clips=2,
            strides=(1,),
            held_out=0.25,
            seed=0,
        )
    if not (folder / "nano.toml").exists():
        write_text(folder / "nano.toml", _PRESET)
    asked = {
        "data": str(folder / "clips"),
        "model": {"preset": str(folder / "nano.toml"), "layout": "LS"},
        "optimizer": {"steps": 4, "batch": 4, "warmup": 1},
        "engine": {"save_every": 2, "log_every": 1},
        "judge": {"samples": 4, "strips": 0},
        **given,
    }
    prepared = PreparedRun.of(RunSettings.of(asked), trainer)
    place = folder / name
    place.mkdir(exist_ok=True)
    with processes(prepared.settings.engine) as where:
        return Engine(trainer=trainer, run=prepared.run(place, where), folder=place, where=where)


def _trained(engine: Engine) -> dict[str, Tensor]:
    outcome = engine.train()
    assert outcome.steps == engine.run.settings.optimizer.steps, "the run stopped early"
    model = S2DiT.from_pretrained(engine.folder / MODEL)
    start = S2DiT.from_pretrained(engine.run.start).state_dict()
    moved = (name not in start or not torch.equal(tensor, start[name]) for name, tensor in model.state_dict().items())
    assert any(moved), "nothing moved"
    return model.state_dict()


def _killed_after(steps: int) -> Any:
    def progress(done: int, total: int, label: str) -> None:
        if done == steps:
            raise _Killed

    return progress

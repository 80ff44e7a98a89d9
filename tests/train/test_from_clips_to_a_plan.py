"""The whole way at nano size: clips of both kinds, a model killed while it learns, its scores, and a plan by them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Outcome

NANO = """
depth = 8
channels = 16
heads = 2
feed_forward = 32
text_channels = 8
text_tokens = 6
"""
SIZES = "--video 32x32 --frames 9 --codec dct[channels=4]"
DOOM = f"data make doom[maps=2,walks=2,length=12] --held-out 0.5 --clips 1 --out doom {SIZES}"
SCENES = f"data make shapes[count=8] --out scenes {SIZES}"
TRAIN = """
train --data doom --out run --set judge.beside=["scenes"] --set model.preset=nano.toml --set model.layout=F8
--set optimizer.steps=40 --set optimizer.batch=4 --set optimizer.lr=3e-3 --set engine.save_every=5 --set judge.samples=8
"""
SCORE = """
score measure run/model --data doom --out scores --candidates lcha,ssa --steps 1 --steps 2 --batch 4 --samples 8
"""
PLAN = "plan --table iphone-16-pro-max --depth 8 --budget 90ms --score scores/score.json --out plan.json"
STREAM = "stream run/model --video 32x32 --prompt walking --chunks 1 --codec dct[channels=4] --out walk.mp4"


def test_from_clips_to_a_plan(tmp_path: Path, one_thread: None, s2search: Callable[..., Outcome]) -> None:
    pytest.importorskip("vizdoom")

    def done(command: str) -> str:
        outcome = s2search(*command.split())
        assert (outcome.code, outcome.err) == (0, ""), outcome.err
        return " ".join(outcome.out.split())

    (tmp_path / "nano.toml").write_text(NANO)
    assert "2 clips to train on and 2 held out" in done(DOOM)
    assert "encoded by dct[channels=4]" in done(SCENES)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([sys.executable, "-m", "s2search", *TRAIN.split()], cwd=tmp_path, env=environment)
    try:
        while not (tmp_path / "run/checkpoints/00000005/state.json").exists():
            assert run.poll() is None
            time.sleep(0.01)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    printed = done(TRAIN)
    assert "run: 40 steps" in printed
    assert "scenes" in printed
    assert "rise of the held-out loss" in done(SCORE)
    printed = done(PLAN)
    assert "with the score's errors drawn anew the layout stays in" in printed
    assert " +- 0." in printed
    assert "walk.mp4" in done(STREAM)

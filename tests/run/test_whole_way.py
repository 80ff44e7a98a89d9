"""The whole way at its smallest: killed inside stages, changed, and the same files at its end."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.pipeline.record import PipelineRecord, hashed
from s2search.pipeline.stages import PARENTS
from tests.command import Outcome

#: Still smaller than nano.
SMALLEST = """
[data]
source = "shapes[count=8]"
video = "32x32"
frames = 9
clips = 2
held_out = 0.5

[model]
depth = 3
channels = 8
heads = 2
feed_forward = 16
text_channels = 8
text_tokens = 6
chunk_frames = 1

[score]
steps = [1, 2]
batch = 4
samples = 4

[plan]
budget = "40ms"

[rival]
samples = 8

[cache]
levels = 2

[stream]
steps = 3

[export]
exporter = "torch_program"

[verify]
chunks = 2
"""
TRAINED = """
[{name}]
options = "{options}"
optimizer = {{ steps = {steps}, batch = 4, lr = 1e-3, warmup = 1 }}
engine = {{ log_every = 1, save_every = 2, keep = 1 }}
judge = {{ samples = 4, strips = 0 }}
"""
NAMES = ("teacher", "flow", "distill", "causal", "consistency", "self_forcing")
RUN = ("run", "--preset", "smallest.toml", "--out", "run")


def write_preset(folder: Path, steps: int = 4) -> None:
    tables = (TRAINED.format(name=one, steps=steps, options="ratio=2" if one[0] == "s" else "") for one in NAMES)
    (folder / "smallest.toml").write_text(SMALLEST + "".join(tables))


def stopped_when(there: Path, folder: Path, by: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
    """Start a run, stop it as soon as a file is there, and return its exit code and its last line."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "s2search", *RUN], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        while not there.exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
    finally:
        process.send_signal(by)
        said = process.communicate()[1]
    return process.returncode, said.splitlines()[-1] if said else ""


def results(folder: Path) -> dict[str, str]:
    """Return a hash of every file of every stage but the report, which tells times."""
    return {
        f"{name}/{file}": one for name in PARENTS if name != "report" for file, one in hashed(folder / name).items()
    }


def test_killed_inside_stages_the_way_to_the_plan_ends_with_the_same_files(
    tmp_path: Path, one_thread: None, s2search: Callable[..., Outcome]
) -> None:
    write_preset(tmp_path, steps=12)
    whole = s2search(*RUN, "--until", "flow")
    assert whole.code == 0, whole.err
    expected = results(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "whole")
    stopped_when(tmp_path / "run/teacher/checkpoints/00000004/state.json", tmp_path)
    stopped_when(tmp_path / "run/score/layers.jsonl", tmp_path)
    stopped_when(tmp_path / "run/flow/checkpoints/00000006/state.json", tmp_path)
    again = s2search(*RUN, "--until", "flow")
    assert again.code == 0, again.err
    assert "flow: goes on (was stopped)" in again.err
    assert "teacher: kept" in again.err
    assert results(tmp_path / "run") == expected


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(
    tmp_path: Path, one_thread: None, s2search: Callable[..., Outcome]
) -> None:
    write_preset(tmp_path, steps=60)
    code, line = stopped_when(tmp_path / "run/teacher/checkpoints/00000002/state.json", tmp_path, signal.SIGINT)
    assert code == 130
    assert line.startswith("s2search: interrupted; the stages so far, and what the last one had done, are kept")
    again = s2search(*RUN, "--until", "teacher")
    assert again.code == 0
    assert "teacher: goes on (was stopped)" in again.err


def test_a_changed_setting_of_the_score_leaves_the_teacher_as_it_is(
    tmp_path: Path, one_thread: None, s2search: Callable[..., Outcome]
) -> None:
    write_preset(tmp_path, steps=2)
    assert s2search(*RUN, "--until", "plan").code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/teacher").rglob("*")}
    foreseen = s2search(*RUN, "--until", "plan", "--set", "score.samples=5", "--dry-run")
    assert "samples was 4 and is 5" in " ".join(foreseen.out.split())
    changed = s2search(*RUN, "--until", "plan", "--set", "score.samples=5")
    assert changed.code == 0
    assert "score: made (samples was 4 and is 5)" in changed.err
    assert changed.err.count("kept") == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run/teacher").rglob("*")} == before


@pytest.mark.slow
def test_from_a_budget_to_a_video_in_one_command(
    tmp_path: Path, one_thread: None, s2search: Callable[..., Outcome]
) -> None:
    from s2search.codec.video import read_video
    from s2search.score.measured import MeasuredScore

    write_preset(tmp_path)
    whole = s2search(*RUN, "--json")
    assert whole.code == 0, whole.err
    found = json.loads(whole.out)
    assert found["package"]["verified"]
    assert found["check"]["layout"] == found["plan"]["layout"]
    assert {one["stage"] for one in found["judged"]} == {"teacher", "flow", "distill", "causal"}
    assert found["rival"]["planned"] != found["rival"]["rival"]
    assert [one["frames"] for one in found["streamed"]] == [9, 9, 9]
    run = tmp_path / "run"
    assert len(read_video(run / "clip.mp4")) == 9
    page = (run / "report.html").read_text()
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
    assert re.findall("<h3>(.*?)</h3>", page) == [*NAMES]
    assert page.count("<svg") == len(NAMES)
    expected = results(run)
    assert {*PipelineRecord.load(run).stages} == {*PARENTS}

    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = s2search(*RUN)
    assert again.code == 0
    assert again.err.count("kept") == len(PARENTS)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    run.rename(tmp_path / "whole")
    for stage, file in {
        "rival": "planned/0/checkpoints/00000002/state.json",
        "cache": "cache.jsonl",
        "causal": "checkpoints/00000002/state.json",
        "self_forcing": "checkpoints/00000002/state.json",
        "stream": "few.mp4",
        "export": "package/manifest.json",
        "verify": "",
    }.items():
        stopped_when(run / stage / file, tmp_path)
    assert s2search(*RUN).code == 0
    assert results(run) == expected

    corrected = s2search("recalibrate", "--score", "run", "--out", "corrected")
    if found["rival"]["promised"] * found["rival"]["measured"] > 0:
        assert corrected.code == 0, corrected.err
        new = MeasuredScore.load(tmp_path / "corrected/score.json")
        assert new.provenance["recalibrated_from"] == found["rival"]["score"]
    assert results(run) == expected


@pytest.mark.slow
def test_what_a_run_left_is_trained_for_one_two_and_four_steps(
    tmp_path: Path, one_thread: None, s2search: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script behind the table of docs/few_steps.md."""
    from s2search.network.network import S2DiT

    write_preset(tmp_path)
    assert s2search(*RUN, "--until", "self_forcing").code == 0
    script = runpy.run_path(str(Path(__file__).parents[2] / "notebooks/few_steps.py"))
    monkeypatch.chdir(tmp_path / "run")
    models = script["few_step_models"](Path("../steps"))
    forms = [
        (config.preset.chunk_frames, config.causal) for config in (S2DiT.from_pretrained(one).config for one in models)
    ]
    assert [(frames, len(causal.schedule), causal.commit) for frames, causal in forms] == [
        (frames, steps, "clean_pass") for frames in (3, 1) for steps in (4, 2, 1)
    ]

    def begun(one: Path) -> Path:
        return Path(json.loads((one.parent / "run.json").read_text())["settings"]["model"]["weights"])

    ways = [(begun(one).parent.name, begun(begun(one)).parent.name) for one in models]
    assert ways == [
        (f"{way}-{steps}-consistency", f"{way}-causal") for way in ("chunks", "frames") for steps in (4, 2, 1)
    ]


@pytest.mark.slow
def test_killed_at_every_stage_boundary_it_ends_with_the_same_files(
    tmp_path: Path, one_thread: None, s2search: Callable[..., Outcome]
) -> None:
    write_preset(tmp_path)
    assert s2search(*RUN).code == 0
    expected = results(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "whole")
    for name in PARENTS:
        stopped_when(tmp_path / "run" / name, tmp_path)
    assert s2search(*RUN).code == 0
    assert results(tmp_path / "run") == expected

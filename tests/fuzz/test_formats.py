"""A target for every format of a file that is read: whatever its bytes, a value or one line, and nothing is written.

Tables and other projects' files are in tests/readers/test_fuzz.py, Core ML programs in tests/verify/test_fuzz.py.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

import s2search
from s2search.api.values import pipeline_of
from s2search.document import as_json, read_json
from s2search.errors import InputError
from s2search.exporters.package import Package
from s2search.exporters.torch_archive import open_archive
from s2search.journal import open_journal
from s2search.kit.manifest import read_manifest
from s2search.measurement.base import Device, Memory
from s2search.measurement.samples import Campaign, Protocol, Ready, Sample, read_samples
from s2search.network.network import S2DiT
from s2search.planner.frontier import Frontier
from s2search.planner.plan import Plan
from s2search.planner.project import Project
from s2search.precision.documents import PrecisionPlan, Sensitivity
from s2search.preset import Preset
from s2search.quality.base import Setting
from s2search.quality.file import QualityFile
from s2search.quality.trained import Trained
from s2search.score.file import ScoreFile, open_score
from s2search.score.measured import MeasuredScore, RunValue, Value
from s2search.solver.frontier import Front
from s2search.space import Space
from s2search.streaming.header import Header
from s2search.streaming.state import StreamState
from s2search.testing.exporters import GRID, tiny_model
from s2search.training.checkpoint import State
from s2search.training.compare.settings import ComparisonSettings
from s2search.training.data.clips import Clips
from s2search.training.run_folder import Record
from s2search.training.settings import RunSettings
from tests.mutations import harmed, survives

FEW, MANY = 20, 3_000


def plan_file(folder: Path) -> bytes:
    return s2search.plan(depth=3, budget="260ms").to_json().encode()


def frontier_file(folder: Path) -> bytes:
    return s2search.frontier(depth=3).to_json().encode()


def samples_file(folder: Path) -> bytes:
    facts = ("device", "chip", "os", "runtime", "runtime_version", "power_mode", "precision", "compute_unit")
    campaign = Campaign(
        code_version="s2search 0.1.0",
        preset="s2dit-tiny",
        profiler={"name": "torch_cpu"},
        device=Device(threads=1, **dict.fromkeys(facts, "x")),
        protocol=Protocol(rounds=3),
        items=[{"key": "a"}],
    )
    ready = Ready(item="a", memory=Memory(weight_bytes=1, state_bytes=2, peak_bytes=3), repetitions=4)
    samples = [Sample(round=n, item="a", sentinel=False, ms=1.5, at="2026-11-29T00:00:00+00:00") for n in range(3)]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in (campaign, ready, *samples))


def resumed(path: Path) -> None:
    """Go on with a journal of these bytes; one that is refused stays as it is."""
    before = path.read_bytes()
    heading = msgspec.json.decode(samples_file(path.parent).splitlines()[0], type=Campaign)
    try:
        with open_journal(path, heading, Ready | Sample, of="campaign"):
            pass
    except Exception:
        assert path.read_bytes() == before
        raise


def state_file(folder: Path) -> bytes:
    StreamState.start(tiny_model("S"), GRID).save(folder / "made")
    return (folder / "made").read_bytes()


def config_file(folder: Path) -> bytes:
    return as_json(tiny_model("S").config).encode()


def weights(path: Path) -> None:
    """Read a weight file beside the config that it belongs to."""
    model = tiny_model("S")
    model.save_pretrained(path.parent / "model")
    shutil.copy(path, path.parent / "model" / "model.safetensors")
    S2DiT.from_pretrained(path.parent / "model", mapped=True)


def weight_file(folder: Path) -> bytes:
    tiny_model("S").save_pretrained(folder / "whole")
    return (folder / "whole" / "model.safetensors").read_bytes()


def archive_file(folder: Path) -> bytes:
    class Add(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    program = torch.export.export(Add(), (torch.zeros(2),))
    program.example_inputs = None
    program._guards_code = []
    torch.export.save(program, folder / "made.pt2")
    return (folder / "made.pt2").read_bytes()


def loaded_archive(path: Path) -> None:
    with open_archive(path) as archive:
        archive.load()


def clips_file(folder: Path) -> bytes:
    s2search.data_make("shapes[count=2]", folder / "clips", video="32x32", frames=5, clips=1, held_out=0.5)
    return (folder / "clips" / "clips.jsonl").read_bytes()


def run_file(folder: Path) -> bytes:
    return Record(settings=RunSettings(data="clips"), digests={"data": "sha256:0"}, versions={}).to_json().encode()


def checkpoint_file(folder: Path) -> bytes:
    return (
        State(steps=3, updates={"model": 3}, model="sha256:0", files={"a.safetensors": "sha256:0"}).to_json().encode()
    )


def measured_file(folder: Path) -> bytes:
    values = [Value(value=-0.1, error=0.01, earlier=-0.2), Value(value=-0.1, error=0.01)]
    run = RunValue(candidate="ssa", first=0, layers=2, value=values[0])
    return (
        MeasuredScore(
            name="m", statement="s", depth=2, channels=8, values={"ssa": values}, runs=[run], samples=8, steps=(1, 2)
        )
        .to_json()
        .encode()
    )


def measured(path: Path) -> None:
    """Read a score as a plan does, for another depth."""
    score = open_score(str(path))
    score.score_LC(Space.parse("ssa", depth=5))
    score.errors(Space.parse("ssa", depth=5))


QUALITY = b"""{"schema": "s2search.quality/1", "name": "m", "statement": "s", "scale": "v", "entries": [
  {"when": {"steps": 4, "layout": "L4S"}, "value": 1.5, "error": 0.1, "source": "x"},
  {"when": {"video": "512x288", "commit": "clean_pass"}, "value": 2, "source": "y"}]}"""
MEASURED = Path(__file__).parents[2] / "notebooks/quality/steps"
DESIGN = Setting(
    preset="sizes",
    depth=6,
    channels=64,
    video="128x64",
    steps=4,
    chunk_frames=3,
    window_chunks=2,
    commit="clean_pass",
    precision="w4a8",
    layout=("lcha", "ssa", "ssa", "lcha", "ssa", "lcha"),
)


def distances_file(folder: Path) -> bytes:
    return (MEASURED / "distance/distance.json").read_bytes()


def judged(path: Path) -> None:
    """Ask distances about a design, whose models lie where they were."""
    Trained(run=str(path), models=str(MEASURED)).judge(DESIGN)


PIPELINE = b'{"chunk_frames": 3, "steps": 4, "text_ms": 4.0, "decoder_ms": 80.0}'
PRESET = (
    b'name = "mine"\ndepth = 4\nchannels = 64\nheads = 4\nfeed_forward = 128\ntext_channels = 16\ntext_tokens = 8\n'
)
RUN = (
    b'trainer = "flow[shift=5]"\ndata = "clips"\nseed = 1\n[optimizer]\nsteps = 5\nlr = 1e-3\n[judge]\nbeside = ["a"]\n'
)
COMPARISON = (
    b'seeds = [0, 1]\nsamples = 4\nshift = 3.0\n[run]\ndata = "clips"\n[run.optimizer]\nsteps = 5\n'
    b'[layouts]\ntable = "h100"\nbudget = ["9ms"]\nrandom = 2\n[contenders.a]\n"model.layout" = "L4"\n'
)
TOML = b'table = "amd-epyc.torch-cpu.float32"\n[plans.one]\nbudget = "10fps"\n'

Target = tuple[Callable[[Path], bytes], Callable[[Path], object]]
TARGETS: dict[str, Target] = {
    "plan.json": (plan_file, Plan.load),
    "frontier.json": (frontier_file, Frontier.load),
    "samples.jsonl": (samples_file, read_samples),
    "resumed.jsonl": (samples_file, resumed),
    "pipeline.json": (lambda _: PIPELINE, pipeline_of),
    "preset.toml": (lambda _: PRESET, lambda p: Preset.named(str(p))),
    "s2search.toml": (lambda _: TOML, Project.load),
    "manifest.json": (lambda _: b'{"schema": "s2search.package/1", "functions": []}', lambda p: Package.load(p.parent)),
    "kit.json": (lambda _: b'{"schema": "s2search.kit/1"}', lambda p: read_manifest(p.parent)),
    "sensitivity.json": (lambda _: b'{"schema": "s2search.sensitivity/1"}', Sensitivity.load),
    "precision.json": (lambda _: b'{"schema": "s2search.precision/1"}', PrecisionPlan.load),
    "score.json": (lambda _: b'{"schema": "s2search.score/1"}', ScoreFile.load),
    "measured.json": (measured_file, measured),
    "quality.json": (lambda _: QUALITY, lambda path: QualityFile.load(path).judge(DESIGN)),
    "distance.json": (distances_file, judged),
    "clips.jsonl": (clips_file, lambda path: Clips.load(path.parent).of("train")),
    "run.toml": (lambda _: RUN, lambda path: RunSettings.of(RunSettings.read(path))),
    "compare.toml": (
        lambda _: COMPARISON,
        lambda path: ComparisonSettings.of(ComparisonSettings.read(path)).run_settings({}),
    ),
    "run.json": (run_file, lambda path: read_json(path, Record, what="training run")),
    "state.json": (checkpoint_file, lambda path: read_json(path, State, what="checkpoint")),
    "front.json": (
        lambda _: b'{"schema": "s2search.front/1", "points": [{"latency_us": 1, "memory_bytes": 1}]}',
        lambda path: Front.load(path).best(latency_us=5),
    ),
    "state.safetensors": (state_file, Header.read),
    "model.safetensors": (weight_file, weights),
    "program.pt2": (archive_file, loaded_archive),
}
LARGE = ("plan.json", "frontier.json", "samples.jsonl", "front.json", "pipeline.json")
SLOW = ("model.safetensors", "program.pt2")


def run_target(name: str, folder: Path, examples: int) -> None:
    make, read = TARGETS[name]
    (folder / "made").mkdir()
    content = make(folder / "made")
    path = folder / "read" / name
    path.parent.mkdir()

    def run(harmed_content: bytes) -> None:
        path.write_bytes(harmed_content)
        there = sorted(os.listdir(path.parent))
        try:
            read(path)
        finally:
            assert sorted(set(os.listdir(path.parent)) - {"model"}) == [one for one in there if one != "model"]

    survives(run, harmed(content), examples)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
def test_a_few_harmed_files_are_read_or_refused_in_one_line(name, tmp_path):
    run_target(name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_thousands_of_harmed_files_are_read_or_refused_in_one_line(name, tmp_path):
    run_target(name, tmp_path, 200 if name in SLOW else MANY)


@pytest.mark.parametrize("name", LARGE)
def test_an_integer_beyond_64_bits_is_one_line(name, tmp_path):
    make, read = TARGETS[name]
    content = make(tmp_path)
    number = re.compile(rb"(?<=: )\d+(?=[,\n}])|(?<=:)\d+(?=[,}])")
    changed = number.sub(b"9223372036854775808", content, count=1)
    assert changed != content
    (tmp_path / name).write_bytes(changed)
    with pytest.raises(InputError, match="9223372036854775808"):
        read(tmp_path / name)


@pytest.mark.parametrize("at", [0, 40, 400])
def test_one_rotten_byte_of_a_journal_is_one_line_and_nothing_is_written(at, tmp_path):
    content = bytearray(samples_file(tmp_path))
    content[at] = 0xFF
    for name in ("samples.jsonl", "resumed.jsonl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="is not a line of a campaign") as raised:
            TARGETS[name][1](tmp_path / name)
        assert len(str(raised.value).splitlines()) == 1
        assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("name", ["preset.toml", "s2search.toml", "run.toml"])
def test_toml_that_is_nested_too_deeply_is_one_line(name, tmp_path):
    (tmp_path / name).write_text(f"depth = {'[' * 5000}")
    with pytest.raises(InputError) as raised:
        TARGETS[name][1](tmp_path / name)
    assert len(str(raised.value).splitlines()) == 1

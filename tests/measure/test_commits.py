"""A commit is timed as what it is, and stands beside the forward pass without being part of it."""

import dataclasses
import json
import time

import pytest
import torch

from s2search.block import Block, Parameters, Stream
from s2search.errors import InputError, TableError
from s2search.measurement.base import Item
from s2search.measurement.campaign import measure
from s2search.measurement.items import campaign_items
from s2search.measurement.samples import Protocol
from s2search.measurement.tensor_call import TensorCall
from s2search.measurement.torch_call import torch_call
from s2search.measurement.torch_cpu import TorchCpu
from s2search.preset import Preset
from s2search.tables.merge import merge
from s2search.tables.row import ROLES
from s2search.tables.table import LatencyTable, open_table
from s2search.testing.profilers import MINIATURE, miniature_items
from tests.measure.fake_profiler import FakeProfiler, run

COMMITS = [item for item in miniature_items() if item.role == "commit"]
SHAPE = COMMITS[0].shape
COMMIT_MS, READ_MS = 30.0, 6.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remembered:
    chunks_BTHWD: torch.Tensor


class Sleeper(torch.nn.Module):
    """Reads and commits for as long as it is told, and counts both."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4))
        self.reads = self.commits = 0

    def forward(self, x_BTHWD, modulation_BT6D, text_BSE, state=None):
        self.reads += 1
        time.sleep(READ_MS / 1000)
        return x_BTHWD + 1

    def initial_state(self, batch, grid, window, device, dtype):
        return Remembered(chunks_BTHWD=torch.zeros(batch, 0, *grid, 4))

    def commit(self, x_BTHWD, modulation_BT6D, state):
        self.commits += 1
        time.sleep(COMMIT_MS / 1000)
        return Remembered(chunks_BTHWD=torch.cat((state.chunks_BTHWD, x_BTHWD[..., :4]), dim=1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SleepingBlock(Block):
    name = "sleeper"
    symbol = "Z"
    stream = Stream.HIGH

    def parameters(self, shape):
        return Parameters(small=4)

    def peak_bytes(self, shape, precision):
        return 1

    def flops(self, shape):
        return 1

    def state_bytes(self, shape, precision):
        return 1

    def build(self, shape):
        return Sleeper()


def sleeping(role):
    return Item(role=role, part=SleepingBlock(), scenario="stream", shape=SHAPE)


def test_a_commit_row_is_the_time_of_commit_and_a_block_row_that_of_forward(tmp_path):
    items = [sleeping("block"), sleeping("commit")]
    table = measure(TorchCpu(pin=False), items, tmp_path / "t", preset="mini", protocol=Protocol(rounds=3))
    read, commit = table.rows
    assert (read.role, read.label, commit.role, commit.label) == ("block", "sleeper", "commit", "sleeper commit")
    assert READ_MS <= read.latency_ms < COMMIT_MS <= commit.latency_ms
    assert LatencyTable.load(tmp_path / "t").digest == table.digest


def test_a_timed_call_of_a_commit_reads_nothing_and_commits_one_chunk_to_a_full_window():
    call = torch_call(sleeping("commit"), torch.device("cpu"), torch.float32)
    module, before = call.module.block, call.module.block.commits
    assert before == SHAPE.context_frames // SHAPE.frames == 2
    after = call()
    assert (module.reads, module.commits) == (0, before + 1)
    assert after.chunks_BTHWD.shape[1] == call.state.chunks_BTHWD.shape[1] + SHAPE.frames


@pytest.mark.parametrize("item", COMMITS, ids=lambda item: item.key)
def test_a_commit_is_of_the_very_state_that_the_block_reads(item):
    commit = torch_call(item, torch.device("cpu"), torch.float32)
    read = torch_call(dataclasses.replace(item, role="block"), torch.device("cpu"), torch.float32)
    for name, tensor in TensorCall(commit).arguments.items():
        assert torch.equal(tensor, TensorCall(read).arguments[name])
    before = [x.clone() for x in TensorCall(commit).inputs]
    expected = read.module.commit(read.arguments["x"], read.arguments["modulation"], read.state)
    for field in dataclasses.fields(expected):
        if isinstance(value := getattr(expected, field.name), torch.Tensor):
            assert torch.equal(getattr(commit(), field.name), value)
    assert all(torch.equal(*pair) for pair in zip(before, TensorCall(commit).inputs, strict=True))
    assert (commit.weight_bytes, commit.state_bytes) == (read.weight_bytes, read.state_bytes)


def test_a_campaign_lists_a_commit_of_every_block_in_a_stream_and_none_in_a_clip():
    items = campaign_items(MINIATURE, "48x48", clip_frames=2)
    for item in items:
        if item.role == "block":
            committed = dataclasses.replace(item, role="commit")
            assert (committed in items) == (item.scenario == "stream")
    assert len({item.key for item in items}) == len(items)
    assert not [
        i for i in campaign_items(MINIATURE, "48x48", roles=("block", "fixed")) if i.role in ("commit", "switch")
    ]


def test_a_profiler_that_knows_no_commits_is_given_none(tmp_path):
    class Old(FakeProfiler):
        timeable = ("block", "switch", "fixed")

    with pytest.raises(
        InputError, match=r"'fake' cannot time 'stream \w+ commit 1x3x3'; roles: block, switch, fixed; l"
    ):
        run(tmp_path / "t", profiler=Old())
    assert not (tmp_path / "t").exists()


def test_commits_alone_are_a_campaign_and_make_a_measured_table_whole(tmp_path):
    whole = run(tmp_path / "whole", profiler=FakeProfiler())
    rest = [item for item in miniature_items() if item.role != "commit"]
    old = run(tmp_path / "old", profiler=FakeProfiler(), items=rest)
    new = run(tmp_path / "new", profiler=FakeProfiler(), items=COMMITS)
    assert {row.role for row in new.rows} == {"commit"}
    assert new.card.protocol["sentinel"] == COMMITS[0].key
    merged = merge([old, new], name="merged")
    assert {row.key: row.latency_ms for row in merged.rows} == {row.key: row.latency_ms for row in whole.rows}


def test_what_was_marked_stays_marked_when_tables_are_merged(tmp_path):
    old = run(tmp_path / "old", items=[item for item in miniature_items() if item.role != "commit"])
    new = run(tmp_path / "new", profiler=FakeProfiler(noise=1.0), items=COMMITS)
    assert new.card.protocol["marked"]
    marks = merge([old, new], name="merged").card.protocol["marked"]
    assert [mark for mark in marks if mark.startswith("new: ")] == [f"new: {m}" for m in new.card.protocol["marked"]]


def test_a_commit_in_a_clip_is_refused():
    row = next(row for row in open_table("amd-epyc").rows if row.scenario == "clip" and row.role == "block")
    with pytest.raises(
        TableError, match="lcha commit is a row of the scenario 'clip'; stream: nothing else has a state"
    ):
        dataclasses.replace(row, role="commit")


MEASURE = ("measure", "--candidates", "ssa", "--video", "64x48", "--scenario", "stream", "--rounds", "3", "--out", "t")


def test_chunk_and_window_are_options_and_stand_in_rows_and_card(s2search, tmp_path):
    outcome = s2search(*MEASURE, "--chunk", "2", "--window", "4")
    assert outcome.code == 0, outcome.err
    table = LatencyTable.load(tmp_path / "t")
    assert {(row.frames, row.context_frames) for row in table.rows} == {(2, 8)}
    assert table.card.protocol["stream"] == {"chunk_frames": 2, "context_frames": 8}
    kept = {row.label: row.state_bytes for row in table.rows if row.part == "ssa"}
    low_tokens = 2 * 2  # of 4x3, padded
    assert set(kept.values()) == {2 * 8 * low_tokens * 64 * 4}
    assert kept.keys() == {"ssa", "ssa commit"}


@pytest.mark.slow
def test_without_the_options_chunk_and_window_are_the_presets(s2search, tmp_path):
    assert s2search(*MEASURE, "--role", "commit").code == 0
    table, preset = LatencyTable.load(tmp_path / "t"), Preset.named("s2dit-tiny")
    assert [(row.role, row.frames, row.context_frames) for row in table.rows] == [("commit", 3, 6)]
    assert table.card.protocol["stream"] == {"chunk_frames": preset.chunk_frames, "context_frames": 6}


@pytest.mark.slow
def test_roles_may_be_chosen(s2search, tmp_path):
    assert s2search(*MEASURE, "--role", "block", "--role", "fixed").code == 0
    assert {row.role for row in LatencyTable.load(tmp_path / "t").rows} == {"block", "fixed"}
    nothing = s2search(*MEASURE[:-1], "u", "--role", "switch")
    assert (nothing.code, nothing.err) == (
        2,
        "s2search: there is no block to measure; name at least one candidate, and the role block or commit\n",
    )


def test_a_profiler_is_asked_for_what_it_can(s2search, tmp_path):
    h100 = "replay[table=h100.torch-cuda-graphs-compiled.bfloat16]"
    words = ["measure", "--profiler", h100, "--preset", "s2dit-1.8b", "--video", "512x288", "--scenario", "stream"]
    outcome = s2search(*words, "--rounds", "3", "--out", "t")
    assert outcome.code == 0, outcome.err
    assert "commit" not in {row.role for row in LatencyTable.load(tmp_path / "t").rows}
    refused = s2search(*words, "--role", "commit", "--out", "u")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "'replay' cannot time 'stream full commit 3x18x32'" in refused.err
    assert json.loads((tmp_path / "t/card.json").read_text())["protocol"]["stream"]["chunk_frames"] == 3


def test_roles_are_in_one_order_everywhere():
    assert tuple(dict.fromkeys(item.role for item in miniature_items())) == ROLES

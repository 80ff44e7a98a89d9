"""Profilers whose samples are jobs of a lab: each is submitted once, whatever happens to the process."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from s2search import registry
from s2search.errors import InputError
from s2search.measurement.campaign import measure
from s2search.measurement.jobs import AHEAD
from s2search.measurement.labs.base import LabProfiler
from s2search.measurement.retabulate import retabulate
from s2search.measurement.samples import Protocol
from s2search.tables.table import LatencyTable
from s2search.testing.profilers import check_profiler, miniature_items
from tests.measure import fake_lab
from tests.measure.fake_lab import ITEMS, PROTOCOL, FakeLabProfiler, FileLab, models, run

ROOT = Path(__file__).parents[2]
JOBS = 3 * (3 + 1)  # rounds, of every row and once the sentinel


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    for name, value in {"names": True, "failing": set(), "placement": {"npu": 12}}.items():
        monkeypatch.setattr(FileLab, name, value)
    monkeypatch.setattr(FileLab, "door", {"calls": 0, "before": None, "after": None})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A campaign that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def lab_jobs(folder):
    return json.loads((folder / "lab.json").read_text())


def test_the_fake_keeps_the_contract_of_profilers(tmp_path):
    check_profiler(FakeLabProfiler(models=models(tmp_path), folder=str(tmp_path)), ITEMS)
    assert FakeLabProfiler(models=models(tmp_path), folder=str(tmp_path)).roles() == ("block", "switch", "fixed")


def test_a_row_names_its_jobs_and_the_device_and_the_card_where_all_operations_ran(whole):
    table = LatencyTable.load(whole / "t")
    rows = {row.part: row for row in table.rows if row.latency_provenance == "measured"}
    assert len(rows) == 3
    submitted = lab_jobs(whole)
    for row in rows.values():
        ids, device = row.note.removeprefix("jobs ").split(" on ")
        names = {submitted[int(job[1:]) - 1]["model"] for job in ids.split(", ")}
        assert device == "Galaxy"
        assert names == {f"stream-{row.part}-1x3x3.tflite"}
        assert row.samples == PROTOCOL.rounds
        assert row.latency_ms == pytest.approx(len(names.pop()), rel=0.021)
    assert table.card.protocol["placement"] == {item.key: {"npu": 12} for item in ITEMS}
    assert table.card.protocol["order"] == "all rows in a fresh order every round, one job a sample"
    assert {row.compute_unit for row in table.rows} == {"npu"}
    assert len(submitted) == JOBS, "no job warms up, and none is asked for twice"


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("call", range(1, JOBS + 1))
def test_a_cut_at_any_submission_submits_nothing_twice(tmp_path, whole, call, side):
    """`before`: the request never arrives. `after`: the lab has the job, and its id is lost with the process."""

    class Cut(BaseException):
        pass

    def stop():
        raise Cut

    FileLab.door |= {side: call, "stop": stop}
    with pytest.raises(Cut):
        run(tmp_path)
    run(tmp_path)
    assert [job["model"] for job in lab_jobs(tmp_path)] == [job["model"] for job in lab_jobs(whole)]
    assert (tmp_path / "t" / "table.csv").read_bytes() == (whole / "t" / "table.csv").read_bytes()


@pytest.mark.parametrize(("side", "call"), [("after", 2), ("before", 6)])
def test_kill_minus_nine_between_submission_and_answer_loses_nothing(tmp_path, whole, side, call):
    command = [sys.executable, "-m", "tests.measure.fake_lab", str(tmp_path), side, str(call)]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == -9
    run(tmp_path)
    assert len(lab_jobs(tmp_path)) == JOBS
    assert (tmp_path / "t" / "table.csv").read_bytes() == (whole / "t" / "table.csv").read_bytes()


def test_a_lab_that_keeps_no_names_may_lose_the_one_job_of_the_cut_request(tmp_path, monkeypatch):
    monkeypatch.setattr(FileLab, "names", False)

    def stop():
        raise KeyboardInterrupt

    FileLab.door |= {"after": 5, "stop": stop}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    run(tmp_path)
    assert len(lab_jobs(tmp_path)) == JOBS + 1


def test_a_failed_job_is_one_line_and_the_same_command_submits_it_anew(tmp_path, whole):
    FileLab.failing.add("stream-down-1x3x3.tflite")
    with pytest.raises(InputError, match=r"^the job j\d+ failed: no memory; the same command submits it anew$"):
        run(tmp_path)
    run(tmp_path)
    jobs = lab_jobs(tmp_path)
    assert len(jobs) == JOBS + 1
    assert sum(job["failed"] for job in jobs) == 1
    failed = next(f"j{n}" for n, job in enumerate(jobs, start=1) if job["failed"])
    assert all(failed not in row.note.replace(",", " ").split() for row in LatencyTable.load(tmp_path / "t").rows)


def test_an_answer_that_fell_back_to_the_cpu_makes_no_sample_and_no_second_job(tmp_path, monkeypatch):
    monkeypatch.setattr(FileLab, "placement", {"npu": 11, "cpu": 1})
    line = (
        r"^the job j1 of stream \w+ 1x3x3 on Galaxy: 11 of 12 operations ran on the NPU, 1 on cpu; a row is of one unit"
    )
    with pytest.raises(InputError, match=line):
        run(tmp_path)
    submitted = len(lab_jobs(tmp_path))
    with pytest.raises(InputError, match=line):
        run(tmp_path)
    assert len(lab_jobs(tmp_path)) == submitted
    assert not (tmp_path / "t" / "card.json").exists()


def test_later_jobs_must_prove_their_place_too(tmp_path, monkeypatch):
    placed = iter([{"npu": 12}] * 5)
    answer = FileLab.look

    def look(self, job):
        found = answer(self, job)
        return found and dataclasses.replace(found, placement=next(placed, {"cpu": 12}))

    monkeypatch.setattr(FileLab, "look", look)
    with pytest.raises(InputError, match="0 of 12 operations ran on the NPU, 12 on cpu"):
        run(tmp_path)
    assert (tmp_path / "t" / "samples.jsonl").read_bytes().count(b'"kind":"sample"') == 2  # after one of each of 3 rows


def test_so_many_jobs_wait_beside_the_one_that_is_waited_for_and_no_more(tmp_path, monkeypatch):
    waiting, answered, answer = [], set(), FileLab.look

    def look(self, job):
        waiting.append(len(self.jobs()) - len(answered | {job}))
        if found := answer(self, job):
            answered.add(job)
        return found

    monkeypatch.setattr(FileLab, "look", look)
    run(tmp_path)
    assert max(waiting) == AHEAD


def test_a_job_that_takes_too_long_stays_in_the_lab(tmp_path):
    with pytest.raises(
        InputError, match=r"^the job j1 is not finished after 0 s; it stays in the lab; the same command"
    ):
        run(tmp_path, patience_s=0.0)


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch):
    told = {"models": models(tmp_path), "folder": str(tmp_path)}
    assert FakeLabProfiler(**told).why_not() is None
    assert FakeLabProfiler(**told | {"phone": ""}).why_not() == "no device is named; give fake_lab[phone=NAME]"
    assert FakeLabProfiler(**told | {"models": "x"}).why_not().startswith("there is no folder of .tflite files at 'x'")
    assert FakeLabProfiler(**told | {"phone": "Pixel"}).why_not() == "the lab has no device 'Pixel'; see its list"
    monkeypatch.setattr(FakeLabProfiler, "no_token", "no token; sign in")
    assert FakeLabProfiler(**told).why_not() == "no token; sign in"
    with pytest.raises(InputError, match="the profiler 'fake_lab' cannot run here: no token; sign in"):
        run(tmp_path)


def test_a_missing_file_is_named_before_any_job_is_submitted_for_it(tmp_path):
    profiler = FakeLabProfiler(models=models(tmp_path), folder=str(tmp_path))
    (tmp_path / "models" / "stream-ssa-1x3x3.tflite").unlink()
    with pytest.raises(InputError, match=r"there is no .*stream-ssa-1x3x3\.tflite' for stream ssa 1x3x3; convert it"):
        profiler.prepare(next(item for item in ITEMS if item.part.name == "ssa"))


@pytest.mark.parametrize(
    ("protocol", "what"),
    [(Protocol(rounds=1, pairs=True), "pairs"), (Protocol(rounds=1, sustained_s=9.0), "a device that stays hot")],
)
def test_a_lab_times_no_pairs_and_heats_no_device(tmp_path, protocol, what):
    profiler = FakeLabProfiler(models=models(tmp_path), folder=str(tmp_path))
    with pytest.raises(InputError, match=f"times every row in a job of its own: it cannot time {what}"):
        measure(profiler, ITEMS, tmp_path / "t", preset="mini", protocol=protocol)
    assert not (tmp_path / "lab.json").exists()


def test_a_unit_that_a_lab_cannot_ask_for_is_refused_when_the_profiler_is_made():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class NoNpu(FakeLabProfiler):
        units = ("cpu", "gpu")

    with pytest.raises(InputError, match="cannot ask for the NPU; units: cpu, gpu; "):
        NoNpu()


def test_commits_are_not_asked_of_a_lab(tmp_path):
    commit = next(item for item in miniature_items() if item.role == "commit")
    profiler = FakeLabProfiler(models=models(tmp_path), folder=str(tmp_path))
    assert isinstance(profiler, LabProfiler)
    with pytest.raises(InputError, match=r"cannot time 'stream .* commit"):
        measure(profiler, [*ITEMS, commit], tmp_path / "t", preset="mini", protocol=fake_lab.PROTOCOL)


def test_a_table_of_jobs_is_made_again_from_its_own_journal(tmp_path, monkeypatch):
    run(tmp_path)
    table = (tmp_path / "t" / "table.csv").read_bytes()
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda *at: FakeLabProfiler if at[0] == "profilers" else load(*at))
    retabulate(tmp_path / "t")
    assert (tmp_path / "t" / "table.csv").read_bytes() == table

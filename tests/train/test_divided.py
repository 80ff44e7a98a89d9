"""Work that processes divide: every piece is done once, and any number of processes goes on with what others did."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import CheckError, InputError
from s2search.training.divided import divided
from s2search.training.parallel import Processes


class Work(msgspec.Struct, frozen=True, kw_only=True):
    pieces: int


class Done(msgspec.Struct, frozen=True, kw_only=True):
    piece: int
    by: int


@dataclass(frozen=True, kw_only=True)
class Thread(Processes):
    """A process that is a thread of this one."""

    barrier: threading.Barrier = field(compare=False)

    def wait(self) -> None:
        self.barrier.wait(timeout=20)


def done_by(folder: Path, pieces: int, count: int, stop: int | None = None) -> list[list[Done]]:
    """What each of so many processes finds done at the end; with `stop`, all end after so many pieces of each."""
    barrier, found, errors = threading.Barrier(count), [list[Done]() for _ in range(count)], []

    def run(rank: int) -> None:
        where = Thread(rank=rank, count=count, device=torch.device("cpu"), sharded=False, barrier=barrier)
        try:
            with divided(folder / "work.jsonl", Work(pieces=pieces), Done, where, of="work") as work:
                known = {one.piece for one in work.lines}
                mine = list(work.mine([piece for piece in range(pieces) if piece not in known]))
                time.sleep(0.002 * rank)  # the first to be done has to wait for the others
                for piece in mine[:stop]:
                    work.append(Done(piece=piece, by=rank))
                found[rank] = work.whole()
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


@given(pieces=st.integers(0, 12), counts=st.lists(st.integers(1, 4), min_size=1, max_size=4), stop=st.integers(0, 2))
def test_every_piece_is_done_once_by_any_number_of_processes_at_any_time(
    tmp_path_factory: pytest.TempPathFactory, pieces: int, counts: list[int], stop: int
) -> None:
    folder = tmp_path_factory.mktemp("work")
    for count in counts:
        done_by(folder, pieces, count, stop)
    for lines in done_by(folder, pieces, counts[0]):
        assert sorted(one.piece for one in lines) == list(range(pieces))


def test_a_journal_of_other_work_beside_is_refused_by_all(tmp_path: Path) -> None:
    done_by(tmp_path, 4, 2)
    (tmp_path / "work.jsonl").unlink()
    with pytest.raises(InputError, match="belongs to another work: pieces is 4 there and 5 here"):
        done_by(tmp_path, 5, 1)
    with pytest.raises(InputError, match="belongs to another work: pieces is 4 there and 5 here"):
        done_by(tmp_path, 5, 2)


def test_a_process_that_ends_is_one_line_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def barrier() -> None:
        raise RuntimeError("[../third_party/gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:1234")

    monkeypatch.setattr("torch.distributed.barrier", barrier)
    with pytest.raises(CheckError, match="another process of this run has ended; repeat the command") as error:
        Processes(rank=0, count=2, device=torch.device("cpu"), sharded=False).wait()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", '{"pie'])
def test_a_process_that_ended_before_its_heading_left_nothing(tmp_path: Path, content: str) -> None:
    done_by(tmp_path, 4, 1, stop=1)
    (tmp_path / "work.3.jsonl").write_text(content)
    (lines,) = done_by(tmp_path, 4, 1)
    assert sorted(one.piece for one in lines) == [0, 1, 2, 3]

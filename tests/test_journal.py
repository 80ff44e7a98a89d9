"""A journal survives a death at any byte, belongs to one work and one writer, and harms no file that is none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import InputError
from s2search.journal import open_journal, read_journal
from s2search.measurement.samples import read_samples

HEADING = {"work": "count", "seed": 3}


class Found(msgspec.Struct, frozen=True):
    value: int
    note: str = ""


def write(path: Path, *values: int, heading: object = HEADING) -> None:
    with open_journal(path, heading, Found, of="count") as journal:
        for value in values[len(journal.lines) :]:
            journal.append(Found(value, "a\nb"))


def values_of(path: Path) -> list[int]:
    return [line.value for line in read_journal(path, dict, Found, of="count")[1].lines]


@given(st.data())
def test_cut_at_any_byte_it_is_a_beginning_and_goes_on_to_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "j.jsonl"
    write(path, 1, 2, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    kept = path.read_bytes().count(b"\n")
    with open_journal(path, HEADING, Found, of="count") as journal:
        assert [line.value for line in journal.lines] == [1, 2, 3][: max(kept - 1, 0)]
    write(path, 1, 2, 3)
    assert path.read_bytes() == whole
    assert values_of(path) == [1, 2, 3]


def test_words_behind_a_journal_are_not_cut_off(tmp_path: Path) -> None:
    write(tmp_path / "j.jsonl", 1, 2)
    whole = (tmp_path / "j.jsonl").read_bytes()
    (tmp_path / "j.jsonl").write_bytes(whole + b"my notes")
    with pytest.raises(InputError, match="ends in what is no line of a count"):
        write(tmp_path / "j.jsonl", 1, 2, 3)
    assert (tmp_path / "j.jsonl").read_bytes() == whole + b"my notes"
    (tmp_path / "j.jsonl").write_bytes(whole + bytes(100))
    write(tmp_path / "j.jsonl", 1, 2)
    assert (tmp_path / "j.jsonl").read_bytes() == whole


def test_every_line_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j.jsonl", HEADING, Found, of="count") as journal:
        for value in range(3):
            journal.append(Found(value))
            assert values_of(tmp_path / "j.jsonl") == list(range(value + 1))


@pytest.mark.parametrize(
    "content", [b"mine", b'{"work": "cou', b"mine\n", b"mine\nand torn", b'{"work":"count"}\n{}\nx']
)
def test_a_file_that_is_none_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(InputError, match=r"is no journal of a count|is not a line of a count|belongs to another count"):
        write(tmp_path / "notes", 1)
    assert (tmp_path / "notes").read_bytes() == content


def test_that_of_other_work_is_refused_by_the_first_difference(tmp_path: Path) -> None:
    write(tmp_path / "j", 1)
    with pytest.raises(InputError, match="belongs to another count: seed is 3 there and 4 here"):
        write(tmp_path / "j", 1, heading={"work": "count", "seed": 4})


def test_a_second_writer_is_refused_while_the_first_one_writes(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j", HEADING, Found, of="count"):
        with pytest.raises(InputError, match="another process is writing to"):
            write(tmp_path / "j", 1)
        assert values_of(tmp_path / "j") == []
    write(tmp_path / "j", 1)
    assert values_of(tmp_path / "j") == [1]


def test_reading_changes_nothing_and_refuses_what_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "j", 1, 2)
    torn = (tmp_path / "j").read_bytes() + b'{"value":'
    (tmp_path / "j").write_bytes(torn)
    assert values_of(tmp_path / "j") == [1, 2]
    assert (tmp_path / "j").read_bytes() == torn
    with pytest.raises(InputError, match="cannot be read"):
        values_of(tmp_path / "k")
    (tmp_path / "k").touch()
    with pytest.raises(InputError, match="is empty"):
        values_of(tmp_path / "k")


def test_the_journal_of_a_newer_version_is_called_so(tmp_path):
    (tmp_path / "samples.jsonl").write_text('{"kind":"campaign","schema":"s2search.samples/2"}\n')
    with pytest.raises(InputError, match=r"made by a newer s2search: its schema is 's2search.samples/2'"):
        read_samples(tmp_path / "samples.jsonl")


class Heading(msgspec.Struct, frozen=True):
    seed: int


def test_bytes_that_are_no_text_are_refused_where_nothing_else_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    for content in (b'{"seed":3,"\xf2":1}\n', b'{"seed":3}\n{"value":1,"\xf2":"\xf2"}\n'):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not a line of a count"):
            read_journal(path, Heading, Found, of="count")

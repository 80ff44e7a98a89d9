"""A pipe, a device or a link to one in place of a file is one line: no reader waits for it, none reads it for ever."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.border.regular_file import read_regular, read_regular_text
from s2search.errors import InputError
from s2search.planner.project import Project
from s2search.preset import Preset
from s2search.tables.table import installed_folder
from s2search.training.compare.settings import ComparisonSettings
from s2search.training.settings import RunSettings, overridden
from tests.command import run_here

TABLE = "iphone-16-pro-max.coreml.w4a8"


def put(path: Path, how: str) -> None:
    path.unlink(missing_ok=True)
    if how == "pipe":
        os.mkfifo(path)
    elif how == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


COMMANDS = {
    "table.csv": ["table", "show", "table"],
    "card.json": ["plan", "--table", "table", "--budget", "10fps"],
    "lint": ["table", "lint", "table"],
    "score.json": ["plan", "--score", "./score.json"],
    "pipeline.json": ["measure", "--pipeline", "pipeline.json", "--out", "o"],
    "preset.toml": ["measure", "--preset", "preset.toml", "--out", "out"],
    "plan.json": ["plan", "diff", "plan.json", "plan.json"],
    "layouts.csv": ["table", "evaluate", "layouts.csv"],
    "model.mlpackage": ["verify", "package"],
}


@pytest.mark.parametrize("how", ["pipe", "link", "folder"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_refuses_what_is_no_regular_file(tmp_path, name, how):
    shutil.copytree(installed_folder(TABLE), tmp_path / "table")
    (tmp_path / "package").mkdir()
    places = {"table.csv": "table/table.csv", "card.json": "table/card.json", "lint": "table/table.csv"}
    put(tmp_path / places.get(name, "package/manifest.json" if name == "model.mlpackage" else name), how)
    done = run_here(COMMANDS[name], tmp_path)
    assert done.code == 2, done.out
    assert len(done.err.splitlines()) == 1, done.err
    assert {"lint": "table.csv", "model.mlpackage": "manifest.json"}.get(name, name) in done.err


@pytest.mark.parametrize("how", ["pipe", "link"])
def test_a_journal_and_a_video_are_regular_files(tmp_path, how):
    put(tmp_path / "samples.jsonl", how)
    for words in (["table", "retabulate", "."], ["measure", "--out", ".", "--profiler", "replay[table=table]"]):
        done = run_here(words, tmp_path)
        assert done.code == 2, done.out
        assert len(done.err.splitlines()) == 1, done.err
    assert not (tmp_path / "samples.jsonl").is_file()


def test_a_regular_file_is_read_through_a_link(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfx\r\ny")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_regular(tmp_path / "b") == b"\xef\xbb\xbfx\r\ny"
    assert read_regular_text(tmp_path / "b") == "x\ny"
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    with pytest.raises(OSError, match="it is not a regular file"):
        read_regular("/dev/null")


@pytest.mark.parametrize(
    "harm",
    [
        "depth = " + "1" * 5000,
        "depth = 0x" + "f" * 5000,
        "a = [{b = 0b1%s}]" % ("0" * 64),
        "depth = " + "[" * 3000,
        "depth = ",
        "depth = \xff",
    ],
)
@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (lambda path: Preset.named(str(path)), "is not a preset"),
        (Project.load, "is not TOML"),
        (RunSettings.read, "is not TOML"),
        (ComparisonSettings.read, "is not TOML"),
    ],
)
def test_toml_that_is_none_is_one_line(tmp_path: Path, harm: str, read: Callable[[Path], object], problem: str) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(harm.encode("latin-1"))
    with pytest.raises(InputError, match=problem) as raised:
        read(path)
    assert len(str(raised.value).splitlines()) == 1
    assert "set_int_max_str_digits" not in str(raised.value)


def test_a_setting_of_thousands_of_digits_is_text() -> None:
    assert overridden({}, [f"seed={'1' * 5000}"]) == {"seed": "1" * 5000}

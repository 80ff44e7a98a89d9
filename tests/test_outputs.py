"""Where results go: what cannot be written is refused before any work, and what was found is not lost with a file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.document import check_folder, check_writable, write_text
from s2search.errors import InputError
from s2search.exporters.package import new_folder
from s2search.tables.table import open_table
from tests.conftest import Outcome

Run = Callable[..., Outcome]
TINY = ("--preset", "s2dit-tiny", "--random-weights")
LONG = "x" * 300

FILES = {
    "plan": (("plan", "--budget", "260ms"), "--out"),
    "frontier": (("frontier",), "--out"),
    "page": (("frontier", "--out", "front.csv"), "--html"),
    "sensitivity": (("sensitivity", *TINY), "--out"),
    "stream": (("stream", *TINY), "--out"),
    "state": (("stream", *TINY, "--out", "x.mp4"), "--state-out"),
}
FOLDERS = {
    "export": (("export", "--exporter", "onnx", *TINY), "--out"),
    "part": (("export", "--exporter", "onnx", "--part", "dct"), "--out"),
    "recalibrate": (("recalibrate", "amd-epyc"), "--out"),
    "measure": (("measure",), "--out"),
    "kit build": (("kit", "build"), "--out"),
    "kit ingest": (("kit", "ingest", "file"), "--out"),
    "merge": (("table", "merge", "amd-epyc", "h100"), "--out"),
    "import": (("table", "import", "hat", "file"), "--out"),
}
_PLACES = {
    "files": ("file/x.mp4", "/proc/x.mp4", "/dev/full", "folder", LONG),
    "folders": ("file", "file/x", "/proc/x", LONG),
}
CASES = [(*FILES[name], place) for name in FILES for place in _PLACES["files"]] + [
    (*FOLDERS[name], place) for name in FOLDERS for place in _PLACES["folders"]
]


@pytest.mark.parametrize(("words", "option", "place"), CASES)
def test_an_output_that_cannot_be_written_is_one_line_before_any_work(
    s2search: Run, tmp_path: Path, words: tuple[str, ...], option: str, place: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    done = s2search(*words, option, place)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
    assert repr(place)[1:6] in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
    "words", [("plan", "--budget", "260ms"), ("plan", "--budget", "1ms", "--json"), ("--help",)], ids=str
)
def test_an_answer_that_the_device_does_not_take_is_one_line(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "s2search", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == (
        "s2search: the output cannot be written: No space left on device; make room, or choose another place\n"
    )


def test_a_closed_or_full_output_of_errors_changes_no_exit_code() -> None:
    command = f"{sys.executable} -m s2search plan --budget 1ms"
    for redirection in ("2>/dev/full", ">&- 2>&-"):
        assert subprocess.run(["sh", "-c", f"{command} {redirection}"], check=False).returncode == 3


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_plan_is_printed_though_its_file_cannot_be_written(s2search: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", full)
    done = s2search("plan", "--budget", "260ms", "--out", "plan.json", "--json")
    assert (done.code, json.loads(done.out)["schema"]) == (2, "s2search.plan/1")
    assert done.err == "s2search: 'plan.json' cannot be written: No space left on device; choose another path\n"
    done = s2search("frontier", "--depth", "4", "--out", "front.csv")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "ms" in done.out


def test_a_full_disk_is_seen_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2search.document.tempfile.TemporaryFile", full)
    for check, place in ((check_writable, tmp_path / "x"), (check_folder, tmp_path / "a" / "b")):
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            check(place)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_text(tmp_path / "x", "x")


def test_a_check_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "x")
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_fills_the_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"package' cannot be written: No space left on device"),
        new_folder(tmp_path / "package"),
    ):
        full()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_meanwhile_is_not_blamed_on_the_package(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "package"):
        (tmp_path / "gone").read_text()


def test_two_outputs_of_one_name_are_refused(s2search: Run) -> None:
    done = s2search("frontier", "--out", "front", "--html", "./front")
    assert (done.code, done.err) == (2, "s2search: two outputs are called 'front'; give each a name of its own\n")


LATE = """
import sys
from s2search.cli.main import main
sys.argv = ["s2search", *sys.argv[1:]]
try:
    main()
except SystemExit as left:
    sys.exit(77 if {"torch", "coremltools"} & sys.modules.keys() else left.code)
"""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("verify", "nowhere"), "there is no package 'nowhere'; name a folder that s2search export wrote"),
        (("verify", "."), "the package manifest 'manifest.json' cannot be read: No such file or directory"),
        (("export", "--exporter", "onnx", "--out", "p", "nowhere"), "there is no folder of weights 'nowhere'"),
        (("export", "--exporter", "onnx", "--out", "p", "."), "the model config 'config.json' cannot be read"),
        (("stream", "nowhere", "--out", "x.mp4"), "there is no folder of weights 'nowhere'"),
        (("sensitivity", "nowhere", "--out", "s.json"), "there is no folder of weights 'nowhere'"),
        (("sensitivity", "--preset", "s2dit-tny", "--random-weights", "--out", "s.json"), "did you mean 's2dit-tiny'?"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_wrong_folder_is_refused_before_torch_is_loaded(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert line in done.stderr


def test_a_scope_takes_a_video_size_as_people_write_it() -> None:
    table = open_table("h100")
    assert table.scope("stream", video="512x288") == table.scope("stream", video=(18, 32))
    with pytest.raises(InputError, match="the video size 'large' is not WIDTHxHEIGHT"):
        table.scope("stream", video="large")

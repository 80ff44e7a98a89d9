"""Stages are made from their parents' files and their settings, kept where these are the same, never trusted half."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s2search.document import write_text
from s2search.errors import InputError
from s2search.pipeline import record as record_module
from s2search.pipeline.execute import Body, StageFate, execute, foreseen, opened
from s2search.pipeline.record import RECORD, PipelineRecord
from s2search.pipeline.stages import Stage

PARENTS = {"clips": (), "model": ("clips",), "plan": (), "student": ("model", "plan"), "page": ("student",)}
RESUMED = ("model", "student")


class KilledError(BaseException):
    """In place of a kill: nothing catches it."""


def stages(**settings: int) -> tuple[Stage, ...]:
    return tuple(
        Stage(name=name, parents=parents, settings={"x": settings.get(name, 0)}, resumes=name in RESUMED)
        for name, parents in PARENTS.items()
    )


def bodies(
    folder: Path, asked: tuple[Stage, ...], event: Callable[[], None] = lambda: None, made: list[str] | None = None
) -> dict[str, Body]:
    """Return bodies whose files are a function of settings and parents, in two parts, a possible end between them."""

    def body(stage: Stage) -> Body:
        def make(place: Path) -> None:
            if made is not None:
                made.append(stage.name)
            if not stage.resumes:
                assert not any(place.iterdir()), "what a killed process left is in the way"
            seen = "".join((folder / name / "whole.txt").read_text() for name in stage.parents)
            event()
            if not (place / "part.txt").exists():
                write_text(place / "part.txt", f"{stage.name} {stage.settings}")
            event()
            write_text(place / "whole.txt", f"{(place / 'part.txt').read_text()} {seen}")
            event()

        return make

    return {stage.name: body(stage) for stage in asked}


def run(folder: Path, asked: tuple[Stage, ...], **rest: Any) -> list[StageFate]:
    told: list[StageFate] = []
    with opened(folder):
        execute(folder, asked, bodies(folder, asked, **rest), lambda found, _: told.append(found), clock=lambda: 0.0)
    return told


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fates(told: list[StageFate]) -> dict[str, str]:
    return {found.stage: found.fate for found in told}


def test_what_is_as_asked_is_kept_and_nothing_is_written_again(tmp_path: Path) -> None:
    made: list[str] = []
    run(tmp_path, stages(), made=made)
    assert made == list(PARENTS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert set(fates(run(tmp_path, stages(), made=made)).values()) == {"kept"}
    assert made == list(PARENTS)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("changed", PARENTS)
def test_a_changed_setting_makes_its_stage_and_those_that_read_it_and_no_other(tmp_path: Path, changed: str) -> None:
    run(tmp_path, stages())
    descendants = {changed}
    for name, parents in PARENTS.items():
        descendants |= {name} if descendants & {*parents} else set()
    asked = stages(**{changed: 1})
    expected = {name: "made" if name in descendants else "kept" for name in PARENTS}
    assert fates(list(foreseen(tmp_path, asked))) == expected
    told = run(tmp_path, asked)
    assert fates(told) == expected
    why = {found.stage: found.why for found in told}
    assert why[changed] == "x was 0 and is 1"
    for name in descendants - {changed}:
        assert any(f"{parent} was sha256:" in why[name] for parent in PARENTS[name])
    fresh = tmp_path.with_name("fresh")
    run(fresh, asked)
    assert files(fresh) == files(tmp_path)


def test_a_stage_that_leaves_the_same_files_does_not_make_its_children_again(tmp_path: Path) -> None:
    run(tmp_path, stages())
    (tmp_path / "clips/whole.txt").unlink()
    (tmp_path / "clips/part.txt").unlink()
    (tmp_path / "clips").rmdir()
    told = run(tmp_path, stages())
    assert fates(told) == {"clips": "made", **dict.fromkeys(["model", "plan", "student", "page"], "kept")}
    assert told[0].why == "its folder is gone"


@pytest.mark.parametrize("refused", ["model", "page"])
def test_a_stage_that_is_refused_is_what_it_was_before(tmp_path: Path, refused: str) -> None:
    """A wrong setting takes nothing away: neither files, nor the record that they are as asked."""
    run(tmp_path, stages())
    before, wrong = files(tmp_path), stages(**{refused: -1})

    def refuse(place: Path) -> None:
        write_text(place / "part.txt", "begun")
        raise InputError("x is -1")

    made = {**bodies(tmp_path, wrong), refused: refuse}
    with opened(tmp_path), pytest.raises(InputError, match="x is -1"):
        execute(tmp_path, wrong, made)
    assert files(tmp_path) == before
    assert set(fates(run(tmp_path, stages())).values()) == {"kept"}
    assert fates(run(tmp_path, stages(**{refused: 1})))[refused] == "made"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".before")]


def killed_at(number: int, folder: Path, asked: tuple[Stage, ...], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run, and end at an event: before or behind a write of the record, before, in or behind a body's work."""
    counter = itertools.count()

    def event() -> None:
        if next(counter) == number:
            raise KilledError

    save = PipelineRecord.save

    def saved(self: PipelineRecord, path: Any) -> None:
        event()
        save(self, path)
        event()

    with monkeypatch.context() as patch:
        patch.setattr(record_module.PipelineRecord, "save", saved)
        try:
            run(folder, asked, event=event)
        except KilledError:
            return True
    return False


def test_killed_anywhere_the_same_command_ends_with_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stages(model=1)
    run(tmp_path / "whole", stages())
    run(tmp_path / "whole", asked)
    expected = files(tmp_path / "whole")
    for number in itertools.count():
        folder = tmp_path / str(number)
        run(folder, stages())  # so that folders have to be emptied
        if not killed_at(number, folder, asked, monkeypatch):
            break
        run(folder, asked)
        assert files(folder) == expected, number
    assert number == 3 * (3 * 2 + 3)  # stages made anew, writes of the record and events of a body


def test_killed_at_every_event_one_after_another_it_still_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole", stages())
    folder, number = tmp_path / "killed", 0
    while killed_at(number % 11, folder, stages(), monkeypatch):  # eleven events in: a stage and a bit of the next
        number += 1
        assert number < 200
    assert files(folder) == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (
            lambda model: (model / "whole.txt").write_text("other"),
            r"whole\.txt' was changed \(\w{12} before, \w{12} now",
        ),
        (lambda model: (model / "whole.txt").unlink(), r"whole\.txt' is gone"),
        (lambda model: (model / "mine.txt").write_text(""), r"mine\.txt' is new"),
    ],
)
def test_a_folder_that_was_changed_by_hand_is_refused_with_what_to_do(
    tmp_path: Path, do: Callable[[Path], Any], said: str
) -> None:
    run(tmp_path, stages())
    do(tmp_path / "model")
    with pytest.raises(InputError, match=said) as error:
        run(tmp_path, stages())
    assert "the stage 'model'" in str(error.value)
    assert "remove the folder" in error.value.remedy


def test_pages_times_and_checkpoints_may_change(tmp_path: Path) -> None:
    run(tmp_path, stages())
    for name in ("report.html", "metrics.csv", "times.json", "checkpoints/a", "tensorboard/b"):
        (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text("new")
    assert set(fates(run(tmp_path, stages())).values()) == {"kept"}


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not the folder of a run: it has 'thesis\.txt'"):
        run(tmp_path, stages())
    assert files(tmp_path) == {"thesis.txt": b"mine"}


def test_a_folder_that_no_stage_made_is_not_emptied(tmp_path: Path) -> None:
    run(tmp_path, stages()[:3])
    (tmp_path / "student").mkdir()
    (tmp_path / "student/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="student' is there, and no stage made it"):
        run(tmp_path, stages())
    assert (tmp_path / "student/thesis.txt").read_text() == "mine"


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(InputError, match="another process is writing"), opened(tmp_path):
        pass


def test_what_would_become_of_stages_is_said_without_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "none"
    assert {found.why for found in foreseen(place, stages())} == {"was not made yet"}
    assert not place.exists()


def test_a_record_names_the_version_that_wrote_it(tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        yield from (one.s2search for one in PipelineRecord.load(tmp_path).stages.values())

    run(tmp_path, stages())
    assert all(lines())
    (tmp_path / RECORD).write_text('{"schema": "s2search.pipeline/2"}')
    with pytest.raises(InputError, match="newer s2search"):
        run(tmp_path, stages())

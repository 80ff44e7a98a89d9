"""Many clips of a file of prompts: what VBench finds, what is kept, and what is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.cli.interrupted import kept
from s2search.errors import InputError
from s2search.streaming.prompt_list import PromptList, clip_seed, safe_name
from tests.conftest import Outcome

Run = Callable[..., Outcome]
TINY = ("--preset", "s2dit-tiny", "--random-weights", "--threads", "1", "--video", "64x48", "--chunks", "2")
MANY = ("stream", *TINY, "--prompts", "prompts.txt", "--out", "clips")
PROMPTS = "a cat\na dog. 3/4 view\n\n  # 1, a stone  \na cat\n"

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=300)
NASTY = [
    "..",
    ".",
    "../../etc/passwd",
    "/etc/passwd",
    "a\x00b",
    "~root",
    "-rf",
    "CON",
    "a/b",
    "a\\b",
    "é" * 200,
    "🐈" * 90,
]


def names(prompts: list[str]) -> list[str]:
    listed = PromptList(prompts=tuple(dict.fromkeys(prompts)), repeated=0)
    return [clip.file for clip in listed.clips(2, 0)]


@given(st.lists(TEXTS | st.sampled_from(NASTY), min_size=1, max_size=8))
def test_whatever_a_prompt_is_its_clips_lie_in_the_folder_under_names_of_their_own(prompts: list[str]) -> None:
    found = names(prompts)
    assert len({name.casefold() for name in found}) == len(found)
    for name in found:
        assert Path("clips", name).resolve().parent == Path("clips").resolve()
        assert not name.startswith((".", "-", "~"))
        assert "/" not in name
        assert len(f".{name}.partial".encode()) <= 255


def test_names_are_as_vbench_looks_for_them() -> None:
    prompt = "A beautiful coastal beach in spring, waves lapping on sand by Hokusai, in the style of Ukiyo"
    assert names([prompt]) == [f"{prompt}-0.mp4", f"{prompt}-1.mp4"]
    assert names(["x" * 200]) == [f"{'x' * 180}-{index}.mp4" for index in range(2)]  # as VBench-2.0 cuts them


def test_prompts_that_would_share_a_name_do_not() -> None:
    first, second, third = "x" * 180 + "a", "x" * 180 + "b", "X" * 180
    found = names([first, second, third])
    assert found[0] == "x" * 180 + "-0.mp4"
    assert len({name.casefold() for name in found}) == 6  # a Mac's disk knows no capitals
    assert names(["a/b", "a_b"])[::2] != ["a_b-0.mp4", "a_b-0.mp4"]


def test_the_seed_of_a_clip_depends_on_seed_prompt_and_index_alone(tmp_path: Path) -> None:
    alone = PromptList(prompts=("a dog",), repeated=0).clips(1, 5)[0].seed
    beside = {clip.file: clip.seed for clip in PromptList(prompts=("a cat", "a dog"), repeated=0).clips(3, 5)}
    assert alone == beside["a dog-0.mp4"] == clip_seed(5, "a dog", 0)
    assert len(set(beside.values())) == 6
    assert clip_seed(6, "a dog", 0) != alone


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=repr)
def test_a_line_is_a_prompt_and_nothing_is_a_comment(tmp_path: Path, ending: str) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"\xef\xbb\xbf" + PROMPTS.replace("\n", ending).encode())
    listed = PromptList.read(tmp_path / "prompts.txt")
    assert listed.prompts == ("a cat", "a dog. 3/4 view", "# 1, a stone")
    assert listed.repeated == 1


def test_clips_of_every_prompt_and_sample_are_there_with_their_seeds(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    done = s2search(*MANY, "--samples", "2")
    assert done.code == 0, done.err
    files = sorted(path.name for path in (tmp_path / "clips").iterdir())
    stems = ("# 1, a stone", "a cat", "a dog. 3_4 view")
    assert files == [f"{stem}-{index}.mp4" for stem in stems for index in range(2)]
    heading, *lines = [json.loads(line) for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    assert heading["schema"] == "s2search.stream_clips/1"
    assert {line["file"] for line in lines} == set(files)
    assert {line["prompt"] for line in lines} == {"a cat", "a dog. 3/4 view", "# 1, a stone"}
    assert all((tmp_path / "clips" / line["file"]).stat().st_size == line["bytes"] for line in lines)
    assert "6 of 6 clips in clips" in done.out
    assert "1 line repeats an earlier prompt" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_clip_is_what_its_prompt_and_seed_give_alone(s2search: Run, tmp_path: Path) -> None:
    import torch

    from s2search.network.network import S2DiT
    from s2search.preset import Preset

    torch.manual_seed(0)
    S2DiT.from_preset(Preset.named("s2dit-tiny")).save_pretrained(tmp_path / "weights")
    options = ("weights", *TINY[3:])
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    assert s2search("stream", *options, "--prompts", "prompts.txt", "--samples", "2", "--out", "clips").code == 0
    for line in map(json.loads, (tmp_path / "clips.jsonl").read_text().splitlines()[1:]):
        words = ("--prompt", line["prompt"], "--seed", str(line["seed"]), "--out", "one.mp4")
        assert s2search("stream", *options, *words).code == 0
        assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "clips" / line["file"]).read_bytes()


def test_what_is_there_is_kept_and_what_is_not_or_is_damaged_is_made(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    s2search(*MANY)
    clips = {path.name: path.read_bytes() for path in (tmp_path / "clips").iterdir()}
    before = (tmp_path / "clips" / "a cat-0.mp4").stat().st_mtime_ns
    (tmp_path / "clips" / "# 1, a stone-0.mp4").write_bytes(b"half")
    (tmp_path / "prompts.txt").write_text(f"a house\n{PROMPTS}")
    found = json.loads(s2search(*MANY, "--json").out)
    assert (found["clips"], found["kept"], found["made"]) == (4, 2, 2)
    assert (tmp_path / "clips" / "a cat-0.mp4").stat().st_mtime_ns == before
    assert {name: (tmp_path / "clips" / name).read_bytes() for name in clips} == clips
    assert json.loads(s2search(*MANY, "--json").out)["made"] == 0


def test_killed_at_any_moment_it_leaves_no_half_clip_and_goes_on_to_the_same_clips(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"prompt {number}\n" for number in range(12)))
    command = [sys.executable, "-m", "s2search", *MANY]

    def started(folder: str) -> subprocess.Popen[bytes]:
        words = [*command[:-1], folder]
        return subprocess.Popen(words, cwd=tmp_path, env=os.environ, stdout=subprocess.DEVNULL, start_new_session=True)

    assert started("whole").wait(timeout=120) == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    moments, kills = random.Random(0), 0
    while kills < 3:
        process = started("clips")
        deadline = time.monotonic() + 60
        count = len(list((tmp_path / "clips").glob("*.mp4")))
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((tmp_path / "clips").glob("*.mp4"))) > count:
                time.sleep(moments.uniform(0, 0.1))
                break
            time.sleep(0.005)
        process.kill()
        process.wait()
        kills += 1
        for path in (tmp_path / "clips").glob("*.mp4"):
            assert path.read_bytes() == whole[path.name], path.name
    assert started("clips").wait(timeout=120) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "clips").iterdir()} == whole


def test_ctrl_c_keeps_the_finished_clips_and_nothing_of_the_one_at_hand(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"prompt {number}\n" for number in range(1000)))
    command = [sys.executable, "-m", "s2search", *MANY, "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, text=True, env=os.environ, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "clips").glob("*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["interrupted"] is True
    files = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert len(files) == found["clips"] >= 1
    assert all(name.endswith(".mp4") and not name.startswith(".") for name in files)


def test_a_second_ctrl_c_says_what_is_kept() -> None:
    goes_on = "the clips so far are kept: the same command goes on where it stopped"
    assert kept(["stream", "--prompts", "x"]) == kept(["stream", "--out", "y", "--prompts=x"]) == goes_on
    assert "nothing is left of the video" in kept(["stream", "--prompt", "x"])


@pytest.mark.parametrize(
    ("content", "words", "line"),
    [
        (b"\xff\xfea", (), "'prompts.txt' are no UTF-8 text"),
        (b" \n\n", (), "'prompts.txt' has no prompt"),
        (None, (), "'prompts.txt' cannot be read: No such file"),
        (b"a cat", ("--samples", "0"), "'0'"),
        (b"a cat", ("--samples", "10001"), "--samples is 10001; 1 to 10,000"),
        (b"a cat", ("--prompt", "a dog"), "--prompt is given beside --prompts"),
        (b"a cat", ("--prompt-at", "1:a dog"), "--prompt-at is given beside --prompts"),
        (b"a cat", ("--state-in", "x"), "--state-in is given beside --prompts"),
        (b"a cat", ("--state-out", "x"), "--state-out is given beside --prompts"),
        (b"a cat", ("--out", "clip.mp4"), "'clip.mp4' is the name of one clip"),
        (b"a cat", ("--out", "prompts.txt"), "'prompts.txt' cannot be written: 'prompts.txt' is not a folder"),
        (b"a cat", ("--fps", "0"), "fps is 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_gives_one_line_and_leaves_nothing(
    s2search: Run, tmp_path: Path, content: bytes | None, words: tuple[str, ...], line: str
) -> None:
    if content is not None:
        (tmp_path / "prompts.txt").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    done = s2search(*MANY, *words)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done.err
    assert line in done.err
    assert sorted(tmp_path.iterdir()) == before


def test_samples_without_prompts_are_refused(s2search: Run) -> None:
    done = s2search("stream", *TINY, "--samples", "2", "--out", "x.mp4")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "--samples 2 is for the prompts of a file" in done.err


def test_a_folder_of_something_else_is_left_alone(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a cat-0.mp4").write_bytes(b"mine")
    done = s2search(*MANY)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "the folder 'clips' is not empty, and there is no 'clips.jsonl' beside it" in done.err
    assert (tmp_path / "clips" / "a cat-0.mp4").read_bytes() == b"mine"


def test_clips_of_other_settings_or_prompts_are_refused(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a/b")
    s2search(*MANY)
    for words, line in {("--fps", "8"): "fps is 16.0 there and 8.0 here", ("--seed", "1"): "there and"}.items():
        done = s2search(*MANY, *words)
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert line in done.err
    (tmp_path / "prompts.txt").write_text("a_b")
    done = s2search(*MANY)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "'a_b-0.mp4' was made of the prompt 'a/b', and shall be of 'a_b'" in done.err


def test_a_prompt_that_is_a_name_stays_as_it_is() -> None:
    for prompt in ("A person is clapping, “loudly”?", 'a "big" cat: 100%', "ein Kätzchen"):
        assert safe_name(prompt) == prompt


def test_no_number_of_samples_below_one_is_taken() -> None:
    with pytest.raises(InputError, match="--samples is 0"):
        PromptList(prompts=("a",), repeated=0).clips(0, 0)

"""The documents as programs: their commands, Python and outputs, in order, and how to run them.

A comment right above a block says what the block is, and shows in no rendering:

    <!-- slow -->                          a console block of minutes: run by `make slow`
    <!-- exits with 1 -->                  a console block whose commands all do
    <!-- mac -->                           the same for a Mac with a phone: run against imitations of both
    <!-- elsewhere: a GPU -->              a block that needs what is not here, and is not run
    <!-- prints -->                        what the block above prints
    <!-- prints from "a" before "b" -->    of it, from the first line that begins with a to the one that begins with b
    <!-- once: on what, when -->           what it printed once: figures of a machine and a day

    python -m tests.pages                  writes what commands print today into the blocks that say `prints`
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests import command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "latency_tables/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
_FAKE_MAC = ROOT / "tests/kit/fake_mac"
_FENCE = re.compile(r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
_PRINTS = re.compile(r'prints(?: from "(?P<first>.*?)")?(?: before "(?P<end>.*?)")?')


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page, with the comment above it; `start` and `end` delimit its text in the page."""

    language: str
    mark: str
    text: str
    start: int
    end: int

    @property
    def commands(self) -> list[str]:
        """The command lines of a console block, continued ones joined, without their comments."""
        joined = self.text.replace("\\\n", " ")
        lines = (
            [line[2:] for line in joined.splitlines() if line.startswith("$ ")] if self.language == "console" else []
        )
        return [re.sub(r"\s+#.*$", "", line) for line in lines]


def blocks(page: Path) -> list[Block]:
    """Return a page's fenced blocks in order."""
    return [
        Block(
            language=found["language"],
            mark=found["mark"] or "",
            text=found["text"],
            start=found.start("text"),
            end=found.end("text"),
        )
        for found in _FENCE.finditer(page.read_text())
    ]


@dataclass(frozen=True)
class Printed:
    """A block that states what is printed, what it states, and what was printed, cut to the part that it shows."""

    block: Block
    printed: str


class Reader:
    """Somebody who types a page's commands, in order, in an empty folder from which tests and docs can be seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("tests", "docs"):
            (folder / name).symlink_to(ROOT / name)

    def read(self, page: Path, *, slow: bool) -> list[Printed]:
        """Run a page's blocks, and return what those that state an output should state.

        Raises:
            AssertionError: A command or program failed.
        """
        printed, found = "", []
        ran = True
        for block in blocks(page):
            if match := _PRINTS.fullmatch(block.mark):
                if ran:
                    found.append(Printed(block, _cut(printed, match["first"], match["end"])))
            elif block.language in ("console", "python"):
                ran = (slow or block.mark not in ("slow", "mac")) and not block.mark.startswith("elsewhere")
                if ran:
                    printed = self._run(block)
        return found

    def _run(self, block: Block) -> str:
        if block.language == "python":
            return command.run_program_here(block.text, self.folder)
        code = int(block.mark.removeprefix("exits with ")) if block.mark.startswith("exits with ") else 0
        return [self._type(line, mac=block.mark == "mac", code=code) for line in block.commands][-1]

    def _type(self, line: str, *, mac: bool, code: int) -> str:
        words = shlex.split(line)
        if words[0] == "s2search":
            return run_here(words[1:], self.folder, code=code)
        if mac and words[:3] == ["python3", "-m", "runner"]:
            return self._call(
                [sys.executable, *words[1:], *WAITING[words[3]]], self.folder / "out/kit", _mac(self.folder)
            )
        assert words[0] in NOT_RUN, f"{line!r} is not run by a test: say so here, or above the block"
        return ""

    def _call(self, words: list[str], folder: Path, environment: dict[str, str]) -> str:
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(words[:12])}\n{done.stdout}\n{done.stderr}"
        return done.stdout


# What other tests answer for: make's targets, pip's extras and the benchmarks are looked up, not run.
NOT_RUN = ("make", "pip", "python", "git", "cd")
WAITING = {"check": [], "run": ["--chip", "A18 Pro", "--wait", "30"]}  # the imitation knows no chip


def run_here(words: list[str], folder: Path, *, code: int = 0) -> str:
    """Run a command in this process, in a folder, 80 columns wide, and return what it prints.

    Raises:
        AssertionError: Its exit code is another one.
    """
    done = command.run_here(words, folder)
    assert done.code == code, f"s2search {shlex.join(words)}\n{done.err}"
    return done.out


def _mac(folder: Path) -> dict[str, str]:
    """Return the environment of a Mac with a phone: imitations, as in tests/kit/conftest.py."""
    world = folder / "world"
    world.mkdir(exist_ok=True)
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PATH": f"{_FAKE_MAC / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{_FAKE_MAC / 'site'}{os.pathsep}{_FAKE_MAC}",
        "FAKE_MAC": str(world),
        "FAKE_PYTHON": sys.executable,
    }


def _cut(printed: str, first: str | None, end: str | None) -> str:
    """Return the lines that a block shows, without blanks at their ends."""
    lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
    start = next((at for at, line in enumerate(lines) if line.startswith(first or "")), len(lines))
    stop = next((at for at, line in enumerate(lines) if end and at > start and line.startswith(end)), len(lines))
    return "".join(f"{line}\n" for line in "\n".join(lines[start:stop]).rstrip().splitlines())


def write_outputs(page: Path, *, slow: bool) -> None:
    """Write what a page's commands print today into its blocks."""
    with tempfile.TemporaryDirectory() as folder:
        found = Reader(Path(folder)).read(page, slow=slow)
    text = page.read_text()
    for one in reversed(found):
        text = text[: one.block.start] + one.printed + text[one.block.end :]
    page.write_text(text)


if __name__ == "__main__":
    names = [word for word in sys.argv[1:] if word != "--slow"]
    for path in [Path(name).resolve() for name in names] or PAGES:
        write_outputs(path, slow="--slow" in sys.argv)

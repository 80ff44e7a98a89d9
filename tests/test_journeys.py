"""The journeys of docs/extend lead forward: each file exists, and one that was read before it imports it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from s2search import registry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extend/journeys.md").read_text()
JOURNEYS = {part.partition("\n")[0]: part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]}
STEP = re.compile(r"^ *(\d+)\. `([\w/.]+)`: (.*(?:\n +.*)*)", re.MULTILINE)
FOLDERS = {"s2search": ROOT, "s2search_blocks": ROOT / "blocks", "s2search_example": ROOT / "tests/plugin_package"}


def imported_files(file: Path) -> set[Path]:
    """Return the files of ours that a file imports, anywhere in it."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())) if file.suffix == ".py" else ():
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if folder := FOLDERS.get(name.partition(".")[0]):
                path = folder / name.replace(".", "/")
                found |= {path.with_suffix(".py"), path / "__init__.py"}
    return found


def entry_points() -> set[Path]:
    """Return the files of all installed plugins of ours."""
    modules = {entry.module for family in registry.FAMILIES for entry in registry.installed(family).values()}
    return {
        FOLDERS[m.partition(".")[0]] / f"{m.replace('.', '/')}.py" for m in modules if m.partition(".")[0] in FOLDERS
    }


def test_there_are_five_journeys() -> None:
    assert len(JOURNEYS) == 5


@pytest.mark.parametrize("journey", JOURNEYS)
def test_every_file_of_a_journey_is_named_by_one_before_it(journey: str) -> None:
    steps = [(ROOT / file, text) for _, file, text in STEP.findall(JOURNEYS[journey])]
    assert [int(number) for number, *_ in STEP.findall(JOURNEYS[journey])] == list(range(1, len(steps) + 1))
    assert len(steps) >= 8
    named = {steps[0][0]}
    for file, text in steps:
        assert file.exists(), file
        assert len({file for file, _ in steps}) == len(steps)
        if text.startswith("*by entry point*"):
            assert file in entry_points(), f"{file} is no plugin"
        elif text.startswith("*Back*"):
            assert file not in named, f"{file} is imported by a file before it: no way back"
        elif "s2search_example" in file.parts:
            module = "s2search_example" if file.stem == "__init__" else f"s2search_example.{file.stem}"
            assert f'"{module}:' in (ROOT / "tests/plugin_package/pyproject.toml").read_text()
        else:
            assert file in named, f"no file before {file} imports it"
        named |= {file} | imported_files(file)


def test_every_file_that_a_journey_mentions_exists() -> None:
    for file in re.findall(r"`((?:s2search|blocks|tests)/[\w/.]+)`", PAGE):
        assert (ROOT / file).exists(), file

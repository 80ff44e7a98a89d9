"""What the documents say, runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from s2search import registry
from s2search.tables.table import installed_tables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


LINES = re.findall(r"^\$ s2search (.*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
LONG = ("kit build", "table transfer")  # nothing after them needs what they write


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if line.startswith(LONG)])
def test_a_long_command_line_of_the_readme_works(tmp_path: Path, line: str) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    done = run([sys.executable, "-m", "s2search", *shlex.split(line)], tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_other_command_line_of_the_readme_works_in_order(tmp_path: Path) -> None:
    lines = [line for line in LINES if not line.startswith(LONG)]
    assert len(lines) >= 8
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    for line in lines:
        done = run([sys.executable, "-m", "s2search", *shlex.split(line)], tmp_path)
        assert done.returncode == 0, f"s2search {line}\n{done.stderr}"
    assert (tmp_path / "front.png").exists()
    assert (tmp_path / "out/mine/samples.jsonl").exists()


PRINTED = ("{'lcha': 12, 'ssa': 16} 0.012\n", "torch.Size([1, 16, 3, 18, 32]) 848640\n")


@pytest.mark.parametrize(
    ("program", "printed"),
    list(zip(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL), PRINTED, strict=True)),
    ids=("plan", "stream"),
)
def test_the_python_of_the_readme_runs(tmp_path: Path, program: str, printed: str) -> None:
    done = run([sys.executable, "-c", program], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


def test_the_readme_names_every_command_solver_and_table() -> None:
    help_text = run([sys.executable, "-m", "s2search", "--help"], ROOT).stdout
    commands = re.findall(r"^  (\w+)  +[A-Z]", help_text, flags=re.MULTILINE)
    assert {"plan", "frontier", "measure", "plugins"} <= set(commands)
    for command in commands:
        assert f"s2search {command}" in README
    for name in (*registry.installed("solvers"), *installed_tables()):
        assert f"`{name}`" in README


def test_contributing_names_every_family_of_plugins() -> None:
    for family in registry.FAMILIES:
        assert f"`s2search.{family}`" in CONTRIBUTING


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_ran(notebook: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_documents_link_to_files_that_exist() -> None:
    for document in (README, CONTRIBUTING):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document):
            assert (ROOT / target).exists(), target

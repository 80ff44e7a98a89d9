"""The house: who imports whom, what planning loads, and that no room is called utils."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    *("s2search", "latency_tables", "blocks", "notebooks", "tests", "pyproject.toml"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "DECISIONS.md", "LICENSE", "Makefile", "constraints.txt"),
    *("docs", "SECURITY.md", "CITATION.cff", ".ci", ".github", ".gitignore"),
}


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in done.stdout.splitlines()]


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_file_imports_itself_by_a_detour() -> None:
    graph = grimp.build_graph("s2search", "s2search_blocks", exclude_type_checking_imports=True, cache_dir=None)
    door = "s2search.reporting.shown"  # values reach what draws them through it, inside their methods
    imports = {module: graph.find_modules_directly_imported_by(module) - {door} for module in graph.modules}
    TopologicalSorter(imports).prepare()


def test_the_top_level_is_as_agreed() -> None:
    assert {path.parts[0] for path in tracked_files()} <= TOP_LEVEL


def test_no_room_is_a_drawer_for_everything() -> None:
    names = {path.stem for path in tracked_files()} | {part for path in tracked_files() for part in path.parts[:-1]}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_planning_loads_neither_torch_nor_a_runtime_nor_the_pictures() -> None:
    program = (
        "import sys; from s2search.cli.main import main; sys.argv = ['s2search', 'plan', '--budget', '260ms']\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'coremltools', 'optuna', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_plugin_family_has_a_contract_and_a_room() -> None:
    groups = re.findall(r'entry-points\."s2search\.(\w+)"', (ROOT / "pyproject.toml").read_text())
    from s2search.registry import FAMILIES

    assert set(groups) == set(FAMILIES)


#: Class names that stand for two things, and why they still do. No name is added here.
DOUBLE = {
    "Journal",  # a kit's runner stands alone and brings its own
}


def public_classes() -> Counter[str]:
    return Counter(
        node.name
        for path in tracked_files()
        if path.suffix == ".py" and (path.parts[0] == "s2search" or path.parts[:2] == ("blocks", "s2search_blocks"))
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )


def test_no_public_class_name_stands_for_two_things() -> None:
    assert {name for name, count in public_classes().items() if count > 1} <= DOUBLE


def test_a_name_that_no_longer_stands_for_two_things_leaves_the_list_of_exceptions() -> None:
    assert {name for name, count in public_classes().items() if count > 1} >= DOUBLE


def test_the_package_has_at_most_thirteen_files_at_its_root() -> None:
    files = [path.name for path in tracked_files() if path.parts[0] == "s2search" and len(path.parts) == 2]
    assert len(files) <= 13, files

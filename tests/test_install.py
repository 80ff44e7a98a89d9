"""From a wheel, from an editable install and from a checkout that is not installed, s2search answers the same.

All of them run in a folder with a file `blocks.py` and a file `latency_tables.py`: names that belong to the user.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import jsonschema
import pytest

from s2search.errors import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PLAN = ("-m", "s2search", "plan", "--budget", "260ms", "--json")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(ROOT)], check=True, timeout=300, capture_output=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def borrowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything third-party that this process sees, and nothing of s2search."""
    folder = tmp_path_factory.mktemp("borrowed")
    for site in (Path(entry) for entry in sys.path if entry.endswith("site-packages")):
        for entry in site.iterdir():
            if "s2search" not in entry.name and entry.suffix != ".pth" and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def fresh(borrowed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with third-party packages and without s2search."""
    return environment(tmp_path_factory.mktemp("fresh"), borrowed)


@pytest.fixture(scope="module")
def installed(wheel: Path, borrowed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python into which the wheel is installed, beside nothing of the checkout."""
    python = environment(tmp_path_factory.mktemp("installed"), borrowed)
    words = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, timeout=300, capture_output=True)
    return python


def environment(folder: Path, borrowed: Path) -> Path:
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    return folder / "bin" / "python"


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    """A user's folder, with files whose names s2search must leave to the user."""
    for name in ("blocks.py", "latency_tables.py"):
        (tmp_path / name).write_text(f"raise AssertionError('{name} is not ours to import')\n")
    return tmp_path


def run(python: Path | str, *words: str, cwd: Path, path: Path | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), *words],
        cwd=cwd,
        env=clean | ({"PYTHONPATH": str(path)} if path else {}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_plan_is_the_same_from_a_wheel_an_editable_install_and_a_checkout(
    installed: Path, fresh: Path, notebooks: Path
) -> None:
    plan = json.loads(run(installed, *PLAN, cwd=notebooks))
    assert plan["latency_ms"]["predicted"] <= 260
    assert plan == json.loads(run(sys.executable, *PLAN, cwd=notebooks))
    assert plan == json.loads(run(fresh, *PLAN, cwd=notebooks, path=ROOT))


def test_a_checkout_knows_its_version_and_its_plugins(fresh: Path, notebooks: Path) -> None:
    assert run(fresh, "-m", "s2search", "--version", cwd=notebooks, path=ROOT) == f"s2search {PROJECT['version']}\n"
    plugins = run(fresh, "-m", "s2search", "plugins", cwd=notebooks, path=ROOT)
    for family in PROJECT["entry-points"].values():
        assert all(re.search(rf"\b{name}\b", plugins) for name in family)


def test_the_wheel_measures_this_machine_and_its_table_keeps_the_schema_that_it_carries(
    installed: Path, notebooks: Path
) -> None:
    words = ("measure", "--preset", "s2dit-tiny", "--candidates", "ssa", "--scenario", "stream", "--rounds", "3")
    run(installed, "-m", "s2search", *words, "--out", "mine", cwd=notebooks)
    shipped = Path(
        run(installed, "-c", "from s2search.tables.shipped import FOLDER; print(FOLDER)", cwd=notebooks)[:-1]
    )
    assert shipped.is_relative_to(installed.parents[1])
    schema = json.loads((shipped / "schema.json").read_text())["card"]
    for card in (notebooks / "mine/card.json", *shipped.glob("*/card.json")):
        jsonschema.validate(json.loads(card.read_text()), schema)
    assert "ssa" in run(installed, "-m", "s2search", "table", "show", "mine", cwd=notebooks)


@pytest.mark.skipif(sys.platform == "win32", reason="coremltools has no wheel for Windows")
def test_the_wheel_builds_a_kit_with_all_that_a_mac_needs(installed: Path, notebooks: Path) -> None:
    words = ("kit", "build", "--preset", "s2dit-tiny", "--video", "64x48", "--candidates", "full", "--out", "kit")
    run(installed, "-m", "s2search", *words, cwd=notebooks)
    for file in ("runner/__main__.py", "swift/KitRunner.xcodeproj/project.pbxproj", "README.md", "manifest.json"):
        assert (notebooks / "kit" / file).is_file()


def test_the_wheel_claims_two_import_names_and_carries_all_its_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {
        "s2search",
        "s2search_blocks",
        f"s2search-{PROJECT['version']}.dist-info",
    }
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    homes = {"s2search/": "s2search/", "blocks/s2search_blocks/": "s2search_blocks/"}
    homes["latency_tables/"] = "s2search/tables/data/"
    tracked = listed.stdout.splitlines()
    wanted = {home + name.removeprefix(at) for at, home in homes.items() for name in tracked if name.startswith(at)}
    wanted |= {"s2search/py.typed", "s2search_blocks/py.typed"}
    assert wanted <= names


def test_every_extra_brings_the_libraries_that_errors_say_it_brings() -> None:
    distributions = packages_distributions()
    for extra, modules in EXTRAS.items():
        declared = {re.split(r"[<>=\[]", text)[0] for text in PROJECT["optional-dependencies"][extra]}
        for module in modules:
            if extra not in (
                "coreai",
                "litert",
                "qai_hub",
                "embedl",
                "litert_cloud",
            ):  # not among what the tests install
                assert {name.lower() for name in distributions[module]} & declared, (extra, module)


def test_every_library_that_is_imported_is_declared() -> None:
    core = {re.split(r"[<>=]", text)[0] for text in PROJECT["dependencies"]}
    # By coremltools, coremltools, onnxscript, optuna and executorch.
    brought = {"tqdm", "google", "onnx_ir", "sqlalchemy", "flatbuffers"}
    declared = core | brought | {module for modules in EXTRAS.values() for module in modules}
    for file in (*ROOT.glob("s2search/**/*.py"), *ROOT.glob("blocks/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for library in {name.split(".")[0] for name in names} - sys.stdlib_module_names:
                assert library in declared | {"s2search", "s2search_blocks"}, (file, library)

"""What the core alone does, and what it says where an extra is missing.

It needs nothing but the core itself, so that it also runs where only that is installed:
`python -m unittest tests/test_core_only.py`. Elsewhere the libraries of the extras are hidden from it.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from dataclasses import dataclass
from pathlib import Path

from s2search.errors import EXTRAS

DATA = Path(__file__).parent / "data"
TABLE = "iphone-16-pro-max.coreml.w4a8"
MODEL = ("--preset", "s2dit-tiny", "--random-weights")

HIDDEN = [name for names in EXTRAS.values() for name in names]
# Not by None in sys.modules, which scipy takes for a module.
HIDE = f"""
import sys
from importlib.machinery import PathFinder

class OnlyTheCore:
    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name in {HIDDEN!r} else PathFinder.find_spec(name, path)

sys.meta_path[sys.meta_path.index(PathFinder)] = OnlyTheCore
"""
RUN_ALL = f"""{HIDE}
import contextlib, io, json
from s2search.cli.main import main

answers = []
for words in json.load(sys.stdin):
    sys.argv, out, err = ["s2search", *words], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    answers.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(answers))
"""

NEEDS = {
    ("plan", "--budget", "10fps", "--out", "plan.json", "--figure", "plan.png"): "figures",
    ("frontier", "--out", "front.csv", "--figure", "front.png"): "figures",
    ("table", "show", TABLE, "--figure", "table.png"): "figures",
    ("plan", "--budget", "10fps", "--solver", "nsga2"): "search",
    ("table", "import", "aihub", str(DATA / "aihub/efficientformer.perf.yaml"), "--out", "imported"): "readers",
    ("measure", "--out", "measured"): "models",
    ("measure", "--profiler", "torch_cuda", "--out", "measured"): "models",
    ("measure", "--profiler", "onnxruntime", "--out", "measured"): "onnxruntime",
    ("measure", "--profiler", "executorch", "--out", "measured"): "executorch",
    ("stream", *MODEL, "--out", "video.mp4"): "models",
    ("export", "--exporter", "onnx", *MODEL, "--out", "package"): "models",
    ("export", "--exporter", "coreml", "--part", "dct", "--out", "package"): "models",
    ("verify", "package"): "models",
    ("sensitivity", *MODEL, "--out", "sensitivity.json"): "models",
    ("recalibrate", "table", "--video", "256x144", "--out", "corrected"): "models",
    ("kit", "build", "--preset", "s2dit-tiny", "--out", "kit"): "coreml",
}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def answers(folder: str, commands: list[tuple[str, ...]]) -> list[Answer]:
    """Run commands in one process, which has only the core."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(commands),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout)]


class CoreOnly(unittest.TestCase):
    """Commands run in an empty folder."""

    def setUp(self) -> None:
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def answer(self, *words: str) -> Answer:
        return answers(self.folder, [words])[0]

    def test_it_plans_with_the_exact_solvers_and_several_latency_models(self) -> None:
        plan = ("plan", "--budget", "260ms", "--json")
        found = answers(self.folder, [plan, (*plan, "--solver", "milp"), (*plan, "--latency-model", "linear")])
        assert [answer.code for answer in found] == [0, 0, 0], found
        dynamic, milp, linear = (json.loads(answer.out) for answer in found)
        assert dynamic["score"] == milp["score"]
        for plan in (dynamic, milp, linear):
            assert plan["latency_ms"]["predicted"] <= 260

    def test_it_draws_a_front_as_a_page_that_needs_no_network(self) -> None:
        done = self.answer("frontier", "--out", "front.csv", "--html", "front.html", "--points", "5")
        assert done.code == 0, done.err
        with open(Path(self.folder, "front.csv"), newline="") as file:
            rows = list(csv.DictReader(file))
        page = Path(self.folder, "front.html").read_text()
        assert len(rows) > 2
        assert f"{float(rows[0]['latency_ms']):.1f}" in page
        assert not re.search(r'(src|href)="https?:', page)

    def test_it_tells_a_campaign_without_an_extra(self) -> None:
        plan, page = answers(
            self.folder,
            [
                ("plan", "--budget", "10fps", "--out", "plan.json"),
                ("report", "page.html", "plan.json", "--table", "h100"),
            ],
        )
        assert (plan.code, page.code, page.err) == (0, 0, "")
        assert "shows: The plan, and why" in page.out
        assert "<h1>Campaign on h100" in (Path(self.folder) / "page.html").read_text()

    def test_it_lists_shows_lints_and_compares_tables(self) -> None:
        other = "h100.torch-cuda-graphs-compiled.bfloat16"
        show, lint, compare, plugins = answers(
            self.folder,
            [("table", "show", TABLE), ("table", "lint", TABLE), ("table", "compare", TABLE, other), ("plugins",)],
        )
        assert [show.code, lint.code, compare.code, plugins.code] == [0, 0, 0, 0]
        assert "lcha" in show.out
        assert lint.out == "nothing found\n"
        assert "ratio" in compare.out
        for name in (TABLE, other, "lcha", "dynamic", "coreai", "torch_cuda", "wan"):
            assert name in plugins.out

    def test_it_reads_what_others_measured(self) -> None:
        hat = DATA / "hat/wmt14ende_cpu_raspberrypi_all.csv"
        done = self.answer("table", "import", "hat", str(hat), "--out", "hat")
        assert done.code == 0, done.err
        assert len(Path(self.folder, "hat/table.csv").read_text().splitlines()) > 100

    def test_every_command_shows_its_help(self) -> None:
        commands = {(words[0],) if words[0] not in ("table", "kit") else words[:2] for words in NEEDS}
        for answer in answers(self.folder, [("--help",), *((*words, "--help") for words in sorted(commands))]):
            assert (answer.code, answer.err) == (0, "")
            assert "Usage:" in answer.out

    def test_a_missing_extra_is_one_line_that_names_it_and_leaves_nothing_behind(self) -> None:
        table = shutil.copytree(self.shipped("amd-epyc.torch-cpu.float32"), Path(self.folder, "table"))
        card = json.loads((table / "card.json").read_text())
        card["protocol"] = {"profiler": {"name": "torch_cpu", "threads": 1, "pin": True, "dtype": "float32"}}
        (table / "card.json").write_text(json.dumps(card))
        for words, answer in zip(NEEDS, answers(self.folder, list(NEEDS)), strict=True):
            with self.subTest(" ".join(words)):
                assert (answer.code, answer.out) == (2, "")
                assert answer.err.count("\n") == 1, answer.err
                line = f"is not installed; install its extra: pip install 's2search.{NEEDS[words]}.'$"
                assert re.search(line, answer.err), answer.err
        assert [path.name for path in Path(self.folder).iterdir()] == ["table"]

    def test_the_python_api_shows_itself_and_names_a_missing_extra_too(self) -> None:
        program = """
import s2search
from s2search.errors import MissingExtraError
plan, front = s2search.plan(budget="10fps"), s2search.frontier(points=3)
assert plan._repr_html_().startswith("<div") and front._repr_html_().startswith("<div")
for ask in (plan.plot, front.plot, front.to_pandas, lambda: s2search.stream(out="video.mp4")):
    try:
        ask()
    except MissingExtraError as error:
        print(error.library, error.extra)
"""
        done = subprocess.run([sys.executable, "-c", HIDE + program], capture_output=True, text=True, check=False)
        wanted = ["matplotlib figures", "matplotlib figures", "pandas figures", "torch models"]
        assert done.stdout.splitlines() == wanted, done.stderr

    def test_what_an_installed_library_lacks_keeps_its_traceback(self) -> None:
        assert "tqdm" not in HIDDEN
        program = (
            "from s2search.errors import extras_named\n"
            "with extras_named(): raise ModuleNotFoundError('No module named tqdm', name='tqdm')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.stderr.endswith("ModuleNotFoundError: No module named tqdm\n"), done.stderr

    def test_the_module_runs_as_the_command_and_shows_its_version(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "s2search", "--version"], capture_output=True, text=True, check=False
        )
        assert re.search(r"^s2search \d+\.\d+\.\d+\n$", done.stdout)

    @staticmethod
    def shipped(name: str) -> Path:
        from s2search.tables.shipped import FOLDER

        return FOLDER / name


if __name__ == "__main__":
    unittest.main()

"""The face: every command is a function, light to import, and never shadowed by a room."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import s2search
from s2search.cost import Budget
from s2search.errors import InfeasibleError, InputError
from s2search.latency.lookup import Lookup
from s2search.planner.plan import Plan
from s2search.score.published import Published
from s2search.solver.dynamic import Dynamic
from s2search.solver.milp import Milp
from s2search.space import parse_blocks

ROOT = Path(__file__).parents[1]
TABLE = "iphone-16-pro-max"


def python(program: str, *words: str) -> str:
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


CALLS = """
import importlib, pkgutil, sys, tempfile
from pathlib import Path
import s2search
folder = Path(tempfile.mkdtemp())
(folder / "layouts.csv").write_text("nothing\\n")
plan = s2search.plan(depth=4, budget="100ms")
refused = {  # asked for what cannot be, since doing it takes minutes; the command line's tests do it
    "cache_dry": ("local[folder=no]", folder / "no"), "cache_inspect": (folder / "no",),
    "cache_make": ("local[folder=no]", folder / "no", folder / "out"), "cache_verify": (folder / "no", folder / "no"),
    "data_inspect": (folder / "no",), "data_make": (folder / "no", folder / "out"), "data_verify": (folder / "no",),
    "distance_measure": (), "distance_train": (folder / "no",),
    "run": ("no", folder / "out"), "run_dry": ("no", folder / "out"),
    "score_check": (folder / "no", folder / "no", folder / "no"),
    "score_judge": (folder / "no.json", folder / "no.json"),
    "score_measure": (folder / "no", folder / "no", folder / "out"),
    "train": (), "train_compare": ({},), "train_dry": (),
    "export": ("onnx", folder / "out"), "kit_build": (folder / "kit",), "kit_ingest": (folder / "no.jsonl",),
    "measure": (folder / "out",), "plan_precision": (folder / "no.json",), "project": (folder / "no.toml",),
    "package_evaluate": (folder / "no", folder / "no.npz"), "package_lint": (folder / "no",),
    "recalibrate": (folder / "no", folder / "out"), "report": (folder / "page.html",),
    "sensitivity": (folder / "out.json",),
    "stream": (folder / "out.mp4",), "table_evaluate": (folder / "layouts.csv",),
    "table_import": ("hat", folder / "no.csv", folder / "out"), "table_retabulate": (folder / "no",),
    "table_transfer": ([folder / "layouts.csv"], folder / "layouts.csv"), "verify": (folder / "no",),
}
options = {
    "distance_measure": {"data": folder / "no", "network": folder / "no"},
    "kit_build": {"preset": "nope"}, "measure": {"preset": "nope"}, "table_merge": {},
}
answered = {
    "design": ((), {"fix": "steps=4"}),
    "frontier": ((), {"depth": 4}), "plan": ((), {"depth": 4}), "plan_check": ((plan,), {}),
    "plan_diff": ((plan, plan), {}),
    "plan_family": ([Path(sys.argv[1]) / f"galvatron.{kind}" for kind in ("toml", "csv")], {"depth": 2}),
    "price": (("L4",), {"depth": 4}), "table": (("h100",), {}), "table_compare": (("h100", "h100"), {}),
    "schema": ((), {}), "table_lint": (("h100",), {}), "table_list": ((), {}), "table_show": (("h100",), {}),
}
functions = sorted(name for name in s2search.__all__ if name[0].islower() and name[0] != "_")
merged = iter(["one", "two"])

def call_all():
    for name in functions:
        function = getattr(s2search, name)
        if name == "table_merge":
            function(["h100", "h100"], folder / next(merged), overlap="newer")
        elif name in answered:
            words, keywords = answered[name]
            assert function(*words, **keywords) is not None, name
        else:
            try:
                function(*refused[name], **options.get(name, {}))
            except s2search.S2SearchError:
                continue
            raise AssertionError(f"{name} answered")

call_all()
for module in pkgutil.walk_packages(s2search.__path__, "s2search."):
    if not module.name.startswith(("s2search.kit.runner", "s2search.__main__", "s2search.exporters.coreai")):
        importlib.import_module(module.name)
call_all()
print(len(functions))
"""


def test_every_function_answers_before_and_after_every_room_is_imported() -> None:
    functions = [name for name in s2search.__all__ if name[0].islower()]
    assert int(python(CALLS, str(ROOT / "docs/families"))) == len(functions)


def test_importing_the_face_is_light() -> None:
    program = (
        "import sys, time\nstart = time.process_time()\nimport s2search\nours = time.process_time() - start\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)\nassert not heavy, heavy\n"
        "start = time.process_time()\nimport torch\nprint(ours / (time.process_time() - start))"
    )
    assert any(float(python(program)) < 0.15 for _ in range(2))  # machines are shared


def test_planning_in_a_notebook_loads_neither_torch_nor_pictures() -> None:
    python(
        "import sys, s2search\ns2search.plan(budget='260ms')._repr_html_()\nstr(s2search.frontier(depth=4))\n"
        "heavy = {'torch', 'matplotlib', 'pandas'} & set(sys.modules)\nassert not heavy, heavy"
    )


def test_the_face_lists_all_that_it_offers_and_nothing_else() -> None:
    assert set(s2search.__all__) == {*s2search._HOME_OF, "__version__"}
    assert set(s2search.__all__) <= set(dir(s2search))
    with pytest.raises(AttributeError, match="no attribute 'plann'"):
        s2search.plann  # noqa: B018
    declared = {
        alias.asname or alias.name: node.module
        for block in ast.parse(Path(s2search.__file__).read_text()).body
        if isinstance(block, ast.If)  # for readers of types only
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == {name: f"s2search.{home}" for name, home in s2search._HOME_OF.items()}


OUTPUTS = {  # what a command does with the answer; a function returns it
    *("as_json", "exit_code", "figure", "html", "junit", "markdown"),
    *(("design", "out"), ("design", "csv"), ("design", "beside")),
    *(("plan", "out"), ("plan precision", "out"), ("frontier", "out"), ("frontier", "beside"), ("train", "dry_run")),
    ("run", "dry_run"),
    ("plan", "space"),  # asks plan_family, see below
    ("cache make", "dry_run"),
    ("score judge", "out"),
    ("train compare", "csv"),
    ("distance measure", "csv"),
}
SPELLED = {"compiled": "compile"}


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command by its words."""
    if group is None:
        import typer

        from s2search.cli.main import app

        group = typer.main.get_command(app)
    if getattr(group, "invoke_without_command", False) or not hasattr(group, "commands"):
        yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path} {name}".strip())


def named(parameter: Any) -> str:
    return SPELLED.get(str(parameter.name), str(parameter.name))


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_options_of_a_command_are_the_keywords_of_its_function(path: str, command: Any) -> None:
    if path == "plugins":
        return  # a listing, not an answer
    function = getattr(s2search, path.replace(" ", "_"))
    keywords = inspect.signature(function).parameters
    options = {
        named(parameter): parameter
        for parameter in command.params
        if parameter.name not in OUTPUTS and (path, parameter.name) not in OUTPUTS and parameter.name != "help"
    }
    assert set(options) == set(keywords)
    for name, parameter in options.items():
        told = (
            parameter.show_default if isinstance(getattr(parameter, "show_default", None), str) else parameter.default
        )
        default = keywords[name].default
        if default is inspect.Parameter.empty:
            assert parameter.required, name
        elif isinstance(told, str) and default not in ((), None):
            assert told == (default if isinstance(default, str) else ", ".join(map(str, default))), name
        elif not isinstance(told, str):
            assert (str(told) if isinstance(told, Path) else told or None) == (default or None), name


def test_keywords_of_planning_a_family_are_options_of_plan_and_the_others_are_refused() -> None:
    from s2search.cli.plan import _WITH_SPACE

    (plan,) = (command for path, command in commands() if path == "plan")
    keywords = set(inspect.signature(s2search.plan_family).parameters)
    assert keywords <= {parameter.name for parameter in plan.params}
    assert set(_WITH_SPACE) == keywords | {"as_json", "out"}


def test_every_help_ends_with_examples_that_can_be_read_and_parsed() -> None:
    from s2search.cli.examples import EXAMPLES

    every = dict(commands())
    for path, lines in EXAMPLES.items():
        assert path in ("", "table", "kit", "data", "score", "cache", "distance", "package") or path in every
        assert 1 <= len(lines) <= 2
        assert max(map(len, lines)) <= 68  # "  s2search " before it, 80 columns in all
    for path, command in every.items():
        assert command.epilog is not None, path
        assert command.epilog.startswith("\b\nExamples:\n  s2search "), path


@pytest.mark.parametrize("path", ["", "plan", "table merge", "stream"])
def test_help_prints_its_examples_as_lines_of_their_own(path: str) -> None:
    from typer.testing import CliRunner

    from s2search.cli.examples import EXAMPLES
    from s2search.cli.main import app

    shown = CliRunner().invoke(app, [*path.split(), "--help"], terminal_width=80).stdout
    assert shown.rstrip().endswith("\n".join(f"    s2search {line}" for line in EXAMPLES[path]))
    assert max(map(len, shown.splitlines())) <= 80


def test_every_example_is_a_command_line_that_the_parser_takes() -> None:
    import shlex

    from s2search.cli.examples import EXAMPLES

    every = dict(commands())
    for line in sorted({line for lines in EXAMPLES.values() for line in lines}):
        words = shlex.split(line)
        path = next(path for path in (" ".join(words[:2]), words[0]) if path in every)
        rest = words[len(path.split()) :]
        if rest != ["--help"]:
            every[path].make_context(path, rest)


def test_typed_values_and_their_texts_ask_the_same() -> None:
    text = s2search.plan(TABLE, budget=["260ms", "1.5GB"], candidates="lcha,ssa", first="lcha")
    typed = s2search.plan(
        s2search.table(TABLE),
        budget=[Budget.parse("260ms"), "1.5GB"],
        candidates=parse_blocks("lcha,ssa"),
        solver=Dynamic(),
        latency_model=Lookup(),
        score=Published(),
        first="lcha",
    )
    assert typed == text
    assert s2search.plan(TABLE, budget="260ms", solver=Milp()).provenance.solver == "milp"


def test_several_devices_are_texts_or_pairs(tmp_path: Path) -> None:
    texts = s2search.plan(["iphone-16-pro-max:300ms,1.25GB", "h100:16ms"])
    pairs = s2search.plan([(s2search.table(TABLE), ["300ms", "1.25GB"]), ("h100", "16ms")])
    assert pairs == texts
    assert [device.latency_ms.budget for device in texts.devices] == [300, 16]
    s2search.table(TABLE).save(tmp_path / "phone")
    assert s2search.plan(tmp_path / "phone", budget="260ms").counts == {"lcha": 12, "ssa": 16}
    with pytest.raises(InputError, match="does not say which of 2 tables"):
        s2search.plan(["iphone-16-pro-max", "h100"], budget="260ms")


def test_a_plan_stays_near_another_one_given_as_a_value_or_a_file(tmp_path: Path) -> None:
    before = s2search.plan(TABLE, budget="260ms")
    before.save(tmp_path / "before.json")
    near = s2search.plan(TABLE, budget="250ms", like=before, max_changes=3)
    assert near == s2search.plan(TABLE, budget="250ms", like=tmp_path / "before.json", max_changes=3)
    found = before.diff(near)
    assert 0 < found.changed_layers <= 3
    assert found == s2search.plan_diff(tmp_path / "before.json", near)
    assert f"{found.changed_layers} changed" in str(found)


def test_a_plan_explains_itself_once_asked_and_only_with_its_question(tmp_path: Path) -> None:
    plan = s2search.plan(TABLE, depth=8, budget="80ms")
    explained = plan.explain()
    assert plan.explanation is None
    assert explained.explanation is not None
    assert explained == s2search.plan(TABLE, depth=8, budget="80ms", explain=True)
    assert explained.explain() is explained
    assert "kernels" in str(explained)
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert loaded.digest == plan.digest
    with pytest.raises(InputError, match="read from a file that holds no explanation"):
        loaded.explain()


def test_what_does_not_fit_says_so_with_an_answer_for_programs() -> None:
    with pytest.raises(InfeasibleError) as found:
        s2search.plan(TABLE, budget="100ms")
    answer = found.value.fields["answer"]
    assert answer.limits[0].would_do == 125_804
    assert not s2search.price("L28", TABLE, budget="260ms").fits


def test_a_front_is_a_sequence_that_finds_its_points(tmp_path: Path) -> None:
    front = s2search.frontier(TABLE, depth=8, budget="1.5GB")
    assert len(front) == len(list(front)) == 9
    assert front[-1].counts == {"lcha": 8, "ssa": 0}
    latency_ms = front[3].latency_ms.predicted
    assert front.at(latency=f"{latency_ms}ms") is front[3]
    assert front.at(latency=Budget.parse(f"{latency_ms - 0.001:.3f}ms")) is front[2]
    with pytest.raises(InfeasibleError, match="no plan of the front fits 1ms: the fastest of 9 takes"):
        front.at(latency="1ms")
    with pytest.raises(InputError, match=r"1\.1GB is no latency"):
        front.at(latency="1.1GB")
    frame = front.to_pandas()
    front.save(tmp_path / "front.csv")
    assert (tmp_path / "front.csv").read_text().splitlines()[0] == ",".join(frame.columns)
    assert frame["score"].is_monotonic_increasing
    assert front[3].explain().explanation is not None


def test_several_fronts_share_one_picture() -> None:
    from matplotlib import pyplot

    one, two = (s2search.frontier(TABLE, depth=8, candidates=blocks) for blocks in ("lcha,ssa", "ssa,kv_compressed"))
    _, axes = pyplot.subplots()
    assert one.plot(axes) is axes
    assert two.plot(axes, label="the other") is axes
    faces = [points.get_facecolor() for points in axes.collections]  # lines of intervals have none
    colours = {tuple(face[0]) for face in faces if len(face)}
    assert len(colours) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["lcha, ssa", "the other"]
    pyplot.close("all")


def test_what_is_drawn_without_axes_is_a_picture_of_its_own() -> None:
    from matplotlib import pyplot

    plan, front, table = s2search.plan(TABLE), s2search.frontier(TABLE, depth=8), s2search.table(TABLE)
    figures = [value.plot().figure for value in (plan, front, table)]
    assert len({id(figure) for figure in figures}) == 3
    assert [pyplot.fignum_exists(figure.number) for figure in figures] == [True] * 3  # a notebook shows them
    _, axes = pyplot.subplots()
    assert plan.plot(axes) is axes
    assert len(axes.patches) == plan.depth
    pyplot.close("all")


ANSWERS: dict[str, Callable[[], Any]] = {
    "plan for two devices": lambda: s2search.plan([f"{TABLE}:300ms,1.5GB", "h100:16ms"]),
    "explained plan": lambda: s2search.plan(TABLE, depth=8, budget="80ms", explain=True),
    "priced layout": lambda: s2search.price("L28", budget="260ms"),
    "front": lambda: s2search.frontier(TABLE, budget="1.5GB"),
    "table": lambda: s2search.table(TABLE),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_values_show_themselves_as_html_without_scripts_and_in_the_colour_of_the_page(
    answer: Callable[[], Any],
) -> None:
    from xml.etree import ElementTree

    value = answer()
    page = value._repr_html_()
    ElementTree.fromstring(page)  # well-formed: every element is closed and every text escaped
    assert "<script" not in page
    assert not re.search(r'(?:fill|stroke|color)[=:]"?(?:black|#000)', page)
    assert max(map(len, str(value).splitlines())) <= 80
    assert repr(value).startswith(f"<{type(value).__name__} ")


def test_html_says_what_the_terminal_says() -> None:
    plan = s2search.price("L28", TABLE, budget="260ms")
    page = plan._repr_html_()
    assert page.count("<rect") >= 28 + 2
    assert "does not fit" in page
    assert "OVER by 178.9 ms" in page
    assert "not a measurement" in page
    front = s2search.frontier(TABLE, budget="1.5GB")._repr_html_()
    assert front.count("<circle") == 29
    assert "sandwich" in front


def test_a_hostile_name_stays_text() -> None:
    import dataclasses

    hostile = '</div><script>alert("x")</script>'
    plan = s2search.plan(TABLE, depth=8)
    origin = dataclasses.replace(plan.provenance, table=hostile, table_statement=hostile)
    page = dataclasses.replace(plan, provenance=origin, written=hostile)._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_rooms_reach_the_door_of_the_reports_only_where_a_value_shows_itself() -> None:
    allowed = {"_repr_html_", "__rich__", "__str__", "plot"}
    below = [path for room in ("planner", "tables") for path in (ROOT / "s2search" / room).glob("*.py")]
    found = 0
    for path in below:
        tree = ast.parse(path.read_text())
        inside = [
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef) and function.name in allowed
            for node in ast.walk(function)
            if isinstance(node, ast.ImportFrom) and node.module == "s2search.reporting"
        ]
        every = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("s2search.reporting")
        ]
        assert len(every) == len(inside), path
        found += len(inside)
    assert found > 0


def examples() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        (f"{page.stem}_{number}", program)
        for page in pages
        for number, program in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
    ]


FACE = """
import s2search
plan = s2search.plan("iphone-16-pro-max", budget=["10fps", "1.5GB"])
front = s2search.frontier("iphone-16-pro-max", budget="1.5GB", candidates="lcha,ssa,kv_compressed")
front.to_pandas(); front.plot(); front.at(latency="260ms"); plan.plot(); plan.explain()
reveal: s2search.Plan = front[0]
"""


@pytest.mark.slow
def test_the_python_of_the_documents_passes_strict_mypy(tmp_path: Path) -> None:
    for name, program in [("face", FACE), *examples()]:
        (tmp_path / f"{name}.py").write_text(program)
    (tmp_path / "wrong.py").write_text("import s2search\ns2search.plan(budgets='260ms')\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        *tmp_path.glob("*.py"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(complaints) == 1, done.stdout + done.stderr
    assert 'wrong.py:2: error: Unexpected keyword argument "budgets"' in complaints[0]

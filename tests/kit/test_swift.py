"""The Swift sources cannot be compiled here. What can be checked is that they speak of the same things as Python."""

import inspect
import re
from pathlib import Path

import pytest

from s2search.kit import manifest, results
from tests.kit.swift_in_python import errors, parse

SWIFT = Path(manifest.__file__).with_name("swift")
SOURCES = {path.name: path.read_text() for path in (SWIFT / "KitRunner").glob("*.swift")}


def snake(name):
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def fields_of(struct, source):
    (body,) = re.findall(rf"struct {struct}\b[^{{]*{{(.*?)\n}}", source, flags=re.DOTALL)
    stored = re.findall(r"^    (?:let|var) (\w+)[^{\n]*$", body, flags=re.MULTILINE)
    return {snake(name) for name in stored}


LINES = [
    *(results.SessionLine, results.LoadingLine, results.ReadyLine, results.SampleLine, results.HeatingLine),
    *(results.HotLine, results.HeatedLine, results.PauseLine, results.FailedLine, results.DoneLine),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.__name__)
def test_the_loop_writes_the_lines_of_the_schema(line):
    assert fields_of(line.__name__, SOURCES["Lines.swift"]) == {"kind", *line.__struct_fields__}
    assert f'let kind = "{line.__struct_config__.tag}"' in SOURCES["Lines.swift"]


def test_the_loop_tells_its_memory_at_the_moments_of_the_schema():
    assert fields_of("AppMemory", SOURCES["AppMemory.swift"]) == set(results.AppMemory.__struct_fields__)
    assert "let memory: AppMemory?" in SOURCES["Lines.swift"]
    assert "phys_footprint" in SOURCES["AppMemory.swift"]


@pytest.mark.parametrize(
    ("struct", "cls"),
    [
        ("KitProtocol", manifest.KitProtocol),
        ("Package", manifest.KitPackage),
        ("Input", manifest.Input),
        ("Row", manifest.KitRow),
        ("Slot", manifest.KitSlot),
    ],
)
def test_the_loop_reads_keys_that_the_manifest_has(struct, cls):
    read = fields_of(struct, SOURCES["Manifest.swift"])
    assert read
    assert read <= set(cls.__struct_fields__)


def test_the_loop_knows_every_compute_unit_thermal_state_and_number_type():
    for name in (*manifest.ComputeUnits.__args__, *results.Thermal.__args__, "float32"):
        assert any(f'"{name}"' in source for source in SOURCES.values()), name


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_parses_without_a_node_of_error(name):
    assert not errors(parse(SOURCES[name].encode()))


def test_the_loop_loads_the_function_of_a_package_and_times_single_calls_where_the_manifest_says_so():
    assert "configuration.functionName = package.function" in SOURCES["TimedModel.swift"]
    assert "repetitions = singleCalls ? 1 :" in SOURCES["TimedModel.swift"]
    assert "singleCalls: row.singleCalls" in SOURCES["MeasuringLoop.swift"]


def test_brackets_are_closed():
    for name, source in SOURCES.items():
        code = re.sub(r'"(?:\\.|[^"\\])*"', '""', re.sub(r"//.*", "", source))
        for left, right in ("()", "[]", "{}"):
            assert code.count(left) == code.count(right), name


def test_the_project_names_only_objects_that_it_defines():
    project = (SWIFT / "KitRunner.xcodeproj" / "project.pbxproj").read_text()
    defined = set(re.findall(r"^\t\t([0-9A-F]{24})(?: /\* [^*]* \*/)? = \{", project, flags=re.MULTILINE))
    assert set(re.findall(r"\b[0-9A-F]{24}\b", project)) == defined
    assert inspect.cleandoc(project).count("{") == project.count("}")


def test_every_source_says_what_it_is_for():
    for source in SOURCES.values():
        assert source.startswith("// ")

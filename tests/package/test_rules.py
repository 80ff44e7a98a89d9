"""Each rule is broken by its own package alone, and by no clean one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import s2search
from s2search.mil.rules.every import lint_function, lint_package
from s2search.mil.rules.files import MOST_PACKAGE_BYTES, MOST_WEIGHT_BYTES, sizes
from s2search.mil.rules.rule import PLACE_RULES, RULES
from tests.mil.programs import load, save
from tests.package.packages import BROKEN, CLEAN, X, half, in_float32, palette_and_state, plain_ring, scaled_palette


@pytest.mark.parametrize("rule", BROKEN)
def test_a_package_that_breaks_one_rule_is_found_by_it_and_by_no_other(tmp_path: Path, rule: str) -> None:
    _, found = lint_package(BROKEN[rule](tmp_path / "one.mlpackage"))
    assert {finding.rule for finding in found} == {rule}
    assert all(finding.names and finding.problem for finding in found)


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_package_breaks_no_rule(tmp_path: Path, name: str) -> None:
    assert lint_package(CLEAN[name](tmp_path / "one.mlpackage"))[1] == ()


def test_every_rule_has_a_package_that_breaks_it_but_for_those_that_cannot_be_broken_alone() -> None:
    # A convolution over three axes has five axes too, and softplus needs the numbers of a run: see tests/mil.
    assert RULES.keys() - BROKEN.keys() == {"conv_3d", "softplus_above_10"}
    assert set(PLACE_RULES) <= BROKEN.keys()
    assert all(rule.works and rule.fails and rule.source and rule.remedy for rule in RULES.values())


def test_the_page_says_of_every_rule_what_the_rule_says() -> None:
    page = (Path(__file__).parents[2] / "docs/package.md").read_text()
    for rule in RULES.values():
        assert f"| `{rule.name}` | {rule.works} | {rule.fails} | {rule.source} |" in page


def test_a_run_of_float32_says_where_it_begins_and_how_long_it_is(tmp_path: Path) -> None:
    (found,) = lint_function(load(tmp_path, in_float32, [X]), "main")
    assert len(found.names) == 3
    assert found.names[1] == "first_wide"
    assert found.problem.startswith("3 operations begin at ")


def test_a_cache_that_goes_in_and_out_is_a_ring_as_a_state_is(tmp_path: Path) -> None:
    (found,) = lint_function(load(tmp_path, plain_ring, [X, half(1, 32, 16, 64)]), "main")
    assert (found.rule, found.names[1]) == ("ring_by_concat", "cache")


def test_a_number_alone_has_no_width_and_small_rows_have_one(tmp_path: Path) -> None:
    def adds(x, level):
        from tests.package.packages import mb

        return mb.add(x=x, y=level)

    assert not list(lint_function(load(tmp_path / "a", adds, [X, half(1, 1)]), "main"))
    (found,) = lint_function(load(tmp_path / "b", adds, [X, half(8, 1)]), "main")
    assert (found.rule, found.names) == ("io_width", ("level",))


@pytest.mark.parametrize(("version", "broken"), [("8.3.0", False), ("9.0", True), ("", True), ("10.1", True)])
def test_a_palette_beside_a_state_is_known_bad_of_versions_since_9(tmp_path, version, broken) -> None:
    program, _ = lint_package(save(tmp_path / "one.mlpackage", palette_and_state, [X], [X.shape]))
    program.metadata.clear()
    assert [finding.rule for finding in lint_function(program, "main", version)] == ["palette_with_state"] * broken


@pytest.mark.parametrize(
    ("version", "broken"), [("7.2", False), ("8.0b2", True), ("9.0", True), ("", True), ("9.1", False)]
)
def test_a_scale_beside_a_palette_is_known_bad_of_the_versions_that_write_it(tmp_path, version, broken) -> None:
    program, _ = lint_package(save(tmp_path / "one.mlpackage", scaled_palette, [X]))
    program.metadata.clear()
    assert [finding.rule for finding in lint_function(program, "main", version)] == ["tool_version"] * broken


def test_limits_of_sizes_are_the_last_that_pass() -> None:
    assert not list(sizes({"a": MOST_PACKAGE_BYTES - 1, "b": 1}))
    assert [one.rule for one in sizes({"a": MOST_PACKAGE_BYTES, "b": 1})] == ["package_size"]
    assert [one.rule for one in sizes({"a": MOST_WEIGHT_BYTES})] == ["package_size"]
    assert [one.rule for one in sizes({"a": MOST_WEIGHT_BYTES + 1})] == ["weight_file_size"]


def test_what_a_package_breaks_is_a_document_with_all_that_is_known_of_its_rules(tmp_path: Path) -> None:
    import jsonschema

    found = s2search.package_lint(BROKEN["states"](tmp_path / "one.mlpackage"))
    document = json.loads(found.to_json())
    jsonschema.validate(document, s2search.schema("package_findings"))
    assert {rule["name"] for rule in document["rules"]} == RULES.keys() - {"softplus_above_10"}
    assert document["packages"][0]["findings"][0]["names"] == ["left", "right"]
    assert "states: 1" in str(found)
    assert max(map(len, str(found).splitlines())) <= 80


def test_a_classifier_is_read_though_it_returns_a_dictionary(tmp_path: Path) -> None:
    import torch

    from s2search.mil.library import load_coremltools
    from tests.package.packages import convert_torch

    config = load_coremltools().ClassifierConfig(["cat", "dog"])
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32, 2), torch.nn.Softmax(-1))
    path = convert_torch(tmp_path / "one.mlpackage", module, torch.randn(1, 32), classifier_config=config)
    program, found = lint_package(path)
    assert [one.names[0] for one in found if one.rule == "no_cover"] == ["classLabel"]
    assert "classLabel" in program.function().outputs
    assert not np.isnan([one.time_percent for one in s2search.package_lint(path).packages[0].functions]).any()

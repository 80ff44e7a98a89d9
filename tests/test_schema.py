"""Every document that the code names has a JSON schema, and what is written keeps to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import s2search
from s2search.errors import InfeasibleError, UnknownNameError
from s2search.tables.table import installed_tables, open_table
from tests.conftest import Outcome

Run = Callable[..., Outcome]
ROOT = Path(__file__).parents[1]
COMMANDS = [
    ("plan", ("plan", "--depth", "4", "--explain", "--json")),
    ("plan", ("plan", "--table", "iphone-16-pro-max", "--table", "h100:4ms", "--depth", "4", "--json")),
    ("frontier", ("frontier", "--depth", "4", "--json")),
    ("table_list", ("table", "list", "--json")),
    ("table_findings", ("table", "lint", "h100", "--json")),
    ("table_comparison", ("table", "compare", "h100", "h100", "--json")),
]


def holds(name: str, document: Any) -> None:
    schema = s2search.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    assert document["schema"] == schema["title"]


@pytest.mark.parametrize(("name", "words"), COMMANDS)
def test_what_a_command_prints_keeps_to_its_schema(s2search: Run, name: str, words: tuple[str, ...]) -> None:
    holds(name, json.loads(s2search(*words).out))


def test_a_plan_that_does_not_fit_a_difference_and_a_card_keep_to_theirs() -> None:
    with pytest.raises(InfeasibleError) as error:
        s2search.plan(depth=4, budget="1ms")
    holds("infeasible", json.loads(error.value.fields["answer"].to_json()))
    family, table = (ROOT / f"docs/families/galvatron.{kind}" for kind in ("toml", "csv"))
    with pytest.raises(InfeasibleError) as error:
        s2search.plan_family(family, table, budget="1GiB")
    holds("family_infeasible", json.loads(error.value.fields["answer"].to_json()))
    explained = s2search.plan_family(family, table, budget="36GiB", depth=3, explain=True)
    holds("family_plan", json.loads(explained.to_json()))
    plans = [s2search.plan(depth=4, budget=budget) for budget in ("40ms", "60ms")]
    holds("plan_check", json.loads(s2search.plan_check(plans[1], changes=0).to_json()))
    holds("plan_difference", json.loads(s2search.plan_diff(*plans).to_json()))
    for folder in installed_tables().values():
        holds("table", json.loads((folder / "card.json").read_text()))


def test_a_schema_refuses_what_is_no_such_document() -> None:
    plan = json.loads(s2search.plan(depth=4).to_json())
    for change in ({"score": "high"}, {"schema": "s2search.plan/2"}, {"commit": "sometimes"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**plan, **change}, s2search.schema("plan"))


def test_rows_of_a_table_stand_beside_its_card() -> None:
    row = s2search.schema("table")["$defs"]["Row"]
    assert set(open_table("h100").to_csv().splitlines()[0].split(",")) <= set(row["properties"])


def test_every_schema_that_the_code_names_is_listed_and_printed() -> None:
    code = "".join(path.read_text() for path in (ROOT / "s2search").rglob("*.py"))
    named = set(re.findall(r"s2search\.(\w+)/\d", code))
    assert named == set(s2search.schema())
    for name in named:
        schema = s2search.schema(name)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert f'"s2search.{name}/1"' in json.dumps(schema["$defs"]), name


def test_the_figures_of_a_recalibration_are_those_that_it_writes() -> None:
    import ast

    text = (ROOT / "s2search/recalibration/result.py").read_text()
    (added,) = re.findall(r"content \|= (\{.*?\})", text)
    keys = {key.value for key in ast.parse(added, mode="eval").body.keys}  # type: ignore[attr-defined]
    assert {"schema", *keys} <= set(s2search.schema("recalibration")["$defs"]["Recalibration"]["properties"])


def test_a_name_in_full_means_the_same_and_an_unknown_one_is_refused(s2search: Run) -> None:
    assert s2search("schema", "s2search.plan/1").out == s2search("schema", "plan").out
    done = s2search("schema", "plam")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no schema is called 'plam' (did you mean 'plan'?)" in done.err
    with pytest.raises(UnknownNameError):
        __import__("s2search").schema("s2search.plan/2")

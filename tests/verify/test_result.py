from __future__ import annotations

import io
import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from s2search.errors import CheckError
from s2search.reporting.verification import verification_text
from s2search.verification.check import Check, results
from s2search.verification.result import CannotRunError, CheckResult, Verification, judged, keeps_promise, not_run

#: What a reader of report.json may count on.
SCHEMA = {
    "type": "object",
    "required": ["schema", "passed", "package", "exporter", "precision", "model_digest", "plan_digest", "checks"],
    "properties": {
        "schema": {"const": "s2search.verification/1"},
        "passed": {"type": "boolean"},
        "plan_digest": {"type": ["string", "null"]},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "checks": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "status", "value", "unit", "threshold", "where", "why"],
                "properties": {
                    "name": {"type": "string", "pattern": r"^[a-z_]+(\.[a-z_]+)?$"},
                    "status": {"enum": ["passed", "failed", "not_run"]},
                    "required": {"type": "boolean"},
                    "value": {"type": ["number", "null"]},
                    "unit": {"type": "string"},
                    "threshold": {"type": ["number", "null"]},
                    "bound": {"enum": ["at least", "at most", None]},
                    "mode": {"enum": ["", "float32", "float16", "pessimistic"]},
                    "where": {"type": "string"},
                    "why": {"type": "string"},
                    "parts": {"type": "object", "additionalProperties": {"type": "number"}},
                },
                "allOf": [
                    {
                        "if": {"properties": {"status": {"const": "not_run"}}},
                        "then": {"properties": {"value": {"type": "null"}, "why": {"minLength": 1}}},
                    }
                ],
            },
        },
    },
}

check_results = st.builds(CheckResult, name=st.just("a"), status=st.sampled_from(["passed", "failed", "not_run"]))


def check_report(document: str) -> dict:
    """Raise unless a report says what readers may count on."""
    found = json.loads(document)
    jsonschema.validate(found, SCHEMA)
    required = [check["status"] for check in found["checks"] if check["required"]]
    assert found["passed"] == (set(required) == {"passed"})
    return found


def verification(*checks: CheckResult) -> Verification:
    return Verification(
        passed=keeps_promise(checks),
        package="somewhere/" * 5,
        exporter="onnx",
        precision="float32",
        model_digest="sha256:0",
        plan_digest=None,
        environment={},
        checks=checks,
    )


@given(st.lists(check_results, max_size=6), st.sampled_from(["failed", "not_run"]))
def test_one_required_check_that_did_not_pass_is_enough(others, status):
    broken = CheckResult(name="b", status=status)
    assert not keeps_promise([*others, broken])
    passed = [check for check in others if check.status == "passed"]
    optional = [CheckResult(name="b", status=status, required=False)]
    assert keeps_promise([*passed, *optional]) == bool(passed)


def test_no_check_at_all_is_no_verification():
    assert not keeps_promise([])
    assert not keeps_promise([CheckResult(name="a", status="passed", required=False)])


@given(st.floats(), st.floats(allow_nan=False), st.sampled_from(["at least", "at most"]))
def test_a_figure_passes_on_its_side_of_the_threshold_and_nan_never(value, threshold, bound):
    result = judged("a", value, threshold, bound, unit="dB")
    if math.isnan(value):
        assert result.status == "failed"
    elif value == threshold:
        assert result.status == "passed"
    else:
        assert (result.status == "passed") == ((value > threshold) == (bound == "at least"))


class Silent(Check):
    name = "silent"

    def run(self, opened):
        yield from ()


class Broken(Check):
    name = "broken"

    def run(self, opened):
        yield judged("broken.first", 1, 0, "at least", unit="")
        raise CheckError("'a.bin' is missing", path="a.bin")


class Elsewhere(Check):
    name = "elsewhere"
    required = False

    def run(self, opened):
        raise CannotRunError("there is no phone\nhere")
        yield


def test_a_check_that_looked_at_nothing_has_not_run():
    (found,) = results(Silent(), None)
    assert (found.status, found.required) == ("not_run", True)


def test_a_check_that_breaks_off_fails_after_what_it_found():
    first, second = results(Broken(), None)
    assert (first.status, second.status, second.where) == ("passed", "failed", "a.bin")


def test_a_check_that_cannot_run_says_why_in_one_line():
    (found,) = results(Elsewhere(), None)
    assert (found.status, found.required, found.why) == ("not_run", False, "there is no phone here")


def test_a_report_has_its_keys_and_a_table_of_80_columns():
    found = verification(
        judged("parity.denoise", 12.345, 40, "at least", unit="dB", where="layers.1: mul (mul_3)", why="word " * 40),
        not_run("placement", "there is no phone here", required=False),
        judged("sizes.weights", 3e-7, 1e9, "at most", unit="bytes"),
    )
    check_report(found.to_json())
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(verification_text(found))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "FAILED" in text
    assert "not run" in text
    assert "NOT verified, of 2 required checks 1 failed" in " ".join(text.split())


@pytest.mark.parametrize("value", [1234567.0, 0.5, 0.0, 300.0, 1e-9])
def test_numbers_stay_short_in_the_table(value):
    found = verification(judged("a", value, 1, "at least", unit=""))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(verification_text(found))
    assert f"{value:.3g}"[:3] in console.export_text()

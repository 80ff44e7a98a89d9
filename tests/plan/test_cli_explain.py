from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from s2search.planner.plan import Plan
from tests.conftest import Outcome

Run = Callable[..., Outcome]

MEASURED = ["--table", "amd-epyc", "--video", "512x288"]
TWO_PHONES = ["--depth", "12", "--table", "iphone-16-pro-max:115ms,600MB", "--table", "h100:6ms"]


def test_an_explanation_tells_swaps_prices_kernels_and_rows(s2search: Run) -> None:
    outcome = s2search("plan", "--budget", "260ms", "--explain")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    text = "\n".join(lines)
    assert "ssa   lcha     +0.000357  +11.2 ms  +1.4 MB  11.2 ms over" in text
    assert "0, 2, 4, 7, 9, 12," in text
    assert "11.17 ms more buys 0.000357: L13S15\n         1 ms more buys nothing; 1 ms less costs 0.000357" in text
    assert "lcha 10 % faster buys 0.000357: L13S15\n         ssa 10 % faster buys nothing" in text
    assert "lcha   15.7 ms      0.4 %    5.5 % faster  0.013 % slower  0.032 deviations" in lines
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    "words",
    [
        ["--budget", "2500ms", *MEASURED],
        ["--budget", "260ms", "--layout", "L28"],
        ["--budget", "60ms", "--layout", "L28"],
        TWO_PHONES,
        [],
    ],
    ids=" ".join,
)
def test_every_explanation_fits_80_columns_and_says_nothing_without_being_asked(
    s2search: Run, words: list[str]
) -> None:
    plain, outcome = s2search("plan", *words), s2search("plan", *words, "--explain")
    assert (outcome.code, outcome.err) == (plain.code, "")
    assert outcome.out.startswith(plain.out)
    assert "layers" in outcome.out.removeprefix(plain.out)
    assert max(len(line.rstrip()) for line in outcome.out.splitlines()) <= 80


def test_a_device_is_named_where_there_are_several(s2search: Run) -> None:
    out = s2search("plan", *TWO_PHONES, "--explain").out
    assert "latency  on iphone-16-pro-max.coreml.w4a8\n" in "\n".join(line.rstrip() for line in out.splitlines())
    assert "\non h100.torch-cuda-graphs-compiled.bfloat16\n" in out


def test_a_layout_that_does_not_fit_is_explained_and_fails_the_check(s2search: Run) -> None:
    outcome = s2search("plan", "--budget", "260ms", "--layout", "L28", "--explain")
    assert outcome.code == 1
    assert "167.7 ms over" in outcome.out
    assert "what follows is about the best layout, L12S16" in outcome.out
    nothing = s2search("plan", "--budget", "60ms", "--layout", "L28", "--explain")
    assert nothing.code == 1
    assert "no layout fits, so there are no prices" in nothing.out


def test_json_carries_the_explanation_and_the_file_too(s2search: Run, tmp_path: Path) -> None:
    outcome = s2search("plan", "--budget", "260ms", "--explain", "--json", "--out", "plan.json")
    explanation = json.loads(outcome.out)["explanation"]
    assert explanation.keys() == {"swaps", "best", "prices", "kernels", "rows"}
    assert explanation["prices"][0]["next"]["extra"] == 11.17
    assert Plan.load(tmp_path / "plan.json").to_json() == outcome.out
    assert json.loads(s2search("plan", "--budget", "260ms", "--json").out)["explanation"] is None


@pytest.mark.parametrize("more", [[], ["--explain"], ["--out", "plan.json"]], ids=" ".join)
def test_that_nothing_fits_is_said_as_json_too(s2search: Run, tmp_path: Path, more: list[str]) -> None:
    outcome = s2search("plan", "--budget", "100ms", "--budget", "1.2GB", "--json", *more)
    assert outcome.code == 3
    assert len(outcome.err.splitlines()) == 1
    found = json.loads(outcome.out)
    assert found["schema"] == "s2search.infeasible/1"
    assert outcome.err == f"s2search: {found['message']}\n"
    assert found["limits"] == [
        {"name": "latency", "unit": "us", "asked": 100_000, "would_do": 125_804},
        {"name": "memory", "unit": "bytes", "asked": 1_200_000_000, "would_do": None},
    ]
    assert found["nearest"]["written"] == "S28"
    assert found["nearest"]["latency_us"] == found["least_latency_us"] == 125_804
    assert found["nearest"]["memory_bytes"] == found["least_memory_bytes"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--budget", "100ms"], 3, "raise the latency budget to 125.804 ms"),
        (["--budget", "260ms", "--solver", "allocation"], 2, "allocation does not prove its layouts optimal"),
        (["--budget", "2500ms", *MEASURED, "--confidence", "0.95"], 2, "leave out --explain, or --confidence"),
        (["--budget", "260ms", "--layout", "L28", "--solver", "exhaustive"], 2, "268,435,456"),
    ],
    ids=["infeasible", "without proof", "confidence", "too many"],
)
def test_what_cannot_be_explained_gets_one_line(s2search: Run, words: list[str], code: int, named: str) -> None:
    outcome = s2search("plan", *words, "--explain", "--out", "plan.json")
    assert (outcome.code, outcome.out) == (code, "")
    assert len(outcome.err.splitlines()) == 1
    assert named in outcome.err

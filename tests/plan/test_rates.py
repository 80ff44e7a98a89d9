"""Frame rates on tables that were measured: the pipeline is told, and shown as told; what cannot be reached says so."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import s2search
from s2search.cost import Pipeline
from s2search.errors import InfeasibleError, InputError, QuantityError, TableError
from s2search.kit.ingest import ingest
from s2search.planner.plan import Plan
from s2search.reporting.terminal import facts
from s2search.tables.table import open_table
from tests.command import Outcome
from tests.kit.conftest import write_kit
from tests.kit.test_ingest import write_results
from tests.measure.fake_profiler import run as measure_fake

CPU = open_table("amd-epyc.torch-cpu.float32")
PHONE = Pipeline(chunk_frames=12, steps=2, text_ms=4.0, decoder_ms=80.0)


def on_cpu(**told: float) -> Plan:
    return s2search.plan(CPU, video="512x288", budget="2fps", **told)  # type: ignore[arg-type]


def test_a_pipeline_that_is_told_plans_as_one_in_the_card_and_is_shown_as_told() -> None:
    told = on_cpu(steps=2, text_ms=4, decode_ms=80)
    card = dataclasses.replace(CPU, card=dataclasses.replace(CPU.card, pipeline=PHONE))
    read = s2search.plan(card, video="512x288", budget="2fps")
    assert told.latency_ms.budget == read.latency_ms.budget == 2958
    assert told.layout == read.layout
    assert "told, not in the table: 2 steps, text 4 ms, decoder 80 ms" in dict(facts(told))["rate"]
    assert "told" not in dict(facts(read))["rate"]


def test_a_number_that_is_told_stands_in_for_the_cards_own() -> None:
    rate = s2search.plan(budget="14fps", steps=6).rate
    assert rate is not None
    assert rate.arithmetic == "(12/14 s - 4 ms - 80 ms) / 6 = 128.857 ms"
    assert rate.told is not None
    assert rate.told.statement == "6 steps"


def test_what_was_told_is_in_the_file_and_a_plan_without_it_keeps_its_digest(tmp_path: Path) -> None:
    plan = on_cpu(steps=2, text_ms=4, decode_ms=80)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    content = json.loads(s2search.plan(budget="10fps").to_json())
    for name in ("told",):
        del content["rate"][name]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert Plan.load(tmp_path / "old.json").digest == s2search.plan(budget="10fps").digest


def test_half_a_pipeline_is_refused_by_what_it_lacks() -> None:
    with pytest.raises(QuantityError, match="what is told lacks --text-ms and --decode-ms"):
        on_cpu(steps=2)
    with pytest.raises(QuantityError, match="steps of the pipeline is 0"):
        on_cpu(steps=0, text_ms=4, decode_ms=80)
    with pytest.raises(QuantityError, match="text_ms of the pipeline is -4"):
        on_cpu(steps=2, text_ms=-4, decode_ms=80)
    with pytest.raises(TableError, match="tell it with --steps, --text-ms and --decode-ms"):
        on_cpu()
    with pytest.raises(InputError, match="the scenario is 'clip', which has no rate"):
        s2search.plan(scenario="clip", budget="535ms", steps=2)


@pytest.mark.parametrize("commit", ["reuse_last", "clean_pass"])
@pytest.mark.parametrize("asked", ["60fps", "500fps"])
def test_what_is_too_fast_is_answered_in_frames_per_second_and_that_rate_is_reached(asked: str, commit: str) -> None:
    with pytest.raises(InfeasibleError) as caught:
        s2search.plan(budget=asked, commit=commit)  # type: ignore[arg-type]
    most = caught.value.fields["most_fps"]
    assert most == {"reuse_last": 20.4, "clean_pass": 16.8}[commit]
    assert f"at most {most} fps" in str(caught.value)
    assert str(caught.value).endswith(f"ask for {most}fps")
    assert caught.value.fields["answer"].most_fps == most
    assert s2search.plan(budget=f"{most}fps", commit=commit).fits  # type: ignore[arg-type]
    with pytest.raises(InfeasibleError):
        s2search.plan(budget=f"{most + 0.1:.1f}fps", commit=commit)  # type: ignore[arg-type]


def test_a_rate_on_a_further_table_names_the_table() -> None:
    with pytest.raises(InfeasibleError, match=r"reaches 60fps on iphone\S+ with reuse_last: at most 20.4 fps"):
        s2search.plan(["h100:60ms", "iphone-16-pro-max:60fps"], video="512x288")


def test_a_latency_budget_that_is_tighter_than_the_rate_speaks_of_milliseconds() -> None:
    with pytest.raises(InfeasibleError) as caught:
        s2search.plan(budget=["10fps", "100ms"])
    assert "fps" not in str(caught.value)


def test_the_depth_is_that_of_the_tables_preset_unless_another_is_asked_for() -> None:
    tiny = dataclasses.replace(CPU, card=dataclasses.replace(CPU.card, preset="s2dit-tiny"))
    unknown = dataclasses.replace(CPU, card=dataclasses.replace(CPU.card, preset="mine"))
    for table, depth in ((tiny, 8), (CPU, 28), (unknown, 28)):
        assert s2search.plan(table, video="512x288", budget="5s").depth == depth
    assert s2search.plan(tiny, video="512x288", budget="5s", depth=6).depth == 6
    assert s2search.frontier(tiny, video="512x288")[0].depth == 8


def test_a_measured_table_and_one_from_a_kit_carry_the_pipeline_that_is_told(tmp_path: Path) -> None:
    measured = measure_fake(tmp_path / "fake", pipeline=PHONE)
    ingested = ingest(write_results(tmp_path / "kit", write_kit(tmp_path / "kit")), tmp_path / "tables", pipeline=PHONE)
    for table in (measured, *ingested.tables):
        assert table.card.pipeline == PHONE
        assert "were told, not measured" in table.card.assumptions[-1]
        assert open_table(str(tmp_path / ("fake" if table is measured else f"tables/{table.name}"))) == table


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"chunk_frames": 12, "steps": 2, "text_ms": 4}', "missing required field `decoder_ms`"),
        ('{"chunk_frames": 12, "steps": 2, "text_ms": 4, "decode_ms": 8}', "did you mean 'decoder_ms'?"),
        ('{"chunk_frames": 12, "steps": 0, "text_ms": 4, "decoder_ms": 8}', "steps of the pipeline is 0"),
        ("steps", "is not a pipeline"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused_before_anything_is_timed(
    s2search: Callable[..., Outcome], tmp_path: Path, content: str, complaint: str
) -> None:
    (tmp_path / "pipeline.json").write_text(content)
    for words in (("measure", "--out", "mine"), ("kit", "ingest", "results.jsonl")):
        outcome = s2search(*words, "--pipeline", "pipeline.json")
        assert outcome.code == 2
        assert complaint in outcome.err
        assert outcome.err.count("\n") <= 1
    assert not (tmp_path / "mine").exists()

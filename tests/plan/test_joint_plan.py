"""`plan --precisions`: tables, sweeps and budgets to a plan that says the precision of every part."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest

import s2search
from s2search.cost import Budget
from s2search.errors import InfeasibleError, InputError, TableError
from s2search.planner.plan import Plan
from s2search.precision.documents import Sensitivity, noise_db
from s2search.precision.noise import Noise
from s2search.reporting.terminal import facts
from s2search.score.file import ScoreFile
from s2search.tables.table import LatencyTable, open_table
from tests.plan.joint_cases import PRECISIONS, sweeps_of
from tests.test_cli import Run

DEPTH = 6
PHONE = open_table("iphone-16-pro-max")
CLIP = dataclasses.replace(
    PHONE,
    rows=tuple(
        dataclasses.replace(row, precision=label)
        for label in PRECISIONS
        for row in PHONE.rows
        if row.scenario == "clip" and row.height == 9
    ),
)
FACTORS = {"float16": (1.0, 4), "w8a16": (0.8, 2), "w4a16": (0.6, 1)}
ENDS = {"stem": 1.5, "head": 0.5, "down": 0.75, "up": 0.5}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with three invented tables of one phone, and two sweeps with invented noise."""
    folder = tmp_path_factory.mktemp("made")
    phone = open_table("iphone-16-pro-max")
    stream = [row for row in phone.rows if row.scenario == "stream"]
    for label, (speed, size) in FACTORS.items():
        rows = tuple(
            dataclasses.replace(
                row,
                precision=label,
                latency_ms=round(speed * ENDS.get(row.part, row.latency_ms), 3),
                latency_std_ms=0.01 * speed * ENDS.get(row.part, row.latency_ms),
                weight_bytes=row.weight_bytes * size,
            )
            for row in stream
        )
        LatencyTable(name=f"phone.coreml.{label}", card=phone.card, rows=rows).save(folder / f"phone.coreml.{label}")
    for name, sweep in zip("ab", sweeps_of(np.random.default_rng(5), DEPTH, PRECISIONS, grid=(18, 32)), strict=True):
        sweep.save(folder / f"{name}.json")
    return folder


def ask(made, *budgets, **changes):
    asked = {
        "table": str(made / "phone.coreml.float16"),
        "depth": DEPTH,
        "budget": budgets or ("40ms", "700MB"),
        "precisions": ",".join(PRECISIONS),
        "sensitivity": [made / "a.json", made / "b.json"],
        "least_db": 28.0,
        **changes,
    }
    return s2search.plan(**asked)


def noise_of(made):
    return Noise(sweeps=tuple(Sensitivity.load(made / f"{name}.json") for name in "ab"))


def recounted(made, plan):
    """Return microseconds, bytes and decibels of a plan, from the rows of the tables and the sweeps alone."""
    tables = {label: LatencyTable.load(made / f"phone.coreml.{label}") for label in PRECISIONS}
    row = {(r.label, label): r for label, table in tables.items() for r in table.rows}
    noise, us, held, peak = noise_of(made), 0, 0, 0
    streams = ["high", *("low" if block == "ssa" else "high" for block in plan.layout), "high"]
    times = {"down": 0, "up": 0}
    for before, after in pairwise(streams):
        if before != after:
            times["down" if after == "low" else "up"] += 1
    blocks = {f"layers.{i}": block for i, block in enumerate(plan.layout)}
    text = {label: noise.choice("text", "", label).bytes // DEPTH for label in PRECISIONS}
    for part, choice in plan.precisions.parts.items():
        label = choice.precision
        if part == "text":
            held += text[label] * DEPTH
            continue
        found = row[blocks.get(part, part), label]
        us += round(1000 * found.latency_ms) * times.get(part, 1)
        held += found.weight_bytes + found.state_bytes - (text[label] if part in blocks else 0)
        peak = max(peak, found.peak_bytes)
    for part in ("long_skip", "codec"):
        held += row[part, "float16"].weight_bytes + row[part, "float16"].state_bytes
    total = sum(
        noise.choice(part, blocks.get(part, ""), one.precision).noise for part, one in plan.precisions.parts.items()
    )
    return us, held + peak, noise_db(total)


TO_AND_FRO = ScoreFile(
    schema="s2search.score/1",
    name="made",
    statement="made up",
    scores={"lcha": [1.0, 0.0] * (DEPTH // 2), "ssa": [0.0, 1.0] * (DEPTH // 2)},
)


@pytest.mark.parametrize(
    ("budgets", "score"),
    [
        (("40ms", "700MB"), "published"),
        (("25ms",), "published"),
        (("60ms", "500MB"), "published"),
        (("24fps",), "published"),
        (("60ms",), TO_AND_FRO),
    ],
)
def test_a_plans_promise_is_what_its_rows_and_sweeps_add_up_to(made, budgets, score):
    plan = ask(made, *budgets, score=score)
    assert score != TO_AND_FRO or plan.switches == DEPTH
    us, total_bytes, db = recounted(made, plan)
    assert plan.latency_ms.predicted == us / 1000
    assert plan.memory_bytes.predicted == total_bytes
    assert plan.precisions.predicted_db == pytest.approx(db)
    assert plan.precisions.predicted_db >= plan.precisions.least_db == 28.0
    latency, memory = plan.latency_ms, plan.memory_bytes
    of_layers = sum(
        FACTORS[label][0] * plan.blocks[block].latency_ms / FACTORS["float16"][0]
        for block, label in zip(plan.layout, plan.precisions.layers, strict=True)
    )
    assert latency.predicted == pytest.approx(of_layers + latency.switches + latency.fixed, abs=0.01)
    assert memory.predicted == memory.blocks + memory.fixed + memory.peak
    assert latency.high - latency.predicted == pytest.approx(1.96 * 0.01 * latency.predicted, rel=1e-2)
    assert plan.fits
    assert plan.optimal
    assert latency.slack is None or latency.slack >= 0
    assert memory.slack is None or memory.slack >= 0


def test_mixed_precisions_score_more_than_any_one_for_all(made):
    """At one precision only budgets hold; with noise as a budget too, the joint plan still scores no less."""
    plan = ask(made, "33ms", "700MB")
    assert len({*plan.precisions.layers, *plan.precisions.others.values()}) > 1
    noise = noise_of(made)
    for label in PRECISIONS:
        table = str(made / f"phone.coreml.{label}")
        try:
            alone = s2search.plan(table, depth=DEPTH, budget=("33ms", "700MB"))
        except InfeasibleError:
            continue
        parts = [("stem", ""), ("head", ""), ("text", ""), *((f"layers.{i}", b) for i, b in enumerate(alone.layout))]
        parts += [("down", ""), ("up", "")] if "ssa" in alone.layout else []
        if noise_db(sum(noise.choice(*part, label).noise for part in parts)) >= 28.0:
            assert plan.score >= alone.score


def test_a_plan_with_precisions_is_a_file_and_others_keep_their_digest(made, tmp_path):
    plan = ask(made)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert Plan.load(tmp_path / "plan.json").digest == plan.digest
    assert plan.digest != dataclasses.replace(plan, precisions=None).digest
    plain = s2search.plan(depth=DEPTH, budget="60ms")
    plain.save(tmp_path / "plain.json")
    old = json.loads((tmp_path / "plain.json").read_text())
    assert old.pop("precisions") is None  # what its digest is without them: tests/plan/test_commit_rows.py
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert Plan.load(tmp_path / "old.json").digest == plain.digest


def test_what_a_plan_says_of_precisions_names_every_part(made):
    plan = ask(made)
    said = dict(facts(plan))["precision"]
    assert said.startswith(f"{plan.precisions.predicted_db:.1f} dB of at least 28 dB predicted")
    for part, label in plan.precisions.others.items():
        assert f"{part} {label}" in said
    assert "mean" not in said
    assert "layouts that tie are not counted" in dict(facts(plan))["score"]
    assert "float16 and w8a16 and w4a16" in dict(facts(plan))["from"]
    assert plan.precisions.tables.keys() == {*PRECISIONS}
    assert plan.precision == min(plan.precisions.layers + tuple(plan.precisions.others.values()), key=bits)


def bits(label):
    return 16 if label == "float16" else int(label[1])


def test_a_sweep_that_lacks_places_is_refused_or_its_means_are_told(made):
    with pytest.raises(InputError, match=r"no sweep knows the noise of ssa at layers.0, ssa at layers.1"):
        ask(made, sensitivity=made / "a.json", noise_elsewhere="refuse")
    both = ask(made, sensitivity=[made / "a.json", made / "b.json"], noise_elsewhere="mean")
    assert (both.precisions.assumed, both.precisions.spread_db) == (0, 0.0)
    a, b = (Sensitivity.load(made / f"{name}.json") for name in "ab")
    parts = tuple(offer if i % 2 else other for i, (offer, other) in enumerate(zip(a.parts, b.parts, strict=True)))
    mixed = dataclasses.replace(a, parts=parts)
    plan = ask(made, sensitivity=mixed, noise_elsewhere="mean")
    assert plan.precisions.assumed > 0
    assert plan.precisions.spread_db > 0
    assert f"noise of {plan.precisions.assumed} layers is the mean" in dict(facts(plan))["precision"]


def test_tables_in_other_precisions_are_looked_for_beside_the_named_one(made, tmp_path):
    from_the_last = ask(made, table=str(made / "phone.coreml.w4a16"))
    assert from_the_last.digest == ask(made).digest
    with pytest.raises(TableError) as error:
        ask(made, precisions="float16,w6a16")
    assert str(error.value).startswith(
        "the table 'phone.coreml.float16' has no stream rows of blocks in w6a16, and beside it is no "
        "'phone.coreml.w6a16' of its device; it has: float16; measure one"
    )
    one = LatencyTable.load(made / "phone.coreml.float16")
    other = LatencyTable.load(made / "phone.coreml.w4a16")
    whole = dataclasses.replace(one, name="whole", rows=(*one.rows, *other.rows))
    assert ask(made, table=whole, precisions="float16,w4a16").precisions is not None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget": ("10ms",)}, "no layout with precisions keeps 10 ms, 28 dB; raise the latency budget to "),
        ({"least_db": 200.0}, "keeps 40 ms, 700 MB, 200 dB; lower --least-db to "),
        ({"budget": ("40ms", "100MB")}, "raise the memory budget to "),
        ({"budget": ("100fps",)}, "no layout reaches 100fps"),
    ],
)
def test_what_nothing_keeps_is_told_with_what_would_do(made, asked, message):
    with pytest.raises(InfeasibleError) as error:
        ask(made, **asked)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_limits_that_an_error_names_would_do(made):
    with pytest.raises(InfeasibleError) as error:
        ask(made, least_db=200.0)
    most_db = error.value.fields["most_db"]
    assert ask(made, least_db=most_db).precisions.predicted_db >= most_db
    with pytest.raises(InfeasibleError, match="lower --least-db"):
        ask(made, least_db=most_db + 0.002)
    with pytest.raises(InfeasibleError) as late:
        ask(made, budget=("10ms",))
    least_us = late.value.fields["relaxations"]["latency"]
    assert ask(made, budget=(f"{least_us}us",)).latency_ms.predicted == least_us / 1000
    with pytest.raises(InfeasibleError):
        ask(made, budget=(f"{least_us - 1}us",))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sensitivity": ()}, "--precisions is given without --sensitivity; give --precisions float16"),
        ({"precisions": ()}, "--sensitivity is given without --precisions"),
        ({"least_db": None}, "--precisions is given without --least-db"),
        ({"least_db": float("nan")}, "--least-db is nan; a finite number"),
        ({"precisions": "float16,float16"}, "--precisions names float16, float16; each once"),
        ({"precisions": "float16,w3a16"}, "'w3a16' is not a precision of a part"),
        ({"precision": "float16"}, "--precision float16 names one precision, and --precisions several"),
        ({"near": 0.1}, "--near cannot be combined with --precisions"),
        ({"tie": "fewest-switches"}, "--tie cannot be combined with --precisions"),
        ({"explain": True}, "--explain cannot be combined with --precisions"),
        ({"layout": "L6"}, "--layout cannot be combined with --precisions"),
        ({"confidence": 0.9}, "precisions cannot be chosen with confidence 0.9"),
        ({"scenario": "clip", "table": CLIP, "budget": ()}, "the sweeps are of streams, and the scenario is 'clip'"),
        ({"depth": 8}, "the sweeps are of 6 layers and the plan is of 8"),
        ({"video": "256x144"}, "256x144"),
    ],
)
def test_what_precisions_cannot_be_chosen_with_is_refused_in_one_line(made, asked, message):
    with pytest.raises(InputError) as error:
        ask(made, **asked)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_several_devices_and_a_second_table_under_load_are_refused(made):
    one = str(made / "phone.coreml.float16")
    with pytest.raises(InputError, match="precisions are chosen for one device, and 2 tables are given"):
        ask(made, table=[(one, "40ms"), ("h100", "16ms")], budget=())
    with pytest.raises(InputError, match="asks for a second table"):
        ask(made, budget=Budget.parse("10fps@sustained"))
    with pytest.raises(InputError, match="--noise-elsewhere mean is given without --precisions"):
        s2search.plan(depth=DEPTH, noise_elsewhere="mean")


def test_a_check_of_a_plan_that_mixes_precisions_is_refused(made, tmp_path):
    with pytest.raises(InputError, match="mixes precisions, and a check knows one for all parts"):
        s2search.plan_check(ask(made), made / "phone.coreml.float16")


def test_a_difference_names_the_precisions_and_compares_no_times_of_mixed_rows(made):
    mixed, plain = ask(made), s2search.plan(str(made / "phone.coreml.float16"), depth=DEPTH, budget="60ms")
    found = plain.diff(mixed)
    (named,) = (one for one in found.inputs if one.name == "precisions")
    assert named.before == "one for all parts"
    assert named.after == f"float16, w8a16, w4a16 at 28 dB by {mixed.precisions.sensitivity_digest[7:19]}"
    assert found.devices[0].old_layout_ms is None
    assert mixed.diff(mixed).empty


def test_the_command_says_and_writes_what_the_function_returns(made, s2search: Run):
    words = ["--table", str(made / "phone.coreml.float16"), "--depth", str(DEPTH), "--least-db", "28"]
    words += ["--precisions", ",".join(PRECISIONS), "--sensitivity", str(made / "a.json")]
    words += ["--sensitivity", str(made / "b.json")]
    done = s2search("plan", *words, "--budget", "40ms", "--budget", "700MB", "--json")
    assert done.code == 0
    assert json.loads(done.out)["precisions"]["parts"].keys() == ask(made).precisions.parts.keys()
    shown = s2search("plan", *words, "--budget", "40ms", "--budget", "700MB")
    assert "dB of at least 28 dB predicted" in shown.out
    late = s2search("plan", *words, "--budget", "10ms")
    assert late.code == 3
    assert "no layout with precisions keeps 10 ms, 28 dB" in late.err

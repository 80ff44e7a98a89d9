"""A table whose run was marked is said to be marked wherever its numbers are shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import s2search
from s2search.errors import InfeasibleError, S2SearchError
from s2search.planner.plan import Plan
from s2search.reporting import figures, table_figure
from s2search.reporting.html import front_html
from s2search.reporting.origin import mark_lines, origin_text
from s2search.tables.card import Card
from s2search.tables.compare import compare
from s2search.tables.table import LatencyTable, open_table
from tests.conftest import Outcome

Run = Callable[..., Outcome]
MARK = "the sentinel drifted by 31 %"
H100 = open_table("h100")


def marked(table: LatencyTable = H100, *marks: object, name: str = "mine") -> LatencyTable:
    protocol = {**table.card.protocol, "marked": list(marks or (MARK,))}
    return dataclasses.replace(table, name=name, card=dataclasses.replace(table.card, protocol=protocol))


def planned(*tables: LatencyTable) -> Plan:
    return s2search.plan([(table, "200ms") for table in tables], depth=8, video="512x288")


def shown(value: object) -> str:
    return " ".join(str(value).split())


def drawn(figure: object) -> str:
    texts = [text.get_text() for text in figure.findobj(match=lambda one: hasattr(one, "get_text"))]  # type: ignore[attr-defined]
    return " ".join(" ".join(texts).split())


@pytest.mark.parametrize(("said", "marks"), [(["a", 3], ("a", "3")), ("just text", ()), (None, ()), ([], ()), ("", ())])
def test_a_card_says_its_marks_however_they_are_written(said: object, marks: tuple[str, ...]) -> None:
    card: Card = dataclasses.replace(H100.card, protocol={"marked": said})
    assert card.marks == marks


def test_a_plan_says_that_its_tables_run_was_marked_in_text_json_html_and_pictures() -> None:
    plan, good = planned(marked()), planned(H100)
    for said in (shown(plan), drawn(figures.plan_figure(plan)), plan._repr_html_()):
        assert MARK in said
    assert "latency measured in a marked run" in shown(plan)
    assert json.loads(plan.to_json())["provenance"]["table_marks"] == [MARK]
    assert "marked" not in shown(good).lower()
    assert good.provenance.table_marks == ()


def test_a_front_says_it_too() -> None:
    front = s2search.frontier(marked(), depth=4, video="512x288")
    page = front_html(front.plans)
    for said in (shown(front), drawn(figures.front_figure(front.plans)), front._repr_html_(), page):
        assert MARK in said


def test_a_second_devices_marks_are_said_and_drawn() -> None:
    plan = planned(open_table("iphone-16-pro-max"), marked())
    assert (plan.provenance.table_marks, plan.devices[1].table_marks) == ((), (MARK,))
    assert f"MARKED: {MARK}" in shown(plan)
    picture = drawn(figures.plan_figure(plan))
    assert MARK in picture
    for said in ("mine, latency measured in a marked run", "iphone-16-pro-max.coreml.w4a8, latency derived"):
        assert said in picture


def test_marks_of_a_known_table_reach_what_is_transferred_from_it(tmp_path: Path) -> None:
    known = tmp_path / "known"
    marked().save(known)
    model = f"transfer[known={known}]"
    plan = s2search.plan("iphone-16-pro-max", depth=4, latency_model=model)
    assert plan.provenance.table_marks == (f"known: {MARK}",)


def test_tables_and_comparisons_say_their_marks() -> None:
    table = marked()
    assert MARK in drawn(table_figure.table_figure(table))
    assert MARK in table._repr_html_()
    assert repr(table).endswith("measured, marked>")
    assert compare(H100, table).after.marks == (MARK,)


def test_no_layout_fits_and_the_marks_are_told() -> None:
    with pytest.raises(InfeasibleError) as error:
        s2search.plan(marked(), depth=4, video="512x288", budget="0.1ms")
    assert error.value.fields["answer"].table_marks == {"mine": (MARK,)}


def test_the_digest_of_a_plan_is_that_from_before_marks_were_recorded() -> None:
    plan = planned(marked())
    bare = dataclasses.replace(
        plan,
        provenance=dataclasses.replace(plan.provenance, table_marks=()),
        latency_ms=dataclasses.replace(plan.latency_ms, provenance=()),
    )
    assert bare.digest == plan.digest


def test_of_many_marks_the_first_few_are_shown_and_the_rest_counted() -> None:
    assert mark_lines(["a", "b", "c", "d", "e"]) == ["MARKED: a", "MARKED: b", "MARKED: c", "and 2 further marks"]


def with_kinds(table: LatencyTable, kinds: dict[str, str]) -> LatencyTable:
    """Return a table some of whose rows say other kinds of evidence."""
    rows = [
        dataclasses.replace(row, latency_provenance=kinds.get(row.part, row.latency_provenance), samples=0)  # type: ignore[arg-type]
        if row.part in kinds
        else row
        for row in table.rows
    ]
    return dataclasses.replace(table, rows=tuple(rows))


def test_a_front_states_the_evidence_of_all_its_plans() -> None:
    front = s2search.frontier(with_kinds(H100, {"lcha": "estimated"}), depth=4, video="512x288")
    assert front.plans[0].counts["lcha"] == 0
    for said in (shown(front), front._repr_html_(), origin_text(front.plans)):
        assert "latency estimated and measured" in " ".join(said.split())


def test_switches_and_ends_count_as_evidence_too() -> None:
    plan = s2search.plan(with_kinds(H100, {"down": "estimated"}), depth=4, video="512x288", layout="L2S2")
    assert plan.latency_ms.provenance == ("estimated", "measured")
    plan = s2search.plan(with_kinds(H100, {"down": "estimated"}), depth=4, video="512x288", layout="L4")
    assert plan.latency_ms.provenance == ("measured",)


@pytest.mark.parametrize(("kinds", "sure"), [({}, True), ({"stem": "derived"}, False), ({"ssa": "estimated"}, False)])
def test_an_interval_is_called_95_percent_just_where_a_confidence_would_be_granted(
    kinds: dict[str, str], sure: bool
) -> None:
    table = with_kinds(H100, kinds)
    plan = s2search.plan(table, depth=4, video="512x288", layout="L2S2")
    for said in (shown(plan), drawn(figures.plan_figure(plan))):
        assert ("95 %" in said) == sure
    try:
        s2search.plan(table, depth=4, video="512x288", budget="20ms", confidence=0.95)
    except S2SearchError:
        assert not sure
    else:
        assert sure


def test_the_derived_table_prints_no_95_percent(s2search: Run) -> None:
    said = s2search("plan", "--depth", "8", "--budget", "100ms").out
    assert "95 %" not in said
    assert "by the derivation's own error; no timings" in said


def of_name(folder: Path, name: str, *marks: object) -> None:
    marked(H100, *marks).save(folder / name)


@pytest.mark.parametrize("words", [("plan", "--depth", "4", "--video", "512x288", "--table"), ("table", "show")])
@pytest.mark.parametrize("name", ["h100", H100.name])
def test_a_folder_with_the_name_of_an_installed_table_is_not_taken_for_it(
    s2search: Run, tmp_path: Path, words: Sequence[str], name: str
) -> None:
    of_name(tmp_path, name)
    done = s2search(*words, name)
    assert done.code == 2
    assert (
        f"s2search: {name!r} is a folder here, and also the installed table {H100.name!r}; write ./{name}" in done.err
    )
    assert done.err.count("\n") == 1
    assert MARK in s2search(*words, f"./{name}").out
    assert s2search("table", "lint", name).code == 2


def test_a_folder_that_is_no_table_or_the_very_same_one_does_not_stand_in_the_way(
    s2search: Run, tmp_path: Path
) -> None:
    (tmp_path / "h100").mkdir()
    H100.save(tmp_path / H100.name)
    for file in ("card.json", "table.csv"):
        installed = Path("latency_tables").resolve() / H100.name / file
        (tmp_path / H100.name / file).write_bytes(installed.read_bytes())
    for name in ("h100", H100.name):
        done = s2search("table", "show", name)
        assert (done.code, done.err) == (0, "")
        assert H100.digest[7:19] in done.out


def test_a_file_with_the_name_of_an_installed_score_is_not_taken_for_it(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "published").write_text("{}")
    done = s2search("plan", "--score", "published")
    assert (done.code, done.err) == (
        2,
        "s2search: 'published' is a file here, and also an installed score; write ./published for the file, "
        "or rename it for the installed one\n",
    )


@pytest.mark.parametrize("known", ["nope", "h100+nope", "./nope"])
def test_a_known_table_that_is_not_there_is_refused_also_where_no_row_needs_it(s2search: Run, known: str) -> None:
    done = s2search("plan", "--latency-model", f"transfer[known={known}]")
    assert done.code == 2
    assert "nope" in done.err

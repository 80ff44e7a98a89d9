"""Programs that were timed elsewhere: which of them are fitted to, which judge, and what a device's speed explains."""

from __future__ import annotations

import dataclasses

import pytest

from s2search.block import Block
from s2search.measurement.layouts import FIT_EVERY, context_layouts, draw_layouts, layout_text
from s2search.recalibration.attribution import Parts
from s2search.recalibration.campaign import PhoneCampaign, TimedProgram, recalibrate_by
from s2search.space import Space
from tests.recalibration.fake_bench import TRUE_MS, fake_table

SPACE = Space.parse("lcha,ssa,full", depth=6)
SHARE = {"lcha": 1.3, "ssa": 0.9, "full": 1.1}  # of a block's time, in programs


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return fake_table(tmp_path_factory.mktemp("tables") / "old")


def timed(kind, layers, ms):
    return TimedProgram(kind=kind, text=f"{kind} {layout_text(layers)}", layers=layers, ms=ms, error_ms=0.002 * ms)


def campaign(table, *, slower=1.0, share=SHARE, layouts=15, contaminated=lambda number: 1.0):
    """Return what a device gives without noise whose blocks take another share in programs than alone."""
    parts = Parts.of(table, table.scope("stream"))

    def program_ms(layers):
        counts = parts.counts(layers)
        return slower * sum(n * share.get(label, 1.0) * parts.latency_ms[label] for label, n in counts.items())

    drawn: list[tuple[Block, ...]] = [
        tuple(SPACE.candidates[c] for c in choice_L) for choice_L in draw_layouts(SPACE, layouts, seed=0)
    ]
    contexts = [timed("context", layers, program_ms(layers)) for layers in context_layouts(SPACE.candidates)]
    random = [timed("layout", layers, program_ms(layers) * contaminated(n)) for n, layers in enumerate(drawn)]
    return PhoneCampaign(
        programs=[*contexts, *random],
        alone_ms={label: (slower * ms, 0.01 * ms) for label, ms in TRUE_MS.items()},
        left_out=(),
        runtime=table.card.runtime,
        chip=table.card.chip,
        date="2026-01-02",
        drift_percent=0.0,
        marked=(),
        samples_digest="sha256:0",
    )


def corrected(table, out, **truth):
    return recalibrate_by(table, table.scope("stream"), campaign(table, **truth), out / "new", depth=6)


def test_layouts_that_judge_say_nothing_of_what_they_judge(table, tmp_path):
    found = corrected(table, tmp_path / "a")
    assert [one.held_out for one in found.layouts] == [False] * 12 + [False, True, True] * 5
    for name, judges in (("b", True), ("c", False)):

        def twice(number, judges=judges):
            return 2.0 if bool(number % FIT_EVERY) == judges else 1.0

        other = corrected(table, tmp_path / name, contaminated=twice)
        assert (other.correction == found.correction) == judges
        assert (other.fitted == found.fitted) == judges


@pytest.mark.parametrize("slower", [0.94, 1.06])
def test_a_device_that_is_slower_or_faster_as_a_whole_is_no_miss_of_its_table(table, tmp_path, slower):
    found = corrected(table, tmp_path, slower=slower, share={})
    assert found.correction.factor == pytest.approx(slower)
    assert not found.judgement.supported
    assert "at any speed of the device between" in found.refusal
    assert found.new_table is None


@pytest.mark.parametrize("slower", [0.94, 1.0, 1.06])
def test_what_its_speed_does_not_explain_is_corrected(table, tmp_path, slower):
    found = corrected(table, tmp_path, slower=slower)
    assert (found.new_table, found.refusal) == ("new", "")
    assert found.held_out.after_worst < 0.01 < found.held_out.before_median


def test_rows_of_other_sizes_and_units_stay_where_they_are(table, tmp_path):
    """A block that alone ran elsewhere is moved to where its programs ran; its rows of no such programs are not."""
    scope = table.scope("stream")

    def elsewhere(row, **changed):
        placed = {"compute_unit": "gpu", "unit_asked": scope.compute_unit, "unit_ran": "gpu:1"}
        return dataclasses.replace(row, **{**placed, **changed})

    rows = [elsewhere(row) if (row.part, row.role) == ("full", "block") else row for row in table.rows]
    (full,) = [row for row in table.rows if (row.part, row.role) == ("full", "block")]
    others = [
        elsewhere(full, height=2 * full.height),
        elsewhere(full, compute_unit="cpu_and_gpu", unit_asked="gpu"),
        elsewhere(full, part="kv_compressed"),
    ]
    forged = dataclasses.replace(table, rows=(*rows, *others))
    found = recalibrate_by(forged, scope, campaign(table), tmp_path / "new", depth=6)
    assert found.new_table == "new"
    new = type(table).load(tmp_path / "new")
    kept = {row.key for row in new.rows if row.compute_unit != scope.compute_unit}
    assert kept == {row.key for row in others}
    (moved,) = [row for row in new.in_scope(scope) if row.part == "full"]
    assert moved.latency_ms == pytest.approx(SHARE["full"] * TRUE_MS["full"], rel=0.02)


def test_what_a_chain_takes_beyond_its_parts_is_what_the_new_table_says_of_it(table, tmp_path):
    truth, layers = campaign(table), tuple(SPACE.candidates) * 2
    counts = Parts.of(table, table.scope("stream")).counts(layers)
    parts_ms = sum(n * SHARE.get(label, 1.0) * TRUE_MS.get(label, 0.0) for label, n in counts.items())
    chain = dataclasses.replace(timed("package", layers, parts_ms + 3.0), packages=2)
    told = dataclasses.replace(truth, programs=[*truth.programs, chain])
    found = recalibrate_by(table, table.scope("stream"), told, tmp_path / "new", depth=6)
    (package,) = [one for one in found.layouts if one.is_package]
    assert package.corrected_ms == pytest.approx(parts_ms + 3.0, rel=0.01)
    assert package.miss.hand_over_ms == pytest.approx(3.0, abs=0.1)

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from s2search.errors import QualityError, S2SearchError
from s2search.quality.base import FIELDS, Judgement, Setting, compare
from s2search.quality.evidence import EVIDENCE
from s2search.quality.file import QualityFile, When, open_quality
from s2search.quality.published import METRICS, STREAMED_VBENCH, TABLE_4, PublishedQuality
from s2search.testing.qualities import check_quality

SANDWICH = PublishedQuality().layouts[0]
PHONE = Setting(
    preset="s2dit-1.8b",
    depth=28,
    channels=2048,
    video="512x288",
    steps=4,
    chunk_frames=3,
    window_chunks=2,
    commit="reuse_last",
    precision="w4a8",
    layout=SANDWICH,
)
OTHERS: dict[str, Any] = {
    "preset": "mine",
    "depth": 24,
    "channels": 1024,
    "video": "256x144",
    "steps": 2,
    "chunk_frames": 1,
    "window_chunks": 3,
    "commit": "clean_pass",
    "precision": "w8a8",
    "decoder": "small",
    "layout": ("ssa",) * 28,
}
WRITTEN = {**{name: getattr(PHONE, name) for name in FIELDS}, "layout": "lcha*14,ssa*14"}
LAYOUT = ("lcha",) * 14 + ("ssa",) * 14


def write(folder: Path, entries: object, **other: object) -> Path:
    path = folder / "quality.json"
    content = {"schema": "s2search.quality/1", "name": "mine", "statement": "made up for a test", "entries": entries}
    path.write_text(json.dumps({**content, **other}))
    return path


def entry(value: float, when: dict[str, object] | None = None, **other: object) -> dict[str, object]:
    return {"when": when or {}, "value": value, "source": "a test", **other}


judgements = st.builds(
    Judgement,
    value=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0]),
    error=st.sampled_from([None, 0.0, 0.1, 0.5, 2.0]),
    scale=st.sampled_from(["VBench", "FID"]),
    source=st.just("a test"),
    provenance=st.sampled_from(["published", "measured", "stated"]),
)


@given(st.none() | judgements, st.none() | judgements)
def test_comparing_the_other_way_round_gives_the_opposite(one: Judgement | None, other: Judgement | None) -> None:
    opposite = {"better": "worse", "worse": "better", "equal": "equal", "incomparable": "incomparable"}
    assert compare(other, one) == opposite[compare(one, other)]


@given(judgements, judgements)
def test_designs_are_equal_within_1_96_errors_of_the_difference_and_only_on_one_scale(
    one: Judgement, other: Judgement
) -> None:
    by = abs(one.value - other.value) - 1.96 * math.sqrt((one.error or 0) ** 2 + (other.error or 0) ** 2)
    expected = "equal" if by <= 0 else "better" if one.value > other.value else "worse"
    assert compare(one, other) == (expected if one.scale == other.scale else "incomparable")


def test_two_errors_are_a_difference_and_one_point_nine_are_none() -> None:
    one = Judgement(value=1.0, error=0.3, scale="VBench", source="a test", provenance="measured")
    apart = [dataclasses.replace(one, value=1.0 - by * 0.5, error=0.4) for by in (1.9, 1.95, 1.97, 2.0)]
    assert [compare(one, other) for other in apart] == ["equal", "equal", "better", "better"]


def test_what_is_not_known_is_never_worse_nor_equal() -> None:
    known = Judgement(value=1.0, error=None, scale="VBench", source="a test", provenance="stated")
    assert compare(known, None) == compare(None, known) == compare(None, None) == "incomparable"


@pytest.mark.parametrize(("value", "error"), [(math.nan, None), (math.inf, 0.1), (1.0, -0.1), (1.0, math.nan)])
def test_a_judgement_is_a_finite_number_with_an_error_from_0(value: float, error: float | None) -> None:
    with pytest.raises(QualityError, match="finite numbers, errors from 0"):
        Judgement(value=value, error=error, scale="VBench", source="a test", provenance="stated")


def test_built_in_qualities_pass_the_conformance_suite(tmp_path: Path) -> None:
    varied = [PHONE, *(dataclasses.replace(PHONE, **{name: value}) for name, value in OTHERS.items())]
    for metric in METRICS:
        check_quality(PublishedQuality(metric=metric), varied)
    check_quality(open_quality(write(tmp_path, [entry(1), entry(2, {"steps": 2}, error=0.5)])), varied)


def test_the_published_figure_is_of_the_published_design_and_no_other() -> None:
    judged = PublishedQuality().judge(PHONE)
    assert judged is not None
    assert (judged.value, judged.error, judged.provenance) == (STREAMED_VBENCH, None, "published")
    for name in ("preset", "depth", "channels", "video", "steps", "chunk_frames", "window_chunks", "layout"):
        assert PublishedQuality().judge(dataclasses.replace(PHONE, **{name: OTHERS[name]})) is None, name
    assert PublishedQuality().judge(dataclasses.replace(PHONE, layout=None)) is None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", FIELDS)
def test_a_published_figure_orders_no_designs_that_differ_in_what_it_was_not_taken_for(metric: Any, name: str) -> None:
    quality = PublishedQuality(metric=metric)
    other = dataclasses.replace(PHONE, **{name: OTHERS[name]})
    order = compare(quality.judge(PHONE), quality.judge(other))
    assert (order == "incomparable") == (name != "layout" or metric == "vbench")


def test_table_4_orders_layouts_as_the_paper_does() -> None:
    """Source: S2DiT, table 4: every metric has full attention before the sandwich, and that before SSA alone."""
    assert sorted(TABLE_4, key=lambda name: TABLE_4[name][0]) == ["full", "sandwich", "ssa"]
    for metric in ("eval_loss", "clip", "fid", "fvd"):
        quality = PublishedQuality(metric=metric)  # type: ignore[arg-type]
        full, sandwich, ssa = (
            quality.judge(dataclasses.replace(PHONE, layout=layout))
            for layout in (("full",) * 28, SANDWICH, ("ssa",) * 28)
        )
        assert [compare(full, sandwich), compare(sandwich, ssa)] == ["better", "better"]


def test_the_sandwich_has_the_counts_that_the_paper_s_latencies_tell() -> None:
    assert (SANDWICH.count("lcha"), SANDWICH.count("ssa"), SANDWICH[0], SANDWICH[-1]) == (12, 16, "lcha", "lcha")


def test_evidence_is_of_what_two_designs_differ_in() -> None:
    fewer = dataclasses.replace(PHONE, steps=2)
    assert {one.axis for one in PublishedQuality().evidence(PHONE, fewer)} == {"steps"}
    assert PublishedQuality().evidence(PHONE, PHONE) == ()
    both = dataclasses.replace(fewer, chunk_frames=1)
    assert {one.axis for one in PublishedQuality().evidence(PHONE, both)} == {"steps", "chunk_frames"}
    assert {one.axis for one in EVIDENCE} <= {*FIELDS}


sides = st.sets(st.sampled_from([*FIELDS])).map(frozenset)


@hypothesis_settings(deadline=None)
@given(st.lists(sides, unique=True, min_size=1, max_size=6), sides)
def test_the_entry_that_states_more_than_all_others_that_fit_wins(
    stated: list[frozenset[str]], off: frozenset[str]
) -> None:
    """Against a plain reading: all entries that fit, and of these the one whose sides include everyone's."""
    content = [entry(n, {name: WRITTEN[name] for name in names}) for n, names in enumerate(stated)]
    whole = {"schema": "s2search.quality/1", "name": "mine", "statement": "made up", "entries": content}
    quality = msgspec.convert(whole, QualityFile)
    setting = dataclasses.replace(PHONE, **{"layout": LAYOUT} | {name: OTHERS[name] for name in off})
    fitting = [n for n, names in enumerate(stated) if not names & off]
    best = [n for n in fitting if all(stated[n] >= stated[m] for m in fitting)]
    if not fitting:
        assert quality.judge(setting) is None
    elif best:
        judged = quality.judge(setting)
        assert judged is not None
        assert judged.value == best[0]
    else:
        with pytest.raises(
            QualityError, match="neither includes the other; add an entry that states the sides of both"
        ):
            quality.judge(setting)


def test_entries_that_say_the_same_do_not_contradict_each_other(tmp_path: Path) -> None:
    same = [entry(5, {"steps": 4}), entry(5, {"video": "512x288"})]
    judged = open_quality(write(tmp_path, same)).judge(PHONE)
    assert judged is not None
    assert judged.value == 5
    with pytest.raises(QualityError, match=r"quality.json' states two values of one design, by 'steps' and 'video'"):
        open_quality(write(tmp_path, [same[0], {**same[1], "error": 0.1}])).judge(PHONE)


def test_a_file_s_entries_may_name_every_side_of_a_setting() -> None:
    assert tuple(field.name for field in msgspec.structs.fields(When)) == FIELDS


def test_scale_source_error_and_direction_reach_the_judgement(tmp_path: Path) -> None:
    path = write(tmp_path, [entry(7, error=0.5), entry(3, {"steps": 2}, scale="FVD")], larger_is_better=False)
    quality = open_quality(path)
    judged = quality.judge(PHONE)
    assert judged == Judgement(value=-7, error=0.5, scale="mine", source=f"a test ({path})", provenance="stated")
    two = quality.judge(dataclasses.replace(PHONE, steps=2))
    assert two is not None
    assert (two.value, two.error, two.scale) == (-3, None, "FVD")
    stated = open_quality(write(tmp_path, [entry(7)], scale="VBench total")).judge(PHONE)
    assert stated is not None
    assert (stated.value, stated.scale) == (7, "VBench total")


def test_a_file_s_layouts_are_those_that_its_entries_name(tmp_path: Path) -> None:
    quality = open_quality(
        write(tmp_path, [entry(1), entry(2, {"layout": "L2S"}), entry(3, {"layout": "lcha*2,ssa", "steps": 2})])
    )
    assert quality.layouts == (("lcha", "lcha", "ssa"),)


@given(st.sampled_from(["value", "error", "source", "scale", "steps", "statement", "name", "larger_is_better"]))
def test_the_digest_changes_with_anything_in_the_file(what: str) -> None:
    def digest(**change: Any) -> str:
        when = {"steps": change.pop("steps", 4)}
        head = {name: change.pop(name) for name in ("statement", "name", "larger_is_better") if name in change}
        whole = {"schema": "s2search.quality/1", "name": "mine", "statement": "made up", **head}
        return msgspec.convert({**whole, "entries": [entry(1, when) | change]}, QualityFile).digest

    changed = {"value": 2, "error": 0.1, "steps": 2, "larger_is_better": False}.get(what, "other")
    assert digest() == digest() != digest(**{what: changed})


def test_a_file_has_one_digest_wherever_it_lies(tmp_path: Path) -> None:
    path = write(tmp_path, [entry(1)])
    (tmp_path / "other.json").write_text(path.read_text())
    assert open_quality(path).digest == open_quality(tmp_path / "other.json").digest


def test_every_published_metric_has_a_digest_of_its_own() -> None:
    digests = [PublishedQuality(metric=metric).digest for metric in METRICS]
    assert len({*digests}) == len(METRICS)


@pytest.mark.parametrize(
    ("entries", "other", "complaint"),
    [
        ([], {}, "has 0 entries; 1 to 10,000"),
        ([entry(1), entry(2)], {}, "states the same designs in entries 1 and 2"),
        ([entry(1, {"layout": "L2S"}), entry(2, {"layout": "lcha*2,ssa"})], {}, "the same designs in entries 1 and 2"),
        ([entry(1, {"stepps": 4})], {}, "unknown field `stepps`"),
        ([entry(1, {"steps": None})], {}, "Expected `int`"),
        ([entry(1, {"steps": 0})], {}, "Expected `int` >= 1"),
        ([entry(1, {"steps": True})], {}, "Expected `int`"),
        ([entry(1, {"commit": "never"})], {}, "Invalid enum value 'never'"),
        ([entry(1, {"video": "wide"})], {}, "in entry 1: the video size 'wide' is not WIDTHxHEIGHT"),
        ([entry(1, {"layout": "nothing"})], {}, "in entry 1: no block is called 'nothing'"),
        ([entry(1, {"layout": "L2S", "depth": 4})], {}, "a layout of 3 layers at depth 4 in entry 1"),
        ([entry(1, error=-1)], {}, r"value 1.0 \+- -1.0 in entry 1; sizes below 1e\+100, errors from 0"),
        ([entry(1e101)], {}, r"has the value 1e\+101"),
        ([entry("NaN")], {}, "Expected `float`"),
        ([entry(1, source=" ")], {}, "has the source ' '; one line"),
        ([entry(1, source="a\nb")], {}, "one line of up to 300 characters"),
        ([entry(1, scale="\x1b[2J")], {}, "has the scale"),
        ([entry(1)], {"statement": "x" * 301}, "has the statement"),
        ([entry(1)], {"entires": []}, "no key of the quality"),
        ([entry(1)], {"schema": "s2search.quality/9"}, "made by a newer s2search"),
        ([entry(1)], {"schema": "s2search.score/1"}, "Invalid enum value 's2search.score/1'"),
        ([entry(1)], {"schema": None}, "Expected `str`"),
        ([entry(2**70)], {}, "64 bits"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(
    tmp_path: Path, entries: object, other: dict[str, object], complaint: str
) -> None:
    with pytest.raises(S2SearchError, match=complaint) as refused:
        open_quality(write(tmp_path, entries, **other))
    assert len(str(refused.value).splitlines()) == 1


def test_broken_files_and_what_is_no_file(tmp_path: Path) -> None:
    path = write(tmp_path, [entry(1)])
    whole = path.read_text()
    for text, complaint in {
        whole.replace('"value": 1', '"value": NaN'): "is not a quality",
        whole.replace('"value": 1', '"value": 1, "value": 2'): "has the key 'value' twice",
        whole.replace('"name"', '"name": "other", "name"'): "has the key 'name' twice",
        whole[:-1]: "is not a quality",
        "[" * 100_000: "nested too deeply",
        "[]": "is not a quality",
        "": "it is empty",
    }.items():
        path.write_text(text)
        with pytest.raises(QualityError, match=complaint):
            open_quality(path)
    path.write_bytes(b"\xef\xbb\xbf" + whole.encode())
    assert open_quality(path).judge(PHONE) is not None
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(QualityError, match="is not a quality"):
        open_quality(path)
    for missing in (str(tmp_path), str(tmp_path / "none.json"), "x" * 5000 + ".json", "/dev/null"):
        with pytest.raises(QualityError, match="cannot be read"):
            open_quality(missing)


def test_a_name_that_is_a_file_here_too_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_quality("published"), PublishedQuality)
    write(tmp_path, [entry(1)]).rename(tmp_path / "published")
    with pytest.raises(QualityError, match=r"write \./published for the file"):
        open_quality("published")
    assert isinstance(open_quality("./published"), QualityFile)


def test_fields_of_settings_vary_in_the_tests_above() -> None:
    assert OTHERS.keys() == {*FIELDS}
    assert all(getattr(PHONE, name) != OTHERS[name] for name in FIELDS)

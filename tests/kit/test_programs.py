"""Whole programs among the rows of a kit: what a phone says of them comes back whole, and no table has them."""

import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import InputError, TableError
from s2search.kit.ingest import ingest
from s2search.kit.manifest import read_manifest
from s2search.kit.programs import whole_programs
from s2search.measurement.layouts import context_layouts, layout_text, parts_of, parts_of_link
from s2search.space import layout_labels, parse_blocks
from s2search.tables.table import LatencyTable, open_table
from tests.command import run_here
from tests.kit.conftest import Mac, write_kit
from tests.kit.phone import Imitation, imitated, imitated_kit, play, slots_of
from tests.kit.test_ingest import write_results

PACKAGE = "lcha*4,ssa*8"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A campaign on a phone that throttles for a while, with a block that is too small for the Neural Engine."""
    folder = tmp_path_factory.mktemp("campaign") / "kit"
    manifest = imitated_kit(folder, package=PACKAGE)
    phone = Imitation(seed=5, misplaced=("ssa",), throttled=(0.4, 0.45))
    return manifest, phone, play(folder, manifest, phone, unplugged=(100, 500))


def test_every_program_comes_back_within_its_own_error_of_what_the_phone_takes(campaign):
    manifest, phone, results = campaign
    found = whole_programs(results)
    level = phone.level(slots_of(manifest))
    assert len(found.programs) == len(manifest.programs) == 6 + 15 + 3
    away = []
    for one in found.programs:
        truth_ms = level * phone.truth_ms(one.counts, one.function)
        away.append((one.times.corrected.median_ms - truth_ms) / max(one.times.error_ms, 0.005 * truth_ms))
        assert one.times.corrected.median_ms == pytest.approx(truth_ms, rel=0.03)
    assert np.mean(np.abs(away) < 3) >= 0.9


def test_drift_is_taken_out_of_programs_and_their_samples_are_kept_as_they_were_taken(campaign):
    manifest, _, results = campaign
    found = whole_programs(results)
    assert found.drift_percent > 5
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    for row, one in zip(manifest.programs, found.programs, strict=True):
        own = [line for line in lines if line["kind"] == "sample" and line["row"] == row.id and not line["sentinel"]]
        cool = [line["ms"] for line in own if line["thermal"] == "nominal"]
        assert list(one.sample_ms) == cool
        assert one.times.samples == len(cool) < len(own) or len(cool) == len(own)
        assert one.times.corrected.median_ms == pytest.approx(float(np.median(one.corrected_ms)))
        assert one.p95_ms == pytest.approx(np.percentile(cool, 95))
    spread = {
        name: np.std(np.log([ms for one in found.programs for ms in getattr(one, name) / np.median(one.sample_ms)]))
        for name in ("sample_ms", "corrected_ms")
    }
    assert spread["corrected_ms"] < spread["sample_ms"]


def test_what_programs_are_made_of_is_known_and_reads_back_as_layers(campaign):
    manifest, _, results = campaign
    for row, one in zip(manifest.programs, whole_programs(results).programs, strict=True):
        layers = [block for label in layout_labels(one.layout) for block in parse_blocks(label)]
        assert one.counts == parts_of(layers)
        assert one.layout == layout_text(layers)
        assert one.label == row.label
    assert len({row.label for row in manifest.rows}) == len(manifest.rows)


def test_the_package_has_its_functions_apart_in_single_predictions(campaign):
    _, phone, results = campaign
    shipped = {one.function: one for one in whole_programs(results).programs if one.kind == "package"}
    assert list(shipped) == ["first", "denoise", "commit"]
    assert {one.repetitions for one in shipped.values()} == {1}
    ticks = np.array(shipped["denoise"].sample_ms) / phone.tick_ms
    assert np.allclose(ticks, ticks.round())
    assert len(shipped["first"].loads_ms) == len(shipped["first"].first_calls_ms) == 3  # unplugged twice
    assert shipped["first"].first_calls_ms[0] == pytest.approx(3 * phone.truth_ms(shipped["first"].counts, "first"))
    assert shipped["first"].cold_loads_ms == (900.0, 90.0)
    assert shipped["first"].times.corrected.median_ms < shipped["denoise"].times.corrected.median_ms


def test_memory_is_what_the_app_grew_by_for_programs_as_for_rows(campaign):
    manifest, _, results = campaign
    for row, one in zip(manifest.programs, whole_programs(results).programs, strict=True):
        held_bytes = one.weight_bytes + one.state_bytes
        assert one.memory.counter == "phys_footprint"
        assert one.memory.load_bytes - held_bytes == 8_000_000
        assert one.memory.steady_bytes - one.memory.load_bytes == row.peak_bytes


def test_the_table_has_no_row_of_a_program_and_their_samples_stand_beside_it(campaign, tmp_path):
    manifest, _, results = campaign
    found = ingest(results, tmp_path, keep_misplaced=True)
    (folder,) = found.folders
    table = LatencyTable.load(folder)
    assert {row.part for row in table.rows} == {"lcha", "ssa", "down", "up", "stem", "head", "long_skip"}
    assert {row.role for row in table.rows} == {"block", "commit", "switch", "fixed"}
    told = table.card.protocol["programs"]
    assert (told["file"], told["timed"], told["of"]) == ("programs.json", 24, 24)
    beside = json.loads((folder / told["file"]).read_text())
    assert beside["schema"] == "s2search.kit_programs/1"
    assert sum(len(one["sample_ms"]) for one in beside["programs"]) == told["samples"]
    assert [one["label"] for one in beside["programs"]] == [row.label for row in manifest.programs]
    assert found.programs == (whole_programs(results),)
    before = (folder / told["file"]).read_bytes()
    ingest(results, tmp_path, keep_misplaced=True)
    assert (folder / told["file"]).read_bytes() == before


def test_a_misplaced_program_is_named_and_refuses_no_table(tmp_path):
    folder = tmp_path / "kit"
    manifest = imitated_kit(folder, layouts=0)
    results = play(folder, manifest, Imitation(seed=1, misplaced=("lcha*2",)))
    found = ingest(results, tmp_path / "tables")
    (whole,) = found.programs
    assert found.misplaced == ()
    (sentence,) = whole.misplaced
    assert "context lcha*2" in sentence
    assert "was asked to run on neural_engine and ran on cpu:0.9,neural_engine:0.1" in sentence
    assert [one.layout for one in whole.programs if one.misplaced] == ["lcha*2"]


def test_samples_of_programs_say_what_a_block_adds(campaign):
    _, phone, results = campaign
    whole = whole_programs(results)
    assert not any(one.misplaced for one in whole.programs)
    two, three = (
        next(one for one in whole.programs if one.layout == f"ssa*{n}" and one.kind == "context") for n in (2, 3)
    )
    alone = next(times for label, times in whole.parts.items() if label.startswith("stream ssa 3"))
    added_ms = three.times.corrected.median_ms - two.times.corrected.median_ms
    assert alone.corrected.median_ms > 1.5 * added_ms
    assert added_ms < 1.5 * phone.part_ms("ssa")


@given(st.lists(st.sampled_from(["lcha", "ssa", "full"]), min_size=2, max_size=9), st.data())
def test_the_links_of_a_chain_call_together_what_the_model_calls(labels, data):
    layers = [block for label in labels for block in parse_blocks(label)]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(layers) - 1))))
    spans = list(pairwise([0, *cuts, len(layers)]))
    assert sum((parts_of_link(layers, *span) for span in spans), Counter()) == parts_of(layers)


def test_a_kit_without_programs_says_how_to_get_some(tmp_path):
    results = write_results(tmp_path / "kit", write_kit(tmp_path / "kit"))
    with pytest.raises(InputError, match=r"times no whole programs; build one with s2search kit build --layouts"):
        whole_programs(results)
    assert ingest(results, tmp_path / "tables").programs == ()


def test_sustained_times_of_programs_are_asked_for_by_name(campaign):
    with pytest.raises(InputError, match=r"asks for no sustained load"):
        whole_programs(campaign[2], sustained=True)


def test_a_row_of_a_program_names_one_and_no_other_row_does(campaign, tmp_path):
    manifest, _, _ = campaign
    found = json.loads(manifest.to_json())
    program = next(row for row in found["rows"] if row["role"] == "layout")["program"]
    for number, change in ((0, {"program": program}), (len(found["rows"]) - 1, {"role": "block"})):
        rows = [row | (change if row["id"] == number else {}) for row in found["rows"]]
        (tmp_path / "manifest.json").write_text(json.dumps(found | {"rows": rows}))
        with pytest.raises(InputError, match=r"row \d+ is of the role"):
            read_manifest(tmp_path)


def test_contexts_are_all_pairs_and_the_difference_of_three_and_two():
    blocks = parse_blocks("lcha,ssa,full")
    texts = [layout_text(layers) for layers in context_layouts(blocks)]
    assert len(texts) == len(set(texts)) == 2 * 3 + 3 * 2
    for block in blocks:
        added = parts_of((block,) * 3) - parts_of((block,) * 2)
        assert added == {block.label: 1}


@pytest.mark.slow
def test_over_twenty_phones_times_are_the_truth_within_one_per_cent_or_three_standard_errors(tmp_path):
    manifest, within, level = imitated_kit(tmp_path, package="lcha*12,ssa*16"), [], []
    for seed in range(20):
        phone = Imitation(seed=seed, misplaced=("ssa",), throttled=(0.4, 0.43))
        found = whole_programs(play(tmp_path, manifest, phone, unplugged=(200, 700)))
        at = phone.level(slots_of(manifest))
        truth_ms = [at * phone.truth_ms(one.counts, one.function) for one in found.programs]
        ratios = [one.times.corrected.median_ms / ms for one, ms in zip(found.programs, truth_ms, strict=True)]
        errors = [one.times.error_ms / one.times.corrected.median_ms for one in found.programs]
        within += [abs(ratio - 1) <= max(0.01, 3 * error) for ratio, error in zip(ratios, errors, strict=True)]
        level.append(abs(float(np.median(ratios)) - 1))
    assert np.mean(within) >= 0.95
    assert np.median(level) < 0.005
    assert max(level) < 0.02


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """The same phone behind the runner and the imitations of Apple's tools, unplugged twice, then heated."""
    protocol = {"rounds": 3, "timeout_s": 5, "sustained_s": 40.0}
    folder = tmp_path_factory.mktemp("behind")
    mac = Mac(folder, write=imitated_kit, layouts=0, package="lcha*2", mac=True, **protocol)
    phone = Imitation(seed=2, jump=0.0)
    mac.faults(**imitated(phone, mac.manifest), unplug_at=[5, 20], looks_until_back=8)
    mac.run()
    return mac, phone


@pytest.mark.slow
def test_the_same_phone_behind_the_runner_gives_the_same_programs(behind, tmp_path):
    mac, phone = behind
    found = whole_programs(mac.results)
    shutil.copytree(mac.kit, tmp_path / "kit")
    here = programs_here(play(tmp_path / "kit", mac.manifest, phone))
    assert [one.sample_ms for one in found.programs] == here
    assert {one.unit_ran for one in found.programs} == {"neural_engine:0.97,cpu:0.03"}
    assert found.programs[-1].first_calls_ms == (40.25,) * 4  # three launches, and once more under load


def programs_here(results):
    """Return the samples of programs in results that a phone without the runner gave."""
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    manifest, _ = read_manifest(results.parent)
    samples = [line for line in lines if line["kind"] == "sample" and not line["sentinel"]]
    return [tuple(line["ms"] for line in samples if line["row"] == row.id) for row in manifest.programs]


@pytest.mark.slow
def test_the_runner_asks_for_every_function_by_its_name(behind):
    mac, _ = behind
    asked = {tuple(json.loads(line)) for line in (mac.world / "functions.jsonl").read_text().splitlines()}
    told = {
        (Path(one.path).stem, None if one.function is msgspec.UNSET else one.function) for one in mac.manifest.packages
    }
    assert asked == told
    assert {function for _, function in asked} == {None, "first", "denoise", "commit"}


@pytest.mark.slow
def test_programs_are_timed_under_sustained_load_too(behind, tmp_path):
    mac, phone = behind
    cold, hot = whole_programs(mac.results), whole_programs(mac.results, sustained=True)
    assert [one.label for one in cold.programs] == [one.label for one in hot.programs]
    assert hot.mode.startswith("sustained for 40 s")
    for one in hot.programs:
        truth_ms = (1 + phone.throttle) * phone.truth_ms(one.counts, one.function)
        assert one.times.corrected.median_ms == pytest.approx(truth_ms, rel=0.08)
    found = ingest(mac.results, tmp_path)
    assert found.programs == (cold, hot)
    assert [table.card.protocol["programs"]["timed"] for table in found.tables] == [9, 9]


CONTRADICTIONS = {
    "row 3 says id 7": lambda kit: kit["rows"][3].update(id=7),
    "the sentinel is row -1": lambda kit: kit.update(sentinel=-1),
    "the sentinel is row 99": lambda kit: kit.update(sentinel=99),
    "row 3 is of a package that it lacks": lambda kit: kit["rows"][3].update(package="sha256:none"),
    "names row 99": lambda kit: kit["order"][5].update(row=99),
    "slot 5 says 4": lambda kit: kit["order"][5].update(slot=4),
    "pays -3 of lcha": lambda kit: kit["rows"][-1]["program"].update(counts={"lcha": -3}),
    r"has the links \[1, 1\] of 2": lambda kit: kit["rows"][-1]["program"].update(link=1),
    r"has the links \[1, 2\] of 3": lambda kit: kit["rows"][-1]["program"].update(links=3),
}


@pytest.mark.parametrize("said", CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_refused_by_what_it_says(said, tmp_path):
    imitated_kit(tmp_path / "kit", layouts=0, contexts=False, package="lcha*1,ssa*2", links=2)
    read_manifest(tmp_path / "kit")
    path = tmp_path / "kit/manifest.json"
    kit = json.loads(path.read_text())
    CONTRADICTIONS[said](kit)
    path.write_text(json.dumps(kit))
    with pytest.raises(InputError, match=f"contradicts itself: .*{said}"):
        read_manifest(tmp_path / "kit")


def test_results_are_found_by_the_kits_folder_and_missed_by_name(tmp_path):
    manifest = imitated_kit(tmp_path / "kit", layouts=0, candidates="lcha", rounds=3)
    with pytest.raises(InputError, match=r"there are no results .*run the kit on the Mac"):
        whole_programs(tmp_path / "kit")
    results = play(tmp_path / "kit", manifest, Imitation(seed=3))
    assert whole_programs(tmp_path / "kit") == whole_programs(results)
    with pytest.raises(InputError, match=r"there are no results '.*elsewhere'; name the kit's folder"):
        whole_programs(tmp_path / "elsewhere")


def test_a_folder_of_tables_is_no_table_and_names_those_that_it_holds(tmp_path):
    play(tmp_path / "kit", imitated_kit(tmp_path / "kit", layouts=0, contexts=False, rounds=3), Imitation(seed=3))
    ingest(tmp_path / "kit", tmp_path / "tables")
    with pytest.raises(TableError, match=r"holds tables and is none; .*iphone-9.coreml.float16; name one"):
        open_table(tmp_path / "tables")
    assert open_table(tmp_path / "tables/iphone-9.coreml.float16").rows


def test_links_of_a_chain_are_told_apart_where_they_are_printed(tmp_path):
    asked = {"layouts": 0, "contexts": False, "package": "lcha*1,ssa*2", "links": 2, "rounds": 3}
    play(tmp_path / "kit", imitated_kit(tmp_path / "kit", **asked), Imitation(seed=3))
    printed = run_here(["kit", "ingest", "kit", "--out", "tables"], tmp_path).out
    assert "package denoise link 2 of 2: p50" in printed

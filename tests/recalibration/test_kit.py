"""A phone's table corrected by the whole programs of its kit, on an imagined phone whose truth is known."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass

import msgspec
import pytest

import s2search
from s2search import registry
from s2search.errors import InputError
from s2search.kit.ingest import ingest
from s2search.measurement.layouts import parts_of
from s2search.recalibration.attribution import Parts
from s2search.reporting.kit import built_text
from s2search.space import layout_labels
from s2search.tables.table import LatencyTable
from tests.command import run_here
from tests.kit.phone import Imitation, imitated_kit, play, slots_of

PACKAGE = "lcha*4,ssa*8,lcha*2,ssa*6,lcha*3,ssa*3,lcha*2"
UNIT = "cpu_and_neural_engine"
SEEDS = range(20)
SOURCES = {"blocks": ("lcha", "ssa", "full"), "switches": ("down", "up"), "fixed": ("stem", "head")}


def blocks_of(layout):
    return [registry.create("blocks", label) for label in layout_labels(layout)]


def first_kit(folder, phone):
    """Blocks alone: the phone is unplugged twice, throttles, and has one block on its processor."""
    manifest = imitated_kit(folder / "first", candidates="lcha,ssa,full", layouts=0, contexts=False, rounds=20)
    results = play(folder / "first", manifest, phone, unplugged=(20, 60))
    with pytest.raises(InputError, match=r"full .* ran on cpu"):
        ingest(results, folder / "tables")
    return manifest, ingest(results, folder / "tables", keep_misplaced=True).folders[0]


def second_kit(folder, phone, name="second", **changed):
    """What decides: blocks in context, small layouts, and the package."""
    asked = {"candidates": "lcha,ssa,full", "package": PACKAGE, "rounds": 20, "phone": phone, **changed}
    manifest = imitated_kit(folder / name, **asked)
    return manifest, play(folder / name, manifest, phone)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one phone told, and its truth, milliseconds."""

    found: s2search.recalibration.result.Recalibration
    table: LatencyTable | None
    phone: Imitation
    level: float
    package: object
    true_ms: dict[str, float]
    whole_ms: float


def told(folder, seed):
    phone = Imitation(seed=seed, misplaced=("full",), throttled=(0.3, 0.4))
    before, table = first_kit(folder, phone)
    manifest, results = second_kit(folder, phone)
    found = s2search.recalibrate(f"kit:{results}", folder / "new", of=table, depth=28)
    rows = LatencyTable.load(table)
    old = Parts.of(rows, rows.scope("stream", compute_unit=UNIT))
    counts, level = old.counts(blocks_of(PACKAGE)), phone.level(slots_of(manifest))
    drift = level / phone.level(slots_of(before))

    def beyond(labels, call_ms=0.0):
        own = [label for label in labels if counts[label]]
        new_ms = sum(counts[label] * phone.part_ms(label) for label in own)
        return level * (new_ms + call_ms) - drift * sum(counts[label] * old.latency_ms[label] for label in own)

    true_ms = {name: beyond(labels, phone.call_ms * (name == "fixed")) for name, labels in SOURCES.items()}
    true_ms["drift"] = (drift - 1) * old.sum_ms(counts)
    handed = sum(count * phone.state_megabytes(label) for label, count in counts.items() if label != "long_skip")
    true_ms["hand_over"] = level * phone.hand_over_ms(handed)
    return Told(
        found=found,
        table=LatencyTable.load(folder / "new") if found.new_table else None,
        phone=phone,
        level=level,
        package=next(one for one in found.layouts if one.is_package),
        true_ms=true_ms,
        whole_ms=level * phone.truth_ms(parts_of(blocks_of(PACKAGE))),
    )


@pytest.fixture(scope="module")
def phones(tmp_path_factory):
    return [told(tmp_path_factory.mktemp(f"phone{seed}"), seed) for seed in SEEDS]


def test_the_miss_of_a_package_is_attributed_within_its_errors_and_these_say_what_they_are(phones):
    for source in ("drift", "blocks", "switches", "fixed", "hand_over"):
        inside = 0
        for one in phones:
            miss, true_ms = one.package.miss, one.true_ms[source]
            found_ms, error_ms = getattr(miss, f"{source}_ms"), miss.errors_ms[source]
            assert abs(found_ms - true_ms) <= max(0.01 * one.whole_ms, 3 * error_ms), (source, one.phone.seed)
            assert error_ms < 0.05 * one.whole_ms  # an error that excuses everything says nothing
            inside += abs(found_ms - true_ms) <= 1.96 * error_ms
        assert inside >= 0.9 * len(phones), source


def test_what_is_foretold_in_the_end_is_what_the_phone_takes(phones):
    before = [abs(one.package.predicted_ms / one.whole_ms - 1) for one in phones]
    after = [abs(one.package.corrected_ms / one.whole_ms - 1) for one in phones]
    assert statistics.median(before) > 0.08
    assert statistics.median(after) < 0.02
    assert max(after) < 0.04
    assert sum(one.found.new_table is not None for one in phones) >= 18


def test_plans_on_the_new_table_foretell_other_layouts_of_that_size(phones):
    errors = []
    for one in phones:
        if one.table is None:
            continue
        parts = Parts.of(one.table, one.table.scope("stream", compute_unit=UNIT))
        for layout in ("lcha*28", "ssa*28", "lcha*9,ssa*10,full*9", "ssa*3,lcha*22,ssa*3"):
            true_ms = one.level * one.phone.truth_ms(parts_of(blocks_of(layout)))
            errors.append(abs(parts.sum_ms(parts.counts(blocks_of(layout))) / true_ms - 1))
    assert statistics.median(errors) < 0.02


@pytest.mark.parametrize("links", [2, 3])
def test_what_a_chain_of_packages_pays_for_its_links_is_told_and_foretold(tmp_path, links):
    errors = []
    for seed in range(5):
        phone, folder = Imitation(seed=seed), tmp_path / str(seed)
        manifest, results = second_kit(folder, phone, links=links)
        found = s2search.recalibrate(f"kit:{results}", folder / "new", depth=28)
        (package,) = [one for one in found.layouts if one.is_package]
        level = phone.level(slots_of(manifest))
        rows = [row for row in msgspec.to_builtins(manifest.rows) if row["role"] == "layout" and row["single_calls"]]
        calls = [phone.row_ms(row) for row in rows if row["program"]["function"] == "denoise"]
        parts = parts_of(blocks_of(PACKAGE))
        parts_ms = phone.call_ms + sum(count * phone.part_ms(label) for label, count in parts.items())
        handed_ms = level * (sum(calls) - parts_ms)
        assert len(calls) == links
        miss = package.miss
        assert abs(miss.hand_over_ms - handed_ms) <= max(0.01 * package.measured_ms, 3 * miss.errors_ms["hand_over"])
        errors.append(abs(package.corrected_ms / (level * sum(calls)) - 1))
    assert statistics.median(errors) < 0.02


@pytest.mark.parametrize(("change", "said"), [("hot", "throttled"), ("cpu", "ran on cpu")])
def test_a_chain_of_which_a_link_is_missing_or_ran_elsewhere_is_no_program(tmp_path, change, said):
    manifest, results = second_kit(tmp_path, Imitation(seed=1), links=2)
    links = [row for row in manifest.programs if row.single_calls and row.program.function == "denoise"]
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    for line in lines:
        if line.get("row") == links[1].id and not line.get("sentinel"):
            if change == "hot" and line["kind"] == "sample":
                line["thermal"] = "critical"
            if change == "cpu" and line["kind"] == "placement":
                line["cost"] = {"cpu": 0.9, "neural_engine": 0.1}
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = s2search.recalibrate(f"kit:{results}", tmp_path / "new", depth=28)
    assert not any(one.is_package for one in found.layouts)
    assert said in " ".join(found.left_out)


def test_a_block_that_alone_ran_elsewhere_is_found_in_context(phones):
    for one in phones:
        if one.table is None:
            continue
        (row,) = [row for row in one.table.rows if row.part == "full" and row.role == "block"]
        assert (row.compute_unit, row.unit_ran, row.latency_provenance) == (UNIT, None, "derived")
        assert "alone it ran on cpu" in row.note
        assert row.latency_ms == pytest.approx(one.level * one.phone.part_ms("full"), rel=0.15)


def test_a_switch_that_alone_ran_elsewhere_is_found_in_context_too(tmp_path):
    errors = []
    for seed in range(6):
        phone, folder = Imitation(seed=seed, misplaced=("up",)), tmp_path / str(seed)
        manifest, results = second_kit(folder, phone)
        found = s2search.recalibrate(f"kit:{results}", folder / "new", depth=28)
        assert found.new_table == "new"
        rows = {row.label: row for row in LatencyTable.load(folder / "new").rows if row.compute_unit == UNIT}
        assert "alone it ran on cpu" in rows["up"].note
        pair_ms = rows["down"].latency_ms + rows["up"].latency_ms  # programs have as many of the one as of the other
        true_ms = phone.level(slots_of(manifest)) * (phone.part_ms("down") + phone.part_ms("up"))
        assert pair_ms == pytest.approx(true_ms, abs=0.6)
        errors += [one.corrected_ms / one.measured_ms - 1 for one in found.layouts]
    assert abs(statistics.median(errors)) < 0.005  # no program is foretold too high because one row cannot fall further


def test_a_second_run_gives_the_same_table(tmp_path):
    phone = Imitation(seed=7)
    _, results = second_kit(tmp_path, phone)
    first, second = (s2search.recalibrate(f"kit:{results}", tmp_path / name / "new", depth=28) for name in "ab")
    assert first.new_digest == second.new_digest


def test_without_a_table_the_kits_own_rows_are_corrected_and_nothing_drifted(tmp_path):
    _, results = second_kit(tmp_path, Imitation(seed=1))
    found = s2search.recalibrate(f"kit:{results.parent}", tmp_path / "new", depth=28)
    assert found.new_table == "new"
    assert {one.miss.drift_ms for one in found.layouts} == {0.0}
    assert found.correction.factor == 1.0


def test_a_program_that_ran_elsewhere_says_nothing_and_is_named(tmp_path):
    phone = Imitation(seed=2, misplaced=("lcha*2",))
    _, results = second_kit(tmp_path, phone)
    found = s2search.recalibrate(f"kit:{results}", tmp_path / "new", depth=28)
    assert "lcha*2" not in {one.layout for one in found.layouts}
    (said,) = found.left_out
    assert "lcha*2" in said
    assert "ran on cpu" in said


def changing(results, every):
    """Make some programs change the processor, and pay for it."""
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    manifest = json.loads((results.parent / "manifest.json").read_text())
    changes = {
        row["id"]: 2 * (row["id"] % every)
        for row in manifest["rows"]
        if row["role"] == "layout" and not row["single_calls"]
    }
    for line in lines:
        if line["kind"] == "placement" and line["row"] in changes:
            line["changes"] = changes[line["row"]]
        if line["kind"] == "sample" and not line["sentinel"]:
            line["ms"] += 0.7 * changes.get(line["row"], 0)
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {row["program"]["layout"]: changes[row["id"]] for row in manifest["rows"] if row["id"] in changes}


def test_changes_of_the_processor_are_told_from_blocks(tmp_path):
    phone = Imitation(seed=3)
    _, results = second_kit(tmp_path, phone)
    changes = changing(results, every=3)
    found = s2search.recalibrate(f"kit:{results}", tmp_path / "new", depth=28)
    for one in found.layouts:
        if many := changes.get(one.layout):
            assert one.miss.changes_ms / many == pytest.approx(0.7, abs=0.15)
        elif one.is_package:
            assert one.miss.changes_ms == 0


def test_a_kit_of_another_phone_model_or_with_few_layouts_is_refused_in_one_line(tmp_path):
    phone = Imitation(seed=4)
    _, table = first_kit(tmp_path, Imitation(seed=4, misplaced=("full",)))
    _, few = second_kit(tmp_path, phone, "few", layouts=4, contexts=False)
    _, none = second_kit(tmp_path, phone, "none", layouts=0, contexts=False, package="")
    _, other = second_kit(tmp_path, phone, "other", candidates="lcha,ssa,kv_compressed")
    asked = {
        few: "6 whole programs|cannot judge a table",
        none: "times no whole programs",
        other: "has no row of kv_compressed",
    }
    for results, said in asked.items():
        with pytest.raises(InputError, match=said) as refused:
            s2search.recalibrate(f"kit:{results}", tmp_path / "new", of=table, depth=28)
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "new").exists()
    _, strange = second_kit(tmp_path, phone, "strange")
    strange.write_text(strange.read_text().replace('"A10"', '"A11"'))
    with pytest.raises(InputError, match=r"run on the chip 'A11', and the table .* 'A10'; .*leave out --table"):
        s2search.recalibrate(f"kit:{strange}", tmp_path / "new", of=table, depth=28)


def test_the_command_prints_the_package_and_what_was_left_out(tmp_path):
    _, table = first_kit(tmp_path, Imitation(seed=5, misplaced=("full",)))
    _, results = second_kit(tmp_path, Imitation(seed=5, misplaced=("full", "ssa*2")))
    words = ["recalibrate", f"kit:{results}", "--table", str(table), "--depth", "28", "--out", str(tmp_path / "new")]
    done = run_here(words, tmp_path)
    assert done.code == 0, done.err
    assert max(len(line) for line in done.out.splitlines()) <= 80
    for word in ("package", "beyond what was foretold", "hand-over", "±", "left out", "ssa*2"):
        assert word in " ".join(done.out.split())
    refused = run_here(["recalibrate", "table", "--table", str(table)], tmp_path)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "kit:results.jsonl" in refused.err


def test_options_of_a_timing_here_are_refused_with_a_kit_and_a_kit_is_called_one(tmp_path):
    manifest = imitated_kit(tmp_path / "kit", candidates="lcha", layouts=0, rounds=3)
    play(tmp_path / "kit", manifest, Imitation(seed=3))
    for option, value in (("--layouts", "15"), ("--runtime", "onnxruntime"), ("--candidates", "full"), ("--seed", "1")):
        found = run_here(["recalibrate", "kit:kit", option, value, "--out", "new"], tmp_path)
        assert (found.code, f"{option} {value} is of programs that are timed here" in found.err) == (2, True)
    found = run_here(["recalibrate", "kit", "--out", "new"], tmp_path)
    assert (found.code, "say kit:kit" in found.err) == (2, True)


def test_a_kit_whose_programs_all_ran_elsewhere_says_so(tmp_path):
    manifest = imitated_kit(tmp_path / "kit", rounds=3)
    path = play(tmp_path / "kit", manifest, Imitation(seed=3))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    moved = [line | {"operations": {"cpu": 1}, "cost": {}} if line["kind"] == "placement" else line for line in lines]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in moved))
    with pytest.raises(InputError, match=r"no whole program ran where it was asked: .* ran on cpu:1"):
        s2search.recalibrate(f"kit:{path}", tmp_path / "new")
    play(tmp_path / "kit", manifest, Imitation(seed=3))
    with pytest.raises(InputError, match=r"no whole program of 3x9x16 tokens; 3x3x4"):
        s2search.recalibrate(f"kit:{path}", tmp_path / "new", video="256x144")


def test_a_chain_does_not_keep_memory_from_being_corrected(tmp_path):
    manifest = imitated_kit(tmp_path / "kit", package="lcha*2,ssa*2", links=2, rounds=3)
    play(tmp_path / "kit", manifest, Imitation(seed=3))
    found = s2search.recalibrate(f"kit:{tmp_path / 'kit'}", tmp_path / "new")
    assert found.memory is not None
    assert found.memory.judgement.layouts == 10


def test_a_package_of_another_precision_than_the_rows_is_named_as_left_out(tmp_path):
    manifest = imitated_kit(tmp_path / "kit", package="lcha*2,ssa*2", rounds=3)
    path = tmp_path / "kit/manifest.json"
    rows = [
        msgspec.structs.replace(row, precision="w4a8") if row.program and row.program.kind == "package" else row
        for row in manifest.rows
    ]
    changed = msgspec.structs.replace(manifest, rows=rows)
    path.write_bytes(changed.to_json())
    play(tmp_path / "kit", changed, Imitation(seed=3))
    found = s2search.recalibrate(f"kit:{tmp_path / 'kit'}", tmp_path / "new")
    (left_out,) = found.left_out
    assert left_out.startswith("stream package denoise lcha*2,ssa*2 3x3x4 w4a8")
    assert "it is no program of" in left_out
    assert "The package is of w4a8 at 3x3x4 tokens, and no row is" in str(built_text(changed, tmp_path))

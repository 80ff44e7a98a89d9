import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2search.errors import InputError
from s2search.exporters.coreml.form import Form
from s2search.kit import build as building
from s2search.kit.build import build
from s2search.kit.manifest import KitManifest, KitProtocol, grouped, ordered, read_manifest
from s2search.measurement.coreml_item import convert_item
from s2search.measurement.items import FORWARD, campaign_items
from s2search.mil.library import load_coremltools
from s2search.preset import Preset
from s2search.space import parse_blocks
from tests.export.coreml.test_contents import palette_sizes

TINY = Preset.named("s2dit-tiny")


def items(candidates="ssa"):
    return campaign_items(TINY, "64x48", scenarios=["stream"], candidates=parse_blocks(candidates), roles=FORWARD)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit that the command line has built."""
    out = tmp_path_factory.mktemp("kits") / "kit"
    done = subprocess.run(
        command(out), capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    lines = done.stderr.splitlines()  # no advice of coremltools, no progress bars: a line where a step takes long
    assert (done.returncode, [line for line in lines if not line.startswith("converting: ")]) == (0, [])
    assert f"{out}: 24 rows, 12 packages, " in done.stdout.replace("\n", "")
    assert "follow its README.md" in done.stdout
    return out


def load_spec(path):
    return load_coremltools().utils.load_spec(str(path))


def command(out):
    words = ["--out", str(out), "--preset", "s2dit-tiny", "--video", "64x48", "--candidates", "ssa"]
    words += ["--precision", "float16", "--precision", "w4a16", "--compute-units", "cpu_only", "--compute-units", "all"]
    words += ["--sustained", "5m"]
    return [sys.executable, "-m", "s2search", "kit", "build", *words]


def test_a_kit_is_one_folder_with_all_that_a_mac_needs(kit):
    assert {path.name for path in kit.iterdir()} == {"README.md", "manifest.json", "packages", "runner", "swift"}
    manifest, _ = read_manifest(kit)
    assert {package.path for package in manifest.packages} == {
        f"packages/{path.name}" for path in kit.glob("packages/*")
    }
    for package in manifest.packages:
        assert (kit / package.path / "Data/com.apple.CoreML/model.mlmodel").exists()
        assert package.parity_db > 100
    assert (kit / "runner" / "__main__.py").exists()
    assert (kit / "swift" / "KitRunner.xcodeproj" / "project.pbxproj").exists()
    readme = (kit / "README.md").read_text()
    for command in ("pip install coremltools==9.0", "runner check", "runner run", "s2search kit ingest results.jsonl"):
        assert command in readme
    assert "Not run so far" in readme


def test_sustained_load_is_in_the_manifest_and_the_readme(kit):
    assert read_manifest(kit)[0].protocol == KitProtocol(sustained_s=300.0)
    assert "each timed back to back for 300 s" in (kit / "README.md").read_text()


def test_a_duration_that_is_none_is_refused_before_anything_is_written(s2search, tmp_path):
    done = s2search("kit", "build", "--out", str(tmp_path / "kit"), "--preset", "s2dit-tiny", "--sustained", "5 hours")
    assert (done.code, done.out) == (2, "")
    assert "'5 hours' is not a duration; such as 90s or 5m" in done.err
    assert not (tmp_path / "kit").exists()


def test_rows_are_blocks_by_precisions_by_compute_units_and_share_packages(kit):
    manifest, _ = read_manifest(kit)
    assert len(manifest.rows) == 2 * 2 * 6
    assert len(manifest.packages) == 2 * 6
    assert len({row.label for row in manifest.rows}) == 24
    bytes_of = dict.fromkeys(("float16", "w4a16"), 0)
    for row in manifest.rows:
        bytes_of[row.precision] += manifest.package(row).weight_bytes
    assert bytes_of["w4a16"] < 0.5 * bytes_of["float16"]
    assert manifest.rows[manifest.sentinel].part == "ssa"


def test_a_kit_is_not_overwritten(kit):
    with pytest.raises(InputError, match="already holds a kit; choose another folder"):
        build(kit, items(), preset="s2dit-tiny")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="holds something that is not a kit"):
        build(tmp_path, items(), preset="s2dit-tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_date_of_conversion_does_not_make_a_package_another_one(tmp_path):
    (tmp_path / ".build").mkdir()
    (tmp_path / "packages").mkdir()
    converted = convert_item(items()[1], "bc1s")
    first = building._store(tmp_path, converted)
    converted.model.user_defined_metadata["com.github.apple.coremltools.conversion_date"] = "1999-12-31"
    assert building._store(tmp_path, converted) == first
    assert len(list((tmp_path / "packages").iterdir())) == 1


@pytest.mark.slow
def test_equal_packages_are_stored_once(tmp_path):
    twice = [*items(), *items("ssa,lcha[gate=false]")[:1]]
    manifest = build(tmp_path / "kit", twice, preset="s2dit-tiny")
    assert len(manifest.rows) == 6
    assert len(manifest.packages) == len(list((tmp_path / "kit/packages").iterdir())) == 5


@pytest.mark.slow
def test_a_killed_build_goes_on_and_makes_the_same_kit(tmp_path, kit):
    out = tmp_path / "kit"
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(out.glob(".build/*.json"))) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    notes = {path.name: path.stat().st_mtime_ns for path in out.glob(".build/*.json")}
    done = subprocess.run(command(out), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert notes
    assert read_manifest(out)[1] == read_manifest(kit)[1]
    assert not (out / ".build").exists()


@pytest.mark.slow
def test_finished_packages_are_not_converted_again(tmp_path, monkeypatch):
    out, seen = tmp_path / "kit", []
    real = building._convert

    def convert(out, item, *further):
        seen.append(item.key)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(out, item, *further)

    monkeypatch.setattr(building, "_convert", convert)
    few = [*items()[:1], *items()[3:]]  # no switches
    with pytest.raises(KeyboardInterrupt):
        build(out, few, preset="s2dit-tiny")
    build(out, few, preset="s2dit-tiny")
    assert seen == [*(item.key for item in few), few[2].key]


@pytest.mark.slow
def test_packages_of_a_killed_build_with_other_options_do_not_stay(tmp_path, monkeypatch):
    out = tmp_path / "kit"
    monkeypatch.setattr(building, "readme", lambda manifest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(out, items("ssa,full"), preset="s2dit-tiny")
    monkeypatch.undo()
    manifest = build(out, items(), preset="s2dit-tiny")
    assert len(list((out / "packages").iterdir())) == len(manifest.packages) == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # coremltools leaves a folder behind
def test_a_full_disk_is_said_in_one_line_and_the_build_goes_on(tmp_path):
    out = tmp_path / "kit"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written: .*make room"):
            build(out, items()[:1], preset="s2dit-tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        gc.collect()
    assert len(build(out, items()[:1], preset="s2dit-tiny").rows) == 1


@given(st.integers(1, 12), st.integers(3, 9), st.integers(1, 5), st.integers(0, 99))
def test_every_round_times_every_row_once_and_begins_with_the_sentinel(rows, rounds, every, seed):
    groups = [list(range(start, min(start + 4, rows))) for start in range(0, rows, 4)]
    slots = ordered(groups, 0, KitProtocol(rounds=rounds, sentinel_every=every, seed=seed))
    assert [slot.slot for slot in slots] == list(range(len(slots)))
    for group, members in enumerate(groups):
        for number in range(rounds):
            own = [slot for slot in slots if (slot.group, slot.round) == (group, number)]
            assert own[0].sentinel
            assert sorted(slot.row for slot in own if not slot.sentinel) == members
    assert slots[-1].sentinel


def test_groups_fit_memory_beside_the_sentinel(kit):
    manifest, _ = read_manifest(kit)
    rows = manifest.rows
    sizes = {row.id: 10 + row.id for row in rows}
    groups = grouped(rows, rows[3], sizes, 60)
    assert [row for group in groups for row in group] == [row.id for row in rows]
    assert all(sum(sizes[row] for row in {*group, 3}) <= 60 for group in groups)
    assert grouped(rows, rows[0], sizes, 1) == [[row.id] for row in rows] or len(groups) < len(rows)


def test_a_manifest_refuses_what_it_does_not_know(kit, tmp_path):
    found = json.loads((kit / "manifest.json").read_text())
    for change in ({"schema": "s2search.other/1"}, {"surprise": 1}, {"rows": [{}]}):
        (tmp_path / "manifest.json").write_text(json.dumps({**found, **change}))
        with pytest.raises(InputError, match=r"is not a manifest of schema s2search.kit/1"):
            read_manifest(tmp_path)
    assert msgspec.json.decode(json.dumps(found), type=KitManifest).to_json() == (kit / "manifest.json").read_bytes()


def test_results_that_did_not_come_back_are_said_in_one_line(s2search, kit):
    done = s2search("kit", "ingest", str(kit / "results.jsonl"))
    assert (done.code, done.out) == (2, "")
    assert "results.jsonl'; run the kit on the Mac, and bring back the whole folder" in done.err


def test_packages_have_the_exporters_form_and_the_manifest_says_so(kit):
    manifest, _ = read_manifest(kit)
    assert (manifest.layout, manifest.state) == ("bc1s", "host")
    assert "coreml[layout=bc1s,state=host]" in (kit / "README.md").read_text()
    by_role = {row.role: manifest.package(row) for row in reversed(manifest.rows)}
    block, commit, stem = by_role["block"], by_role["commit"], by_role["fixed"]
    assert [one.name for one in block.inputs] == ["x", "modulation", "text", "past_bias", "keys", "values"]
    ring = [1, 64, 1, 32]  # 6 frames of 4 tokens, padded
    assert [one.shape for one in block.inputs[3:]] == [[1, 1, 1, 64], ring, ring]
    assert [one.shape for one in block.inputs[:3]] == [[1, 64, 1, 12], [1, 384, 1, 1], [1, 64, 1, 16]]
    assert (block.states, block.outputs) == ([], ["y"])
    assert (commit.states, [one.name for one in commit.inputs]) == ([], ["x", "modulation"])
    assert commit.outputs == ["new_keys", "new_values"]
    assert [one.name for one in stem.inputs] == ["latents", "time"]
    assert {one.dtype for package in manifest.packages for one in package.inputs} == {"float16"}
    assert block.inputs[3].low == block.inputs[3].high == 0  # all frames of the window are there
    for row in manifest.rows:
        spec = load_spec(kit / manifest.package(row).path)
        assert [feature.name for feature in spec.description.state] == manifest.package(row).states
        assert [feature.name for feature in spec.description.input] == [
            one.name for one in manifest.package(row).inputs
        ]


def test_the_switches_and_the_two_ends_have_eight_bits_where_layers_have_four(kit):
    manifest, _ = read_manifest(kit)
    for row in manifest.rows:
        if row.precision == "w4a16":
            sizes = palette_sizes(load_spec(kit / manifest.package(row).path))
            expected = {"block": {16, 256}, "commit": {16}}.get(row.role, {256})
            assert set(sizes.values()) == expected, row.label


@pytest.mark.slow
def test_a_kit_of_the_blocks_layout_says_so_and_goes_on_only_as_one(tmp_path, monkeypatch):
    out, form = tmp_path / "kit", Form(layout="blocks", state="plain")
    monkeypatch.setattr(building, "readme", lambda manifest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(out, items()[:1], preset="s2dit-tiny")
    monkeypatch.undo()
    manifest = build(out, items()[:1], preset="s2dit-tiny", form=form)
    (package,) = manifest.packages
    assert (manifest.layout, manifest.state, package.states) == ("blocks", "plain", [])
    assert {one.name: one.shape for one in package.inputs}["keys_00"] == [1, 6, 4, 64]

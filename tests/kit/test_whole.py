"""Whole programs in a real kit: made as the exporter makes them, beside the exported package itself."""

import dataclasses
import shutil
from collections import Counter

import pytest

from s2search import registry
from s2search.errors import CheckError, InputError
from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.coreml.form import Form
from s2search.kit.build import build
from s2search.kit.manifest import KitProtocol, read_manifest
from s2search.kit.readme import readme
from s2search.kit.whole import Wholes, whole_items
from s2search.measurement.items import campaign_items
from s2search.measurement.layouts import FIT_EVERY, draw_layouts, layout_text
from s2search.mil.library import load_coremltools
from s2search.network.config import ModelConfig
from s2search.network.network import S2DiT
from s2search.preset import Preset, token_grid
from s2search.space import Space, layout_labels, parse_blocks
from tests.command import run_here

TINY, VIDEO = Preset.named("s2dit-tiny"), "64x48"
MIXED = ("lcha", "ssa")


def model_of(labels):
    return S2DiT(ModelConfig.new(dataclasses.replace(TINY, depth=len(labels), layout=""), tuple(labels))).eval()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """An exported package of two layers, one in each stream."""
    out = tmp_path_factory.mktemp("packages") / "mixed"
    return CoreMLExporter().export(model_of(MIXED), token_grid(VIDEO), out)


@pytest.fixture(scope="module")
def kit(tmp_path_factory, package):
    out = tmp_path_factory.mktemp("kits") / "kit"
    items = campaign_items(TINY, VIDEO, scenarios=["stream"], candidates=parse_blocks("ssa"))[:1]
    contexts = whole_items(TINY, VIDEO, parse_blocks("lcha,ssa"), Wholes(contexts=True))
    wholes = [one for one in contexts if layout_text(one.layers) in ("lcha*1,ssa*1", "ssa*3")]
    build(out, items, preset=TINY.name, wholes=wholes, package=package.folder)
    return out


def load_spec(path):
    return load_coremltools().utils.load_spec(str(path))


def test_a_program_of_layers_is_the_denoise_of_the_package_operation_for_operation(kit, package):
    manifest, _ = read_manifest(kit)
    whole = next(row for row in manifest.programs if row.program.kind == "context" and "lcha" in row.program.layout)
    shipped = next(row for row in manifest.programs if row.program.function == "denoise" and row.single_calls)
    assert whole.program.layout == shipped.program.layout == "lcha*1,ssa*1"
    assert whole.program.counts == shipped.program.counts
    assert manifest.package(whole).operations == manifest.package(shipped).operations
    assert whole.state_bytes == shipped.state_bytes == package.manifest.sizes.state_bytes
    inputs = [[(one.name, one.shape, one.dtype) for one in manifest.package(row).inputs] for row in (whole, shipped)]
    assert inputs[0] == inputs[1]
    assert {name for name, *_ in inputs[0]} == {
        "latents",
        "time",
        "text",
        "past_bias",
        "keys",
        "values",
        "tails",
        "sums",
    }
    assert {dtype for *_, dtype in inputs[0]} == {"float16"}
    assert manifest.package(whole).states == []


def test_three_equal_layers_tell_the_drift_since_a_block_alone_may_run_elsewhere(kit):
    manifest, _ = read_manifest(kit)
    whole = next(row for row in manifest.programs if row.program.layout == "ssa*3")
    assert manifest.rows[manifest.sentinel] == whole
    spec = load_spec(kit / manifest.package(whole).path)
    assert [feature.name for feature in spec.description.input] == [one.name for one in manifest.package(whole).inputs]
    (bias,) = [one for one in manifest.package(whole).inputs if one.name == "past_bias"]
    assert bias.low == bias.high == 0  # all frames of the window are there


def test_the_exported_package_is_in_the_kit_once_with_its_digest_and_three_functions(kit, package):
    manifest, _ = read_manifest(kit)
    shipped = [row for row in manifest.rows if row.single_calls]
    assert [row.program.function for row in shipped] == ["first", "denoise", "commit"]
    assert [manifest.package(row).function for row in shipped] == ["first", "denoise", "commit"]
    (path,) = {manifest.package(row).path for row in shipped}
    functions = {one.name: one for one in load_spec(kit / path).description.functions}
    for row in shipped:
        told = functions[row.program.function]
        assert [feature.name for feature in told.input] == [one.name for one in manifest.package(row).inputs]
        assert [feature.name for feature in told.output] == manifest.package(row).outputs
    assert manifest.shipped.model_digest == package.manifest.model_digest
    assert (manifest.shipped.name, manifest.shipped.exporter) == ("mixed", "coreml")
    assert manifest.weight_bytes < sum(one.weight_bytes for one in manifest.packages)
    assert ", 5 rows of whole programs" in (kit / "README.md").read_text() == readme(manifest)


def test_a_changed_file_of_the_package_is_refused(tmp_path, package):
    copy = tmp_path / "copy"
    shutil.copytree(package.folder, copy)
    weights = next(copy.rglob("weight.bin"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    items = campaign_items(TINY, VIDEO, scenarios=["stream"], candidates=parse_blocks("ssa"))[:1]
    with pytest.raises(CheckError, match=r"weight\.bin"):
        build(tmp_path / "kit", items, preset=TINY.name, package=copy)


def test_layouts_are_those_that_recalibration_would_draw():
    blocks = parse_blocks("lcha,ssa,full")
    wholes = whole_items(TINY, VIDEO, blocks, Wholes(layouts=9, depth=5, seed=3))
    space = Space(candidates=blocks, depth=5)
    drawn = [tuple(space.candidates[c].label for c in choice_L) for choice_L in draw_layouts(space, 9, 3)]
    assert [tuple(block.label for block in one.layers) for one in wholes] == drawn
    assert {label for labels in drawn[::FIT_EVERY] for label in labels} == {"lcha", "ssa", "full"}


def test_every_round_times_every_program_once(kit):
    manifest, _ = read_manifest(kit)
    counts = Counter(slot.row for slot in manifest.order if not slot.sentinel)
    assert set(counts.values()) == {KitProtocol().rounds}
    assert set(counts) == {row.id for row in manifest.rows}
    assert [row for group in manifest.groups for row in group] == [row.id for row in manifest.rows]


def test_programs_of_the_other_layout_keep_all_of_their_state_plain(tmp_path):
    items = campaign_items(TINY, VIDEO, scenarios=["stream"], candidates=parse_blocks("ssa"))[:1]
    wholes = whole_items(TINY, VIDEO, parse_blocks("ssa"), Wholes(contexts=True))[:1]
    form = Form(layout="blocks", state="plain")
    manifest = build(tmp_path / "kit", items, preset=TINY.name, wholes=wholes, form=form, precisions=("w4a16",))
    (whole,) = manifest.programs
    assert whole.program.exporter == "coreml[bits=4,palette=uniform,layout=blocks,state=plain]"
    names = {one.name for one in manifest.package(whole).inputs}
    assert {"s", "keys_00", "values_01", "past_bias"} <= names
    assert layout_labels(whole.program.layout) == ("ssa", "ssa")


def test_clips_have_no_whole_programs(tmp_path):
    words = ["kit", "build", "--out", str(tmp_path / "kit"), "--scenario", "clip", "--contexts"]
    done = run_here(words, tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "whole programs are steps of a stream, and the kit times clips alone; add --scenario stream" in done.err


def test_a_package_of_another_runtime_is_refused(tmp_path):
    other = registry.create("exporters", "onnx").export(model_of(("ssa",)), token_grid(VIDEO), tmp_path / "onnx")
    items = campaign_items(TINY, VIDEO, scenarios=["stream"], candidates=parse_blocks("ssa"))[:1]
    with pytest.raises(InputError, match=r"was written by the exporter 'onnx'.*packages of coreml"):
        build(tmp_path / "kit", items, preset=TINY.name, package=other.folder)


@pytest.mark.slow
def test_of_a_chain_every_link_is_timed(tmp_path):
    folder = tmp_path / "chain"
    chain = CoreMLExporter(package_mb=0.4).export(model_of(("lcha", "ssa", "ssa", "lcha")), token_grid(VIDEO), folder)
    links = len(chain.manifest.chain)
    assert links > 1
    items = campaign_items(TINY, VIDEO, scenarios=["stream"], candidates=parse_blocks("ssa"))[:1]
    build(tmp_path / "kit", items, preset=TINY.name, package=folder)
    manifest, _ = read_manifest(tmp_path / "kit")
    rows = [row for row in manifest.programs if row.program.function == "denoise"]
    assert [(row.program.link, row.program.links) for row in rows] == [(n, links) for n in range(1, links + 1)]
    assert sum((Counter(row.program.counts) for row in rows), Counter()) == Counter(
        {"lcha": 2, "ssa": 2, "down": 1, "up": 1, "stem": 1, "head": 1}
    )
    for row, link in zip(rows, chain.manifest.chain, strict=True):
        package = manifest.package(row)
        assert (tmp_path / "kit" / package.path / "Manifest.json").exists()
        assert [one.name for one in package.inputs] == [one.name for one in link.function("denoise").inputs]
    assert len({manifest.package(row).path for row in rows}) == links
    assert len({row.label for row in rows}) == links

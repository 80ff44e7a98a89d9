"""Chains of packages: whole ones pass, broken hand-overs and manifests that tell lies of a chain are found."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest

from s2search import registry
from s2search.errors import CheckError, InputError
from s2search.exporters import chain
from s2search.exporters.base import open_runtime
from s2search.exporters.package import MANIFEST, Package, write_manifest
from s2search.exporters.streamed import StreamedPackage
from s2search.testing.exporters import stream_snr_db
from s2search.verification.any_package import lint_any
from s2search.verification.check import results
from s2search.verification.checks.each_operation import EachOperationCheck
from s2search.verification.checks.graph import GraphCheck
from s2search.verification.checks.operations import LintCheck
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.residency import ResidencyCheck
from s2search.verification.checks.sizes import SizesCheck
from s2search.verification.checks.state import StateCheck
from s2search.verification.checks.sums import SumsCheck
from s2search.verification.checks.weights import WeightsCheck
from s2search.verification.inspectors.coreml_emulated import EmulatedCoreML
from s2search.verification.opened import Opened, Options
from tests.verify.conftest import GRID, make_model
from tests.verify.packed_edits import CHAIN_UNHARMFUL, IN_THREE, IN_TWO
from tests.verify.test_mil_edits import Whole, found_in, one_thread, remembered  # noqa: F401

pytestmark = pytest.mark.slow  # exports whole models, and runs their functions some hundred times

LAYOUT, DEPTH = "L1S2L1", 4
SPANS = {"in_one": (), "in_two": ((0, 2), (2, 4)), "in_three": ((0, 1), (1, 3), (3, 4))}


def exported(tmp_path_factory, options):
    folder = tmp_path_factory.mktemp("coreml") / "package"
    registry.create("exporters", f"coreml{options}").export(make_model(48, LAYOUT, DEPTH), GRID, folder)
    return Whole(folder)


@pytest.fixture(scope="module")
def in_one(tmp_path_factory):
    return exported(tmp_path_factory, "")


@pytest.fixture(scope="module")
def in_two(tmp_path_factory):
    """Cut in the low stream."""
    return exported(tmp_path_factory, "[package_mb=0.22]")


@pytest.fixture(scope="module")
def in_three(tmp_path_factory):
    return exported(tmp_path_factory, "[package_mb=0.142]")


CHAINS = pytest.mark.parametrize("name", ["in_two", "in_three"])


@pytest.mark.parametrize("name", SPANS)
def test_a_package_has_the_links_that_its_limit_asks_for_and_no_others(name, request):
    package = request.getfixturevalue(name).opened.package
    manifest = package.manifest
    assert tuple(link.layers for link in manifest.chain) == SPANS[name]
    written = json.loads((package.folder / MANIFEST).read_text())
    assert ("chain" in written) == bool(SPANS[name])
    files = sorted(path.name for path in package.folder.glob("*.mlpackage"))
    wanted = [f"model-{number}.mlpackage" for number in range(1, len(SPANS[name]) + 1)] or ["model.mlpackage"]
    assert files == wanted
    limit = 1e6 * registry.create("exporters", manifest.exporter_text).package_mb
    for file in files if manifest.chain else ():
        size = package.folder / file / "Data/com.apple.CoreML/weights/weight.bin"
        assert size.stat().st_size <= limit


@CHAINS
def test_a_chain_gives_what_one_package_gives_bit_for_bit_in_every_arithmetic(name, in_one, request):
    whole = request.getfixturevalue(name)
    one, many = (EmulatedCoreML(package.opened.package) for package in (in_one, whole))
    for mode in ("float16", "float32", "pessimistic"):
        for function in in_one.opened.functions():
            inputs = in_one.opened.inputs(function, in_one.opened.pasts(function)[0])
            wanted = one.in_mode(mode).run(function, inputs)
            called = many.in_mode(mode).run(function, inputs)  # link after link
            seen = many.in_mode(mode).watched(function, inputs, [])  # as one
            for output, array in wanted.items():
                assert np.array_equal(array, called[output]), (mode, function, output)
                assert np.array_equal(array, seen[output].numpy().astype(array.dtype)), (mode, function, output)


@CHAINS
def test_a_chain_streams_as_one_package_does(name, in_one, request):
    packages = (in_one.opened.package, request.getfixturevalue(name).opened.package)
    model = make_model(48, LAYOUT, DEPTH)
    ratios = [
        list(stream_snr_db(model, StreamedPackage(one, EmulatedCoreML(one)), commit=commit, chunks=4))
        for one in packages
        for commit in ("reuse_last", "clean_pass")
    ]
    assert ratios[:2] == ratios[2:]
    assert min(map(min, ratios)) > 50


@CHAINS
def test_a_whole_chain_passes(name, request):
    opened = request.getfixturevalue(name).opened
    checks = (WeightsCheck(), GraphCheck(), ParityCheck(), EachOperationCheck(), SumsCheck(), StateCheck())
    for check in (*checks, LintCheck(), ResidencyCheck(), SizesCheck()):
        found = results(check, opened)
        assert {one.status for one in found if one.required} == {"passed"}, found


def test_weights_that_several_packages_need_are_counted_in_each(in_three, in_two):
    for whole in (in_three, in_two):
        sizes = whole.opened.package.manifest.sizes
        folder = whole.opened.package.folder
        actual = sum(path.stat().st_size for path in folder.rglob("weight.bin"))
        assert actual == pytest.approx(sizes.predicted_weight_bytes, rel=0.01)
        (found,) = [one for one in results(SizesCheck(), whole.opened) if one.name == "sizes.weights"]
        assert found.status == "passed"
        assert f"in {len(whole.opened.package.manifest.chain)} packages" in found.why


@CHAINS
def test_the_lint_looks_at_every_package_of_a_chain(name, request):
    whole = request.getfixturevalue(name).opened.package
    found = lint_any(whole.folder)
    assert len(found.packages) == len(SPANS[name])
    assert found.clean
    assert {len(package.functions) for package in found.packages} == {4}
    residency = results(ResidencyCheck(), request.getfixturevalue(name).opened)
    assert len(residency) == 4 * len(SPANS[name])
    assert residency[-1].name == f"residency.advance of link {len(SPANS[name])}"


@pytest.mark.parametrize("edit", IN_TWO, ids=str)
def test_a_broken_hand_over_is_found(edit, in_two, tmp_path):
    found = found_in(edit, in_two.broken(edit, tmp_path / "package"))
    assert found is not None
    sys.stdout.write(f"{edit}: {found.value:.1f} dB, {found.where}\n")


@pytest.mark.parametrize("edit", IN_THREE, ids=str)
def test_a_broken_hand_over_among_three_is_found(edit, in_three, tmp_path):
    assert found_in(edit, in_three.broken(edit, tmp_path / "package")) is not None


@pytest.mark.parametrize("edit", CHAIN_UNHARMFUL, ids=str)
def test_a_hand_over_that_is_whole_passes(edit, in_two, tmp_path):
    assert found_in(edit, in_two.broken(edit, tmp_path / "package")) is None


@CHAINS
def test_a_hand_over_of_the_call_before_is_found(name, request, monkeypatch):
    """The host gives a link what the one before it returned last time."""
    opened = request.getfixturevalue(name).opened
    stale: dict[tuple[int, str], dict] = {}
    plain = chain.run_links

    def late(whole, links, function, inputs, call):
        def called(number, given):
            late_given = stale.get((number, function), given) if number else given
            stale[number, function] = given
            mixed = given | {key: x for key, x in late_given.items() if key.startswith("hidden")}
            return call(number, mixed)

        return plain(whole, links, function, inputs, called)

    monkeypatch.setattr("s2search.verification.inspectors.coreml_emulated.run_links", late)
    found = [one for one in results(ParityCheck(), opened) if one.status == "failed"]
    assert {one.name for one in found} >= {"parity.denoise", "parity.advance", "parity.commit"}


# Manifests that tell lies.


def with_link(manifest, number, **change):
    links = list(manifest.chain)
    links[number] = dataclasses.replace(links[number], **change)
    return {"chain": tuple(links)}


def moved_cut(manifest):
    """Say that the second layer is in the second package, and tell the hosts so."""
    first, second = manifest.chain
    (spans, host) = ((0, 1), (1, 4)), manifest.host
    chain_ = tuple(
        dataclasses.replace(link, layers=span, host=host.of_layers(*span))
        for link, span in zip((first, second), spans, strict=True)
    )
    return {"chain": chain_}


def renamed(functions, old, new):
    def spec(one):
        return dataclasses.replace(one, name=new) if one.name == old else one

    return tuple(
        dataclasses.replace(one, inputs=tuple(map(spec, one.inputs)), outputs=tuple(map(spec, one.outputs)))
        for one in functions
    )


LIES = {
    "links in another order": lambda m: {"chain": m.chain[::-1]},
    "a link left out": lambda m: {"chain": m.chain[:1]},
    "no links": lambda m: {"chain": ()},
    "a link twice": lambda m: {"chain": (m.chain[0], *m.chain)},
    "a cut one layer earlier": moved_cut,
    "the first layer of a link": lambda m: with_link(m, 1, layers=(1, 4)),
    "a layer beyond the last": lambda m: with_link(m, 1, layers=(2, 5)),
    "a host of other layers": lambda m: with_link(m, 1, host=m.chain[0].host),
    "nothing handed on": lambda m: with_link(m, 0, hands_on=()),
    "no skip handed on": lambda m: with_link(m, 0, hands_on=m.chain[0].hands_on[1:]),
    "hand-over in another order": lambda m: with_link(m, 0, hands_on=m.chain[0].hands_on[::-1]),
    "a function less": lambda m: with_link(m, 1, functions=m.chain[1].functions[:-1]),
    "the stream by the name of the skip": lambda m: with_link(
        m, 1, functions=renamed(m.chain[1].functions, "hidden_02", "hidden_01")
    ),
    "no host of all": lambda m: {"host": None},
    "a file outside": lambda m: with_link(
        m, 0, functions=tuple(dataclasses.replace(one, file="../model-1.mlpackage") for one in m.chain[0].functions)
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_gainsays_itself_on_a_chain_is_refused_in_one_line(lie, in_two):
    manifest = in_two.opened.package.manifest
    with pytest.raises(InputError) as refused:
        dataclasses.replace(manifest, **LIES[lie](manifest))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_chain_without_the_file_of_a_link_is_named(in_two, tmp_path):
    copy = shutil.copytree(in_two.opened.package.folder, tmp_path / "package")
    shutil.rmtree(copy / "model-2.mlpackage")
    with pytest.raises(CheckError, match=r"'model-2.mlpackage/.*' in the package .* is missing"):
        Package.load(copy).check_files()


def test_links_that_change_their_files_do_not_run(in_two, tmp_path):
    """Manifest and digests agree: only the programs say otherwise."""
    manifest = in_two.opened.package.manifest
    copy = shutil.copytree(in_two.opened.package.folder, tmp_path / "package")
    files = ["model-2.mlpackage", "model-1.mlpackage"]
    swapped = tuple(
        dataclasses.replace(link, functions=tuple(dataclasses.replace(one, file=file) for one in link.functions))
        for link, file in zip(manifest.chain, files, strict=True)
    )
    package = write_manifest(copy, dataclasses.replace(manifest, chain=swapped))
    found = results(ParityCheck(), Opened(package, Options(chunks=2)))
    assert {one.status for one in found} <= {"failed", "not_run"}
    assert all(one.required for one in found)


def test_a_layer_that_is_too_large_for_a_package_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"a layer alone takes [\d,]+ bytes of weights, and a package at most 100,000"):
        registry.create("exporters", "coreml[package_mb=0.1]").export(
            make_model(48, LAYOUT, DEPTH), GRID, tmp_path / "a"
        )
    assert not (tmp_path / "a").exists()
    for options, said in (
        ("package_mb=0", "package_mb is 0; more than 0"),
        ("package_mb=nan", "package_mb is nan; more than 0"),
        ("package_mb=1,state=core_ml", "package_mb=1 is given with state=core_ml; state=host"),
    ):
        with pytest.raises(InputError, match=said):
            registry.create("exporters", f"coreml[{options}]")


def test_a_chain_says_where_it_runs_too(in_two):
    with pytest.raises(InputError, match="Core ML does not run on Linux"):
        open_runtime(in_two.opened.package)

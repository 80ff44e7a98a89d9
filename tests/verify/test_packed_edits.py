"""Broken graphs of packages whose state the host keeps, and manifests that tell a host what is not so."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import pytest

from s2search import registry
from s2search.errors import InputError
from s2search.exporters.package import Package, write_manifest
from s2search.verification.check import results
from s2search.verification.checks.graph import GraphCheck
from s2search.verification.checks.state import StateCheck
from s2search.verification.opened import Opened, Options
from tests.verify.conftest import GRID, make_model
from tests.verify.mil_edits import EDITS as OF_EVERY_FORM
from tests.verify.packed_edits import EDITS, UNHARMFUL
from tests.verify.test_mil_edits import Whole, found_in, one_thread, remembered  # noqa: F401

pytestmark = pytest.mark.slow  # exports whole models, and runs their functions some hundred times

#: What the program of this form does not have: the host computes it, or moves it.
THE_HOSTS = {
    "past_bias a ten-thousandth",
    "past_bias of the chunk itself",
    "cos for sin",
    "sin before cos",
    "time a thousandth later",
    "S loses 5 % a chunk",
    "S loses 0.9 % a chunk",
    "S loses a hundred-thousandth a chunk",
    "z loses a thousandth a chunk",
    "a chunk counts twice in z",
    "the tail ends a frame early",
    "the tail behind the chunk",
    "a ring keeps its oldest keys",
    "a ring keeps its oldest values",
    "keys of another layer",
    "values for keys",
}


def exported(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("coreml") / "package"
    registry.create("exporters", "coreml").export(model, GRID, folder)
    return Whole(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return exported(tmp_path_factory, make_model(48, "L2S2", 4))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Of the layout that the catalogue of every form names blocks of."""
    return exported(tmp_path_factory, make_model(48))


def test_the_whole_package_passes(whole):
    for check in (GraphCheck(), StateCheck()):
        found = results(check, whole.opened)
        assert {one.status for one in found if one.required} == {"passed"}, found


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_a_broken_graph_is_found(edit, whole, tmp_path):
    found = found_in(edit, whole.broken(edit, tmp_path / "package"))
    assert found is not None
    sys.stdout.write(f"{edit}: {found.value:.1f} dB, {found.where}\n")


@pytest.mark.parametrize("edit", UNHARMFUL, ids=str)
def test_an_edit_that_changes_nothing_passes(edit, whole, tmp_path):
    assert found_in(edit, whole.broken(edit, tmp_path / "package")) is None


@pytest.mark.parametrize(
    "edit", [edit for edit in OF_EVERY_FORM if not edit.exempt and edit.name not in THE_HOSTS], ids=str
)
def test_what_breaks_every_form_is_found_in_this_one(edit, shared, tmp_path):
    found = found_in(edit, shared.broken(edit, tmp_path / "package"))
    assert found is not None
    layer = edit.block.rpartition(".")[2]
    assert found.where.startswith(edit.block) or (layer.isdecimal() and f"_{int(layer):02}" in found.where)


def swapped(form, name):
    """Let two layers change places among the rows of a group."""
    one, other = getattr(form, name)
    return {name: (dataclasses.replace(one, layer=other.layer), dataclasses.replace(other, layer=one.layer))}


LIES = {
    "rows of rings swapped": lambda form: swapped(form, "rings"),
    "rows of tails swapped": lambda form: swapped(form, "tails"),
    "rows of sums swapped": lambda form: swapped(form, "sums"),
    "a sink": lambda form: {"sink_frames": 1},
    "a sink of chunks": lambda form: {"sink_chunks": 1},
    "a slot more": lambda form: {"slots": form.slots + 1},
    "a slot less": lambda form: {"slots": form.slots - 1},
    "a chunk's slot more": lambda form: {"chunk_slots": form.chunk_slots + 1},
    "residual": lambda form: {"residual": not form.residual},
    "a token less of text": lambda form: {"text": (form.text[0] - 1, form.text[1])},
    "frames and rows exchanged": lambda form: {
        "latents": (form.latents[0], form.latents[2], form.latents[1], form.latents[3])
    },
    "a tail of one frame": lambda form: {"tails": tuple(dataclasses.replace(one, frames=1) for one in form.tails)},
    "sums that decay": lambda form: {"sums": tuple(dataclasses.replace(one, memory="decay") for one in form.sums)},
    "sums of half the heads": lambda form: {"sums": tuple(dataclasses.replace(one, heads=2) for one in form.sums)},
    "five heads of sums": lambda form: {"sums": tuple(dataclasses.replace(one, heads=5) for one in form.sums)},
    "Core ML keeps it": lambda form: {"keeper": "core_ml"},
}


#: Those that the manifest itself gainsays: they are not even loaded.
REFUSED = {
    "a sink",
    "a slot less",
    "residual",
    "sums of half the heads",
    "frames and rows exchanged",
    "five heads of sums",
    "Core ML keeps it",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_tells_a_host_what_is_not_so_is_refused_or_fails(lie, whole, tmp_path):
    manifest = whole.opened.package.manifest
    refused, told = "", None
    try:
        told = dataclasses.replace(manifest, host=dataclasses.replace(manifest.host, **LIES[lie](manifest.host)))
    except InputError as error:
        refused = str(error)
    assert bool(refused) == (lie in REFUSED), refused
    assert "\n" not in refused
    if told is not None:
        copy = shutil.copytree(whole.opened.package.folder, tmp_path / "package")
        write_manifest(copy, told)
        found = results(StateCheck(), Opened(Package.load(copy), Options(chunks=2)))
        failed = [one for one in found if one.status == "failed"]
        assert [(one.name, one.required) for one in failed] == [("state.host", True)]
        assert failed[0].where.startswith("the manifest's host has")

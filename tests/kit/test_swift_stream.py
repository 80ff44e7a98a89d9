"""`S2Stream`, the host's loop in Swift: never compiled here, so parsed, and its arithmetic run in translation."""

import dataclasses
import json
import re
from typing import get_args, get_type_hints

import msgspec
import numpy as np
import pytest
import torch

from s2search.block import KeptRing, KeptSums, KeptTail
from s2search.cost import COMMIT_POLICIES
from s2search.exporters import host
from s2search.exporters.package import ChainLink, Manifest
from s2search.exporters.past import FUNCTIONS
from s2search.kit.build import copy_mac
from s2search.network.config import CausalForm
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.streaming.chunk_sampler import level_of, noise_of
from s2search.streaming.sampler_of import sampler_of
from s2search.streaming.state import StreamState
from tests.kit.swift_in_python import Array, decoded, errors, load, parse
from tests.kit.swift_vectors import FOLDER, PACKAGE, Draws, documents, text_of

CORE, THIN = PACKAGE / "Sources" / "S2StreamCore", PACKAGE / "Sources" / "S2Stream"
SOURCES = sorted(PACKAGE.parent.rglob("*.swift"))
ARITHMETIC = [path for path in sorted(CORE.glob("*.swift")) if path.name != "PackageManifest.swift"]
STREAMS = json.loads((FOLDER / "streams.json").read_text())


@pytest.fixture(scope="module")
def swift():
    return load(ARITHMETIC)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_source_parses_and_says_what_it_is_for(path):
    assert errors(parse(path.read_bytes())) == []
    assert path.read_text().startswith("// ")


def test_a_source_that_does_not_parse_is_seen():
    assert errors(parse(b"struct S {\n    func f( { return 1 }\n}\n"))


def test_the_vectors_are_what_the_host_computes_today():
    written = documents()
    assert {path.name for path in FOLDER.iterdir()} == set(written)
    for name, content in written.items():
        assert (FOLDER / name).read_text() == text_of(content), f"python -m tests.kit.swift_vectors writes {name}"


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case["name"])
def test_swifts_stream_is_pythons_bit_for_bit(swift, case):
    check_stream(swift, case)


def test_halves_are_rounded_as_numpy_rounds_them(swift):
    half = swift["Half"]
    for one in json.loads((FOLDER / "halves.json").read_text()):
        assert half.bits(one["number"]) == one["bits"], one
    for bits in range(0, 0x7C00, 7):
        value = half.value(bits)
        assert value == np.uint16(bits).view(np.float16)
        assert half.bits(float(value)) == bits
    assert half.value(0xFC00) == -np.inf
    assert np.isnan(half.value(half.bits(float("nan"))))


def test_the_samplers_steps_are_pythons_bit_for_bit(swift):
    one = json.loads((FOLDER / "sampler.json").read_text())
    for schedule in one["schedules"]:
        assert swift["fewStepSchedule"](schedule["steps"], schedule["shift"]) == schedule["levels"]
    x, v, noise = (floats(swift, one[name]) for name in ("x", "v", "noise"))
    few = swift["Sampler"](None)
    assert few.commitsWithLastStep
    assert swift["clean"](x, few.schedule[one["step"]], v).values == numbers(one["clean"])
    assert few.next(one["step"], x, v, noise=noise).values == numbers(one["renoised"])
    flow = swift["Sampler"](decoded(swift, "CausalForm", {"commit": "clean_pass", "level": 0.0}), steps=4)
    assert not flow.commitsWithLastStep
    assert flow.next(one["step"], x, v, noise=noise).values == numbers(one["moved"])


@pytest.mark.parametrize(
    ("form", "steps", "level", "at_once"),
    [
        (None, 4, 0.625, True),
        (CausalForm(commit="reuse_last", level=0.5, schedule=(1.0, 0.5)), 2, 0.5, True),
        (CausalForm(commit="clean_pass", level=0.0, schedule=(1.0, 0.75, 0.5)), 3, 0.0, False),
        (CausalForm(commit="reuse_last", level=0.625), 50, 0.625, False),
    ],
)
def test_a_model_is_sampled_as_it_was_trained(swift, form, steps, level, at_once):
    sampler = swift["Sampler"](None if form is None else decoded(swift, "CausalForm", msgspec.to_builtins(form)))
    assert (len(sampler.schedule), sampler.level, sampler.commitsWithLastStep) == (steps, level, at_once)


@pytest.mark.parametrize(
    "form",
    [
        None,
        CausalForm(commit="clean_pass", level=0.0, schedule=(1.0, 0.75, 0.5)),
        CausalForm(commit="clean_pass", level=0.0),
        CausalForm(commit="reuse_last", level=0.625),
    ],
    ids=["few steps", "few steps, clean pass", "flow", "flow, noisy commit"],
)
def test_chunks_are_those_of_the_samplers_bit_for_bit(swift, form):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"channels": 16, "heads": 2, "feed_forward": 16, "text_channels": 8, "text_tokens": 3}
        model = S2DiT.from_preset(Preset(name="test", depth=3, **sizes), "L1S2").eval().requires_grad_(False)
        text_1SE = torch.randn(1, 3, 8)
    model.config = dataclasses.replace(model.config, causal=form)
    steps = 5 if form is not None and form.schedule is None else None
    state, sampler = StreamState.start(model, (2, 3)), sampler_of(model.config, steps=steps)
    mine = swift["Sampler"](
        None if form is None else decoded(swift, "CausalForm", msgspec.to_builtins(form)), steps=steps
    )
    assert mine.schedule == list(sampler.schedule)
    for _ in range(2):
        asked = TorchForSwift(swift, model, text_1SE, state)
        z_1CTYX, state = sampler.next_chunk(model, text_1SE, state)
        assert np.array_equal(z_1CTYX[0].numpy().ravel(), mine.nextChunk(asked).values)
        for wanted, found in zip(leaves(state.layers), leaves(asked.layers), strict=True):
            assert torch.equal(wanted, found)


class TorchForSwift:
    """A model as Swift's sampler sees it: it reads, advances and commits, and has the stream's noise."""

    def __init__(self, swift, model, text_1SE, state):
        self._swift, self._model, self._rest, self.layers = swift, model, (text_1SE, state.layers), None
        self._noise = noise_of(model, state)

    def fresh(self):
        return tensor(self._swift, self._noise()[0].numpy())

    def read(self, x, s):
        return tensor(self._swift, self._model(*self._given(x, s))[0].numpy())

    def advance(self, x, s):
        v_1CTYX, self.layers = self._model.advance(*self._given(x, s))
        return tensor(self._swift, v_1CTYX[0].numpy())

    def commit(self, x, s):
        self.layers = self._model.commit(*self._given(x, s))

    def _given(self, x, s):
        x_1CTYX = torch.from_numpy(np.array(x.values, np.float32).reshape(1, *x.shape))
        return (x_1CTYX, level_of(x_1CTYX, s), *self._rest)


def leaves(layers):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(layers) if isinstance(leaf, torch.Tensor)]


def test_noise_is_standard_normal_and_follows_its_seed(swift):
    noise, again = swift["Noise"](seed=1), swift["Noise"](seed=1)
    drawn = noise.draw(Array([4000])).values
    assert drawn == again.draw(Array([4000])).values
    assert drawn != noise.draw(Array([4000])).values
    assert abs(np.mean(drawn)) < 0.06
    assert abs(np.std(drawn) - 1) < 0.04
    assert abs(np.mean(np.abs(drawn) > 1.96) - 0.05) < 0.015


def test_rows_skip_the_gaps_between_them(swift):
    rows = swift["Rows"](Array([2, 3, 4]), Array([60, 16, 1]))
    assert (rows.starts, rows.width, rows.step) == ([0, 16, 32, 60, 76, 92], 4, 1)


MUTATIONS = [
    ("full ? form.sinkFrames : 0", "form.sinkFrames"),
    ("full ? form.sinkChunks : 0", "0"),
    ("min(state.frames + form.frames, form.slots)", "state.frames + 1"),
    ("source < end ?", "source <= end - 1 - size.tokens ?"),
    ("row <= across ? share * added", "row < across ? share * added"),
    ("min(largestShare(form.frames), powerOfTwoBelow(1 / largest))", "largestShare(form.frames)"),
    ("(form.slots - frames) * grids[row]", "(form.slots - frames) * grids[0]"),
    ("waves[half + place] = sin(angle)", "waves[half + place] = cos(angle)"),
    ("number + gain * latents", "number - gain * latents"),
    ("one.memory == .decay ? Float(one.decay) * sum : sum", "sum"),
    ("slot + 1 < held ?", "slot < held ?"),
    ("channel * turned.shape[3] + token", "token * turned.shape[3] + channel"),
    ("added: form.ringFrames", "added: form.frames"),
]


@pytest.mark.parametrize(("right", "wrong"), MUTATIONS, ids=[right for right, _ in MUTATIONS])
def test_the_vectors_see_a_wrong_line(tmp_path, right, wrong):
    source = (CORE / "Host.swift").read_text()
    assert source.count(right) == 1
    (tmp_path / "Host.swift").write_text(source.replace(right, wrong))
    wrong_swift = load([tmp_path / path.name if path.name == "Host.swift" else path for path in ARITHMETIC])
    with pytest.raises(AssertionError):  # an unequal number, or an index outside
        check_streams(wrong_swift)


@pytest.mark.parametrize("cls", [host.HostForm, KeptRing, KeptTail, KeptSums, CausalForm], ids=lambda cls: cls.__name__)
def test_swift_decodes_every_field_under_its_name(swift, cls):
    struct = swift[cls.__name__]
    assert {struct.keys.get(name, name) for name in struct.stored} == {field.name for field in dataclasses.fields(cls)}
    assert not struct.keys or set(struct.keys) == set(struct.stored)


def test_what_swift_reads_of_a_manifest_is_there():
    source = (CORE / "PackageManifest.swift").read_text()
    (body,) = re.findall(r"struct PackageManifest[^{]*{(.*?)\n}", source, flags=re.DOTALL)
    read = set(re.findall(r"^    public let (\w+)", body, flags=re.MULTILINE))
    assert read == {"functions", "held", "host", "model", "chain"}
    assert read <= {field.name for field in dataclasses.fields(Manifest)}
    (body,) = re.findall(r"struct ChainLink[^{]*{(.*?)\n}", source, flags=re.DOTALL)
    assert set(re.findall(r"^    public let (\w+)", body, flags=re.MULTILINE)) == {"handsOn", "functions", "host"}
    assert 'handsOn = "hands_on"' in body
    assert {"hands_on", "functions", "host"} <= {field.name for field in dataclasses.fields(ChainLink)}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Memory", get_args(get_type_hints(KeptSums)["memory"])),
        ("Keeper", get_args(host.Keeper)),
        ("Commit", COMMIT_POLICIES),
    ],
)
def test_swift_knows_every_memory_keeper_and_commit_policy(swift, name, words):
    assert words
    assert set(swift[name].cases.values()) == set(words)


def test_swift_has_every_input_and_output_by_its_name():
    names = {name for case in STREAMS for name in case["shapes"]}
    source = "".join(path.read_text() for path in CORE.glob("*.swift"))
    for name in names:
        assert f'"{name}"' in source, name
    assert {"past", "new_past", "keys", "values", "tails", "sums", "past_bias"} <= names


def test_swifts_constants_are_pythons(swift):
    assert f"Half.bits({host.MASKED})" in (CORE / "Host.swift").read_text()
    assert [swift["padded"](count) for count in range(100)] == [host.padded(count) for count in range(100)]


def test_the_core_needs_foundation_alone_and_the_rest_only_where_core_ml_is():
    for path in CORE.glob("*.swift"):
        assert set(re.findall(r"^import (\w+)", path.read_text(), flags=re.MULTILINE)) == {"Foundation"}, path.name
    for path in THIN.glob("*.swift"):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("//")]
        assert (lines[0], lines[-1]) == ("#if canImport(CoreML)", "#endif"), path.name


def test_the_stream_asks_for_functions_that_packages_have():
    asked = set(re.findall(r'"(\w+)"', re.search(r"let names = (\[.*\])", (THIN / "VideoStream.swift").read_text())[1]))
    assert asked == set(FUNCTIONS)


def test_a_kit_brings_the_package_with_its_vectors(tmp_path):
    copy_mac(tmp_path)
    for file in (path for path in PACKAGE.rglob("*") if path.is_file()):
        assert (tmp_path / "swift" / "S2Stream" / file.relative_to(PACKAGE)).read_bytes() == file.read_bytes()


def test_the_package_names_folders_that_are_there():
    text = (PACKAGE / "Package.swift").read_text()
    for kind, folder in (("target", "Sources"), ("testTarget", "Tests")):
        for name in re.findall(rf'\.{kind}\(\s*name: "(\w+)"', text):
            assert list((PACKAGE / folder / name).glob("*.swift")), name
    assert FOLDER.parent.name in text
    assert f'.copy("{FOLDER.name}")' in text


def check_streams(swift):
    for case in STREAMS:
        check_stream(swift, case, furthest=5)


def check_stream(swift, case, furthest=1000):
    """Raise unless Swift's host does as the vectors say."""
    form = decoded(swift, "HostForm", case["host"])
    assert form.shapes() == case["shapes"]
    mine, draws, shapes = swift["Host"](form), Draws(), case["shapes"]
    latents, text = (tensor(swift, draws.floats(tuple(shape))) for shape in (form.latents, form.text))
    state, looks, chunk = mine.start(), list(case["looks"]), 0
    while looks and looks[0]["chunk"] <= furthest:
        if looks[0]["chunk"] == chunk:
            look = looks.pop(0)
            output = halves(swift, draws.output("velocity", tuple(shapes["velocity"])))
            velocity = mine.velocity(output, latents=latents, s=look["s"])
            assert (velocity.shape, velocity.values) == (look["velocity"]["shape"], numbers(look["velocity"]))
            given = mine.inputs(latents=latents, s=look["s"], text=text) | mine.past(state)
            assert state.isEmpty == look["empty"]
            assert chunk or given.keys() == look["inputs"].keys()
            for name, wanted in look["inputs"].items():
                assert (given[name].shape, given[name].bits) == (wanted["shape"], wanted["bits"]), (name, chunk)
        new = {name: draws.output(name, tuple(shapes[name])) for name in sorted(shapes) if name.startswith("new_")}
        state, chunk = mine.after(state, {name: halves(swift, array) for name, array in new.items()}), chunk + 1


def tensor(swift, array):
    return swift["FloatTensor"](shape=Array(array.shape), values=Array(array.ravel()))


def halves(swift, array):
    return swift["HalfTensor"](shape=Array(array.shape), bits=Array(array.view(np.uint16).ravel().tolist()))


def floats(swift, one):
    return swift["FloatTensor"](shape=Array(one["shape"]), values=numbers(one))


def numbers(one):
    return Array(map(np.float32, one["values"]))

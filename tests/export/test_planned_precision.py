"""`export` writes what the plan's table was of, where the exporter can and nothing else is asked of it."""

from __future__ import annotations

import dataclasses
import io
import itertools

import pytest
import torch
from rich.console import Console

from s2search.api.export import export
from s2search.api.plan import plan as make_plan
from s2search.errors import InputError
from s2search.exporters.base import Exporter
from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.prompt_tokens import PROMPTS, PromptTokens
from s2search.exporters.quantised import matrices, weights_digest
from s2search.exporters.torch_program import TorchProgramExporter
from s2search.network.network import S2DiT, realize
from s2search.planner.plan import PrecisionAnswer
from s2search.precision.documents import PrecisionChoice
from s2search.precision.part import parts_in_order
from s2search.preset import Preset
from s2search.reporting.package import package_text
from s2search.text.hashing import Hashing
from s2search.verification.checks.arithmetic import ArithmeticCheck
from s2search.verification.opened import Opened, Options
from s2search.verification.result import CannotRunError

SIZES = Preset(name="tiny", depth=2, channels=32, heads=4, feed_forward=64, text_channels=8, text_tokens=5)


@pytest.fixture(scope="module")
def planned():
    found = make_plan("iphone-16-pro-max", budget="60ms", depth=2)
    assert found.precision == "w4a8"
    return found


@pytest.fixture
def asked(monkeypatch):
    """Return what is exported with, and how, in the order of calls; nothing is written."""
    seen = []

    def note(self, model, grid, out, progress, **rest):
        seen.append((self, rest))

    monkeypatch.setattr(Exporter, "export", note)
    return seen


@pytest.mark.parametrize(
    ("exporter", "precision", "written"),
    [
        ("coreml", "w4a8", "coreml[bits=4,activations=8]"),
        ("coreml", "w8a16", "coreml[bits=8]"),
        ("coreml", "float16", "coreml"),
        ("coreml", "float32", "coreml"),
        ("coreml[palette=uniform]", "w6a16", "coreml[bits=6,palette=uniform]"),
        ("coreml[bits=6]", "w4a8", "coreml[bits=6]"),
        ("coreml[bits=16]", "w4a8", "coreml"),
        ("coreml[bits=4]", "w4a8", "coreml[bits=4]"),
        ("onnx", "w4a8", "onnx"),
        (CoreMLExporter(), "w4a8", "coreml[bits=4,activations=8]"),
        (CoreMLExporter(bits=8), "w4a8", "coreml[bits=8]"),
    ],
    ids=str,
)
def test_an_exporter_without_a_precision_of_its_own_writes_that_of_the_plans_table(
    asked, planned, tmp_path, exporter, precision, written
):
    plan = dataclasses.replace(planned, precision=precision)
    export(exporter, tmp_path / "out", preset=SIZES, random_weights=True, plan=plan, video="64x48")
    (found,) = (one for one, _ in asked)
    assert found.label == written


def test_weights_that_carry_their_plan_are_exported_by_it_too_and_others_as_the_exporter_says(asked, planned, tmp_path):
    model = realize(planned, SIZES).eval()
    model.save_pretrained(tmp_path / "weights")
    export("coreml", tmp_path / "a", tmp_path / "weights", video="64x48")
    export("coreml", tmp_path / "b", preset=SIZES, random_weights=True, video="64x48")
    assert [one.label for one, _ in asked] == ["coreml[bits=4,activations=8]", "coreml"]


@pytest.mark.parametrize("precision", ["w4a8", "float32"])
def test_a_package_of_another_precision_than_the_plans_table_says_so_in_one_line(planned, tmp_path, precision):
    plan = dataclasses.replace(planned, precision=precision)
    package = TorchProgramExporter().export(realize(plan, SIZES).eval(), (3, 4), tmp_path / "package")
    console = Console(file=io.StringIO(), width=300)
    console.print(package_text(package, seconds=1))
    said = [line for line in console.file.getvalue().splitlines() if "nothing is promised" in line]
    found = [one.why for one in ArithmeticCheck().run(Opened(package))]
    line = "the plan's numbers are of w4a8, and the package is float32"
    if precision == "float32":
        assert not said
        assert not any(line in why for why in found)
    else:
        assert said == [
            "the plan's table iphone-16-pro-max.coreml.w4a8 is of w4a8, and this package is float32: "
            "nothing is promised of its times and bytes"
        ]
        assert all(line in why for why in found)
    assert found


def mixed(planned):
    """Return the plan as one that chose precisions with its layout."""
    sizes = dataclasses.replace(SIZES, channels=64)
    parts = parts_in_order(matrices(S2DiT.from_preset(sizes, planned.written)))
    labels = dict(zip(parts, itertools.cycle(["float16", "w8a16", "w4a16"]), strict=False))
    chosen = PrecisionAnswer(
        offered=("float16", "w8a16", "w4a16"),
        least_db=30.0,
        predicted_db=31.0,
        assumed=0,
        spread_db=0.0,
        sensitivity_digest="sha256:s",
        palette="uniform",
        rest_bytes=7,
        tables={"float16": "sha256:t"},
        parts={part: PrecisionChoice(precision=label, bytes=3, noise=1e-4) for part, label in labels.items()},
    )
    return dataclasses.replace(planned, precision="w4a16", precisions=chosen), sizes, labels


def test_precisions_that_a_plan_chose_are_written_by_who_can_mix_and_belong_to_its_models_only(
    asked, planned, tmp_path
):
    plan, sizes, labels = mixed(planned)
    for exporter in ("coreml", "coreml[bits=8]", "onnx"):
        export(exporter, tmp_path / "out", preset=sizes, random_weights=True, plan=plan, video="64x48")
    (chosen, eight, other) = (one for one, _ in asked)
    assert (chosen.label, chosen.precision) == ("coreml[mixed=precision.json]", "w4a16")
    assert (eight.label, other.label) == ("coreml[bits=8]", "onnx")
    model = realize(plan, sizes).eval()
    assert {part: precision.label for part, precision in chosen.precisions(model).items()} == labels
    settled = chosen._settled(model)
    assert (settled.model_digest, settled.weights_digest) == (model.config.digest, weights_digest(model))
    assert settled.weight_bytes == 7 + 3 * len(labels)
    assert CoreMLExporter().in_precisions(plan.precisions).precisions(model) == chosen.precisions(model)
    assert CoreMLExporter(mixed="p.json").in_precisions(plan.precisions) is None
    for stranger in (S2DiT.from_preset(sizes, plan.written).eval(), realize(planned, sizes).eval()):
        with pytest.raises(InputError, match="chosen with another layout than this model was realized from"):
            chosen.precisions(stranger)


def test_a_package_keeps_its_prompts_and_verification_shows_the_last(tmp_path):
    preset = dataclasses.replace(SIZES, depth=1)
    model = S2DiT.from_preset(preset, "S").eval()
    prompts = PromptTokens.hashed(preset)
    kept = Opened(TorchProgramExporter().export(model, (3, 4), tmp_path / "kept", prompts=prompts))
    assert torch.equal(kept.text_BSE, prompts.held_out)
    assert torch.equal(torch.from_numpy(kept.inputs("first")["text"]), prompts.held_out)
    plain = Opened(TorchProgramExporter().export(model, (3, 4), tmp_path / "plain"))
    again = Opened(plain.package, Options(seed=1))
    assert plain.text_BSE.shape == again.text_BSE.shape == prompts.held_out.shape
    assert not torch.equal(plain.text_BSE, again.text_BSE)
    other = PromptTokens(text_PSE=torch.zeros(1, 5, 9), encoder="other")
    with pytest.raises(InputError, match="makes 5 tokens of 9 channels, and the model reads 5 of 8"):
        TorchProgramExporter().export(model, (3, 4), tmp_path / "other", prompts=other)
    (kept.package.source / "prompts.safetensors").write_bytes(b"none")
    with pytest.raises(CannotRunError, match="holds no prompts"):
        _ = Opened(kept.package).text_BSE


def test_prompts_of_a_file_and_their_encoder_reach_the_exporter(asked, tmp_path):
    given = {"preset": SIZES, "random_weights": True, "video": "64x48"}
    (tmp_path / "prompts.txt").write_text("a dog\na cat runs\n")
    export("onnx", tmp_path / "a", **given)
    export("onnx", tmp_path / "b", **given, prompts=tmp_path / "prompts.txt")
    export("onnx", tmp_path / "c", **given, text=Hashing(channels=8, tokens=5))
    export("onnx", tmp_path / "d", **given, text="hashing[channels=9,tokens=5]", prompts=tmp_path / "prompts.txt")
    tokens = [rest["prompts"] for _, rest in asked]
    assert tokens[0] is None
    assert [(tuple(one.text_PSE.shape), one.encoder) for one in tokens[1:]] == [
        ((2, 5, 8), "hashing[channels=8,tokens=5]"),
        ((len(PROMPTS), 5, 8), "hashing[channels=8,tokens=5]"),
        ((2, 5, 9), "hashing[channels=9,tokens=5]"),
    ]

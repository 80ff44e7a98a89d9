"""Compressed weights and rounded inputs in Core ML programs: the same numbers as fake quantisation's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from s2search.block import PRECISIONS
from s2search.errors import InputError
from s2search.exporters.calibration import RangeStreams, calibrate
from s2search.exporters.coreml.compression import compress, rounding_pipeline
from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.graph import decompositions, exported
from s2search.exporters.prompt_tokens import PromptTokens
from s2search.exporters.quantised import InputRange, quantised, record, rounded_weight
from s2search.exporters.step import StepShape
from s2search.exporters.streamed import StreamedPackage
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools, quiet_coremltools
from s2search.mil.program import Program
from s2search.network.network import S2DiT
from s2search.precision.documents import PrecisionChoice, PrecisionPlan, noise_db
from s2search.precision.part import PartPrecision
from s2search.preset import Preset
from s2search.verification.expected import difference
from s2search.verification.inspectors.coreml_emulated import EmulatedCoreML
from s2search.verification.inspectors.stored_tensor import StoredTensor

SPAN = InputRange(low=-2.0, high=3.0)


class Three(nn.Module):
    """Two linear layers that read the same values, and a third after them."""

    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({name: nn.Linear(64, 64) for name in ("one", "two", "three")})

    def forward(self, x_BD):
        return self.model["three"](self.model["one"](x_BD) + torch.tanh(self.model["two"](x_BD)))


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Return the module, and a program in which `one` and `two` round their input and each has its own precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Three().eval().requires_grad_(False)
    coremltools, x_BD = load_coremltools(), torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    with quiet_coremltools():
        model = coremltools.convert(
            exported(module, (x_BD,), decompositions()),
            inputs=[coremltools.TensorType(name="x", dtype=np.float16)],
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS18,
            pass_pipeline=rounding_pipeline({"one": SPAN, "two": SPAN}),
            skip_model_load=True,
        )
    precisions = {"one": "w4g16a8", "two": "w6a8", "absent": "w4a16"}
    model = compress(model, {name: (PartPrecision.parse(label), 64) for name, label in precisions.items()}, "uniform")
    path = tmp_path_factory.mktemp("three") / "three.mlpackage"
    model.save(str(path))
    return module, x_BD.half().float(), Program.load(path)


def test_layers_that_read_the_same_values_share_one_rounding(three):
    kinds = [operation.type for operation in three[2].function().operations]
    assert [kinds.count(kind) for kind in ("quantize", "dequantize", "linear")] == [1, 1, 3]
    assert kinds.count("constexpr_lut_to_dense") == 2


def test_a_program_computes_what_fake_quantisation_says(three):
    module, x_BD, program = three
    weights = {
        "one": rounded_weight(module.model["one"].weight, PartPrecision.parse("w4g16a8"), "uniform"),
        "two": rounded_weight(module.model["two"].weight, PartPrecision.parse("w6a8"), "uniform"),
        "three": module.model["three"].weight.half().float(),
    }
    for name, linear in module.model.items():
        linear.weight.data, linear.bias.data = weights[name], linear.bias.half().float()
    rounded_BD = SPAN.rounded(x_BD)
    middle_BD = module.model["one"](rounded_BD) + torch.tanh(module.model["two"](rounded_BD))
    got = Evaluator(program).run({"x": x_BD}).outputs.popitem()[1]
    torch.testing.assert_close(got, module.model["three"](middle_BD), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(got, module(x_BD), atol=1e-3)


def stored(wanted, tables_GV):
    """Return a stored tensor of the nearest values."""
    groups = np.split(wanted, len(tables_GV))
    values = [table[np.abs(rows[..., None] - table).argmin(-1)] for rows, table in zip(groups, tables_GV, strict=True)]
    step = max(np.diff(table).max() for table in tables_GV)
    return StoredTensor(
        file="f", name="n", values=np.concatenate(values).astype(np.float16), step=step, tables_GV=np.stack(tables_GV)
    )


def even_tables(wanted):
    """Return 16 evenly spaced values for each of two groups."""
    groups = np.split(wanted, 2)
    return [np.linspace(rows.min(), rows.max(), 16).astype(np.float16).astype(np.float64) for rows in groups]


def test_a_stored_value_that_is_not_the_nearest_of_its_groups_table_is_found():
    rng = np.random.default_rng(0)
    wanted = (rng.normal(size=(32, 8)) * np.repeat((1, 3), 16)[:, None]).astype(np.float16).astype(np.float32)
    tables = even_tables(wanted)
    right = stored(wanted, tables)
    assert difference(wanted, right) == ""
    values = right.values.copy()
    place = int(np.abs(tables[1] - values[20, 3]).argmin())
    values[20, 3] = tables[1][place - 1 if place else 1]
    assert "is not the nearest of its table in 1 of 256 numbers" in difference(
        wanted, dataclasses.replace(right, values=values)
    )
    swapped = dataclasses.replace(right, tables_GV=right.tables_GV[::-1])
    assert difference(wanted, swapped) != ""


@pytest.mark.parametrize("numbers", ["normal", "uniform", "mostly zeros"])
def test_a_table_that_does_not_fit_its_group_is_found_though_every_number_has_its_nearest_value(numbers):
    rng = np.random.default_rng(1)
    wanted = rng.uniform(-1, 1, (32, 64)) if numbers == "uniform" else rng.normal(size=(32, 64))
    wanted = np.where(rng.random(wanted.shape) < 0.8 * (numbers == "mostly zeros"), 0.0, wanted)
    wanted = np.concatenate((wanted[:16], 3 * wanted[16:])).astype(np.float16).astype(np.float32)
    even = even_tables(wanted)
    assert difference(wanted, stored(wanted, even)) == ""
    broken = {
        "halved": (even[0], 0.5 * even[1]),
        "as wide again": (even[0], 2 * even[1]),
        "half the values": (np.repeat(even[0][::2], 2), even[1]),
        "of the other group": (even[1], even[1]),
        "shifted": (even[0] + 8 * (even[0][1] - even[0][0]), even[1]),
    }
    for tables in broken.values():
        assert "times the noise of even ones" in difference(wanted, stored(wanted, list(tables)))


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({}, "float16"),
        ({"bits": 4}, "w4a16"),
        ({"bits": 6, "group": 16}, "w6a16"),
        ({"bits": 4, "activations": 8}, "w4a8"),
    ],
)
def test_options_name_the_precision_of_layers(options, precision):
    exporter = CoreMLExporter(**options)
    assert exporter.precision == precision
    assert exporter.precision in PRECISIONS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 32}, "group=32 and activations=16 beside 16-bit weights"),
        ({"activations": 8}, "beside 16-bit weights"),
        ({"bits": 4, "group": -1}, "group=-1"),
        ({"bits": 4, "mixed": "p.json"}, "mixed=p.json is combined with other options of precision"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(InputError) as error:
        CoreMLExporter(**options)
    assert message in str(error.value)


def two_layers(seed=0):
    preset = dataclasses.replace(Preset.named("s2dit-tiny"), depth=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return S2DiT.from_preset(preset, "SL").eval().requires_grad_(False)


def precision_plan(path, model, parts):
    from s2search.exporters.quantised import weights_digest

    PrecisionPlan(
        model_digest=model.config.digest,
        weights_digest=weights_digest(model),
        sensitivity_digest="sha256:none",
        asked="at least 25 dB",
        palette="uniform",
        rest_bytes=1,
        parts={part: PrecisionChoice(precision=label, bytes=1, noise=1e-3) for part, label in parts.items()},
        weight_bytes=1,
        predicted_db=25.0,
        optimal=True,
    ).save(path)
    return CoreMLExporter(mixed=str(path))


MIXED = {
    **{"stem": "w8a16", "layers.0": "w4g32a8", "layers.1": "w6a16", "down": "float16", "up": "w8a8"},
    **{"head": "w6a8", "text": "w4a16"},
}


def test_a_plan_of_precisions_gives_every_part_its_own(tmp_path):
    model = two_layers()
    exporter = precision_plan(tmp_path / "p.json", model, MIXED)
    assert {part: precision.label for part, precision in exporter.precisions(model).items()} == MIXED
    assert (exporter.precision, exporter.options_text) == ("w4a8", "mixed=p.json")
    with pytest.raises(InputError, match="chosen for another set of weights"):
        exporter.precisions(two_layers(seed=1))
    with pytest.raises(InputError, match="another"):
        precision_plan(tmp_path / "q.json", model, {"stem": "w8a16"}).precisions(model)


@pytest.mark.slow
def test_a_mixed_package_is_as_fake_quantisation_and_its_size_as_predicted(tmp_path):
    model, grid = two_layers(), (3, 4)
    exporter = precision_plan(tmp_path / "p.json", model, MIXED)
    package = exporter.export(model, grid, tmp_path / "package")
    assert (package.folder / "p.json").exists()
    assert package.manifest.facts["ranges"].startswith("4 streams of 4 chunks, ")
    assert PromptTokens.beside(package.source) is not None
    shape = StepShape(grid=grid, frames=3, window=model.config.preset.window)
    prompts = PromptTokens.hashed(model.config.preset)
    recording = record(model, shape, chunks=2, seed=5)
    ranges = calibrate(model, RangeStreams(shape=shape, prompts=prompts))
    streamed = StreamedPackage(package, EmulatedCoreML(package, "float32"))
    with quantised(model, exporter.precisions(model), "uniform", ranges, {}):
        fake_db = noise_db(recording.noise(model))
        again = record(model, shape, chunks=2, seed=5)
    assert noise_db(recording.noise(streamed)) == pytest.approx(fake_db, abs=0.2)
    assert noise_db(again.noise(streamed)) > 38  # roundings of inputs that fell to the other side
    weights = next(file for file in package.manifest.files if file.path.endswith("weight.bin"))
    assert weights.bytes == pytest.approx(package.manifest.sizes.predicted_weight_bytes, rel=0.1)

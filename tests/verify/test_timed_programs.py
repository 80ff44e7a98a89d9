"""What kits and the Core ML profiler time, converted and evaluated, against the blocks and against a whole package."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from s2search.block import Window
from s2search.exporters.coreml.exporter import CoreMLExporter
from s2search.exporters.coreml.form import Form
from s2search.exporters.past import StepShape
from s2search.measurement.coreml_item import convert_item
from s2search.measurement.items import campaign_items
from s2search.measurement.packed_call import packed_call
from s2search.measurement.step_call import step_call
from s2search.mil.evaluator import Evaluator
from s2search.mil.library import load_coremltools
from s2search.mil.program import Program
from s2search.mil.watch import Peaks, tensor_snr_db
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.testing.profilers import MINIATURE
from tests.mil.programs import few_objects

SIZES = Preset(
    name="odd", depth=2, channels=48, heads=4, feed_forward=96, text_channels=16, text_tokens=5, chunk_frames=2
)
ITEMS = campaign_items(SIZES, "80x48", clip_frames=3)
LEAST_DB = 60  # of float16, as for whole packages
QUICK = ("stream ssa commit 2x3x5", "stream down 2x3x5")
FORMS = (Form(), Form(state="core_ml"), Form(layout="blocks", state="plain"))
IDS = [f"{form.layout}-{form.state}" for form in FORMS]
LAYOUTS = ("bc1s", "blocks")


def evaluated(item, form, mode, path):
    """Return what the block gives and what the converted program does for the same float16 numbers, by name."""
    call = packed_call(item) if form.state == "host" else step_call(item, form.layout)
    half = {name: x if name in call.exact else x.half().float() for name, x in call.arguments.items()}
    twice = packed_call(item, torch.float64) if form.state == "host" else step_call(item, form.layout, torch.float64)
    double = twice.module
    with torch.no_grad():
        for parameter, other in zip(double.parameters(), call.module.parameters(), strict=True):
            parameter.copy_(other)
        expected = double(*(x.double() for x in half.values()))
    with few_objects():
        converted = convert_item(item, form.layout, form.state).kept_by(form.state)
        converted.model.save(str(path))
    program = Evaluator(Program.load(path), mode=mode)
    held = {name: half[name] for name in converted.states}
    result = program.run({name: half[name] for name in converted.inputs}, held or None, watch=[peaks := Peaks()])
    assert peaks.first_non_finite is None
    found = result.outputs | {f"new_{name}": x for name, x in result.state.items()}
    return [(wanted, found[name]) for name, wanted in zip(call.outputs, expected, strict=True)], converted


def lowest_db(pairs):
    return min(tensor_snr_db(wanted, found) for wanted, found in pairs if wanted.abs().max() > 0)


@pytest.mark.parametrize("form", FORMS, ids=IDS)
@pytest.mark.parametrize(
    "item", [pytest.param(one, id=one.key, marks=() if one.key in QUICK else pytest.mark.slow) for one in ITEMS]
)
def test_a_timed_program_gives_what_the_block_gives(item, form, tmp_path):
    pairs, converted = evaluated(item, form, "float16", tmp_path / "item.mlpackage")
    assert lowest_db(pairs) >= LEAST_DB
    # The source makes the sinusoids of its noise level in float32, and the host in float64.
    assert converted.parity_db > (100 if item.part.name == "stem" and form.state == "host" else 110)
    if form.state == "core_ml":
        assert not [name for name in converted.inputs if name.startswith(("keys_", "values_", "tail_"))]


def operations(specification, function):
    (block,) = specification.mlProgram.functions[function].block_specializations.values()
    return Counter(operation.type for operation in block.operations if operation.type != "const")


@pytest.mark.slow
@pytest.mark.parametrize("form", [Form(layout=layout, state="plain") for layout in LAYOUTS], ids=LAYOUTS)
def test_an_exported_step_has_the_operations_of_the_parts_that_are_timed(form, tmp_path):
    """The promise of a table is about the graphs that are shipped: the sum of the parts is the whole."""
    items = {item.key: item for item in campaign_items(MINIATURE, "48x48", scenarios=["stream"])}
    shape = items["stream lcha 1x3x3"].shape
    exporter = CoreMLExporter(layout=form.layout, state=form.state)
    model = S2DiT.from_preset(MINIATURE, "LS").eval().requires_grad_(False)
    window = Window(frames=shape.context_frames)
    steps = exporter.steps(model, StepShape(grid=(3, 3), frames=shape.frames, window=window))
    with few_objects():
        exporter.write(steps, tmp_path, lambda done, total, label: None)
        timed = Counter()
        for name in ("stem", "lcha", "down", "ssa", "up", "head"):
            converted = convert_item(items[f"stream {name} 1x3x3"], form.layout).kept_by(form.state)
            timed += operations(converted.model.get_spec(), "main")
    whole = operations(load_coremltools().utils.load_spec(str(tmp_path / "model.mlpackage")), "denoise")
    assert timed - whole == Counter()
    # In no part: the long skip is added on the way up, and once per call the text is turned.
    assert whole - timed == Counter(add=1, **({"transpose": 1, "expand_dims": 1} if form.layout == "bc1s" else {}))

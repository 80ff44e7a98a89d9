"""Core ML against coremltools' real converter and real MLModel, with a fake of the macOS framework behind it."""

import platform
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from s2search.errors import InputError
from s2search.exporters.coreml.exporter import CoreMLExporter as Exporter
from s2search.exporters.coreml.form import Form, Layout, PackageKeeper, StateKeeper
from s2search.measurement.coreml import CoreML
from s2search.measurement.packed_call import packed_call
from s2search.mil.library import load_coremltools
from s2search.testing.profilers import check_profiler, miniature_items
from tests.measure.test_tensor_call import snr_db

coremltools = load_coremltools()
STREAM = tuple(item for item in miniature_items() if item.scenario == "stream")
FEW = tuple(item for item in STREAM if item.key in ("stream ssa commit 1x3x3", "stream head 1x3x3"))


@pytest.fixture
def mac(monkeypatch):
    """A Mac whose framework answers with torch's own numbers in float16."""
    loaded = []

    def make_state(model):
        return tuple(feature.name for feature in model.get_spec().description.state)

    def predict(model, data, state=None):
        description = model.get_spec().description
        assert set(data) == {feature.name for feature in description.input}
        assert state == (make_state(model) or None)
        for feature in description.input:
            array = data[feature.name]
            assert array.dtype == np.float32
            assert list(array.shape) == list(feature.type.multiArrayType.shape)
            assert array.ndim <= (5 if feature.name == "latents" else 4)
        loaded.append(model)
        return {
            feature.name: np.zeros(tuple(feature.type.multiArrayType.shape), np.float16)
            for feature in description.output
        }

    plan = SimpleNamespace(
        model_structure=SimpleNamespace(
            program=SimpleNamespace(
                functions={"main": SimpleNamespace(block=SimpleNamespace(operations=["const", "conv", "softmax"]))}
            )
        ),
        get_compute_device_usage_for_mlprogram_operation=lambda operation: (
            None if operation == "const" else SimpleNamespace(preferred_compute_device=DEVICES[operation]())
        ),
        get_estimated_cost_for_mlprogram_operation=lambda operation: (
            None if operation == "const" or not COST else SimpleNamespace(weight=COST[operation])
        ),
    )
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    from coremltools.models import compute_plan

    monkeypatch.setattr(coremltools.models.MLModel, "predict", predict)
    monkeypatch.setattr(coremltools.models.MLModel, "make_state", make_state)
    monkeypatch.setattr(coremltools.models.MLModel, "get_compiled_model_path", lambda self: "/tmp/item.mlmodelc")
    monkeypatch.setattr(
        compute_plan.MLComputePlan, "load_from_path", staticmethod(lambda path, compute_units=None, **_: plan)
    )
    return loaded


class MLNeuralEngineComputeDevice:
    """Named as coremltools names it."""


class MLCPUComputeDevice:
    """Named as coremltools names it."""


DEVICES = {"conv": MLNeuralEngineComputeDevice, "softmax": MLCPUComputeDevice}
COST = {"conv": 0.9, "softmax": 0.1}


@pytest.mark.parametrize(
    "item", [pytest.param(one, id=one.key, marks=() if one in FEW else pytest.mark.slow) for one in STREAM]
)
def test_every_item_becomes_a_program_that_takes_what_it_is_given(mac, item):
    prepared = CoreML().prepare(item)
    assert prepared.time_ms(2) > 0
    assert len(mac) == 2
    assert prepared.output().shape == returned(item).shape


def returned(item):
    """Return the first thing that a program returns: of a commit what is new of a ring or a tail."""
    return packed_call(item).expected[0]


def test_its_forms_are_the_exporters_and_so_is_the_default():
    assert CoreML().layout == Exporter().layout == Form().layout
    assert CoreML().state == Exporter().state == Form().state
    assert set(get_args(StateKeeper)) == set(get_args(PackageKeeper))
    for layout in get_args(Layout):
        Exporter(layout=layout, state="plain")
    for make in (CoreML, Form, Exporter):
        with pytest.raises(InputError, match=r"state=host packs a state that has channels before tokens"):
            make(layout="blocks")


@pytest.mark.parametrize("item", FEW, ids=lambda item: item.key)
def test_states_of_core_mls_own_are_made_once_and_only_where_asked(mac, item):
    for state in ("core_ml", "plain", "host"):
        CoreML(state=state).prepare(item).time_ms(1)
    kept, plain, packed = ([feature.name for feature in model.get_spec().description.state] for model in mac)
    assert kept == (["keys_00", "values_00"] if item.role == "commit" else [])
    assert plain == packed == []
    if item.role == "commit":
        assert [feature.name for feature in mac[-1].get_spec().description.output] == ["new_keys", "new_values"]


@pytest.mark.slow
def test_it_keeps_the_contract_of_profilers(mac):
    read_and_commit = [item for item in STREAM if item.key in ("stream ssa 1x3x3", "stream ssa commit 1x3x3")]
    check_profiler(CoreML(compute_unit="all"), read_and_commit)


def test_it_asks_for_the_compute_units_of_its_option(mac):
    CoreML(compute_unit="neural_engine").prepare(STREAM[-1]).time_ms(1)
    CoreML(compute_unit="cpu").prepare(STREAM[-1]).time_ms(1)
    units = [model.compute_unit for model in mac]
    assert units == [coremltools.ComputeUnit.CPU_AND_NE, coremltools.ComputeUnit.CPU_ONLY]


def test_operations_are_counted_by_the_unit_that_the_plan_prefers(mac):
    assert CoreML().prepare(STREAM[-1]).placement() == {"NeuralEngine": 1, "CPU": 1}


def test_units_share_the_plans_estimated_cost_or_else_its_operations(mac, monkeypatch):
    assert CoreML().prepare(STREAM[-1]).unit_work() == {"neural_engine": 0.9, "cpu": 0.1}
    monkeypatch.setitem(globals(), "COST", {})
    assert CoreML().prepare(STREAM[-1]).unit_work() == {"neural_engine": 1.0, "cpu": 1.0}


def test_weights_are_those_of_the_package_in_float16(mac):
    part, shape = STREAM[-1].part, STREAM[-1].shape
    weights = CoreML().prepare(STREAM[-1]).memory().weight_bytes
    assert 2 * part.parameters(shape).count <= weights < 4 * part.parameters(shape).count


@pytest.mark.skipif(platform.system() == "Darwin", reason="this is a Mac")
def test_elsewhere_it_says_that_it_needs_a_mac():
    assert CoreML().why_not() == f"Core ML does not run on {platform.system()}; it needs a Mac"
    check_profiler(CoreML())


@pytest.mark.skipif(platform.system() != "Darwin", reason="needs a Mac")
@pytest.mark.parametrize("item", STREAM, ids=lambda item: item.key)
def test_core_ml_computes_what_torch_does(item):
    expected = returned(item)
    assert snr_db(expected, CoreML(compute_unit="cpu", state="plain").prepare(item).output()) > 40

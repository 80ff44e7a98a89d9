from __future__ import annotations

import pytest

from s2search import registry
from s2search.testing.exporters import check_exporter, tiny_model
from s2search.verification.verify import verify

LEAST_DB = {"onnx": 100.0, "torch_program": 120.0, "executorch": 100.0, "coreai": 80.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST_DB)
def test_an_exporter_keeps_the_contract_and_streams_16_chunks_as_torch_does(name, tmp_path):
    exporter = registry.create("exporters", name)
    if problem := exporter.why_not():
        pytest.skip(problem)
    check_exporter(exporter, tiny_model("SL"), tmp_path, least_snr_db=LEAST_DB[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch_program", "onnx", "executorch", "coreml", "coreml[bits=4]"])
def test_a_model_of_fewer_latent_channels_is_exported_and_verified(name, tmp_path):
    exporter = registry.create("exporters", name)
    if problem := exporter.why_not():
        pytest.skip(problem)
    model = tiny_model("SL", latent_channels=4, velocity="residual")
    found = verify(exporter.export(model, (2, 3), tmp_path / "package").folder)
    assert found.passed, [check for check in found.checks if check.status == "failed"]

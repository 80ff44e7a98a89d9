from __future__ import annotations

import pytest

from s2search import registry
from s2search.testing.exporters import check_exporter, tiny_model

LEAST_DB = {"onnx": 90.0}


@pytest.mark.parametrize("name", LEAST_DB)
def test_an_exporter_keeps_the_contract_and_streams_16_chunks_as_torch_does(name, tmp_path):
    found = check_exporter(registry.create("exporters", name), tiny_model(), tmp_path, least_snr_db=LEAST_DB[name])
    print(name, {commit: f"{snr:.1f} dB" for commit, snr in found.items()})

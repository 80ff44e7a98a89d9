"""Items become .tflite files that compute what the module does."""

import numpy as np
import pytest
import torch

from s2search.errors import InputError, MissingExtraError
from s2search.measurement import convert
from s2search.measurement.convert import write_tflite
from s2search.measurement.litert import model_name
from s2search.measurement.tensor_call import TensorCall
from s2search.measurement.torch_call import torch_call
from s2search.testing.profilers import miniature_items

ITEMS = [item for item in miniature_items() if item.key in ("stream lcha 1x3x3", "stream down 1x3x3")]


def test_without_litert_torch_it_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("s2search.errors.find_spec", lambda module: None if module == "litert_torch" else object())
    with pytest.raises(MissingExtraError, match=r"litert-torch is not installed; .*'s2search\[litert\]'"):
        write_tflite(ITEMS, tmp_path)


def test_each_item_is_converted_once_under_the_name_that_profilers_look_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(convert, "require", lambda *modules: None)
    monkeypatch.setattr(convert, "_convert", lambda item, file: (asked.append(item), file.write_bytes(b"TFL3")))
    told = []
    write_tflite(ITEMS, tmp_path / "models", told.append)
    write_tflite(ITEMS, tmp_path / "models", told.append)
    assert asked == told == ITEMS
    assert {file.name for file in (tmp_path / "models").iterdir()} == {model_name(item) for item in ITEMS}
    commit = next(item for item in miniature_items() if item.role == "commit")
    with pytest.raises(InputError, match=r"LiteRT does not time 'stream .* commit 1x3x3'; leave the role commit out"):
        write_tflite([commit], tmp_path)


def test_the_file_computes_what_the_module_does(tmp_path):
    pytest.importorskip("litert_torch", reason="litert-torch 0.10 is in an environment of its own")
    from ai_edge_litert.interpreter import Interpreter

    write_tflite(ITEMS, tmp_path)
    for item in ITEMS:
        call = TensorCall(torch_call(item, torch.device("cpu"), torch.float32))
        with torch.no_grad():
            wanted = call(*call.inputs).numpy()
        run = Interpreter(str(tmp_path / model_name(item))).get_signature_runner()
        names = sorted(run.get_input_details(), key=lambda name: int(name.rpartition("_")[2]))
        (got,) = run(**{name: x.numpy() for name, x in zip(names, call.inputs, strict=True)}).values()
        assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()

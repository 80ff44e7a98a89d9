"""Weights that are not all in memory: drawn while they are written, and mapped while they are read."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from s2search.errors import CheckError, InputError
from s2search.measurement.peak_memory import peak_activation_bytes
from s2search.network.network import S2DiT
from s2search.network.random_weights import RandomS2DiT
from s2search.network.source import ModelSource, load_model, open_model
from s2search.network.weight_file import MappedTensors, write_tensors
from s2search.preset import Preset

TINY = Preset(name="tiny", depth=4, channels=32, heads=4, feed_forward=64, text_channels=8, text_tokens=5)


@pytest.fixture
def saved(tmp_path):
    model = S2DiT.from_preset(TINY, "SLLS").eval()
    model.save_pretrained(tmp_path / "saved")
    return model, tmp_path / "saved"


def equal(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("layout", ["SLLS", "LLLL"])
def test_weights_that_are_drawn_when_they_are_written_are_those_of_a_model_drawn_whole(tmp_path, layout):
    source = ModelSource(preset="s2dit-tiny", layout=layout * 2, random_weights=True, seed=7)
    undrawn = open_model(source)
    assert all(parameter.is_meta for parameter in undrawn.parameters())
    undrawn.save_pretrained(tmp_path)
    assert equal(S2DiT.from_pretrained(tmp_path), load_model(source))


def test_projections_of_text_are_drawn_too(tmp_path):
    with torch.device("meta"):
        config = S2DiT.from_preset(TINY, "SLLS").config
    config = type(config)(preset=TINY, layout=config.layout, text_widths={"gemma": 12})
    RandomS2DiT(config, seed=3).save_pretrained(tmp_path)
    torch.manual_seed(3)
    assert equal(S2DiT.from_pretrained(tmp_path), S2DiT(config))


def test_drawing_leaves_the_random_numbers_of_others_alone(tmp_path):
    undrawn = RandomS2DiT(S2DiT.from_preset(TINY, "SLLS").config)
    before = torch.random.get_rng_state()
    undrawn.save_pretrained(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_part_is_in_memory_at_a_time():
    undrawn = RandomS2DiT(S2DiT.from_preset(TINY, "SLLS").config)
    whole = 4 * undrawn.parameter_count
    parts = {name: sum(x.nbytes for x in layer.parameters()) for name, layer in undrawn.layers.named_children()}
    peak = peak_activation_bytes(lambda: [None for _ in undrawn.drawn()])
    assert max(parts.values()) <= peak < 0.5 * whole


def test_what_a_link_leads_to_is_not_written_to(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    path = tmp_path / "x.safetensors"
    path.symlink_to(tmp_path / "letter.txt")
    write_tensors(path, {"a": torch.empty(2, device="meta")}, [("a", torch.ones(2))], {})
    assert (tmp_path / "letter.txt").read_text() == "dear"
    assert torch.equal(load_file(path)["a"], torch.ones(2))


def test_a_written_file_is_one_that_safetensors_reads_with_its_data_aligned(tmp_path):
    tensors = {"odd": torch.randn(3), "b": torch.randn(16, 2), "a": torch.randn(5, 5).half(), "c": torch.randn(64)}
    shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
    path = tmp_path / "x.safetensors"
    write_tensors(path, shapes, reversed(tensors.items()), {"s2search.model": "none"})
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8:start])
    assert header["__metadata__"] == {"s2search.model": "none"}
    assert all((start + header[name]["data_offsets"][0]) % 64 == 0 for name in ("b", "c"))


def test_a_file_whose_tensors_do_not_all_come_is_an_error(tmp_path):
    shapes = {"a": torch.empty(1, device="meta"), "b": torch.empty(1, device="meta")}
    with pytest.raises(AssertionError, match="no values were given for b"):
        write_tensors(tmp_path / "x", shapes, [("a", torch.ones(1))], {})


def test_a_mapped_model_has_the_same_weights_also_after_its_memory_was_given_back(saved, tmp_path):
    model, folder = saved
    mapped = S2DiT.from_pretrained(folder, mapped=True)
    assert equal(mapped, model)
    mapped.mapping.release()
    assert equal(mapped, model)
    with mapped.mapping.released():
        assert equal(copy.deepcopy(mapped), model)
    mapped.save_pretrained(tmp_path / "again")
    assert equal(S2DiT.from_pretrained(tmp_path / "again"), model)


def test_a_mapped_model_takes_no_memory_of_its_own(saved):
    _, folder = saved
    mapped = S2DiT.from_pretrained(folder, mapped=True)
    first = min(parameter.data_ptr() for parameter in mapped.parameters())
    last = max(parameter.data_ptr() + parameter.nbytes for parameter in mapped.parameters())
    assert last - first == sum(parameter.nbytes for parameter in mapped.parameters())


def test_mapped_weights_that_belong_to_another_model_are_refused(saved):
    _, folder = saved
    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata={"s2search.model": "sha256:0"})
    with pytest.raises(CheckError, match="belong to the model sha256:0"):
        S2DiT.from_pretrained(folder, mapped=True)


def test_harmed_weights_are_one_line_when_they_are_mapped(saved):
    _, folder = saved
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="cannot be read") as raised:
        S2DiT.from_pretrained(folder, mapped=True)
    assert len(str(raised.value).splitlines()) == 1


def test_numbers_of_a_type_that_no_model_has_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2, dtype=torch.int8)}, path)
    with pytest.raises(InputError, match="are I8; F64, F32, F16, BF16"):
        MappedTensors(path)

"""Packages as files: what is refused, and that nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch

from s2search import registry
from s2search.block import Window
from s2search.errors import CheckError, InputError
from s2search.exporters.base import open_runtime
from s2search.exporters.package import Package, file_entries, new_folder
from s2search.exporters.step import StepShape
from s2search.exporters.streamed import StreamedPackage
from s2search.exporters.torch_program import TorchProgramExporter
from s2search.network.network import S2DiT
from s2search.streaming.state import StreamState
from s2search.testing.exporters import GRID, tiny_model


@pytest.fixture
def package(made, tmp_path):
    return Package.load(shutil.copytree(made.folder, tmp_path / "package"))


def change(package, **fields):
    path = package.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"schema": "s2search.kit/1"}, "its schema is 's2search.kit/1'"),
        ({"grid": "3x4"}, "is not a package manifest: Expected `array`, got `str` - at `$.grid`"),
        ({"colour": "red"}, "no key of the package manifest"),
        ({"model_digest": "sha256:0"}, "the package names the model sha256:0"),
        ({"plan_digest": "sha256:0"}, "the package names the model"),
        ({"files": [{"path": "../x", "bytes": 1, "sha256": "0"}]}, "names a file outside of it: '../x'"),
        ({"files": [{"path": "/etc/passwd", "bytes": 1, "sha256": "0"}]}, "names a file outside of it"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_harmed_manifest_is_one_line(package, fields, line):
    change(package, **fields)
    with pytest.raises(InputError) as raised:
        Package.load(package.folder)
    assert line in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_folder_that_is_no_package_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"there is no package '.*nowhere'; name a folder that s2search export wrote"):
        Package.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"the package manifest '.*manifest.json' cannot be read: No such file"):
        Package.load(tmp_path)


def test_a_package_of_an_exporter_that_is_not_installed_says_so(package):
    change(package, exporter="onyx")
    with pytest.raises(InputError, match=r"no exporter is called 'onyx' \(did you mean 'onnx'\?\)"):
        open_runtime(Package.load(package.folder))


def test_a_missing_file_is_named(package):
    (package.folder / "advance.pt2").unlink()
    with pytest.raises(CheckError, match=r"'advance.pt2' in the package '.*' is missing; export it again"):
        open_runtime(package)


def test_a_stream_of_another_size_is_refused(package):
    model = StreamedPackage(package, open_runtime(package))
    with pytest.raises(InputError, match=r"the package streams 1 video of 3x4 tokens with .*, not 2 of 3x4"):
        StreamState.start(model, GRID, batch=2)
    with pytest.raises(InputError, match="the package streams 1 video of 3x4"):
        StreamState.start(model, GRID, window=Window(frames=1))
    state = StreamState.start(model, GRID)
    with pytest.raises(InputError, match=r"'latents' of the package has the shape \(1, 16, 3, 6, 8\), not"):
        model(torch.zeros(1, 16, 2, 6, 8), torch.zeros(1, 1), torch.zeros(1, 5, 8), state.layers)
    with pytest.raises(InputError, match="the package has no function 'last'; it has: first, denoise, commit, advance"):
        package.manifest.function("last")


def test_a_state_of_a_package_is_saved_and_goes_on(package, tmp_path):
    model = StreamedPackage(package, open_runtime(package))
    state = StreamState.start(model, GRID)
    latents, s, text = torch.ones(1, 16, 3, 6, 8), torch.zeros(1, 1), torch.ones(1, 5, 8)
    state = state.after(model.commit(latents, s, text, state.layers), latents.shape[2])
    state.save(tmp_path / "state.safetensors")
    loaded = StreamState.load(tmp_path / "state.safetensors", model)
    assert torch.equal(model(latents, s, text, loaded.layers), model(latents, s, text, state.layers))
    fresh = StreamState.start(model, GRID)
    assert not torch.equal(model(latents, s, text, fresh.layers), model(latents, s, text, state.layers))


def test_a_state_of_a_package_goes_on_in_no_other_package_and_in_no_model(package, tmp_path):
    model = StreamedPackage(package, open_runtime(package))
    StreamState.start(model, GRID).save(tmp_path / "state.safetensors")
    change(package, files=[{"path": "advance.pt2", "bytes": 1, "sha256": "sha256:0"}])
    other = Package.load(package.folder)
    source = S2DiT.from_pretrained(package.source)
    for one in (StreamedPackage(other, open_runtime(package)), source):
        with pytest.raises(InputError, match="was made with the weights"):
            StreamState.load(tmp_path / "state.safetensors", one)
    StreamState.start(source, GRID).save(tmp_path / "state.safetensors")
    with pytest.raises(InputError, match="was made with the weights"):
        StreamState.load(tmp_path / "state.safetensors", model)


def test_digests_of_large_files_are_counted_in_megabytes_as_they_are_read(tmp_path):
    sizes, calls = {"a.bin": 40 * 10**6, "b/c.bin": 3 * 10**6, "d.txt": 1}, []
    (tmp_path / "b").mkdir()
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(size * name[:1].encode())
    (tmp_path / "manifest.json").write_text("{}")
    entries = file_entries(tmp_path, lambda *call: calls.append(call))
    assert {entry.path: entry.bytes for entry in entries} == sizes
    for entry in entries:
        assert entry.sha256 == f"sha256:{hashlib.sha256((tmp_path / entry.path).read_bytes()).hexdigest()}"
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert {call[1] for call in calls} == {43}
    assert {16, 33} < set(done) <= set(range(44))
    assert list(dict.fromkeys(call[2] for call in calls)) == [*(f"MB: digest of {name}" for name in sizes), ""]
    assert calls[-1] == (43, 43, "")


def test_an_export_shows_its_digests_last(made, labels):
    assert labels.index("MB: digest of advance.pt2") > labels.index("writing advance.pt2")
    assert labels[-1] == ""


def test_an_export_that_fails_leaves_nothing(tmp_path):
    def fail(out):
        with new_folder(out) as folder:
            (folder / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(tmp_path / "package")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    for out, line in ((tmp_path / "file", "'.*file' exists"), (tmp_path / "file" / "package", "cannot be written")):
        with pytest.raises(InputError, match=line):
            fail(out)


def test_only_a_float32_model_on_the_processor_is_exported(tmp_path):
    with pytest.raises(InputError, match="the model is bfloat16 on cpu; float32 on the processor"):
        TorchProgramExporter().export(tiny_model("S").bfloat16(), GRID, tmp_path / "package")


@pytest.mark.parametrize(
    ("window", "line"),
    [
        (Window(frames=None), "the window is unlimited"),
        (Window(frames=0), "the window is empty"),
        (Window(frames=4, sink_frames=3), "a sink of 3 frames beside a window of 4 and chunks of 3; .* both are whole"),
    ],
)
def test_a_step_without_fixed_shapes_is_refused(window, line):
    with pytest.raises(InputError, match=line):
        StepShape(grid=GRID, frames=3, window=window)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("executorch[delegate=vulkan]", "no delegate of executorch is called 'vulkan'"),
        ("onnx[opset=7]", "opset is 7; 18 to 23"),
        ("coreml[bits=5]", "exporter 'coreml' cannot take bits=5; allowed: 16, 8, 6, 4"),
        ("onix", "no exporter is called 'onix'"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(text, line):
    with pytest.raises(InputError) as raised:
        registry.create("exporters", text)
    assert line in str(raised.value)

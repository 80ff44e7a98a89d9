"""Packages that strangers forged, one of every exporter at least: refused before anything of them runs.

Each holds what would leave a file behind, `exploded`, if it were loaded or run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from s2search import registry
from s2search.errors import CheckError, InputError, S2SearchError
from s2search.exporters.base import exporter_of, open_runtime
from s2search.exporters.coreai import check_readable
from s2search.exporters.package import MANIFEST, Package, write_manifest
from s2search.exporters.torch_archive import open_archive
from s2search.exporters.torch_program import TorchProgramExporter
from s2search.verification.checks.loading import measured_apart
from s2search.verification.result import CannotRunError
from s2search.verification.verify import verify


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def rewritten(path: Path, name: str, content: bytes | None, *, root: str = "advance") -> None:
    """Replace a record of an archive, or add one."""
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    if content is not None:
        records[f"{root}/{name}"] = content
    with zipfile.ZipFile(path, "w") as archive:
        for record, bytes_ in records.items():
            archive.writestr(record, bytes_)


def with_target(content: bytes) -> bytes:
    program = json.loads(content)
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"
    return json.dumps(program).encode()


def with_guard(content: bytes) -> bytes:
    return json.dumps(json.loads(content) | {"guards_code": ["open('exploded', 'w')"]}).encode()


def with_pickle(content: bytes) -> bytes:
    config = json.loads(content)
    next(iter(config["config"].values()))["use_pickle"] = True
    return json.dumps(config).encode()


@pytest.mark.parametrize(
    ("record", "change", "line"),
    [
        (
            "data/sample_inputs/model.pt",
            lambda _: pickle.dumps(Bomb()),
            "holds the record 'data/sample_inputs/model.pt'",
        ),
        (
            "data/constants/custom_obj_0",
            lambda _: pickle.dumps(Bomb()),
            "holds the record 'data/constants/custom_obj_0'",
        ),
        ("data/weights/model.pt", lambda _: pickle.dumps(Bomb()), "holds the record"),
        ("data/aotinductor/x.so", lambda _: b"", "holds the record 'data/aotinductor/x.so'"),
        ("data/weights/model_weights_config.json", with_pickle, "holds the pickled tensor"),
        ("models/model.json", with_target, "holds the operator 'torch.hub.load'"),
        ("models/model.json", with_guard, "holds the field 'guards_code'"),
        ("models/model.json", lambda _: b"[", "is not a program of torch"),
    ],
)
def test_a_program_that_could_run_code_is_refused_before_it_is_loaded(
    made, tmp_path, monkeypatch, record, change, line
):
    monkeypatch.chdir(tmp_path)
    path = Path(shutil.copy(made.folder / "advance.pt2", tmp_path))
    with open_archive(path):
        pass
    with zipfile.ZipFile(path) as archive:
        name = f"advance/{record}"
        content = archive.read(name) if name in archive.namelist() else b""
    rewritten(path, record, change(content))
    package = dataclasses.replace(made, folder=tmp_path)
    manifest = package.manifest.function("advance")
    with pytest.raises((CheckError, InputError)) as raised:
        TorchProgramExporter().open(package).run(
            "advance", {one.name: np.zeros(one.shape, one.dtype) for one in manifest.inputs}
        )
    assert line in str(raised.value)
    assert not (tmp_path / "exploded").exists()


def repeated(path: Path, record: str, content: bytes, *, first: bool) -> None:
    """Write a record twice: torch reads the first of two, Python the last."""
    with zipfile.ZipFile(path) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = next(i for i, (name, _) in enumerate(records) if name.casefold() == record.casefold())
    records.insert(place + (not first), (record, content))
    with zipfile.ZipFile(path, "w") as archive:
        for name, bytes_ in records:
            archive.writestr(name, bytes_)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("spelled", [str, str.upper, lambda name: name.replace("models", "MODELS")])
def test_a_record_that_stands_twice_is_refused_however_it_is_spelled(made, tmp_path, spelled, first):
    path = Path(shutil.copy(made.folder / "advance.pt2", tmp_path))
    with zipfile.ZipFile(path) as archive:
        content = with_target(archive.read("advance/models/model.json"))
    repeated(path, spelled("advance/models/model.json"), content, first=first)
    with pytest.raises(CheckError, match="twice"), open_archive(path) as archive:
        archive.load()


def edited(content: bytes, change) -> bytes:
    program = json.loads(content)
    change(program)
    return json.dumps(program).encode()


def node(program):
    return program["graph_module"]["graph"]["nodes"][0]


def tree(kind, context):
    leaf = {"type": kind, "context": context, "children_spec": []}
    return json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [leaf]}])


def signature(program):
    return program["graph_module"]["module_call_graph"][0]["signature"]


ENUM = json.dumps([{"__enum__": True, "fqn": "exploding:Bomb", "name": "x"}])
FACTORY = {"default_factory_module": "exploding", "default_factory_name": "x", "dict_context": []}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda p: node(p).update(target="torch.ops.aten.save.default"), "the operator 'torch.ops.aten.save.default'"),
        (lambda p: node(p).update(target="torch.ops.aten.from_file.default"), "the operator"),
        (lambda p: node(p).update(target="torch.ops.aten.from_file.out"), "the operator"),
        (lambda p: node(p).update(target="torch.ops.aten._print.default"), "the operator"),
        (lambda p: node(p).update(target="torch.ops.aten.set_.source_Storage"), "the operator"),
        (lambda p: node(p).update(target="#bomb"), "the operator"),
        (lambda p: signature(p).update(in_spec=tree("builtins.dict", ENUM)), "inputs or outputs"),
        (lambda p: signature(p).update(out_spec=tree("collections.defaultdict", FACTORY)), "inputs or outputs"),
        (lambda p: node(p)["inputs"][0].update(arg={"as_operator": "os.system"}), "the field 'as_operator'"),
        (lambda p: p["graph_module"].update(metadata={"custom": "{}"}), "the field 'metadata'"),
    ],
)
def test_no_field_of_a_program_imports_writes_or_prints(made, tmp_path, monkeypatch, change, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("exploding.py").write_text("open('exploded', 'w').close()")
    path = Path(shutil.copy(made.folder / "advance.pt2", tmp_path))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("advance/models/model.json")
    rewritten(path, "models/model.json", edited(content, change))
    with pytest.raises(CheckError, match=line), open_archive(path) as archive:
        archive.load()
    assert not Path("exploded").exists()


def first_weight(program):
    return next(iter(program["config"].values()))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.update(path_name="../constants/tensor_0"),
        lambda w: w.update(path_name="custom_obj_0"),
        lambda w: w["tensor_meta"].update(sizes=[{"as_int": 2**40}]),
        lambda w: w["tensor_meta"]["strides"].reverse(),
        lambda w: w["tensor_meta"].update(storage_offset={"as_int": 4}),
        lambda w: w["tensor_meta"]["device"].update(type="cuda"),
    ],
)
def test_a_tensor_is_what_its_record_holds(made, tmp_path, change):
    path, name = Path(shutil.copy(made.folder / "advance.pt2", tmp_path)), "data/weights/model_weights_config.json"
    with zipfile.ZipFile(path) as archive:
        content = archive.read(f"advance/{name}")
    rewritten(path, name, edited(content, lambda p: change(first_weight(p))))
    with pytest.raises(CheckError, match="holds the tensor"), open_archive(path):
        pass


def forged(made, folder: Path, exporter: str, files: dict[str, bytes], **manifest) -> Package:
    """Return a package of an exporter with these files, its digests right."""
    shutil.copytree(made.folder, folder)
    (folder / "first.pt2").unlink()
    (folder / "advance.pt2").unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (file,) = {Path(name).parts[0] for name in files if "weights" not in name}
    functions = tuple(dataclasses.replace(one, file=file) for one in made.manifest.functions)
    options = "state=plain" if exporter == "coreml" else made.manifest.options  # a form without a host's part
    written = {"precision": registry.create("exporters", f"{exporter}[{options}]" if options else exporter).precision}
    changed = {"exporter": exporter, "options": options, "functions": functions} | written | manifest
    return write_manifest(folder, dataclasses.replace(made.manifest, **changed))


def onnx_graph(location: str = "weights.bin", domain: str = "", *, inside: bool = False) -> bytes:
    onnx = pytest.importorskip("onnx")
    weight = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    nodes = [onnx.helper.make_node("Identity", ["w"], ["y"], domain=domain)]
    if inside:  # a constant's tensor in place of an initialiser
        nodes = [onnx.helper.make_node("Constant", [], ["y"], value=weight)]
    output = onnx.helper.make_tensor_value_info("y", 1, [1])
    graph = onnx.helper.make_graph(nodes, "g", [], [output], [] if inside else [weight])
    return onnx.helper.make_model(graph).SerializeToString()


FILES = {
    "onnx": {"first.onnx": b"not a graph"},
    "executorch": {"model.pte": b"not a program"},
    "coreai": {"model.aimodel/main.mlirb": b"not an asset"},
    "coreml": {"model.mlpackage/Manifest.json": b"{}"},
    "torch_program": {"first.pt2": pickle.dumps(Bomb())},
}


@pytest.mark.parametrize("exporter", FILES)
def test_what_is_no_package_of_its_exporter_is_one_line_and_nothing_of_it_runs(made, tmp_path, monkeypatch, exporter):
    monkeypatch.chdir(tmp_path)
    package = forged(made, tmp_path / "package", exporter, FILES[exporter])
    with pytest.raises(S2SearchError) as raised:
        run(package)
    assert len(str(raised.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package"]


def run(package: Package) -> None:
    spec = package.manifest.functions[0]
    open_runtime(package).run(spec.name, {one.name: np.zeros(one.shape, one.dtype) for one in spec.inputs})


@pytest.mark.parametrize("exporter", FILES)
@pytest.mark.parametrize("how", ["link", "link to a folder", "pipe", "not listed", "no digest", "folder outside"])
def test_a_file_that_no_digest_covers_is_refused_and_verify_loads_nothing(made, tmp_path, exporter, how, monkeypatch):
    package = forged(made, tmp_path / "package", exporter, FILES[exporter])
    folder, name = package.folder, next(iter(FILES[exporter]))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(pickle.dumps(Bomb()))
    if how == "link":
        (folder / name).unlink()
        (folder / name).symlink_to(outside / "x")
    elif how == "link to a folder":
        (folder / "source" / "more").symlink_to(outside)
    elif how == "pipe":
        (folder / name).unlink()
        os.mkfifo(folder / name)
    elif how == "not listed":
        (folder / "source" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    elif how == "no digest":
        manifest = dataclasses.replace(package.manifest, files=package.manifest.files[:0])
        package = dataclasses.replace(package, manifest=manifest)
    else:
        text = (folder / MANIFEST).read_text().replace(f'"{name.partition("/")[0]}"', '"../outside/x"')
        (folder / MANIFEST).write_text(text)
        with pytest.raises(InputError, match=r"names a file outside of it: '../outside/x'"):
            Package.load(folder)
        return
    with pytest.raises(CheckError, match=r"in the package '.*' is"):
        open_runtime(package)
    if how != "no digest":
        monkeypatch.setattr(type(exporter_of(package)), "open", lambda *_: pytest.fail("it was loaded"))
        found = verify(folder)
        assert not found.passed
        assert {check.status for check in found.checks} == {"failed", "not_run"}


@pytest.mark.parametrize(
    ("graph", "line"),
    [
        ({"location": "../outside.bin"}, "has the weight 'w' in '../outside.bin'"),
        ({"location": "../outside.bin", "inside": True}, "has the weight 'w' in '../outside.bin'"),
        ({"location": "/etc/passwd"}, "has the weight 'w' in '/etc/passwd'"),
        ({"location": "not_listed.bin"}, "has the weight 'w' in 'not_listed.bin'"),
        ({"location": "weights.bin", "domain": "com.stranger"}, "has the operator com.stranger.Identity"),
    ],
)
def test_an_onnx_graph_reads_files_with_digests_only(made, tmp_path, graph, line):
    files = {"first.onnx": onnx_graph(**graph), "weights.bin": bytes(4)}
    package = forged(made, tmp_path / "package", "onnx", files)
    (package.folder / "not_listed.bin").write_bytes(bytes(4))
    with pytest.raises(CheckError) as raised:
        run(package)
    assert line in str(raised.value)


@pytest.mark.parametrize("exporter", ["executorch", "coreai"])
def test_a_runtime_opens_the_file_that_the_manifest_names(made, tmp_path, exporter):
    package = forged(made, tmp_path / "package", exporter, FILES[exporter])
    functions = (dataclasses.replace(package.manifest.functions[0], file="source"), *package.manifest.functions[1:])
    (package.folder / MANIFEST).unlink()
    package = write_manifest(package.folder, dataclasses.replace(package.manifest, functions=functions))
    with pytest.raises(InputError, match=r"the functions of the package are in|not installed"):
        open_runtime(package)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"files": [{"path": path, "bytes": 1, "sha256": "0"}]}, "names a file outside of it")
        for path in ("a/../../x", "./x", "a//b", "C:\\x", "a\\..\\x", "\x1b[2J", "a\x00b", "", "a/")
    ]
    + [
        ({"files": [{"path": path, "bytes": 1, "sha256": "0"} for path in ("a", "A")]}, "names the file 'a' twice"),
        ({"options": "mixed=../../x"}, "name a place"),
        ({"exporter": "coreml", "options": "mixed=/dev/zero"}, "name a place"),
    ],
)
def test_a_manifest_names_files_of_its_package_once(made, tmp_path, fields, line):
    document = json.loads((made.folder / MANIFEST).read_text()) | fields
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(InputError) as raised:
        Package.load(tmp_path)
    assert line in str(raised.value)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("precision", ["bfloat16", "w4a8", "", "no precision"])
@pytest.mark.parametrize("exporter", FILES)
def test_a_precision_that_the_exporter_does_not_write_excuses_nothing(made, tmp_path, exporter, precision):
    """What `verify` asks of a package depends on it: of 4-bit weights it asks less."""
    package = forged(made, tmp_path / "package", exporter, FILES[exporter], precision=precision)
    with pytest.raises(
        InputError, match=rf"^the manifest says {precision}, and {exporter}.* writes float.*export it again$"
    ):
        exporter_of(package)


@pytest.mark.parametrize("apart", [measured_apart, lambda package: check_readable(package.folder / "source", ())])
def test_what_runs_apart_imports_nothing_from_the_folder_where_it_is_asked(made, tmp_path, monkeypatch, apart):
    """A stranger's folder may have modules of the names that a process imports first."""
    monkeypatch.chdir(tmp_path)
    for name in ("asyncio", "json", "numpy", "importlib", "coreai", "s2search"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')\n")
    with contextlib.suppress(S2SearchError, CannotRunError):
        apart(made)
    assert not (tmp_path / "ran").exists()

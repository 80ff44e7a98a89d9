"""`package evaluate`: arrays in, arrays out, and one line for whatever does not fit."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import s2search
from s2search.errors import InputError
from tests.conftest import Outcome
from tests.mil.programs import builder, load, save
from tests.package.packages import BROKEN, CLEAN, X, convolved

Run = Callable[..., Outcome]
mb = builder()


def counts_up(x, total):
    """Add x to the state, and return what was there before."""
    before = mb.read_state(input=total)
    mb.coreml_update_state(state=total, value=mb.add(x=before, y=x))
    return mb.mul(x=before, y=np.float16(2), name="twice")


def picks(x, at):
    return mb.gather(x=x, indices=at, axis=0, name="picked")


@pytest.fixture(scope="module")
def counter(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("count") / "count.mlpackage", counts_up, [X[0, 0]], [X[0, 0].shape])


@pytest.fixture(scope="module")
def picker(tmp_path_factory) -> Path:
    inputs = [np.ones((4, 32), np.float32), np.array([1, 2], np.int32)]
    return save(tmp_path_factory.mktemp("pick") / "pick.mlpackage", picks, inputs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return CLEAN["convolution"](tmp_path_factory.mktemp("whole") / "one.mlpackage")


def test_states_start_at_zeros_or_as_they_are_given_and_come_out(tmp_path: Path, counter: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X[0, 0])
    first = s2search.package_evaluate(counter, tmp_path / "x.npz", out=tmp_path / "y.npz")
    assert not first.outputs["twice"].any()
    with np.load(tmp_path / "y.npz", allow_pickle=False) as left:
        assert sorted(left) == ["total", "twice"]
        np.savez(tmp_path / "again.npz", x=X[0, 0], total=left["total"])
    second = s2search.package_evaluate(counter, tmp_path / "again.npz")
    np.testing.assert_array_equal(second.outputs["twice"], 2 * X[0, 0])
    np.testing.assert_array_equal(second.states["total"], (2 * X[0, 0]).astype(np.float32))


def test_the_mode_says_what_is_rounded(tmp_path: Path) -> None:
    package = CLEAN["convolution"](tmp_path / "one.mlpackage")
    found = {mode: s2search.package_evaluate(package, {"x": X}, mode=mode) for mode in ("float32", "float16")}
    (exact,), (rounded,) = (one.outputs.values() for one in found.values())
    assert (exact != exact.astype(np.float16)).any()
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    np.testing.assert_allclose(exact, rounded, rtol=2e-3, atol=1e-3)


def test_the_same_numbers_give_the_same_file_and_a_table(s2search: Run, tmp_path: Path, counter: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X[0, 0])
    words = ("package", "evaluate", str(counter), "--inputs", "x.npz", "--mode", "float32", "--out")
    done = s2search(*words, "a.npz")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("main in float32\n")
    assert "output  twice" in done.out
    assert "state   total" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    s2search(*words, "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_operations_that_nothing_here_knows_are_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing here computes 1 operation of 'main': reverse_sequence"):
        s2search.package_evaluate(BROKEN["no_cover"](tmp_path / "one.mlpackage"), {"x": X})


def harmful(shape: str) -> bytes:
    """Return the bytes of an array whose header claims what is not there."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()


def archive(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return content.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


ROW, AT = np.ones((4, 32), np.float32), np.array([1, 2])
FAULTS = {
    "no name": (npz(x=ROW), "lack at"),
    "another name": (npz(x=ROW, at=AT, y=ROW), "have y more"),
    "another shape": (npz(x=ROW[:3], at=AT), "'x' in 'x.npz' is float32 3x32; it takes float32 4x32"),
    "another type": (npz(x=ROW.astype(int), at=AT), "'x' in 'x.npz' is int64 4x32"),
    "floating places": (npz(x=ROW, at=AT + 0.5), "'at' in 'x.npz' is float64 2; it takes int32 2"),
    "too large": (npz(x=ROW, at=AT + 2**40), "has numbers from 1099511627777 to"),
    "text": (npz(x=ROW, at=np.array(["a", "b"])), "'at' in 'x.npz' is <U1 2"),
    "objects": (npz(x=ROW, at=np.array([AT, None], dtype=object)), "'at' in 'x.npz' is object 2"),
    "a petabyte": (archive(x=harmful("(10**15,)"), at=b""), "is not a file of arrays"),
    "a large shape": (archive(x=harmful("(250000000000000,)"), at=harmful("(2,)")), "'x' in 'x.npz' is float32 25"),
    "cut short": (archive(x=harmful("(4, 32)"), at=npz(at=AT)[:0]), "is not a file of arrays"),
    "no array": (archive(x=b"hello", at=b"hello"), "is not a file of arrays"),
    "no archive": (b"hello", "is not a file of arrays: File is not a zip file"),
    "empty": (b"", "is not a file of arrays"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_arrays_that_do_not_fit_are_one_line(s2search: Run, tmp_path: Path, picker: Path, fault: str) -> None:
    content, problem = FAULTS[fault]
    (tmp_path / "x.npz").write_bytes(content)
    done = s2search("package", "evaluate", str(picker), "--inputs", "x.npz")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert problem in done.err


def no_manifest(package: Path) -> None:
    (package / "Manifest.json").unlink()


def manifest_out(package: Path) -> None:
    file = package / "Manifest.json"
    model = "com.apple.CoreML/model.mlmodel"
    assert model in file.read_text().replace("\\/", "/")
    file.write_text(file.read_text().replace("\\/", "/").replace(model, "../../../model.mlmodel"))
    shutil.copy(package / "Data/com.apple.CoreML/model.mlmodel", package.parent / "model.mlmodel")


def model_cut(package: Path) -> None:
    file = package / "Data/com.apple.CoreML/model.mlmodel"
    file.write_bytes(file.read_bytes()[:-40])


def weights_gone(package: Path) -> None:
    (package / "Data/com.apple.CoreML/weights/weight.bin").unlink()


def weights_cut(package: Path) -> None:
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    file.write_bytes(file.read_bytes()[:-1])


def weights_out(package: Path) -> None:
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    shutil.move(file, package.parent / "weight.bin")
    file.symlink_to(package.parent / "weight.bin")


HARM = {
    no_manifest: "is not a Core ML package: it has no Manifest.json",
    manifest_out: "outside itself",
    model_cut: "is not a Core ML model",
    weights_gone: "cannot be read",
    weights_cut: "end behind the file's end",
    weights_out: "outside itself",
}


@pytest.mark.parametrize("words", [("lint",), ("evaluate", "--inputs", "x.npz")], ids=lambda words: words[0])
@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_a_damaged_package_is_one_line(
    s2search: Run, tmp_path: Path, whole: Path, harm: Callable, words: tuple
) -> None:
    package = Path(shutil.copytree(whole, tmp_path / "folder" / "one.mlpackage"))
    np.savez(tmp_path / "x.npz", x=X)
    harm(package)
    package = package.rename(package.with_suffix("")) if harm is no_manifest else package
    done = s2search("package", words[0], str(package), *words[1:])
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert HARM[harm] in done.err


@pytest.mark.parametrize("place", ["nothing", "empty", "file"])
def test_a_place_without_a_package_is_one_line(s2search: Run, tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    done = s2search("package", "lint", place)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert f"{place!r} is not a Core ML package" in done.err


def test_what_cannot_be_written_is_said_before_the_package_is_read(s2search: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = s2search("package", "evaluate", "nothing", "--inputs", "x.npz", "--out", "folder")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "'folder'" in done.err


def test_outputs_do_not_overwrite_the_inputs(s2search: Run, tmp_path: Path, counter: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X[0, 0])
    before = (tmp_path / "x.npz").read_bytes()
    done = s2search("package", "evaluate", str(counter), "--inputs", "x.npz", "--out", "./x.npz")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is the file of the inputs" in done.err
    assert (tmp_path / "x.npz").read_bytes() == before


def test_an_unknown_mode_or_function_is_named_with_those_there_are(s2search: Run, tmp_path: Path, picker: Path) -> None:
    np.savez(tmp_path / "x.npz", x=ROW, at=AT)
    words = ("package", "evaluate", str(picker), "--inputs", "x.npz")
    assert "the mode is 'half'; float32, float16, pessimistic" in s2search(*words, "--mode", "half").err
    assert "is called 'man' (did you mean 'main'?)" in s2search(*words, "--function", "man").err


def test_lint_is_0_of_a_clean_package_1_of_a_broken_one_and_its_json_is_read_by_programs(
    s2search: Run, tmp_path: Path
) -> None:
    import json

    clean, broken = CLEAN["convolution"](tmp_path / "clean.mlpackage"), BROKEN["states"](tmp_path / "two.mlpackage")
    done = s2search("package", "lint", str(clean))
    assert (done.code, done.err) == (0, "")
    assert "nothing found: 13 rules hold" in done.out
    done = s2search("package", "lint", str(broken), "--json")
    assert (done.code, done.err) == (1, "")
    assert json.loads(done.out)["schema"] == "s2search.package_findings/1"


def test_lint_reads_headers_of_weights_and_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from s2search.mil.numbers import WeightFile

    program = load(tmp_path, convolved, [X])
    monkeypatch.setattr(WeightFile, "read", lambda *_: pytest.fail("weights are read"))
    from s2search.mil.rules.every import check_weights, lint_function

    check_weights(program.function())
    assert not list(lint_function(program, "main"))

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from s2search.cli.main import app
from s2search.errors import S2SearchError
from s2search.exporters.package import Package
from s2search.verification import verify as verification
from s2search.verification.checks.files import FilesCheck
from s2search.verification.checks.latency import LatencyCheck
from s2search.verification.checks.parity import ParityCheck
from s2search.verification.checks.sizes import SizesCheck
from s2search.verification.checks.streaming import StreamingCheck
from s2search.verification.checks.weights import WeightsCheck
from tests.verify.test_result import check_report

QUICK = ("--chunks", "2")


@pytest.fixture
def verify(monkeypatch, capsys):
    """Run the command in this process, with the checks that need no tracing."""
    monkeypatch.setattr(
        verification,
        "CHECKS",
        (FilesCheck(), WeightsCheck(), ParityCheck(), StreamingCheck(), SizesCheck(), LatencyCheck()),
    )

    def run(*words):
        code = app(["verify", *map(str, words), *QUICK], standalone_mode=False)
        return code, capsys.readouterr().out

    return run


def test_verify_passes_and_writes_its_report(verify, exported, tmp_path):
    out = tmp_path / "found.json"
    code, shown = verify(exported, "--out", out)
    assert code == 0, shown
    found = check_report(out.read_text())
    assert found["passed"]
    status = {check["name"]: check["status"] for check in found["checks"]}
    assert {status[name] for name in ("files", "weights", "parity.denoise", "stream.clean_pass")} == {"passed"}
    assert status["latency"] == "not_run"
    assert not (exported / "report.json").exists()


def test_a_report_that_cannot_be_written_is_refused_before_the_work(verify, package, monkeypatch):
    monkeypatch.setattr(verification, "verify", lambda *_, **__: pytest.fail("it began"))
    (package / "report.json").mkdir()
    with pytest.raises(S2SearchError, match=r"report.json' cannot be written: .*; name another place: --out FILE"):
        verify(package)
    with pytest.raises(S2SearchError, match=r"'/proc/x' cannot be written: .*; choose another path"):
        verify(package, "--out", "/proc/x")


def test_what_was_found_is_printed_though_the_report_cannot_be_written(verify, exported, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(S2SearchError, match=r"a.json' cannot be written: No space left on device"):
        verify(exported, "--json", "--out", tmp_path / "a.json")
    assert json.loads(capsys.readouterr().out)["passed"]


def test_verify_fails_with_exit_code_1_and_reports_it(verify, package):
    (package / "denoise.onnx").write_bytes(b"no graph")
    code, shown = verify(package, "--json")
    assert code == 1
    found = check_report(shown)
    assert not found["passed"]
    assert shown == (package / "report.json").read_text()
    failed = {check["name"]: check["where"] for check in found["checks"] if check["status"] == "failed"}
    assert failed == {"files": "denoise.onnx"}
    assert {check["status"] for check in found["checks"] if check["name"] != "files"} == {"not_run"}


def test_a_package_without_its_source_is_not_verified(verify, package):
    shutil.rmtree(package / "source")
    code, shown = verify(package, "--json")
    assert code == 1
    found = {check["name"]: check for check in json.loads(shown)["checks"]}
    assert found["files"]["status"] == "failed"
    assert found["weights"]["status"] == found["parity"]["status"] == "not_run"
    assert "nothing of the package is loaded: 'source/" in found["weights"]["why"]


def test_a_threshold_of_the_user_decides(verify, exported, tmp_path):
    code, shown = verify(exported, "--json", "--out", tmp_path / "a.json", "--threshold", "stream=200")
    assert code == 1
    found = {check["name"]: check for check in json.loads(shown)["checks"]}
    assert (found["stream.clean_pass"]["status"], found["stream.clean_pass"]["threshold"]) == ("failed", 200)
    assert found["parity.first"]["status"] == "passed"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nowhere"], "there is no package 'nowhere'"),
        (["."], "'manifest.json' cannot be read"),
        ([".", "--chunks", "0"], "greater than or equal to 1"),
        ([".", "--threshold", "stream"], "'stream' is not a number"),
        ([".", "--threshold", "stream=inf"], "'stream=inf' is not a number"),
        ([".", "--out", "no/such/folder.json"], "no/such/folder.json"),
    ],
)
def test_bad_input_is_one_line(s2search, words, named):
    done = s2search("verify", *words)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert named in done.err


def test_an_unknown_check_has_no_threshold(verify, exported):
    with pytest.raises(S2SearchError, match=r"did you mean 'stream'\?"):
        verify(exported, "--threshold", "strem=3")


def test_a_harmed_manifest_is_one_line(package: Path):
    manifest = package / "manifest.json"
    whole, harmed = json.loads(manifest.read_text()), random.Random(0)
    for _ in range(300):
        document = json.loads(json.dumps(whole))
        place, key = document, None
        for _ in range(harmed.randint(1, 5)):
            if not isinstance(place, (dict, list)) or not place:
                break
            parent, key = place, harmed.choice(list(place) if isinstance(place, dict) else range(len(place)))
            place = parent[key]
        value = harmed.choice([None, "", "x", -1, 0, 2**70, 1.5, [], {}, [[]], "../../etc/passwd", True, "del"])
        if value == "del":
            del parent[key]
        else:
            parent[key] = value
        manifest.write_text(json.dumps(document))
        check_one_line(package)
    text = json.dumps(whole)
    for _ in range(100):
        cut = harmed.randrange(len(text))
        manifest.write_text(text[:cut] + harmed.choice(["", "}", "\x00", '"', "[" * 3000]) + text[cut + 1 :])
        check_one_line(package)


def check_one_line(package: Path) -> None:
    """A manifest is read, or refused in one line."""
    refused = ""
    try:
        Package.load(package)
    except S2SearchError as error:
        refused = str(error)
    assert len(refused.splitlines()) <= 1


def test_help_names_every_option():
    shown = CliRunner().invoke(app, ["verify", "--help"]).output
    for option in ("--chunks", "--threshold", "--measure", "--seed", "--out", "--json"):
        assert option in shown

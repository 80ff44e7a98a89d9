from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from s2search.cli import app
from s2search.errors import S2SearchError
from s2search.export.package import Package
from tests.verify.test_report import check_report

QUICK = ("--chunks", "2")


def test_verify_passes_and_writes_its_report(s2search, exported, tmp_path):
    out = tmp_path / "found.json"
    done = s2search("verify", str(exported), *QUICK, "--out", str(out))
    assert (done.code, done.err) == (0, ""), done.out + done.err
    assert max(map(len, done.out.splitlines())) <= 80
    found = check_report(out.read_text())
    assert found["passed"]
    assert {"files", "weights", "parity.denoise", "stream.reuse_last", "stream.clean_pass"} <= {
        check["name"] for check in found["checks"] if check["status"] == "passed"
    }
    assert not (exported / "report.json").exists()


def test_verify_fails_with_exit_code_1_and_reports_it(s2search, package):
    (package / "denoise.onnx").write_bytes(b"no graph")
    done = s2search("verify", str(package), *QUICK, "--json")
    assert done.code == 1, done.err
    assert done.err == ""
    found = check_report(done.out)
    assert not found["passed"]
    assert done.out == (package / "report.json").read_text()
    failed = {check["name"]: check["where"] for check in found["checks"] if check["status"] == "failed"}
    assert failed["files"] == "denoise.onnx"
    assert failed["weights"] == failed["blocks"] == "denoise.onnx"


def test_a_package_without_its_source_is_not_verified(s2search, package):
    shutil.rmtree(package / "source")
    done = s2search("verify", str(package), *QUICK, "--json")
    assert done.code == 1
    found = {check["name"]: check for check in json.loads(done.out)["checks"]}
    assert found["weights"]["status"] == found["parity"]["status"] == "not_run"
    assert "the source cannot be loaded" in found["weights"]["why"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nowhere"], "there is no package 'nowhere'"),
        (["."], "'manifest.json' cannot be read"),
        ([".", "--chunks", "0"], "greater than or equal to 1"),
        ([".", "--threshold", "stream"], "'stream' is no number"),
        ([".", "--threshold", "stream=inf"], "'stream=inf' is no number"),
        ([".", "--out", "no/such/folder.json"], "no/such/folder.json"),
    ],
)
def test_bad_input_is_one_line(s2search, words, named):
    done = s2search("verify", *words)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert named in done.err


def test_an_unknown_check_has_no_threshold(s2search, package):
    done = s2search("verify", str(package), "--threshold", "strem=3")
    assert done.code == 2
    assert "did you mean 'stream'?" in done.err


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

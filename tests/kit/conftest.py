"""A small kit without real packages, and an imagined Mac and phone that run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s2search.exporters.coreml.form import Form
from s2search.kit.build import copy_mac
from s2search.kit.manifest import KitManifest, KitPackage, KitProtocol, KitRow, ordered
from s2search.preset import Preset

FAKES = Path(__file__).with_name("fake_mac")
collect_ignore = ["fake_mac"]

ROWS = [("block", "lcha", "", 0), ("block", "ssa", "", 1), ("switch", "down", "", 2), ("fixed", "stem", "", 3)]


def write_kit(folder: Path, *, rows_of=ROWS, form: Form | None = Form(), **changes) -> KitManifest:  # noqa: B008
    """Write a kit of four rows; packages 0 to 3 are files in place of Core ML. Kits of before say no form."""
    shape = Preset.named("s2dit-tiny").shape("256x144", "stream")
    protocol = KitProtocol(**{"rounds": 8, "sentinel_every": 2, "timeout_s": 2, "cool_down_s": 1, **changes})
    packages = [
        KitPackage(
            digest=f"sha256:{number}",
            path=f"packages/p{number}.mlpackage",
            weight_bytes=1000 + number,
            operations={"linear": 2},
            inputs=[{"name": "x", "shape": [1, 2], "dtype": "float16", "low": -1.0, "high": 1.0}],
            outputs=["y"],
            states=["keys_00"] if form and form.state == "core_ml" and role == "block" else [],
            parity_db=130.0,
        )
        for number, (role, *_) in enumerate(rows_of)
    ]
    rows = [
        KitRow(
            id=number,
            role=role,
            part=part,
            options=options,
            scenario="stream",
            shape=shape,
            precision="float16",
            compute_unit="cpu_and_neural_engine",
            package=f"sha256:{package}",
            state_bytes=10,
            peak_bytes=20,
        )
        for number, (role, part, options, package) in enumerate(rows_of)
    ]
    groups = [[0, 1], [2, 3]]
    manifest = KitManifest(
        code_version="s2search test",
        preset="s2dit-tiny",
        converter={"coremltools": "9.0"},
        **({} if form is None else {"layout": form.layout, "state": form.state}),
        protocol=protocol,
        packages=packages,
        rows=rows,
        sentinel=0,
        groups=groups,
        order=ordered(groups, 0, protocol),
    )
    folder.mkdir(parents=True)
    manifest = KitManifest(**{name: getattr(manifest, name) for name in manifest.__struct_fields__})
    (folder / "manifest.json").write_bytes(manifest.to_json())
    for package in packages:
        (folder / package.path).mkdir(parents=True)
        (folder / package.path / "model").write_text(package.digest)
    copy_mac(folder)
    return manifest


class Mac:
    """A Mac with a kit, by default of four rows, and a phone; `run` is `python3 -m runner`."""

    def __init__(self, folder: Path, *, write=write_kit, **changes) -> None:
        self.world, self.kit = folder / "world", folder / "kit"
        self.world.mkdir(parents=True)
        self.manifest = write(self.kit, **changes)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PATH": f"{FAKES / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{FAKES / 'site'}{os.pathsep}{FAKES}",
            "FAKE_MAC": str(self.world),
            "FAKE_PYTHON": sys.executable,
        }

    def faults(self, **faults) -> None:
        (self.world / "faults.json").write_text(json.dumps(faults))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *words],
            cwd=self.kit,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, code: int = 0, timeout: float = 30) -> str:
        process = self.start(*(words or ("run", "--team", "TEAM1", "--chip", "A18 Pro", "--wait", "30")))
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        assert process.returncode == code, out + err
        return out + err

    @property
    def results(self) -> Path:
        return self.kit / "results.jsonl"

    def lines(self, kind: str) -> list[dict]:
        found = [json.loads(line) for line in self.results.read_text().splitlines()]
        return [line for line in found if line["kind"] == kind]


@pytest.fixture
def mac(tmp_path: Path) -> Mac:
    return Mac(tmp_path / "mac")
